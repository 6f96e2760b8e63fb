"""The tested cells that stand for containers. Pure.

Most containers have no megatron-core. What is installed into them is the user's choice, and the
same in all of them: their cells are of one pair of megatron-core and ModelOpt.
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
    "torch and Transformer Engine there are NVIDIA's own builds; tested were the index's of these "
    "versions"
)


class Pair(NamedTuple):
    """A megatron-core and a ModelOpt."""

    mcore: str
    modelopt: str

    def text(self) -> str:
        return f"{MCORE} {self.mcore}, {MODELOPT} {self.modelopt}"


@dataclass(frozen=True, kw_only=True)
class ContainerCell:
    """The tested cell that stands for a container. `pair`: what it was chosen with, where the
    container has no megatron-core; `notes`: how the container is known."""

    image: ContainerImage
    nearest: Neighbour
    pair: Pair | None = None
    notes: tuple[str, ...] = ()

    @property
    def cell(self) -> CellRecord:
        return self.nearest.cell

    def text(self) -> str:
        """Which cell it is, and in what it is another combination."""
        differs = ", ".join(
            f"{c.axis} {c.version or c.specifier} (there {version})"
            for c, version in self.nearest.differs
        )
        unlike = f", unlike it in {differs}" if differs else ""
        return f"for {self.image.name} stands {self.cell.name}, the nearest that was tested{unlike}"

    def whole(self) -> str:
        """All that is to be said of the choice."""
        without = (
            f"it has no {MCORE}: compared with {self.pair.text()}, and by the other axes alone"
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
    """The cell of each container, in their order. `beside`: what is installed into them, in the
    place of what they have.

    Raises:
        UsageError: nothing was tested that could stand for them.
    """
    tested = [cell for cell in cells if cell.checks]
    if not tested:
        raise UsageError("no cell was tested that could stand for a container")
    held = [_inventory(image, beside) for image in images]
    bare = [MCORE not in {c.axis for c in there.constraints} for there in held]
    without = [there for there, is_bare in zip(held, bare, strict=True) if is_bare]
    pair = _pair(without, tested, profile)
    of_pair = [cell for cell in tested if _pair_of(cell) == pair]
    found = []
    for image, there, is_bare in zip(images, held, bare, strict=True):
        near = recommend.closest(there.constraints, of_pair if is_bare else tested, profile)
        assert near is not None  # something was tested
        found.append(
            ContainerCell(
                image=image, nearest=near, pair=pair if is_bare else None, notes=there.notes
            )
        )
    return tuple(found)


def _inventory(image: ContainerImage, beside: Sequence[Constraint]) -> Inventory:
    """What a container has, with what is installed into it."""
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
    """The pair whose cells are nearest to all containers that have none; of several the one that
    works with most of them, then the newest. With a pair for each, the two pairs would be
    compared instead of the containers."""
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
