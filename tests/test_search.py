"""From a line to an answer over synthetic matrices: never wrong, never more runs than promised.

All results here are made up; what runs a cell only looks it up.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace

import pytest
import snapshot
from hypothesis import given, settings
from hypothesis import strategies as st
from support import event, stand_in_cell, stand_in_result

from mcore_compat.analysis.bisect import release_line, search
from mcore_compat.analysis.bisect.halving import CheckState
from mcore_compat.analysis.bisect.release_line import Facts, ReleaseLine
from mcore_compat.analysis.bisect.search import PointState, SearchResult
from mcore_compat.base.errors import UsageError
from mcore_compat.core import combinations
from mcore_compat.core.cells import Cell
from mcore_compat.core.outcomes import CellOutcome
from mcore_compat.results.result import Reason, Result, empty_result

G, B, S = CheckState.GOOD, CheckState.BAD, CheckState.SILENT
CHECK = "restore[gpt]"
MATRIX, RELEASES = snapshot.matrix(), snapshot.releases()
FACTS = Facts(
    matrix=MATRIX,
    releases=RELEASES,
    cell_of=functools.cache(lambda name: combinations.named(name, MATRIX, RELEASES)),
)


# A synthetic matrix

ENDS = {
    "megatron-core": ("0.9-modelopt0.41", "0.19-modelopt0.41"),
    "nvidia-modelopt": ("0.16-modelopt0.21", "0.16-modelopt0.47"),
    "transformer-engine": ("0.16-modelopt0.41-te2.1", "0.16-modelopt0.41-te2.20"),
    "torch": ("0.16-modelopt0.41-torch2.4", "0.16-modelopt0.41-torch2.15"),
}


@functools.cache
def line_over(axis: str, patches: bool, fixed: bool) -> ReleaseLine:
    ends = [FACTS.cell_of(f"compat-{name}") for name in ENDS[axis]]
    good, bad = reversed(ends) if fixed else ends
    return release_line.between(good, bad, FACTS, patches=patches)


def result_of(state: CheckState, cell: Cell, how: str) -> Result:
    """A result that says this of the check, in one of the ways in which a result can."""
    if state is G:
        return stand_in_result(event(CHECK), cell=cell)
    if state is B:
        return stand_in_result(event(CHECK, how), cell=cell)
    if how in ("unresolvable", "unbuildable"):
        return replace(
            empty_result(cell, device_class="host"),
            outcome=CellOutcome(how),
            reason=Reason(kind=how, message="a made-up reason", help=""),
        )
    return stand_in_result(event(CHECK, how), cell=cell)


BAD_HOW = ("broken", "crashed", "timed-out")
SILENT_HOW = ("unresolvable", "unbuildable", "needs-gpu", "blocked", "unsupported")


@dataclass
class Synthetic:
    """A line, what each point really says, and what is known of it before."""

    line: ReleaseLine
    states: list[CheckState]
    results: list[Result]
    known: set[int]

    def found(self, *, run: bool = True) -> SearchResult:
        """Search, and see that no point is run twice, nor one of which something is known."""
        asked: set[int] = set()

        def ask(place: int) -> PointState:
            assert place not in asked
            assert place not in self.known
            asked.add(place)
            return self.seen(place)

        known = {place: self.seen(place) for place in self.known}
        found = search.search(self.line, CHECK, known, ask if run else None)
        assert sorted(found.ran) == sorted(self.line.points[p].cell.name for p in asked)
        return found

    def seen(self, place: int) -> PointState:
        cell = self.line.points[place].cell
        return search.seen_in(self.results[place], CHECK, cell, "made up")

    def price(self, found: SearchResult) -> int:
        """What may be run: the ends that are not known, log2, and each that was silent."""
        count = len(self.states)
        ends = len({0, count - 1} - self.known)
        names = {p.cell.name: self.states[i] for i, p in enumerate(self.line.points)}
        silent = sum(names[name] is S for name in found.ran)
        return ends + math.ceil(math.log2(count)) + silent


@st.composite
def synthetic(draw: st.DrawFn, *, monotone: bool, ends_known: bool | None = None) -> Synthetic:
    """A line over some axis, its ends as they were said to be, all else drawn."""
    over = line_over(draw(st.sampled_from(sorted(ENDS))), draw(st.booleans()), draw(st.booleans()))
    count = len(over.points)
    one, other = (B, G) if over.fixed else (G, B)
    if monotone:
        change = draw(st.integers(1, count - 1))
        states = [one if place < change else other for place in range(count)]
        for place in draw(st.sets(st.integers(1, count - 2))):
            states[place] = S
    else:
        middle = st.lists(st.sampled_from([G, B, S]), min_size=count - 2, max_size=count - 2)
        states = [one, *draw(middle), other]
    made = []
    for point, state in zip(over.points, states, strict=True):
        how = draw(st.sampled_from(SILENT_HOW if state is S else BAD_HOW))
        made.append(result_of(state, point.cell, how))
    known = draw(st.sets(st.integers(0, count - 1)))
    if ends_known or (ends_known is None and draw(st.booleans())):
        known |= {0, count - 1}
    return Synthetic(over, states, made, known)


@settings(deadline=None)
@given(synthetic(monotone=True))
def test_of_what_changes_once_the_answer_is_never_wrong(case: Synthetic) -> None:
    answer = case.found().answer
    one, other = (B, G) if case.line.fixed else (G, B)
    # By looking at every point, as no search may.
    last = max(p for p, state in enumerate(case.states) if state is one)
    first = min(p for p, state in enumerate(case.states) if state is other)
    assert (answer.last, answer.first) == (last, first)
    assert answer.silent == tuple(range(last + 1, first))
    assert answer.exact is (first == last + 1)
    assert answer.against == ()


@settings(deadline=None)
@given(synthetic(monotone=True))
def test_of_what_changes_once_no_more_is_run_than_promised(case: Synthetic) -> None:
    found = case.found()
    assert len(found.ran) <= case.price(found)


@settings(deadline=None)
@given(synthetic(monotone=False))
def test_of_what_changes_often_no_more_is_run_than_promised(case: Synthetic) -> None:
    found = case.found()
    assert len(found.ran) <= case.price(found)


@settings(deadline=None)
@given(synthetic(monotone=False))
def test_of_what_changes_often_a_change_is_told_and_all_that_speaks_against_it(
    case: Synthetic,
) -> None:
    found = case.found()
    answer = found.answer
    one, other = (B, G) if case.line.fixed else (G, B)
    assert case.states[answer.last] is one
    assert case.states[answer.first] is other
    # Honest: all that lies between was asked and is silent.
    between = range(answer.last + 1, answer.first)
    assert all(p in found.seen and case.states[p] is S for p in between)
    assert answer.silent == tuple(between)
    against = {
        p
        for p in found.seen
        if (p < answer.last and case.states[p] is other)
        or (p > answer.first and case.states[p] is one)
    }
    assert set(answer.against) == against
    # No change that was seen is before the one that is told: it is the first.
    first = (case.line.points[answer.last].version, case.line.points[answer.first].version)
    assert search.changes(case.line, found)[0] == first


@settings(deadline=None)
@given(synthetic(monotone=True, ends_known=True))
def test_without_a_run_the_range_holds_the_change_and_is_no_wider_than_it_must_be(
    case: Synthetic,
) -> None:
    found = case.found(run=False)
    answer = found.answer
    assert found.ran == ()
    one, other = (B, G) if case.line.fixed else (G, B)
    known = {p: case.states[p] for p in case.known}
    assert answer.last == max(p for p, state in known.items() if state is one)
    assert answer.first == min(p for p, state in known.items() if state is other)
    assert found.unrun == set(range(answer.last + 1, answer.first)) - case.known


@settings(deadline=None)
@given(synthetic(monotone=True))
def test_the_plan_promises_what_the_run_then_keeps(case: Synthetic) -> None:
    known = {place: case.seen(place) for place in case.known}
    ends, may, most = search.most_runs(case.line, known)
    found = case.found()
    names = {p.cell.name: place for place, p in enumerate(case.line.points)}
    ran = [names[name] for name in found.ran]
    assert set(ran) <= {*ends, *may}
    silent = sum(case.states[p] is S for p in ran)
    assert len(ran) <= len(ends) + most + silent
    assert len(ran) >= len(ends)


@pytest.mark.parametrize("wrong", ["linear", "late"])
def test_a_search_that_is_wrong_would_be_caught(
    wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A control: the oracle and the price above tell a bad search from a good one."""
    over = line_over("nvidia-modelopt", True, False)
    count = len(over.points)
    states = [G] * (count - 2) + [B] * 2
    made = [result_of(s, p.cell, "broken") for s, p in zip(states, over.points, strict=True)]
    case = Synthetic(over, states, made, {0, count - 1})
    assert len(case.found().ran) <= case.price(case.found())

    def linear(count: int, ask: object, states: object) -> search.ChangePoint:
        asked = []
        for place in range(1, count):
            asked.append(place)
            if place == count - 1 or ask(place) is B:  # type: ignore[operator]
                break
        first = asked[-1] + (wrong == "late")
        return search.ChangePoint(
            last=first - 1, first=first, silent=(), asked=tuple(asked), against=()
        )

    monkeypatch.setattr(search.halving, "bisect", linear)
    found = case.found()
    if wrong == "linear":
        assert len(found.ran) > case.price(found)
    else:
        assert states[found.answer.last] is not G


