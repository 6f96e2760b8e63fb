"""What to run next off the default stacks, chosen from results made up here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import snapshot
from hypothesis import given
from hypothesis import strategies as st

from mcore_compat.analysis import explanation, exploration
from mcore_compat.base.errors import UsageError
from mcore_compat.core.cells import Cell, series_of
from mcore_compat.core.outcomes import CellOutcome, CheckOutcome
from mcore_compat.resolve import solver
from mcore_compat.resolve.resolvability import InstallChecks
from mcore_compat.resolve.solver import Installability
from mcore_compat.results.result import CheckResult, Failure, Record, Result, empty_result
from mcore_compat.schedule import exploration_run

TES = ("2.7.0", "2.9.0", "2.11.0", "2.13.0", "2.15.0")
TORCHES = ("2.8.0", "2.9.1", "2.10.0")


def cell(te: str = "2.11.0", torch: str = "2.9.1", mcore: str = "0.16.1") -> Cell:
    name = f"compat-{series_of(mcore)}-modelopt0.41-te{series_of(te)}-torch{series_of(torch)}"
    return Cell(
        name=name, mcore=mcore, modelopt="0.41.0", te=te, torch=torch, python="3.12", cuda=12
    )


def possible(mcore: str = "0.16.1") -> list[Cell]:
    return [cell(te, torch, mcore) for te in TES for torch in TORCHES]


def check(kind: str, *, works: bool = True, **details: Any) -> CheckResult:
    failure = Failure(
        type="E", message="m", frame="f", fingerprint="0" * 12, traceback="t", gpu_independent=None
    )
    return CheckResult(
        check=kind,
        kind=kind,
        family=None,
        outcome=CheckOutcome.WORKS if works else CheckOutcome.BROKEN,
        seconds=1.0,
        reason=None,
        failure=None if works else failure,
        details=details,
    )


def seen(of: Cell, *checks: CheckResult) -> Result:
    base = empty_result(of, device_class="host")
    return replace(base, outcome=CellOutcome.PARTIAL, checks=checks or (check("restore"),))


def chosen(
    found: Sequence[Result], minutes: float = 100.0, **more: Any
) -> list[exploration.CellChoice]:
    standard: dict[str, Any] = {"cost": {}, "cell_minutes": 1.0}
    return list(
        exploration.choose(
            possible(),
            exploration.state_of(found),
            explanation.explain(found),
            exploration.guards_of(found),
            minutes=minutes,
            **{**standard, **more},
        )
    )


@given(st.sets(st.sampled_from([c.name for c in possible()])), st.sampled_from([None, 1, 3]))
def test_asking_of_few_cells_whether_they_install_chooses_as_knowing_it_of_all(
    out: set[str], most: int | None
) -> None:
    found = [
        seen(cell("2.7.0"), check("restore", works=False)),
        seen(cell("2.15.0"), check("restore")),
    ]
    asked: list[str] = []

    def installs(one: Cell) -> bool:
        asked.append(one.name)
        return one.name not in out

    state, explained = exploration.state_of(found), explanation.explain(found)
    more: dict[str, Any] = {"minutes": 100.0, "cost": {}, "cell_minutes": 1.0, "most": most}
    lazily = exploration.choose(possible(), state, explained, {}, installs=installs, **more)
    there = [one for one in possible() if one.name not in out]
    state = exploration.state_of(found)
    assert lazily == exploration.choose(there, state, explained, {}, **more)
    if most == 1 and not out:
        assert len(set(asked)) < len(possible())


def test_an_answer_is_kept_and_given_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MCORE_COMPAT_HOME", str(tmp_path))
    asked: list[str] = []

    def verdict(of: Cell, *_: Any) -> Installability:
        asked.append(of.name)
        return Installability(installs=of.te != "2.8.0", reason="r")

    monkeypatch.setattr(solver, "verdict", verdict)
    cells = [cell(), cell(te="2.8.0")]
    for _ in range(2):
        with InstallChecks(snapshot.matrix(), snapshot.releases(), offline=True) as installs:
            assert [installs(one) for one in (*cells, *cells)] == [True, False, True, False]
    assert asked == [one.name for one in cells]
    known = [installs.known(one) for one in cells]
    assert [one and one.installs for one in known] == [True, False]


def test_a_boundary_is_halved() -> None:
    found = [
        seen(cell("2.7.0"), check("restore", works=False)),
        seen(cell("2.15.0"), check("restore")),
    ]
    first, *_ = chosen(found)
    assert any("works at transformer-engine 2.15.0 and fails at 2.7.0" in r for r in first.reasons)
    assert first.cell.te in ("2.9.0", "2.11.0", "2.13.0")
    assert first.cell.torch == "2.9.1"


def test_a_boundary_at_which_it_fails_otherwise_is_known() -> None:
    broken = check("restore", works=False)
    assert broken.failure is not None
    otherwise = replace(broken, failure=replace(broken.failure, fingerprint="1" * 12))
    found = [
        seen(cell("2.7.0"), broken),
        seen(cell("2.11.0"), otherwise),
        seen(cell("2.15.0"), check("restore")),
    ]
    reasons = [reason for choice in chosen(found) for reason in choice.reasons]
    assert not any("works at transformer-engine 2.15.0 and fails at 2.7.0" in r for r in reasons)
    said = "restore fails otherwise at transformer-engine 2.11.0 and fails at 2.7.0: 2.9.0 is"
    assert any(reason.startswith(said) for reason in reasons)


def test_rules_that_cannot_be_told_apart_are_told_apart() -> None:
    found = [
        seen(cell("2.7.0", "2.8.0"), check("restore", works=False)),
        seen(cell("2.11.0", "2.9.1"), check("restore")),
    ]
    reasons = [r for c in chosen(found, minutes=1.0) for r in c.reasons]
    assert any(
        r.startswith("shows whether transformer-engine or torch decides restore") for r in reasons
    )


def test_the_other_side_of_a_guard_is_wanted() -> None:
    details = {"megatron-core": {"transformer-engine>=2.12": ["a.py:1"]}}
    guards = {"version-guards": Record(seconds=1.0, failure=None, details=details)}
    there = [cell(te) for te in ("2.7.0", "2.9.0", "2.11.0")]
    there += [cell(torch=torch) for torch in ("2.8.0", "2.10.0")]
    tested = [replace(seen(of, check("restore")), records=guards) for of in there]
    first, *_ = chosen(tested)
    assert first.cell.te in ("2.13.0", "2.15.0")
    assert any("only one side of its guards transformer-engine>=2.12" in r for r in first.reasons)


def test_few_versions_of_an_axis_are_a_reason() -> None:
    (first, *_) = chosen([seen(cell())])
    assert any("was tested with 1 version of" in r for r in first.reasons)


def test_only_cells_one_axis_away_are_chosen_and_each_once() -> None:
    known = [cell().pins]
    picked = chosen([seen(cell())], minutes=6.0)
    for choice in picked:
        pins = choice.cell.pins
        assert any(sum(pins[axis] != other[axis] for axis in pins) == 1 for other in known), (
            choice.cell.name
        )
        known.append(pins)
    assert len({c.cell.name for c in picked}) == len(picked) == 6


def test_a_cell_that_did_not_come_to_its_checks_is_no_base() -> None:
    dead = replace(seen(cell()), checks=(), outcome=CellOutcome.UNBUILDABLE)
    assert chosen([dead]) == []


def test_wheels_that_are_there_are_taken_first_and_the_budget_holds() -> None:
    keys = {c.name: ((f"te-{c.te}-{c.torch}",) if c.te != "2.9.0" else (), 8.0) for c in possible()}
    picked = chosen([seen(cell())], minutes=4.0, cost=keys)
    assert {c.cell.te for c in picked} == {"2.9.0"}
    assert sum(c.minutes for c in picked) <= 4.0
    more = chosen([seen(cell())], minutes=40.0, cost=keys)
    assert sum(c.minutes for c in more) <= 40.0
    assert len(more) > len(picked)


def test_a_wheel_that_did_not_build_is_not_tried() -> None:
    keys = {c.name: ((f"te-{c.te}",), 8.0) for c in possible()}
    picked = chosen([seen(cell())], minutes=500.0, cost=keys, refused={"te-2.9.0"})
    assert picked
    assert all(c.cell.te != "2.9.0" for c in picked)


def test_coverage_counts_pairs_of_what_can_be_installed() -> None:
    state = exploration.state_of([seen(cell())])
    covered, of = exploration.coverage(state, [cell(), cell("2.9.0")])
    assert (covered, of) == (10, 14)


def test_the_base_is_the_pair_in_which_most_works() -> None:
    older = replace(cell(), name="compat-0.16-modelopt0.40", modelopt="0.40.0")
    found = [seen(cell(), check("restore", works=False)), seen(older, check("restore"))]
    newer = replace(cell(mcore="0.17.1"), name="compat-0.17-modelopt0.41")
    found.append(seen(newer, check("restore"), check("import")))
    # Of megatron-core 0.16 and of ModelOpt 0.40 the one, of 0.17 and of ModelOpt 0.41 the other.
    assert exploration.bases(found, []) == {("0.16.1", "0.40.0"), ("0.17.1", "0.41.0")}


def test_a_cell_on_the_te_and_torch_of_another_series_is_not_one_axis_away() -> None:
    """As when TE and torch always moved together: no rule could tell the one from the other."""
    old, new = seen(cell("2.7.0", "2.8.0")), seen(cell("2.15.0", "2.10.0", mcore="0.17.1"))
    state = exploration.state_of([old, new])
    near = [(c.te, c.torch) for c in exploration.candidates(possible(), state)]
    assert ("2.15.0", "2.10.0") not in near
    assert ("2.15.0", "2.8.0") in near
    assert ("2.7.0", "2.10.0") in near


def test_a_release_that_no_cell_has_is_a_reason() -> None:
    reasons = [
        reason for choice in chosen([seen(cell())], minutes=1.0) for reason in choice.reasons
    ]
    assert any(reason.startswith("no cell has ") for reason in reasons)


def test_another_patch_of_any_package_is_one_axis_away() -> None:
    patch = replace(cell(mcore="0.16.0"), name="compat-0.16.0-modelopt0.41")
    series = replace(cell(mcore="0.17.1"), name="compat-0.17-modelopt0.41")
    state = exploration.state_of([seen(cell())])
    assert list(exploration.candidates([patch, series], state)) == [patch]
    assert "no cell has megatron-core 0.16.0" in [
        reason.text for reason in exploration.of_releases(patch, state, {})
    ]


def test_between_two_series_their_patches_tell_on_which_side_the_boundary_is() -> None:
    works, fails = seen(cell("2.7.0")), seen(cell("2.9.0"), check("restore", works=False))
    patch = replace(cell("2.7.1"), name="compat-0.16-modelopt0.41-te2.7.1-torch2.9")
    (choice,) = exploration.choose(
        [cell("2.7.0"), cell("2.9.0"), patch],
        exploration.state_of([works, fails]),
        explanation.explain([works, fails]),
        {},
        minutes=9.0,
        cost={},
        cell_minutes=1.0,
    )
    assert choice.cell == patch
    assert choice.reasons[0] == (
        "restore works at transformer-engine 2.7.0 and fails at 2.9.0: 2.7.1 is between"
    )


def test_beyond_the_end_of_a_rule_the_farthest_is_asked_first() -> None:
    found = [
        seen(cell("2.7.0"), check("restore")),
        seen(cell("2.9.0"), check("restore", works=False)),
    ]
    first, *_ = chosen(found, minutes=1.0)
    assert first.cell.te == "2.15.0"
    assert "restore fails at transformer-engine 2.9.0 and was not tested with a newer one" in (
        first.reasons
    )


def test_a_question_is_asked_once_a_round() -> None:
    found = [
        seen(cell("2.7.0"), check("restore", works=False)),
        seen(cell("2.15.0"), check("restore")),
    ]
    between = [r for c in chosen(found) for r in c.reasons if "is between" in r]
    assert between == [
        "restore works at transformer-engine 2.15.0 and fails at 2.7.0: 2.11.0 is between"
    ]


MCORES = ("0.14.0", "0.15.3", "0.16.1", "0.17.1")

STACKS = (("2.7.0", "2.8.0"), ("2.9.0", "2.9.1"), ("2.11.0", "2.9.1"), ("2.15.0", "2.10.0"))
"""On which the series above were tested: TE and torch move together."""


@given(
    axis=st.sampled_from(exploration.VARIED),
    place=st.integers(0, 100),
    older=st.booleans(),
)
def test_a_boundary_on_one_axis_is_placed_between_two_neighbours(
    axis: str, place: int, older: bool
) -> None:
    """Whatever the boundary, where some default stacks work and some fail: what is explored ends
    in the one rule that names the axis and the two neighbouring releases."""
    line = TES if axis == exploration.VARIED[0] else TORCHES
    place = 1 + place % (len(line) - 1)
    failing = line[:place] if older else line[place:]

    def answer(of: Cell) -> Result:
        return seen(of, check("restore", works=of.pins[axis] not in failing))

    every = [of for mcore in MCORES for of in possible(mcore)]
    stacks = zip(MCORES, STACKS, strict=True)
    found = [answer(cell(te, torch, mcore)) for mcore, (te, torch) in stacks]
    for _ in range(12):
        explained = explanation.explain(found)
        choices = exploration.choose(
            every,
            exploration.state_of(found),
            explained,
            {},
            minutes=100.0,
            cost={},
            cell_minutes=1.0,
            most=2,
        )
        found += [answer(choice.cell) for choice in choices]
    (failure,) = explanation.explain(found)
    (rule,) = failure.rules
    assert rule.axes == (axis,)
    (bound,) = rule.bounds
    assert (bound.low, bound.high) == (failing[0], failing[-1])
    beside = (bound.above, None) if older else (bound.below, None)
    assert beside[0] == (line[place] if older else line[place - 1])


@pytest.mark.parametrize(("text", "minutes"), [("60", 60), ("60m", 60), ("1.5h", 90), ("2 h", 120)])
def test_a_budget_is_a_time(text: str, minutes: float) -> None:
    assert exploration_run.minutes_of(text) == minutes


@pytest.mark.parametrize("text", ["", "0", "soon", "-5m", "5d"])
def test_a_budget_that_is_no_time_is_told(text: str) -> None:
    with pytest.raises(UsageError, match="invalid time"):
        exploration_run.minutes_of(text)


@given(budget=st.floats(0.1, 60), price=st.floats(0, 20))
def test_the_budget_is_never_passed(budget: float, price: float) -> None:
    keys = {c.name: ((f"te-{c.te}-{c.torch}",), price) for c in possible()}
    picked = chosen([seen(cell())], minutes=budget, cost=keys)
    assert sum(c.minutes for c in picked) <= budget + 1e-6


def test_a_run_chooses_again_after_each_round_and_ends_once_nothing_is_left(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MCORE_COMPAT_HOME", str(tmp_path))
    one = exploration.CellChoice(cell=cell(), reasons=("r",), minutes=1.0)
    before: list[list[str]] = []

    def view(*_: Any, ran: list[str], **__: Any) -> exploration_run.ExplorationView:
        before.append([*ran])
        return exploration_run.ExplorationView(covered=(1, 2), choices=() if ran else (one,))

    monkeypatch.setattr(exploration_run, "view", view)
    monkeypatch.setattr(exploration_run, "survey", lambda cells, _: cells)
    monkeypatch.setattr(exploration_run.matrix_run, "run", lambda *_: SimpleNamespace(failed={}))
    said: list[str] = []
    here: Any = SimpleNamespace(
        matrix=snapshot.matrix(), releases=snapshot.releases(), say=said.append
    )
    assert exploration_run.run(here, minutes=1.0, jobs=1, offline=True) == [one.cell.name]
    assert before == [[], [one.cell.name]]
    assert said[1].startswith(
        "pairs of versions tested together: 1 of 2 not known to be impossible"
    )
