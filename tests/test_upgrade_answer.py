"""Go, go with changes, or no: what the answer is, and why. All results are made up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from loads_support import answer
from packaging.specifiers import SpecifierSet
from support import event
from upgrade_support import (
    ALL_LOAD,
    BROKEN,
    FAILED,
    FROM,
    GOOD,
    LOADS,
    MATRIX,
    TO,
    answered,
    cell,
    exchanged,
    known,
    lock,
    shows,
    unresolvable,
)

from mcore_compat.core.cells import Cell
from mcore_compat.core.matrix import Undeclared
from mcore_compat.core.profiles import Profile
from mcore_compat.results.result import Result
from mcore_compat.upgrade import document, pins
from mcore_compat.upgrade.checkpoints import named
from mcore_compat.upgrade.reasons import Word


def one_word(*events: dict[str, Any], before: tuple[dict[str, Any], ...] = GOOD) -> Word:
    """The answer where TO shows these and FROM's checkpoints all load."""
    return answered(known([shows(FROM, *before), shows(TO, *events)], LOADS)).word


def test_where_all_works_and_all_loads_it_is_go_without_reasons() -> None:
    made = answered(known([shows(FROM, *GOOD), shows(TO, *GOOD)], LOADS))
    assert made.word is Word.GO
    assert made.reasons == ()
    assert made.alternatives == ()


@pytest.mark.parametrize(
    ("events", "word"),
    [
        ((event("restore[gpt]", "broken"), GOOD[1]), Word.NO),
        ((GOOD[0], event("modelopt-state-int8[gpt]", "broken")), Word.NO),
        ((GOOD[0], event("modelopt-state-int8[gpt]", "blocked", reason="x")), Word.NO),
        ((GOOD[0], event("modelopt-state-int8[gpt]", "unsupported", reason="x")), Word.NO),
        ((GOOD[0], event("modelopt-state-int8[gpt]", "needs-gpu", reason="x")), Word.CHANGES),
        ((GOOD[0],), Word.CHANGES),
        ((event("restore[gpt]", "unsupported"), event("restore[x]"), GOOD[1]), Word.NO),
        ((*GOOD, event("restore[hybrid-mamba]", "broken")), Word.GO),
    ],
)
def test_what_is_lost_decides(events: tuple[dict[str, Any], ...], word: Word) -> None:
    assert one_word(*events) is word


def test_what_works_only_under_a_condition_is_a_change_that_names_it() -> None:
    condition = 'load({"strict": False})'
    needs = event("restore[gpt]", "works-with", condition=condition)
    made = answered(known([shows(FROM, *GOOD), shows(TO, needs, GOOD[1])], LOADS))
    assert made.word is Word.CHANGES
    (reason,) = made.reasons
    assert reason.text == f"restore of gpt works in TO only with {condition}"
    assert reason.names == ("restore[gpt]",)
    assert reason.why == "KeyError: 'decoder.weight'"
    assert made.losses == ()
    assert made.target.works() == {"restore[gpt]", "modelopt-state-int8[gpt]"}
    text = document.markdown(made)
    assert "now works only under a condition 1: `restore[gpt]`" in text
    assert (
        "everything in the profile that works in FROM works in TO, some of it under a condition"
        in text
    )
    assert f"`restore[gpt]`: in TO only with `{condition}`" in text
    found = [shows(FROM, *GOOD), shows(TO, needs, GOOD[1])]
    assert answered(known(found, LOADS), "restore*").word is Word.GO
    assert one_word(*GOOD, before=(needs, GOOD[1])) is Word.GO
    assert one_word(event("restore[gpt]", "broken"), GOOD[1], before=(needs, GOOD[1])) is Word.NO


def test_what_fails_in_both_is_no_loss() -> None:
    both = (GOOD[0], event("modelopt-state-int8[gpt]", "broken"))
    assert one_word(*both, before=both) is Word.GO


def test_a_loss_that_is_accepted_is_told_and_does_not_decide() -> None:
    lost = shows(TO, GOOD[0], event("modelopt-state-int8[gpt]", "broken"))
    of = known([shows(FROM, *GOOD), lost], LOADS)
    made = answered(of, "modelopt-state-*")
    assert made.word is Word.GO
    assert [(r.word, r.names) for r in made.reasons] == [(Word.GO, ("modelopt-state-int8[gpt]",))]
    assert made.losses[0].accepted
    assert answered(of, "restore*").word is Word.NO


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ("restore[gpt]", True),
        ("restore[*]", True),
        ("restore*", True),
        ("restore[g]pt", False),
        ("restore", False),
    ],
)
def test_brackets_of_a_pattern_are_those_of_a_check(pattern: str, meant: bool) -> None:
    assert named("restore[gpt]", [pattern]) is meant


