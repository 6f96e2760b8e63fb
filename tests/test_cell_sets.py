"""Sets of cells as bit masks give the same answers as a look at each cell."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st
from support import cell_record

from mcore_compat.analysis.cell_record import CellRecord
from mcore_compat.analysis.cell_sets import CellSets, Mask
from mcore_compat.analysis.nearest_cell import distance
from mcore_compat.core.cells import AXES
from mcore_compat.core.outcomes import HOLDS

PINS = st.fixed_dictionaries(
    dict.fromkeys(AXES, st.sampled_from(["1.0.0", "1.0.1", "1.1.0", "2.0.0"]))
)
OUTCOME = st.sampled_from(["works", "works-with", "broken", "unsupported"])


@st.composite
def sets_of_cells(draw: st.DrawFn) -> list[CellRecord]:
    rows = draw(st.lists(st.tuples(PINS, OUTCOME, st.sampled_from("ab")), max_size=12))
    return [
        cell_record(
            pins,
            name=f"cell-{number}",
            by_outcome={outcome: ("restore[gpt]",)},
            causes={"restore[gpt]": cause * 12} if outcome == "broken" else {},
        )
        for number, (pins, outcome, cause) in enumerate(rows)
    ]


@given(sets_of_cells(), PINS, st.data())
def test_the_nearest_cell_is_that_of_the_smallest_distance(
    cells: list[CellRecord], pins: Mapping[str, str], data: st.DataObject
) -> None:
    places = data.draw(st.sets(st.integers(0, len(cells) - 1))) if cells else set()
    some = [cells[place] for place in sorted(places)]
    mask = sum(1 << place for place in places)
    expected = min(some, key=lambda cell: distance(pins, cell), default=None)
    assert CellSets(cells).nearest(mask, pins) is expected


@given(sets_of_cells(), PINS)
def test_each_set_has_the_cells_that_it_is_named_after(
    cells: list[CellRecord], pins: Mapping[str, str]
) -> None:
    sets, check = CellSets(cells), "restore[gpt]"

    def members(mask: Mask) -> list[CellRecord]:
        return [cell for number, cell in enumerate(cells) if mask >> number & 1]

    ended = {cell.name: cell.checks[check] for cell in cells}
    assert members(sets.every) == members(sets.running.get(check, 0)) == cells
    assert members(sets.working.get(check, 0)) == [c for c in cells if ended[c.name] in HOLDS]
    assert members(sets.unsupported.get(check, 0)) == [
        c for c in cells if ended[c.name] == "unsupported"
    ]
    failing = [c for c in cells if ended[c.name] == "broken"]
    assert members(sets.failing.get(check, 0)) == failing
    assert members(sets.with_cause.get("a" * 12, {}).get(check, 0)) == [
        c for c in failing if c.causes[check] == "a" * 12
    ]
    assert members(sets.at(pins)) == [c for c in cells if c.pins == pins]
    old = [c for c in cells if c.pins["torch"] < "1.1"]
    assert members(sets.where("torch", lambda version: version < "1.1")) == old
    assert sets.where("numpy", lambda _: False) == sets.every
    assert sets.versions("torch", sets.every) == {c.pins["torch"] for c in cells}
