"""Two containers → the line of containers between them, each with its nearest tested cell. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from mcore_compat.analysis.bisect.release_line import Facts, Point, ReleaseLine
from mcore_compat.analysis.container_cells import ContainerCell
from mcore_compat.base.errors import UsageError
from mcore_compat.core.cells import AXES


def between(standing: Sequence[ContainerCell], facts: Facts, *, fixed: bool) -> ReleaseLine:
    """Return the line of containers, oldest first; neighbours with the same cell are one point.
    `fixed`: the oldest is the bad one.

    Raises:
        UsageError: both ends have the same cell.
    """
    runs: list[list[ContainerCell]] = []
    for one in standing:
        if runs and runs[-1][0].cell.name == one.cell.name:
            runs[-1].append(one)
        else:
            runs.append([one])
    if len(runs) == 1:
        raise UsageError(
            f"both containers have the same nearest tested cell: {runs[0][0].cell.name}"
        )
    cells = [facts.cell_of(run[0].cell.name) for run in runs]
    first = cells[0].pins
    return ReleaseLine(
        axis=standing[0].image.name.partition(":")[0],
        points=tuple(
            Point(version=_text(run), cell=cell) for run, cell in zip(runs, cells, strict=True)
        ),
        fixed=fixed,
        held={a: first[a] for a in AXES if all(cell.pins[a] == first[a] for cell in cells)},
        moving=(),
        without=(),
        standing=tuple(one.text() for one in standing),
    )


def _text(run: Sequence[ContainerCell]) -> str:
    """Return the tag of a container, or the first and last tags of several."""
    tags = [one.image.name.partition(":")[2].removesuffix("-py3") for one in run]
    return tags[0] if len(tags) == 1 else f"{tags[0]} to {tags[-1]}"
