"""Failures that the matrix declares: which cells they mean, and when they are errors themselves."""

from __future__ import annotations

import datetime
from dataclasses import replace

import pytest
from packaging.specifiers import SpecifierSet
from test_declared import cell, check, seen

from mcore_compat import matrix, verdict
from mcore_compat.errors import MatrixError
from mcore_compat.evidence import CheckResult, Evidence
from mcore_compat.matrix import Pairs
from mcore_compat.outcomes import CheckOutcome

RULE = Pairs(
    mcore=SpecifierSet(">=0.16"),
    modelopt=SpecifierSet("<0.42"),
    te=SpecifierSet("<2.12"),
    reason="a reason",
    expires=datetime.date(2030, 1, 1),
    check="state*",
    owner="nvidia-modelopt",
    upstream="NVIDIA/Model-Optimizer#1",
)


def with_outcomes(**outcomes: CheckOutcome) -> Evidence:
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
        ({"state_a": CheckOutcome.WORKS, "state_b": CheckOutcome.BROKEN}, False),
        ({"state_a": CheckOutcome.WORKS, "state_b": CheckOutcome.BLOCKED}, False),
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
        assert '"state*"' in said[0]
        assert cell().name in said[0]
        assert "narrow or remove the rule" in said[0]


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
    rows = "\n".join(f'{key} = "{value}"' for key, value in fields.items() if value)
    return matrix.PATH.read_text(encoding="utf-8") + f"\n[[expect]]\n{rows}\n"


TODAY = datetime.date(2026, 11, 23)


def test_a_rule_is_read_with_all_its_fields() -> None:
    changed = {"transformer-engine": "<2.12", "torch": ">=2.9", "upstream": "a/b.c#12"}
    rule = matrix.parse(text(**changed), "m", TODAY).expected[-1]
    assert (str(rule.te), str(rule.torch)) == ("<2.12", ">=2.9")
    assert (rule.owner, rule.upstream) == ("torch", "a/b.c#12")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"owner": ""}, "'owner' is a required property"),
        ({"owner": "modelopt"}, 'did you mean "nvidia-modelopt"'),
        ({"upstream": "see the tracker"}, "does not match"),
        ({"expires": "2026-11-22"}, "expired on 2026-11-22"),
    ],
)
def test_a_rule_without_owner_or_link_or_past_its_date_is_refused(
    changed: dict[str, str], message: str
) -> None:
    with pytest.raises(MatrixError, match=message):
        matrix.parse(text(**changed), "m", TODAY)