def test_without_checkpoints_that_were_loaded_it_is_never_go() -> None:
    made = answered(known([shows(FROM, *GOOD), shows(TO, *GOOD)]))
    assert made.word is Word.CHANGES
    (reason,) = made.reasons
    assert reason.command == f"nox -s exchange -- --from {FROM.name} --to {FROM.name} {TO.name}"
    assert len(reason.names) == 4


def test_what_needs_a_gpu_in_both_is_told_with_a_go() -> None:
    needs = event("inference-numbers[gpt]", "needs-gpu", reason="x", feature="inference")
    both = (*GOOD, needs)
    made = answered(known([shows(FROM, *both), shows(TO, *both)], LOADS))
    assert made.word is Word.GO
    (reason,) = made.reasons
    assert reason.names == ("inference-numbers[gpt]",)
    assert reason.text == "inference of gpt needs a GPU, and was not run in either"
    shown = document.markdown(made)
    assert "everything in the profile that works in FROM works in TO" in shown
    lost = answered(known([shows(FROM, *both), shows(TO, *both[:2])], LOADS))
    assert lost.reasons == ()


def test_interfaces_that_go_back_are_told_to_be_open() -> None:
    older = cell("compat-0.16-modelopt0.40", modelopt="0.40.0")
    found = [shows(FROM, *GOOD), shows(older, *GOOD)]
    locks = [lock(FROM), lock(older)]
    made = answered(known(found, [exchanged(older, FROM, ALL_LOAD)], locks), target=older)
    assert made.word is Word.GO
    assert [r.names for r in made.reasons] == [("nvidia-modelopt",)]


@pytest.mark.parametrize("gone", [FROM, TO])
def test_a_cell_that_was_not_tested_is_a_no_that_names_it(gone: Cell) -> None:
    found = [shows(c, *GOOD) for c in (FROM, TO) if c is not gone]
    made = answered(known(found, LOADS))
    assert made.word is Word.NO
    assert made.reasons[0].command == f"nox -s {gone.name}"
    assert made.difference is None


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"suite": "old"}, "the suite changed"),
        ({"lock": "old"}, "the lock changed"),
        ({"complete": False}, "the run was interrupted"),
    ],
)
def test_a_result_that_does_not_hold_is_told_and_is_no_go(
    changed: dict[str, Any], why: str
) -> None:
    stale = replace(shows(TO, *GOOD), **changed)
    made = answered(known([shows(FROM, *GOOD), stale], LOADS))
    assert made.word is Word.CHANGES
    assert any(why in r.text for r in made.reasons)


def test_what_cannot_be_installed_is_a_no_with_its_reason_and_no_losses_of_its_own() -> None:
    made = answered(known([shows(FROM, *GOOD), unresolvable(TO)], locks=[lock(FROM)]))
    assert made.word is Word.NO
    assert made.reasons[0].why == "the index says no"
    assert made.losses == ()
    assert not any("checkpoint" in r.text for r in made.reasons)


@pytest.mark.parametrize(
    ("origin", "why"),
    [
        (unresolvable(FROM), "the index says no"),
        (shows(FROM, event("restore[gpt]", "needs-gpu", reason="x")), "restore: needs a GPU"),
    ],
)
def test_a_cell_in_which_nothing_was_asked_is_a_no_and_claims_nothing(
    origin: Result, why: str
) -> None:
    made = answered(known([origin, shows(TO, *GOOD)], locks=[lock(TO)]))
    assert made.word is Word.NO
    assert made.losses == ()
    assert made.reasons[0].text.startswith(
        "nothing in the profile is known to work in FROM, which "
    )
    assert made.reasons[0].why == why


def test_where_nothing_works_in_from_nothing_is_said_of_what_works_there() -> None:
    near = cell("compat-0.16-modelopt0.43", modelopt="0.43.0")
    found = [unresolvable(FROM), *(shows(c, *GOOD) for c in (TO, near))]
    made = answered(known(found, locks=[lock(TO)]))
    assert made.alternatives == ()
    shown = document.markdown(made)
    assert (
        "instead of TO: not known, because nothing in the profile is known to work in FROM" in shown
    )
    assert "What works in FROM" not in shown
    assert "heckpoint" not in shown


