"""What is to blame for a loss: which cells are asked, what they say. All results are made up."""

from __future__ import annotations

import datetime
from dataclasses import replace
from typing import Any

import pytest
from packaging.specifiers import SpecifierSet
from support import event
from upgrade_support import (
    FAILED,
    FROM,
    GOOD,
    LOADS,
    MATRIX,
    TO,
    answered,
    cell,
    known,
    lock,
    shows,
    unresolvable,
)

from mcore_compat.analysis.bisect.halving import CheckState
from mcore_compat.core.cells import Cell
from mcore_compat.core.matrix import Pairs
from mcore_compat.core.outcomes import CellOutcome
from mcore_compat.results import comparison
from mcore_compat.results.result import Result
from mcore_compat.upgrade import losses, trial

BOTH = cell("compat-0.16-modelopt0.42-torch2.8", modelopt="0.42.0", torch="2.8.0")
ALONE = cell("compat-0.16-modelopt0.41-torch2.8", torch="2.8.0")


def blamed(*between: Result, run: losses.Run | None = None) -> losses.Loss:
    """The loss from FROM to the cell in which ModelOpt and torch move."""
    found = [shows(FROM, *GOOD), shows(BOTH, GOOD[0], FAILED), *between]
    of = known(found, (), [lock(FROM), lock(BOTH)])
    origin, target = of.side(FROM), of.side(BOTH)
    made = answered(of, target=BOTH).difference
    assert made is not None
    (loss,) = losses.losses(origin, target, made, of, run=run)
    return loss


def culprits(loss: losses.Loss) -> list[tuple[str, ...]]:
    assert loss.blamed is not None
    return [c.axes for c in loss.blamed.blame.culprits]


@pytest.mark.parametrize(
    "changed", [{"suite": "old"}, {"complete": False}, {"outcome": CellOutcome.ERROR}]
)
def test_a_result_that_says_nothing_of_todays_suite_blames_nobody(changed: dict[str, Any]) -> None:
    loss = blamed(replace(shows(TO, GOOD[0], FAILED), **changed), shows(ALONE, *GOOD))
    assert culprits(loss) == [("nvidia-modelopt", "torch")]
    assert loss.blamed is not None
    assert not loss.blamed.blame.culprits[0].proved
    assert loss.blamed.open == (TO.name,)


def test_known_cells_tell_what_is_to_blame() -> None:
    loss = blamed(shows(TO, GOOD[0], FAILED), shows(ALONE, *GOOD))
    assert culprits(loss) == [("nvidia-modelopt",)]
    assert loss.blamed is not None
    assert loss.blamed.open == ()
    assert loss.blamed.cells[("nvidia-modelopt",)] == TO.name


def test_what_fails_only_together_is_told_as_such() -> None:
    loss = blamed(shows(TO, *GOOD), shows(ALONE, *GOOD))
    assert culprits(loss) == [("nvidia-modelopt", "torch")]
    assert loss.blamed is not None
    assert loss.blamed.blame.culprits[0].proved


def test_what_was_not_asked_is_open_and_has_a_price() -> None:
    loss = blamed(shows(TO, *GOOD))
    assert loss.blamed is not None
    assert loss.blamed.open == (ALONE.name,)
    assert loss.blamed.seconds == 1.0
    assert not loss.blamed.blame.culprits[0].proved


def test_only_what_is_open_is_run() -> None:
    ran: list[str] = []

    def run(of: Cell) -> Result:
        ran.append(of.name)
        return shows(ALONE, GOOD[0], FAILED)

    loss = blamed(shows(TO, *GOOD), run=run)
    assert ran == [ALONE.name]
    assert culprits(loss) == [("torch",)]


def test_a_cell_that_runs_on_other_versions_says_nothing() -> None:
    loss = blamed(shows(TO, *GOOD), run=lambda of: shows(FROM, *GOOD))
    assert loss.blamed is not None
    assert loss.blamed.blame.culprits[0].silent == (("torch",),)
    assert "has other versions" in loss.blamed.why[("torch",)]


def test_what_cannot_be_installed_is_silent_with_its_reason() -> None:
    loss = blamed(shows(TO, *GOOD), unresolvable(ALONE))
    assert loss.blamed is not None
    assert loss.blamed.why[("torch",)] == "unresolvable: the index says no"
    assert not loss.blamed.blame.culprits[0].proved


def test_releases_that_exclude_one_another_are_never_run() -> None:
    """torch 2.13 is built for CUDA 13, for which TE 2.7 has no core library."""
    origin = cell("compat-0.16-modelopt0.41-te2.7", te="2.7.0")
    far = cell("compat-0.16-modelopt0.41-te2.17-torch2.13", te="2.17.1", torch="2.13.0")
    found = [shows(origin, *GOOD), shows(far, GOOD[0], FAILED)]
    of = known(found, (), [lock(origin), lock(far)])
    made = comparison.difference(found[0], found[1])
    (loss,) = losses.losses(of.side(origin), of.side(far), made, of)
    assert loss.blamed is not None
    assert "CUDA 13" in loss.blamed.why[("torch",)]
    assert loss.blamed.open == ("compat-0.16-modelopt0.41-te2.17",)


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ((FAILED,), CheckState.BAD),
        ((GOOD[1],), CheckState.GOOD),
        ((event("modelopt-state-int8[gpt]", "works-with"),), CheckState.GOOD),
        ((event("modelopt-state-int8[gpt]", "needs-gpu"),), CheckState.SILENT),
        ((event("modelopt-state-int8[gpt]", "blocked"),), CheckState.SILENT),
        ((event("other"),), CheckState.SILENT),
    ],
)
def test_a_cell_is_good_or_bad_only_where_it_was_asked(
    events: tuple[dict[str, Any], ...], state: CheckState
) -> None:
    (failed,) = shows(TO, FAILED).checks
    found, why = trial.state_of(shows(FROM, *events), ("modelopt-state-int8[gpt]",), failed)
    assert found is state
    assert bool(why) is (state is CheckState.SILENT)


def test_another_cause_is_neither_good_nor_bad() -> None:
    other = event("modelopt-state-int8[gpt]", "broken")
    other["failure"] = {**other["failure"], "type": "ImportError"}
    (failed,) = shows(TO, FAILED).checks
    said = trial.state_of(shows(FROM, other), ("modelopt-state-int8[gpt]",), failed)
    assert said == (CheckState.SILENT, "broken there for another reason")


def test_a_declared_failure_tells_why() -> None:
    rule = Pairs(
        mcore=SpecifierSet(">=0.16"),
        modelopt=SpecifierSet(">=0.42"),
        reason="a reason",
        expires=datetime.date(2030, 1, 1),
        checks=("modelopt-state*",),
        owner="nvidia-modelopt",
        upstream="not reported",
    )
    declared = replace(MATRIX, expected=(rule,))
    found = [shows(FROM, *GOOD), shows(TO, GOOD[0], FAILED)]
    (loss,) = answered(known(found, LOADS, declared=declared)).losses
    assert loss.declared[0].startswith("a reason")
    assert loss.rules
    assert loss.attributed == ("nvidia-modelopt",)