# The ends


def at_ends(first: CheckState, last: CheckState, how: str = "broken", **options: bool) -> Synthetic:
    over = line_over("nvidia-modelopt", False, options.get("fixed", False))
    states = [first, *[S] * (len(over.points) - 2), last]
    made = [result_of(s, p.cell, how) for s, p in zip(states, over.points, strict=True)]
    return Synthetic(over, states, made, set())


GOOD_END, BAD_END = "compat-0.16-modelopt0.21", "compat-0.16-modelopt0.47"


@pytest.mark.parametrize(
    ("first", "last", "said"),
    [
        (B, B, f"--good {GOOD_END}: {CHECK} is broken there"),
        (G, G, f"--bad {BAD_END}: {CHECK} works there"),
    ],
)
def test_an_end_that_is_not_what_it_was_said_to_be_is_one_line(
    first: CheckState, last: CheckState, said: str
) -> None:
    with pytest.raises(UsageError) as caught:
        at_ends(first, last).found()
    assert str(caught.value) == said


def test_ends_that_are_known_to_be_the_wrong_way_round_are_told_so() -> None:
    case = at_ends(B, G)
    case.known = {0, len(case.states) - 1}
    with pytest.raises(UsageError, match="the wrong way round"):
        case.found()


def test_a_good_end_that_fails_is_the_only_cell_that_is_run() -> None:
    case = at_ends(B, B)
    ran: list[int] = []

    def ask(place: int) -> PointState:
        ran.append(place)
        return case.seen(place)

    with pytest.raises(UsageError):
        search.search(case.line, CHECK, {}, ask)
    assert ran == [0]


