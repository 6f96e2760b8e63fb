"""From results to what is known of a failure, in words. All cells here are made up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pytest
from support import event, stand_in_cell

from mcore_compat.analysis import explanation
from mcore_compat.analysis.explanation import Explained
from mcore_compat.core.outcomes import CellOutcome
from mcore_compat.results.result import Reason, Result

Made = Callable[..., Result]
Ask = Callable[..., Result]

ELSE = {
    "type": "TypeError",
    "message": "of another cause",
    "frames": [],
    "traceback": "Traceback",
    "gpu_independent": "a stand-in says so",
}


@pytest.fixture
def ask(made: Made) -> Ask:
    """Makes a cell's result: `ask({"torch": "2.8.0"}, a="works", b="otherwise")`, where the
    latter is a failure of another cause."""

    def make(pins: Mapping[str, str], **answers: str) -> Result:
        name = ", ".join(f"{axis} {version}" for axis, version in pins.items())
        events = [
            event(check, "broken", failure=ELSE)
            if outcome == "otherwise"
            else event(check, outcome)
            for check, outcome in answers.items()
        ]
        return made(*events, cell=replace(stand_in_cell(), name=name, **pins))

    return make


def main(found: Sequence[Result]) -> Explained:
    """The failure that is no other one."""
    every = explanation.explain(found)
    for one in every:
        places = [c.failure for e in found for c in e.checks if c.failure]
        if any(f.fingerprint == one.fingerprint and f.type == "KeyError" for f in places):
            return one
    raise AssertionError(every)


def test_cells_are_read_from_results(ask: Ask) -> None:
    found = [
        ask({"torch": "2.8.0"}, restore="works"),
        ask({"torch": "2.9.1"}, restore="broken"),
        ask({"torch": "2.7.0"}, restore="needs-gpu"),
    ]
    one = main(found)
    assert [(s.cell, s.broken) for s in one.seen] == [("torch 2.8.0", False), ("torch 2.9.1", True)]
    assert one.attributed() == ("torch",)
    assert explanation.lines(one) == [
        "torch==2.9.1 (1 cells fail, 1 work; torch: works at 2.8.0, not tested above)"
    ]
    assert explanation.of_failure(found, one.fingerprint) == one


def test_a_check_that_works_speaks_for_its_cell_whatever_others_do(ask: Ask) -> None:
    """A check that fails everywhere does not hide that the failure is gone."""
    one = main(
        [
            ask({"torch": "2.8.0"}, restore="works", back="otherwise"),
            ask({"torch": "2.9.1"}, restore="broken", back="broken"),
            ask({"torch": "2.10.0"}, restore="unsupported", back="broken"),
        ]
    )
    assert [rule.text() for rule in one.rules] == ["torch>=2.9.1,<=2.10.0"]
    assert one.rules[0].works == 1


def test_a_check_that_works_where_the_others_fail_so_speaks_for_no_cell(ask: Ask) -> None:
    one = main(
        [
            ask({"torch": "2.7.1"}, restore="works", imports="works"),
            ask({"torch": "2.8.0"}, restore="otherwise", imports="works"),
            ask({"torch": "2.9.1"}, restore="broken", imports="works"),
            ask({"torch": "2.10.0"}, restore="broken", imports="broken"),
        ]
    )
    (rule,) = one.rules
    assert rule.text() == "torch>=2.9.1,<=2.10.0"
    assert rule.bounds[0].edges() == "fails otherwise at 2.8.0 and works at 2.7.1, not tested above"


def test_checks_that_do_not_fail_together_have_rules_of_their_own(ask: Ask) -> None:
    old, new = {"mcore": "0.14.0"}, {"mcore": "0.15.0"}
    found = [
        ask({**old, "modelopt": "0.23.0"}, imports="works", plugin="broken", state="broken"),
        ask({**old, "modelopt": "0.27.0"}, imports="works", plugin="works", state="works"),
        ask({**new, "modelopt": "0.23.0"}, imports="works", plugin="broken", state="broken"),
        ask({**new, "modelopt": "0.27.0"}, imports="broken", plugin="blocked", state="broken"),
    ]
    one = main(found)
    assert [fit[0].checks for fit in one.rivals()] == [("plugin", "state"), ("imports",)]
    assert not any(rule.contradicted for rule in one.rules)
    assert explanation.lines(one) == [
        "if plugin, state fail with it: nvidia-modelopt==0.23.0 (2 cells fail, 1 work; "
        "nvidia-modelopt: not tested below, works at 0.27.0)",
        "if imports fail with it: megatron-core==0.15.0 and nvidia-modelopt==0.27.0 (1 cells fail, "
        "3 work; megatron-core: works at 0.14.0, not tested above; nvidia-modelopt: works at "
        "0.23.0, not tested above)",
    ]


def test_where_no_check_stands_for_the_others_all_must_work(ask: Ask) -> None:
    one = main(
        [
            ask({"torch": "2.7.1"}, a="works", b="otherwise"),
            ask({"torch": "2.8.0"}, a="works", b="works"),
            ask({"torch": "2.9.1"}, a="works", b="broken"),
            ask({"torch": "2.10.0"}, a="broken", b="works"),
        ]
    )
    assert {s.cell for s in one.seen if not s.broken} == {"torch 2.8.0"}


def test_what_does_not_fail_so_within_a_rule_is_counted(ask: Ask) -> None:
    one = main(
        [
            ask({"torch": "2.6.0"}, restore="works"),
            ask({"torch": "2.7.1"}, restore="broken"),
            ask({"torch": "2.8.0"}, restore="otherwise"),
            ask({"torch": "2.9.1"}, restore="unsupported"),
            ask({"torch": "2.10.0"}, restore="broken"),
        ]
    )
    assert explanation.lines(one) == [
        "torch>=2.7.1,<=2.10.0 (2 cells fail, 1 work; other cells within it: 1 fails otherwise, "
        "1 is unsupported; torch: works at 2.6.0, not tested above)"
    ]


def test_a_rule_that_what_fails_otherwise_may_hide_is_told(ask: Ask) -> None:
    one = main(
        [
            ask({"mcore": "0.14.0", "torch": "2.8.0"}, restore="works"),
            ask({"mcore": "0.13.0", "torch": "2.6.0"}, restore="broken"),
            ask({"mcore": "0.13.0", "torch": "2.8.0"}, restore="otherwise"),
        ]
    )
    assert explanation.lines(one) == [
        "torch==2.6.0 (1 cells fail, 1 work; torch: not tested below, works at 2.8.0)",
        "not ruled out, because other failures may hide it: megatron-core==0.13.0 "
        "(1 fails otherwise)",
    ]
    assert one.attributed() == ("torch", "megatron-core")


def test_an_axis_that_only_keeps_out_what_fails_otherwise_decides_nothing(ask: Ask) -> None:
    one = main(
        [
            ask({"modelopt": "0.41.0", "te": "2.9.0"}, restore="works"),
            ask({"modelopt": "0.40.0", "te": "2.9.0"}, restore="broken"),
            ask({"modelopt": "0.40.0", "te": "2.11.0"}, restore="otherwise"),
        ]
    )
    (rule,) = one.rules
    assert rule.text() == "nvidia-modelopt==0.40.0 and transformer-engine==2.9.0"
    assert one.attributed() == ("nvidia-modelopt",)


def test_a_cell_that_cannot_be_installed_stands_beside_a_bound(ask: Ask) -> None:
    reason = Reason(kind="unresolvable", message="no", help="")
    stopped = replace(
        ask({"torch": "2.10.0"}), checks=(), outcome=CellOutcome.UNRESOLVABLE, reason=reason
    )
    one = main([ask({"torch": "2.8.0"}, a="works"), ask({"torch": "2.9.1"}, a="broken"), stopped])
    assert one.rules[0].bounds[0].edges() == "works at 2.8.0, unresolvable at 2.10.0"


def test_where_nothing_works_that_is_said(ask: Ask) -> None:
    one = main([ask({"torch": "2.8.0"}, a="broken"), ask({"torch": "2.9.1"}, a="otherwise")])
    assert explanation.lines(one) == [
        "fails in 1 cells, and no cell shows it working: no rule can be stated"
    ]
