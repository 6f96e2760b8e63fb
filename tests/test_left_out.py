"""On a GPU, what a wheel was built without is not asked. All results here are made up; what Python
says of an empty module is asked of Python."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import pytest
from support import ROOT, START, event, stand_in_cell

from mcore_compat.core.outcomes import CheckOutcome
from mcore_compat.environments import recipes
from mcore_compat.results import missing_kernels
from mcore_compat.results.from_events import Builder
from mcore_compat.results.result import CheckResult, empty_result

CONV, MAMBA = "causal_conv1d-1.6.1-py3-none-any.whl", "mamba_ssm-2.3.1-py3-none-any.whl"
FLASH = "flash_attn-2.4.2-py3-none-any.whl"
COMPILED = "causal_conv1d-1.6.1-cp312-cp312-linux_x86_64.whl"


def empty(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, ModuleType(module, "Stands in for it."))


def failed(error: BaseException, check: str = "inference-shapes[hybrid-mamba]") -> dict[str, Any]:
    made = event(check, "broken", reason=str(error))
    made["failure"].update(type=type(error).__name__, message=str(error))
    return made


def of(*events: dict[str, Any], wheels: Sequence[str], device: str = "gpu") -> list[CheckResult]:
    base = empty_result(stand_in_cell(), device_class=device, wheels=dict.fromkeys(wheels, "1"))
    builder = Builder(base)
    for one in ({**START, "device_class": device}, *events):
        builder.take(one)
    return list(builder.result().checks)


MODULES = sorted(missing_kernels.COMPILED)


def missing(module: str, monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """What Python raises where a name of an empty module is asked for."""
    empty(module, monkeypatch)
    found: list[BaseException] = []
    for source in (f"import {module}; {module}.fwd", f"from {module} import fwd"):
        with pytest.raises((AttributeError, ImportError)) as caught:
            exec(source)
        found.append(caught.value)
    return found


@pytest.mark.parametrize("module", MODULES)
def test_what_a_wheel_was_built_without_is_not_asked(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error in missing(module, monkeypatch):
        (one,) = of(failed(error), wheels=(CONV, MAMBA, FLASH))
        assert one.outcome is CheckOutcome.NEEDS_GPU
        assert f"was built without its CUDA part, {module}" in str(one.reason)


def test_nor_is_what_comes_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    error = missing("causal_conv1d_cuda", monkeypatch)[0]
    why = "inference-shapes[hybrid-mamba] is broken"
    after = event("inference-numbers[hybrid-mamba]", "blocked", reason=why)
    last = event("later[hybrid-mamba]", "blocked", reason=why)
    other = event("x[gpt]", "blocked", reason="restore[gpt] is broken")
    found = {c.check: c for c in of(failed(error), after, last, other, wheels=(CONV,))}
    assert found.pop("x[gpt]").outcome is CheckOutcome.BLOCKED
    assert {c.outcome for c in found.values()} == {CheckOutcome.NEEDS_GPU}
    said = found["inference-numbers[hybrid-mamba]"].reason
    assert str(said).startswith(f"inference-shapes[hybrid-mamba]: {CONV} was built without")


def test_a_name_that_a_compiled_module_lacks_stays_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    error = missing("causal_conv1d_cuda", monkeypatch)[0]
    for wheels in ((COMPILED, MAMBA), (MAMBA,)):
        (one,) = of(failed(error), wheels=wheels)
        assert one.outcome is CheckOutcome.BROKEN


@pytest.mark.parametrize(
    "error",
    [
        AttributeError("module 'megatron.core' has no attribute 'x'"),
        AttributeError("module 'causal_conv1d_cuda' has no attribute 'fwd'; and more"),
        KeyError("module 'causal_conv1d_cuda' has no attribute 'fwd'"),
    ],
)
def test_another_message_or_another_exception_stays_broken(error: BaseException) -> None:
    (one,) = of(failed(error), wheels=(CONV, MAMBA))
    assert one.outcome is CheckOutcome.BROKEN


def test_on_a_host_nothing_is_judged_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    error = missing("causal_conv1d_cuda", monkeypatch)[0]
    (one,) = of(failed(error), wheels=(CONV,), device="host")
    assert one.outcome is CheckOutcome.BROKEN


def test_both_sides_mean_the_same_modules() -> None:
    if str(ROOT) not in sys.path:
        sys.path.append(str(ROOT))  # `suite` is not installed
    from suite import preload

    suites = {module: name.replace("-", "_") for name, module in preload.COMPILED.items()}
    hosts = {
        recipe.stand_in: recipe.package.replace("-", "_")
        for recipe in recipes.RECIPES.values()
        if recipe.stand_in
    }
    assert {**suites, **hosts} == missing_kernels.COMPILED