@pytest.mark.parametrize("how", SILENT_HOW)
def test_an_end_that_cannot_be_asked_is_neither(how: str) -> None:
    case = at_ends(G, B)
    case.results[-1] = result_of(S, case.line.points[-1].cell, how)
    with pytest.raises(UsageError, match=f"is {how} there.*neither good nor bad") as caught:
        case.found()
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith("bisect what blocks it") is (how == "blocked")


def test_without_a_run_an_end_must_be_known() -> None:
    with pytest.raises(
        UsageError, match=f"no result of .* that is up to date; run it: nox -s {GOOD_END}"
    ):
        at_ends(G, B).found(run=False)


def test_where_what_is_held_decides_it_is_said() -> None:
    good, bad = (FACTS.cell_of(f"compat-{n}") for n in ("0.14-modelopt0.41", "0.17-modelopt0.41"))
    over = release_line.between(good, bad, FACTS, hold=["transformer-engine", "torch"])
    with pytest.raises(UsageError, match=r"instead of --bad .* another axis decides"):
        search.search(
            over,
            CHECK,
            {},
            lambda place: PointState(state=G, outcome="works", source="made up"),
        )


# What a result says of a check


def said(*events: dict[str, object], pattern: str = "restore*") -> PointState:
    cell = stand_in_cell()
    return search.seen_in(stand_in_result(*events, cell=cell), pattern, cell, "here")


@pytest.mark.parametrize(
    ("outcomes", "state", "outcome"),
    [
        (("works", "works"), G, "works"),
        (("works", "unsupported"), G, "works"),
        (("works", "needs-gpu"), G, "works"),
        (("works", "broken"), B, "broken"),
        (("blocked", "timed-out"), B, "timed-out"),
        (("works", "blocked"), S, "blocked"),
        (("needs-gpu", "unsupported"), S, "needs-gpu"),
        (("unsupported", "unsupported"), S, "unsupported"),
    ],
)
def test_of_several_checks_all_that_apply_must_work(
    outcomes: tuple[str, str], state: CheckState, outcome: str
) -> None:
    one, other = outcomes
    seen = said(event("restore[gpt]", one), event("restore[mla-moe]", other))
    assert (seen.state, seen.outcome) == (state, outcome)


def test_why_it_could_not_be_asked_is_kept_to_one_line() -> None:
    seen = said(event("restore[gpt]", "blocked", reason="import-packages is broken\nmore"))
    assert seen.why == "import-packages is broken"


def test_a_check_that_the_cell_was_not_asked_is_silent() -> None:
    seen = said(event("build-default[gpt]"))
    assert (seen.state, seen.why) == (S, "the result has no such check")


def test_the_failure_is_of_the_check_that_failed() -> None:
    seen = said(event("restore[gpt]"), event("restore[mla-moe]", "broken"))
    assert seen.failed is not None
    assert seen.failed[0].check == "restore[mla-moe]"


def test_a_result_of_another_combination_says_nothing() -> None:
    """As where a cell had to give way to the next stack of its series."""
    found = stand_in_result(event(CHECK), cell=stand_in_cell(modelopt="0.41.0"))
    other = stand_in_cell(modelopt="0.40.0")
    seen = search.seen_in(found, CHECK, other, "here")
    assert seen.state is S
    assert seen.why == "the result is of another combination: nvidia-modelopt 0.41.0"


CHECKS = ("restore[gpt]", "restore[mla-moe]", "restore-back[gpt]", "signatures")


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("restore[gpt]", ("restore[gpt]",)),
        ("restore[*]", ("restore[gpt]", "restore[mla-moe]")),
        ("restore*[gpt]", ("restore-back[gpt]", "restore[gpt]")),
        ("signature?", ("signatures",)),
        ("restore", ()),
        ("restore.gpt.", ()),
    ],
)
def test_a_glob_knows_no_wildcards_but_star_and_question_mark(
    pattern: str, found: tuple[str, ...]
) -> None:
    assert search.matching(pattern, CHECKS) == found


def test_an_unknown_check_names_the_nearest() -> None:
    with pytest.raises(UsageError, match='no such check "restor"; did you mean "restore'):
        search.known_check("restor", CHECKS)
    search.known_check("anything", ())
