"""Real upgrades as Markdown, kept in `docs/upgrade/` and made anew by `nox -s report`. Pure but for
reading locks."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mcore_compat.core import combinations
from mcore_compat.core.cells import Cell, full_name
from mcore_compat.core.workspace import Workspace
from mcore_compat.exchange import run
from mcore_compat.publish.collation import Collated
from mcore_compat.resolve import locks
from mcore_compat.results.evidence import Evidence
from mcore_compat.run.check_sets import MAIN
from mcore_compat.upgrade import document
from mcore_compat.upgrade.answer import answer
from mcore_compat.upgrade.sides import UpgradeInputs

FOLDER = Path("docs", "upgrade")
"""Below the workspace."""

DEVICE_CLASS = "host"

PAIRS = (
    ("0.9-modelopt0.21", "0.16-modelopt0.41"),
    ("0.18-modelopt0.46", "0.19-modelopt0.47"),
    ("0.19-modelopt0.45", "0.19-modelopt0.46"),
)
"""From the oldest to one that many run; one that is not to be done, and what instead; one of
ModelOpt alone, in which nothing is lost."""


def path_of(origin: str, target: str) -> Path:
    """Where the example lies, below the workspace."""
    return FOLDER / f"{origin}-to-{target}.md"


def known(
    all_: Collated,
    device_class: str,
    exchanged: Sequence[Evidence],
    cells: Sequence[Cell],
    workspace: Workspace,
) -> UpgradeInputs:
    """What an upgrade between two cells is answered from; reads their locks.

    Raises:
        LockError: a lock is corrupt.
    """
    there = {cell.name: workspace.lock(cell.name) for cell in cells}
    return UpgradeInputs(
        all_=all_,
        device_class=device_class,
        suite=MAIN.digest(workspace.suite),
        checks=run.digest(workspace),
        exchanged=tuple(exchanged),
        locks={name: locks.read(path) for name, path in there.items() if path.exists()},
    )


def texts(
    all_: Collated, exchanged: Sequence[Evidence], workspace: Workspace
) -> Mapping[Path, Callable[[], str]]:
    """By file: how its text is made. An example of which nothing is known is left out."""

    def text_of(names: Sequence[str]) -> str:
        cells = [combinations.named(name, all_.matrix, all_.releases) for name in names]
        of = known(all_, DEVICE_CLASS, exchanged, cells, workspace)
        origin, target = map(of.side, cells)
        return document.markdown(answer(origin, target, of))

    tested = {e.cell for e in all_.by_class.get(DEVICE_CLASS, ())}
    full = {pair: tuple(map(full_name, pair)) for pair in PAIRS}
    return {
        workspace.root / path_of(*pair): functools.partial(text_of, names)
        for pair, names in full.items()
        if {*names} <= tested
    }
