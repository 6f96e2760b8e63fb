"""Whether checkpoints come over, and by which way. All answers here are made up."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loads_support import answer, failure
from support import event
from upgrade_support import (
    ALL_LOAD,
    BROKEN,
    FROM,
    TO,
    WORKS,
    answered,
    cell,
    exchanged,
    known,
    shows,
)

from mcore_compat.core.outcomes import CheckOutcome
from mcore_compat.exchange.plan import WAYS
from mcore_compat.results.result import CheckResult, Result
from mcore_compat.upgrade import document
from mcore_compat.upgrade.checkpoints import Edges, Load, Place, Route, shortest
from mcore_compat.upgrade.reasons import Word

GOOD = (event("restore[gpt]"),)
REFUSED = answer(BROKEN)
MIDDLE = cell("compat-0.16-modelopt0.41.5", modelopt="0.41.5")


def over(
    *loads: Result, before: tuple[dict[str, Any], ...] = GOOD, after: Any = GOOD
) -> tuple[Word, dict[str, Route]]:
    """The answer, and each route by family and way."""
    found = [shows(FROM, *before), shows(TO, *after)]
    made = answered(known(found, loads))
    assert made.checkpoints is not None
    return made.word, {f"{r.family}:{r.way}": r for r in made.checkpoints.routes}


def also(one: Result, other: Result) -> Result:
    """What a cell loaded of two others."""
    sources = {**one.sources, **other.sources}
    return replace(one, sources=sources, checks=(*one.checks, *other.checks))


def only(**ways: CheckResult) -> dict[str, CheckResult]:
    given = {f"gpt:{way.replace('_', '-')}": answer for way, answer in ways.items()}
    return {**ALL_LOAD, **given}


def test_what_loads_is_told() -> None:
    word, routes = over(exchanged(TO, FROM, ALL_LOAD))
    assert word is Word.GO
    assert {r.load for r in routes.values()} == {Load.WORKS}


CONDITION = "model.load(\n    strict={False}\n)"
WITH = answer(CheckOutcome.WORKS_WITH, condition=CONDITION, failure=failure())


def test_what_loads_only_under_a_condition_is_a_change_that_names_it() -> None:
    found = [shows(FROM, *GOOD), shows(TO, *GOOD)]
    of = known(found, [exchanged(TO, FROM, only(default=WITH, modelopt=WITH)), ITSELF])
    made = answered(of)
    assert made.word is Word.CHANGES
    (reason,) = made.reasons
    line = "model.load(; strict={False}; )"
    what = "default spec, ModelOpt spec of gpt"
    assert reason.text == f"checkpoints of FROM load in TO only with {line}: {what}"
    assert reason.names == ("restore-from[gpt:default]", "restore-from[gpt:modelopt]")
    assert reason.why == "EOFError: EOF"
    text = document.markdown(made)
    assert f"  - `gpt`: loads only with `{line}`; without it: EOFError: EOF" in text
    assert text.count("  - load: `gpt`") == 2
    assert "FROM's checkpoints load in TO" not in text
    assert answered(of, "restore-from[gpt:default]").reasons[0].names == (reason.names[1],)
    accepted = answered(of, "restore-from*")
    assert accepted.word is Word.GO
    assert "FROM's checkpoints load in TO" not in document.markdown(accepted)


@pytest.mark.parametrize(
    ("own", "word", "told"),
    [
        (WITH, Word.GO, ", as in FROM;"),
        (replace(WITH, condition="other()"), Word.CHANGES, ""),
        (answer(BROKEN), Word.GO, ", not in FROM either;"),
        (WORKS, Word.CHANGES, ""),
    ],
)
def test_a_condition_that_from_needs_too_is_no_change(
    own: CheckResult, word: Word, told: str
) -> None:
    loads = [exchanged(TO, FROM, only(default=WITH)), exchanged(FROM, FROM, only(default=own))]
    made = answered(known([shows(FROM, *GOOD), shows(TO, *GOOD)], loads))
    assert made.word is word
    assert told in document.markdown(made)


def test_where_from_did_not_load_its_own_its_suite_is_asked_for_the_condition() -> None:
    before = (event("restore[gpt]", "works-with", condition=CONDITION),)
    loads = exchanged(TO, FROM, only(default_to_modelopt=WITH))
    word, routes = over(loads, before=before)
    assert word is Word.GO
    assert routes["gpt:default-to-modelopt"].as_in_origin
    word, _ = over(loads)
    assert word is Word.CHANGES


ITSELF = exchanged(FROM, FROM, ALL_LOAD)
"""FROM loads its own checkpoints."""


def test_what_does_not_load_is_a_no() -> None:
    word, routes = over(exchanged(TO, FROM, only(quantized=REFUSED)), ITSELF)
    assert word is Word.NO
    assert routes["gpt:quantized"].load is Load.LOST
    assert routes["gpt:quantized"].why == "broken"


@pytest.mark.parametrize("way", ["default", "modelopt", "quantized"])
def test_what_does_not_load_is_no_loss_where_from_was_not_asked(way: str) -> None:
    word, routes = over(exchanged(TO, FROM, only(**{way: REFUSED})))
    assert word is Word.CHANGES
    assert routes[f"gpt:{way}"].load is Load.OPEN


OPEN = (CheckOutcome.BLOCKED, CheckOutcome.UNSUPPORTED, CheckOutcome.NEEDS_GPU)


@pytest.mark.parametrize("outcome", OPEN)
def test_what_from_could_not_save_is_not_lost(outcome: CheckOutcome) -> None:
    given = answer(outcome, reason="not saved: because")
    word, routes = over(exchanged(TO, FROM, only(quantized=given)))
    assert word is Word.GO
    assert routes["gpt:quantized"].load is Load.NOT_SAVED
    assert routes["gpt:quantized"].why == "not saved: because"


@pytest.mark.parametrize("outcome", OPEN)
def test_what_was_saved_and_cannot_be_asked_in_to_is_no_go(outcome: CheckOutcome) -> None:
    given = answer(outcome, reason="because")
    word, routes = over(exchanged(TO, FROM, only(quantized=given)))
    assert word is Word.CHANGES
    assert routes["gpt:quantized"].load is Load.NOT_ASKED
    assert routes["gpt:quantized"].why == "because"


@pytest.mark.parametrize("there", [REFUSED, answer(CheckOutcome.UNSUPPORTED)])
def test_a_way_that_from_does_not_have_is_not_taken_away(there: CheckResult) -> None:
    own = answer(CheckOutcome.UNSUPPORTED, reason="no such spec")
    loads = exchanged(TO, FROM, only(default_to_modelopt=there))
    word, routes = over(loads, exchanged(FROM, FROM, only(default_to_modelopt=own)))
    assert word is Word.GO
    assert routes["gpt:default-to-modelopt"].load is Load.BEFORE
    both = (*GOOD, event("restore[x]", "unsupported"))
    x = {f"x:{key.partition(':')[2]}": one for key, one in ALL_LOAD.items()}
    x["x:default-to-modelopt"] = there
    _, routes = over(exchanged(TO, FROM, {**ALL_LOAD, **x}), before=both, after=both)
    assert routes["x:default-to-modelopt"].load is Load.BEFORE


@pytest.mark.parametrize("changed", [{"suite": "old"}, {"lock": "old"}])
def test_no_way_goes_over_what_does_not_hold_any_more(changed: dict[str, str]) -> None:
    both = exchanged(TO, FROM, only(quantized=REFUSED))
    both = also(both, exchanged(TO, MIDDLE, ALL_LOAD))
    of = [both, exchanged(MIDDLE, FROM, ALL_LOAD), ITSELF]
    found = [shows(FROM, *GOOD), shows(TO, *GOOD), shows(MIDDLE, *GOOD)]
    assert answered(known(found, of)).word is Word.CHANGES
    stale = replace(of[1], **changed)
    assert answered(known(found, [of[0], stale, ITSELF])).word is Word.NO
    saved_otherwise = replace(both.sources[FROM.name], lock="old")
    stale = replace(of[1], sources={FROM.name: saved_otherwise})
    assert answered(known(found, [of[0], stale, ITSELF])).word is Word.NO


def test_a_way_that_was_not_asked_is_no_go() -> None:
    few = exchanged(TO, FROM, {"gpt:quantized": WORKS})
    source = replace(few.sources[FROM.name], ways=("quantized",))
    word, routes = over(replace(few, sources={FROM.name: source}))
    assert word is Word.CHANGES
    assert {r.load for r in routes.values() if r.way != "quantized"} == {Load.UNTESTED}


def test_a_checkpoint_that_from_cannot_have_is_not_waited_for() -> None:
    """FROM has no ModelOpt spec of the family x, and no such model to save."""
    before = (*GOOD, event("build-modelopt[gpt]"), event("build-modelopt[x]", "unsupported"))
    _, routes = over(before=before)
    assert {r.way for r in routes.values() if r.family == "gpt"} == set(WAYS)
    assert {r.way for r in routes.values() if r.family == "x"} == {
        "default",
        "default-to-modelopt",
    }


def test_what_fails_in_from_by_itself_is_not_taken_away() -> None:
    refused = exchanged(TO, FROM, only(default=REFUSED))
    word, routes = over(refused, exchanged(FROM, FROM, only(default=REFUSED)))
    assert routes["gpt:default"].load is Load.BEFORE
    assert word is Word.GO
    _, routes = over(refused, exchanged(FROM, FROM, ALL_LOAD))
    assert routes["gpt:default"].load is Load.LOST


def test_where_from_did_not_load_its_own_its_suite_is_asked() -> None:
    bad = (event("restore[gpt]", "broken"),)
    after = (event("restore[gpt]", "broken"),)
    refused = exchanged(TO, FROM, only(default_to_modelopt=REFUSED))
    _, routes = over(refused, before=bad, after=after)
    assert routes["gpt:default-to-modelopt"].load is Load.BEFORE


@pytest.mark.parametrize(
    ("changed", "state"),
    [
        ({"suite": "old"}, "the checks changed"),
        ({"lock": "old"}, "a lock changed"),
    ],
)
def test_what_does_not_hold_any_more_is_no_go(changed: dict[str, str], state: str) -> None:
    loads = replace(exchanged(TO, FROM, ALL_LOAD), **changed)
    made = answered(known([shows(FROM, *GOOD), shows(TO, *GOOD)], [loads]))
    assert made.checkpoints is not None
    assert made.checkpoints.state == state
    assert made.word is Word.CHANGES


def test_a_result_of_another_device_class_says_nothing() -> None:
    word, _ = over(replace(exchanged(TO, FROM, ALL_LOAD), device_class="gpu"))
    assert word is Word.CHANGES


# The way through others


def test_a_way_through_another_cell_is_found() -> None:
    both = exchanged(TO, FROM, only(quantized=REFUSED))
    both = also(both, exchanged(TO, MIDDLE, ALL_LOAD))
    word, routes = over(both, exchanged(MIDDLE, FROM, ALL_LOAD))
    assert word is Word.CHANGES
    assert routes["gpt:quantized"].chain == (
        (FROM.name, "quantized"),
        (MIDDLE.name, "quantized"),
        (TO.name, "quantized"),
    )


def test_a_change_of_spec_within_a_cell_needs_no_other_one() -> None:
    """FROM restores its own checkpoint into the ModelOpt spec, and what it saves then loads."""
    word, routes = over(exchanged(TO, FROM, only(default_to_modelopt=REFUSED)))
    assert word is Word.CHANGES
    assert routes["gpt:default-to-modelopt"].chain == (
        (FROM.name, "default"),
        (FROM.name, "modelopt"),
        (TO.name, "modelopt"),
    )


def test_a_family_does_not_go_by_another_ones_way() -> None:
    both = exchanged(TO, FROM, only(quantized=REFUSED))
    loads = {f"mla-moe:{key.partition(':')[2]}": WORKS for key in ALL_LOAD}
    both = also(both, exchanged(TO, MIDDLE, loads))
    word, _ = over(both, exchanged(MIDDLE, FROM, loads), ITSELF)
    assert word is Word.NO


CELLS = ("a", "b", "c", "d", "e")
KINDS = ("default", "modelopt")
PLACES = tuple(itertools.product(CELLS, KINDS))


def cheapest(edges: Edges, start: Place, end: Place) -> tuple[int, int] | None:
    """Cells and loads of the best way, by trying every way that visits no place twice."""
    best: tuple[int, int] | None = None
    open_ = [(start, frozenset({start}), 0, 0)]
    while open_:
        place, seen, cells, loads = open_.pop()
        if place == end:
            best = min(best or (cells, loads), (cells, loads))
        for to, other in edges.get(place, ()):
            if to not in seen:
                open_.append((to, seen | {to}, cells + other, loads + 1))
    return best


@st.composite
def graphs(draw: st.DrawFn) -> Edges:
    pairs = draw(st.sets(st.tuples(st.sampled_from(PLACES), st.sampled_from(PLACES)), max_size=14))
    made: dict[Place, list[tuple[Place, int]]] = {}
    for one, other in sorted(pairs):
        made.setdefault(one, []).append((other, int(one[0] != other[0])))
    return made


@given(graphs(), st.sampled_from(PLACES), st.sampled_from(PLACES))
def test_the_way_is_one_and_none_is_shorter(edges: Edges, start: Place, end: Place) -> None:
    path = shortest(edges, start, end)
    best = cheapest(edges, start, end)
    assert bool(path) is (best is not None)
    if not path:
        return
    assert (path[0], path[-1]) == (start, end)
    steps = [dict(edges.get(one, ())) for one in path[:-1]]
    price = [step[other] for step, other in zip(steps, path[1:], strict=True)]  # each is an edge
    assert (sum(price), len(price)) == best


def test_fewer_cells_come_before_fewer_loads() -> None:
    start, end = ("a", "default"), ("b", "modelopt")
    through: Edges = {start: [(("c", "modelopt"), 1)], ("c", "modelopt"): [(end, 1)]}
    within = [(("a", "modelopt"), 0), (("b", "default"), 1), (("c", "modelopt"), 1)]
    more = {**through, start: within, ("b", "default"): [(end, 0)]}
    assert shortest(through, start, end) == (start, ("c", "modelopt"), end)
    assert shortest(more, start, end) == (start, ("b", "default"), end)
    longer: Edges = {
        **through,
        start: within[::2],
        ("a", "modelopt"): [(("a", "quantized"), 0)],
        ("a", "quantized"): [(end, 1)],
    }
    assert len(shortest(longer, start, end)) == 4
