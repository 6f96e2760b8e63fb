"""Failures that the matrix declares: which cells they mean, and when they are errors themselves."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import snapshot
from packaging.specifiers import SpecifierSet
from support import event, stand_in_result
from test_declared import cell, check, seen

from mcore_compat import cli
from mcore_compat.base.errors import MatrixError
from mcore_compat.core import combinations, matrix
from mcore_compat.core.matrix import Pairs
from mcore_compat.core.outcomes import CellOutcome, CheckOutcome
from mcore_compat.core.profiles import ALL
from mcore_compat.results import store, verdict
from mcore_compat.results.result import CheckResult, Result
from mcore_compat.run import cells

RULE = Pairs(
    mcore=SpecifierSet(">=0.16"),
    modelopt=SpecifierSet("<0.42"),
    te=SpecifierSet("<2.12"),
    reason="a reason",
    expires=datetime.date(2030, 1, 1),
    checks=("state*",),
    owner="nvidia-modelopt",
    upstream="NVIDIA/Model-Optimizer#1",
)


def with_outcomes(**outcomes: CheckOutcome) -> Result:
    checks: list[CheckResult] = []
    for name, outcome in outcomes.items():
        works = outcome is not CheckOutcome.BROKEN
        checks.append(replace(check(name.replace("_", "-"), works=works), outcome=outcome))
    return seen(cell(), *checks)


def test_a_rule_covers_the_cells_within_all_its_specifiers() -> None:
    assert RULE.covers_pins(cell().pins)
    for other in (cell(mcore="0.15.3"), cell(modelopt="0.42.0"), cell(te="2.12.0")):
        assert not RULE.covers_pins(other.pins)
    text = RULE.interval()
    assert text == "megatron-core>=0.16 nvidia-modelopt<0.42 transformer-engine<2.12"


def test_the_verdict_tells_owner_and_link() -> None:
    found = with_outcomes(state=CheckOutcome.BROKEN)
    (cause,) = verdict.causes(found.checks)
    (line,) = verdict.declared(found, cause, [RULE])
    assert line == "a reason (nvidia-modelopt, NVIDIA/Model-Optimizer#1; until 2030-01-01)"


@pytest.mark.parametrize(
    ("outcomes", "wrong"),
    [
        ({"state": CheckOutcome.BROKEN}, False),
        ({"state": CheckOutcome.WORKS}, True),
        ({"state_a": CheckOutcome.WORKS, "state_b": CheckOutcome.BROKEN}, True),
        ({"state_a": CheckOutcome.WORKS, "state_b": CheckOutcome.BLOCKED}, True),
        ({"state": CheckOutcome.NEEDS_GPU}, False),
        ({"state": CheckOutcome.UNSUPPORTED}, False),
        ({"other": CheckOutcome.WORKS}, False),
    ],
)
def test_a_failure_that_starts_to_work_is_an_error(
    outcomes: dict[str, CheckOutcome], wrong: bool
) -> None:
    said = verdict.outlived([with_outcomes(**outcomes)], [RULE])
    assert bool(said) is wrong
    if wrong:
        (works,) = [name for name, how in outcomes.items() if how is CheckOutcome.WORKS]
        assert f'"{works.replace("_", "-")}"' in said[0]
        assert cell().name in said[0]
        assert "narrow or remove the rule" in said[0]


def test_brackets_mean_themselves_in_a_rule() -> None:
    rule = replace(RULE, checks=("restore[gpt]", "build-*[mla-?oe]"))
    assert rule.naming("restore[gpt]") == ("restore[gpt]",)
    assert rule.naming("build-default[mla-moe]") == ("build-*[mla-?oe]",)
    assert rule.naming("restoreg") == rule.naming("restore[gtp]") == ()


def test_another_failure_of_a_check_is_not_the_declared_one() -> None:
    found = seen(cell(), check("state-a", works=False, message="'weight' is\nnot there [1]"))
    for message, meant in (
        ("'weight' is", True),
        ("weight*there [1]", True),
        ("weight?", False),
        ("[a-z]", False),
        ("common.pt", False),
    ):
        rule = replace(RULE, message=message)
        assert bool(verdict.rule_for(found, "state-a", [rule])) is meant
        assert bool(verdict.unexpected(found, [rule])) is not meant


def test_the_reason_is_that_of_the_rule_whose_message_it_is() -> None:
    rules = [replace(RULE, message="one", reason="first"), replace(RULE, message="two")]
    found = seen(cell(), check("state", works=False, message="two"))
    (cause,) = verdict.causes(found.checks)
    (line,) = verdict.declared(found, cause, rules)
    assert line.startswith("a reason")


def test_a_check_that_died_is_matched_by_what_is_said_of_it() -> None:
    died = replace(check("state"), outcome=CheckOutcome.CRASHED, reason="signal 11")
    assert verdict.rule_for(seen(cell(), died), "state", [replace(RULE, message="signal 11")])
    assert not verdict.rule_for(seen(cell(), died), "state", [replace(RULE, message="signal 6")])


@pytest.mark.parametrize(
    ("changed", "slip"),
    [
        ({"checks": ("state", "staet")}, '"staet"'),
        ({"checks": ("state",), "message": "another"}, '"state"'),
        ({"mcore": SpecifierSet("<0.16")}, '"state*"'),
    ],
)
def test_a_rule_that_declares_no_failure_of_the_results_is_an_error(
    changed: dict[str, Any], slip: str
) -> None:
    found = [with_outcomes(state=CheckOutcome.BROKEN, other=CheckOutcome.BROKEN)]
    assert verdict.unused(found, [RULE]) == ()
    (line,) = verdict.unused(found, [replace(RULE, **changed)])
    assert slip in line


def test_what_works_under_a_condition_is_no_failure_to_be_declared() -> None:
    failing = check("state", works=False, message="two")
    found = [seen(cell(), replace(failing, outcome=CheckOutcome.WORKS_WITH, condition="x()"))]
    assert verdict.outlived(found, [RULE]) == ()
    assert len(verdict.unused(found, [RULE])) == 1


def test_the_report_refuses_what_a_run_of_a_few_cells_cannot_judge(
    capsys: pytest.CaptureFixture[str],
) -> None:
    declared: Any = SimpleNamespace(expected=[RULE], expired=())
    found = [with_outcomes(other=CheckOutcome.BROKEN)]
    assert cells.outlived(found, declared) == 0
    assert cells.outlived(found, declared, every=True) == MatrixError.exit_code
    assert '"state*" (megatron-core>=0.16 ' in capsys.readouterr().err


def test_a_rule_behind_another_that_says_the_same_is_an_error() -> None:
    found = [with_outcomes(state=CheckOutcome.BROKEN)]
    assert len(verdict.unused(found, [RULE, replace(RULE, reason="another")])) == 1


@pytest.mark.parametrize(
    ("outcome", "declared", "published", "well"),
    [
        (CellOutcome.PARTIAL, True, False, True),
        (CellOutcome.PARTIAL, False, False, False),
        (CellOutcome.PARTIAL, False, True, True),
        (CellOutcome.INCOMPATIBLE, True, False, True),
        (CellOutcome.ERROR, True, True, False),
    ],
)
def test_a_night_is_quiet_where_all_ends_as_is_declared_or_was_published(
    outcome: CellOutcome, declared: bool, published: bool, well: bool
) -> None:
    found = replace(with_outcomes(state=CheckOutcome.BROKEN), outcome=outcome)
    declared_matrix: Any = SimpleNamespace(expected=[RULE] if declared else [])
    said = cells.unexpected(found, found if published else None, declared_matrix)
    assert bool(said) is not well
    assert well or said.startswith(f"{found.cell}: ")


def test_a_declared_failure_is_one_for_who_relies_on_what_fails() -> None:
    found = with_outcomes(state=CheckOutcome.BROKEN, restore=CheckOutcome.WORKS)
    features = {"state": "restore-back", "restore": "restore"}
    checks = [replace(c, feature=features[c.kind], family="gpt") for c in found.checks]
    found = replace(found, checks=tuple(checks))
    asked: Any = SimpleNamespace(profile=None)
    assert cells.fits(found, asked)
    asked.profile = ALL
    assert not cells.fits(found, asked)


def text(**changed: str) -> str:
    """The committed matrix with one more rule."""
    fields = {
        "megatron-core": ">=0.16",
        "nvidia-modelopt": ">=0.41",
        "check": "x",
        "reason": "r",
        "owner": "torch",
        "upstream": "not reported",
        "expires": "2030-01-01",
        **changed,
    }
    rows = "\n".join(
        f"{key} = {value}" if value.startswith("[") else f'{key} = "{value}"'
        for key, value in fields.items()
        if value
    )
    return snapshot.WORKSPACE.matrix.read_text(encoding="utf-8") + f"\n[[expect]]\n{rows}\n"


TODAY = datetime.date(2026, 11, 23)


def test_a_rule_is_read_with_all_its_fields() -> None:
    changed = {"transformer-engine": "<2.12", "torch": ">=2.9", "upstream": "a/b.c#12"}
    rule = matrix.parse(text(**changed), "m", TODAY).expected[-1]
    assert (str(rule.te), str(rule.torch)) == ("<2.12", ">=2.9")
    assert (rule.owner, rule.upstream) == ("torch", "a/b.c#12")


def test_a_rule_may_name_several_checks_and_what_they_say() -> None:
    rule = matrix.parse(text(check='["x", "y[z]"]', message="m"), "m", TODAY).expected[-1]
    assert (rule.checks, rule.message, rule.check) == (("x", "y[z]"), "m", "x, y[z]")
    assert matrix.parse(text(), "m", TODAY).expected[-1].checks == ("x",)


def test_a_rule_past_its_date_declares_nothing() -> None:
    before = [rule.reason for rule in snapshot.matrix().expected]
    after = matrix.parse(text(expires="2026-11-22"), "m", TODAY)
    assert [rule.reason for rule in after.expected] == before
    assert [rule.reason for rule in after.expired] == ["r"]


def test_the_report_refuses_a_rule_past_its_date_and_a_run_tells_of_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    declared: Any = SimpleNamespace(expected=(), expired=[RULE])
    assert cells.outlived([], declared) == 0
    assert "expired rules (1); nox -s report lists them" in capsys.readouterr().err
    assert cells.outlived([], declared, every=True) == MatrixError.exit_code
    assert '"state*" (megatron-core>=0.16 ' in capsys.readouterr().err


AFTER_ALL = datetime.date(2999, 1, 1)
CELL = "compat-0.16-modelopt0.41"


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["list"], 0),
        (["show", CELL], 1),
        (["explain", CELL], 0),
        (["matrix", "--dry-run"], 0),
    ],
)
def test_no_command_fails_once_the_declarations_expired(
    argv: list[str],
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = snapshot.workspace_in(tmp_path, monkeypatch)
    monkeypatch.setattr(matrix.load, "__defaults__", (AFTER_ALL,))
    found = combinations.named(CELL, snapshot.matrix(), snapshot.releases())
    store.save(stand_in_result(event("restore[gpt]", "broken"), cell=found), place.results)
    assert (cli.main(argv), capsys.readouterr().err) == (code, "")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"check": "[]"}, r"expect\[\d+\].check: \[\] should be non-empty"),
        ({"check": "[1]"}, "1 is not of type 'string'"),
        ({"mesage": "m"}, 'unknown key "mesage"; did you mean "message"'),
        ({"owner": ""}, "'owner' is a required property"),
        ({"owner": "modelopt"}, 'did you mean "nvidia-modelopt"'),
        ({"upstream": "see the tracker"}, "does not match"),
    ],
)
def test_a_rule_with_a_slip_or_without_owner_is_refused(
    changed: dict[str, str], message: str
) -> None:
    with pytest.raises(MatrixError, match=message):
        matrix.parse(text(**changed), "m", TODAY)
