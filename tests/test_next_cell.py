"""Which untested cell would test a rule best. All cells here are made up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from test_boxes import gridded

from mcore_compat.analysis.next_cell import next_cell
from mcore_compat.analysis.rules import CellSighting, FailureState, boxes
from mcore_compat.core.cells import AXES

FAILS, WORKS = FailureState.FAILS, FailureState.WORKS


def seen(said: FailureState, **pins: str) -> CellSighting:
    base = dict.fromkeys(AXES, "1") | {axis.replace("_", "-"): v for axis, v in pins.items()}
    return CellSighting(cell=str(sorted(pins.items())), pins=base, state=said)


class Proposals:
    """The versions of each axis, and the cells that cannot be proposed. A cell is named after its
    versions of these axes."""

    def __init__(self, refused: Sequence[str] = (), **versions: Sequence[str]) -> None:
        self._versions = {axis.replace("_", "-"): mine for axis, mine in versions.items()}
        self._refused = refused

    def beside(self, axis: str, version: str) -> Sequence[str]:
        return [v for v in self._versions.get(axis, ()) if v != version]

    def named(self, pins: Mapping[str, str]) -> str | None:
        name = " ".join(pins[axis] for axis in self._versions)
        return None if name in self._refused else name


def proposed(cells: Sequence[CellSighting], untested: Proposals) -> str | None:
    grid, said = gridded(cells)
    broken = [one for one in cells if one.broken]
    return next_cell(boxes(grid, said), broken, partial(grid.asked, said), untested)


TORCHES = ("2.3.0", "2.5.0", "2.6.0", "2.7.0", "2.9.0")


def test_the_next_cell_lies_between_what_works_and_what_fails() -> None:
    cells = [seen(WORKS, torch="2.4.0"), seen(FAILS, torch="2.8.0")]
    assert proposed(cells, Proposals(torch=TORCHES)) == "2.6.0"
    assert proposed(cells, Proposals(torch=TORCHES, refused=["2.6.0"])) == "2.5.0"
    assert proposed(cells, Proposals(torch=TORCHES[:1])) is None


def test_between_what_works_and_what_fails_otherwise_nothing_is_proposed() -> None:
    cells = [
        seen(WORKS, torch="2.4.0"),
        seen(FailureState.OTHERWISE, torch="2.7.1"),
        seen(FAILS, torch="2.8.0"),
    ]
    assert proposed(cells, Proposals(torch=TORCHES)) is None


def test_the_next_cell_tells_confounded_axes_apart() -> None:
    cells = [
        seen(WORKS, torch="1", transformer_engine="1"),
        seen(FAILS, torch="2", transformer_engine="2"),
    ]
    untested = Proposals(transformer_engine=("1", "2"), torch=("1", "2"))
    assert proposed(cells, untested) == "1 2"


def test_the_next_cell_is_unlike_one_that_fails_in_one_axis_of_a_version_that_was_seen() -> None:
    cells = [
        seen(WORKS, torch="1", transformer_engine="3"),
        seen(FAILS, torch="2", transformer_engine="1"),
    ]
    untested = Proposals(transformer_engine=("1", "2", "3"), torch=("2",))
    assert proposed(cells, untested) == "3 2"


def test_the_next_cell_is_of_the_newest_releases() -> None:
    cells = [
        seen(said, megatron_core=m, torch=t, transformer_engine=t)
        for m in ("0.9.0", "0.10.0")
        for t, said in (("1", WORKS), ("2", FAILS))
    ]
    untested = Proposals(megatron_core=("0.9.0", "0.10.0"), transformer_engine=("1",), torch=("2",))
    assert proposed(cells, untested) == "0.10.0 1 2"


def test_no_cell_is_proposed_of_a_version_at_which_the_checks_are_not_there() -> None:
    cells = [
        seen(WORKS, megatron_core="3", torch="1"),
        seen(FAILS, megatron_core="2", torch="2"),
        seen(FailureState.UNSUPPORTED, megatron_core="1", torch="2"),
    ]
    assert proposed(cells, Proposals(megatron_core=("1",))) is None
    assert proposed(cells, Proposals(megatron_core=("1", "3"))) == "3"
