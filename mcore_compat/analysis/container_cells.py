"""The tested cells nearest to containers. Pure.

Most containers have no megatron-core. Users install the same one into all of them, so the cells of
these containers share one pair of megatron-core and ModelOpt.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mcore_compat.analysis import inventory, neighbours, recommend
from mcore_compat.analysis.cell_record import CellRecord
from mcore_compat.analysis.constraints import Constraint
from mcore_compat.analysis.declarations import newest_first
from mcore_compat.analysis.inventory import VENDOR, Inventory
from mcore_compat.analysis.neighbours import Neighbour
from mcore_compat.base.errors import UsageError
from mcore_compat.core.cells import AXES
from mcore_compat.core.containers import ContainerImage
from mcore_compat.core.profiles import DEFAULT, Profile

MCORE, MODELOPT = AXES[:2]

BUILDS = (
    "its torch and Transformer Engine are NVIDIA's builds; tested were the releases on PyPI with "
    "these versions"
)


class Pair(NamedTuple):
    """A version of megatron-core and one of ModelOpt."""

    mcore: str
    modelopt: str

    def text(self) -> str:
        return f"{MCORE} {self.mcore}, {MODELOPT} {self.modelopt}"


@dataclass(frozen=True, kw_only=True)
class ContainerCell:
    """The tested cell nearest to a container. `pair`: the pair that the cell must have, if the
    container has no megatron-core; `notes`: sources of the container's versions."""

    image: ContainerImage
    nearest: Neighbour
    pair: Pair | None = None
    notes: tuple[str, ...] = ()

    @property
    def cell(self) -> CellRecord:
        return self.nearest.cell

    def text(self) -> str:
        """Name the cell, and the versions in which it differs from the container."""
        differs = ", ".join(
            f"{c.axis} {version} instead of {c.version or c.specifier}"
            for c, version in self.nearest.differs
        )
        unlike = f" (with {differs})" if differs else ""
        return f"{self.image.name}: the nearest tested cell is {self.cell.name}{unlike}"

    def whole(self) -> str:
        """Return all notes on the choice of the cell, in a line."""
        without = (
            f"it has no {MCORE}: compared by its other axes, with {self.pair.text()}"
            if self.pair
            else ""
        )
        return "; ".join(filter(None, (self.text(), without, *self.notes)))


def standing(
    images: Sequence[ContainerImage],
    cells: Sequence[CellRecord],
    profile: Profile = DEFAULT,
    beside: Sequence[Constraint] = (),
) -> tuple[ContainerCell, ...]:
    """Return the cell of each container, in their order. `beside`: versions that are installed into
    all containers, in place of theirs.

    Raises:
        UsageError: no cell was tested.
    """
    tested = [cell for cell in cells if cell.checks]
    if not tested:
        raise UsageError("no cell was tested that a container can be compared with")
    held = [_inventory(image, beside) for image in images]
    bare = [MCORE not in {c.axis for c in there.constraints} for there in held]
    without = [there for there, is_bare in zip(held, bare, strict=True) if is_bare]
    pair = _pair(without, tested, profile)
    of_pair = [cell for cell in tested if _pair_of(cell) == pair]
    found = []
    for image, there, is_bare in zip(images, held, bare, strict=True):
        near = recommend.closest(there.constraints, of_pair if is_bare else tested, profile)
        assert near is not None  # `tested` is not empty
        found.append(
            ContainerCell(
                image=image, nearest=near, pair=pair if is_bare else None, notes=there.notes
            )
        )
    return tuple(found)


def _inventory(image: ContainerImage, beside: Sequence[Constraint]) -> Inventory:
    """Return a container's versions, with those that are installed into it."""
    there = inventory.of_container(image)
    notes = [BUILDS if note == VENDOR else note for note in there.notes]
    return inventory.together(
        [
            Inventory(constraints=there.constraints, notes=tuple(notes[1:])),
            Inventory(constraints=tuple(beside)),
        ]
    )


def _pair_of(cell: CellRecord) -> Pair:
    return Pair(cell.pins[MCORE], cell.pins[MODELOPT])


def _pair(bare: Sequence[Inventory], cells: Iterable[CellRecord], profile: Profile) -> Pair | None:
    """Return the pair whose cells are nearest to all containers without megatron-core; of several,
    the one that works with most of them, then the newest.

    With a different pair for each container, a comparison would show the difference of the pairs.
    """
    if not bare:
        return None
    by_pair: dict[Pair, list[CellRecord]] = {}
    for cell in sorted(cells, key=lambda cell: recommend.rank(cell, profile)):
        by_pair.setdefault(_pair_of(cell), []).append(cell)

    def cost(pair: Pair) -> tuple[object, ...]:
        far = [_nearest(there, by_pair[pair]) for there in bare]
        distances = [neighbours.distance(there.constraints, cell) for there, cell in far]
        steps = sorted((step for _, steps in distances for step in steps), reverse=True)
        bad = sum(not recommend.works(cell, profile) for _, cell in far)
        newest = newest_first(by_pair[pair][0].pins, AXES[:2])
        return sum(heavy for heavy, _ in distances), bad, steps, newest

    return min(by_pair, key=cost)


def _nearest(there: Inventory, cells: Sequence[CellRecord]) -> tuple[Inventory, CellRecord]:
    return there, min(cells, key=lambda cell: neighbours.distance(there.constraints, cell))