def test_a_go_without_checkpoints_does_not_say_that_they_load() -> None:
    found = [shows(c, event("import-packages", feature="install")) for c in (FROM, TO)]
    profile = Profile(name="", features=("install",))
    made = answered(known(found, profile=profile))
    assert made.word is Word.GO
    assert "FROM's checkpoints load in TO" not in document.markdown(made)


def test_an_incompatible_cell_is_a_no_even_where_nothing_is_lost() -> None:
    bad = (event("restore[gpt]", "broken"),)
    assert one_word(*bad, before=bad) is Word.NO


def test_two_suites_are_worth_knowing() -> None:
    other = replace(shows(TO, *GOOD), suite="t")
    made = answered(known([shows(FROM, *GOOD), other], LOADS))
    assert any("different versions of the suite" in r.text for r in made.reasons)


def test_requirements_that_nothing_declares_are_to_be_installed() -> None:
    rule = Undeclared(
        of="nvidia-modelopt",
        when=SpecifierSet(">=0.42"),
        requires=("requests>=2",),
        imported_by="modelopt.x",
        reason="r",
    )
    declared = replace(MATRIX, undeclared=(rule,))
    found = [shows(FROM, *GOOD), shows(TO, *GOOD)]
    made = answered(known(found, LOADS, declared=declared))
    assert made.word is Word.CHANGES
    assert made.undeclared == (("requests>=2", "nvidia-modelopt 0.42.0", "modelopt.x"),)


# Pins


def test_the_rest_of_the_locks_is_compared() -> None:
    old = lock(FROM, torch="2.9.1", a="1", b="1", d="1")
    new = lock(TO, torch="2.9.1", a="2", c="1", d="1")
    made = pins.packages(old, new)
    assert (made.added, made.removed, made.changed) == ({"c": "1"}, {"b": "1"}, {"a": ("1", "2")})
    assert not pins.packages(old, None).complete


def test_a_package_that_a_failure_names_is_told_where_it_changes() -> None:
    old, new = lock(FROM, transformers="4.50", six="1"), lock(TO, transformers="4.57", six="2")
    text = "module 'transformers.modeling_utils' has no attribute 'x' in six places"
    assert pins.mentioned(text, pins.packages(old, new)) == (("transformers", "4.50", "4.57"),)


# What to take instead


def test_the_nearest_clean_cell_is_named_first() -> None:
    near = cell("compat-0.16-modelopt0.43", modelopt="0.43.0")
    far = cell("compat-0.17-modelopt0.43", mcore="0.17.1", modelopt="0.43.0")
    older = cell("compat-0.15-modelopt0.43", mcore="0.15.3", modelopt="0.43.0")
    lossy = cell("compat-0.16-modelopt0.44", modelopt="0.44.0")
    found = [shows(c, *GOOD) for c in (FROM, far, near, older)]
    found += [shows(TO, GOOD[0], FAILED), shows(lossy, GOOD[0])]
    made = answered(known(found, LOADS))
    assert [(a.cell, a.moved) for a in made.alternatives] == [
        (near.name, ("nvidia-modelopt",)),
        (far.name, ("megatron-core", "nvidia-modelopt")),
    ]
    assert {a.checkpoints for a in made.alternatives} == {"not tested"}


def test_of_checkpoints_that_were_not_loaded_nothing_is_said() -> None:
    """Without families there are no checkpoints to be named, which is not that they load."""
    near = cell("compat-0.16-modelopt0.43", modelopt="0.43.0")
    works = event("private-names", feature="interface")
    bad = event("private-names", "broken", feature="interface")
    found = [*(shows(c, works) for c in (FROM, near)), shows(TO, bad)]
    profile = Profile(name="", features=("interface",))
    (one,) = answered(known(found, profile=profile)).alternatives
    assert one.checkpoints == "not tested"


def test_a_cell_into_which_checkpoints_do_not_load_is_no_alternative() -> None:
    near = cell("compat-0.16-modelopt0.43", modelopt="0.43.0")
    found = [shows(FROM, *GOOD), shows(TO, GOOD[0], FAILED), shows(near, *GOOD)]
    refused = exchanged(near, FROM, {**ALL_LOAD, "gpt:default": answer(BROKEN)})
    assert answered(known(found, [*LOADS, refused])).alternatives == ()
    (one,) = answered(known(found, [*LOADS, exchanged(near, FROM, ALL_LOAD)])).alternatives
    assert one.checkpoints == "load"
