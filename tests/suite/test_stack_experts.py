"""A hybrid stack without a layer of experts: which of the two specs lacks it decides the word."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from suite import adapter
from suite.adapter import Found
from suite.outcomes import Unsupported

EXPERTS = SimpleNamespace(submodules=SimpleNamespace(moe_layer=SimpleNamespace(module=dict)))
NONE = SimpleNamespace(submodules=SimpleNamespace())


class IdentityOp:
    """What a spec has where there is no layer."""


EMPTY = SimpleNamespace(submodules=SimpleNamespace(moe_layer=SimpleNamespace(module=IdentityOp)))


def needed(monkeypatch: pytest.MonkeyPatch, default: Any, modelopt: Any) -> None:
    monkeypatch.setattr(adapter, "stack_default_spec", lambda: Found("default", default))
    monkeypatch.setattr(adapter, "stack_modelopt_spec", lambda: Found("modelopt", lambda: modelopt))
    adapter.need_experts()


def test_both_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    needed(monkeypatch, EXPERTS, EXPERTS)


@pytest.mark.parametrize("default", [NONE, EMPTY])
def test_a_release_without_it_does_not_support_it(
    default: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Unsupported, match="default spec"):
        needed(monkeypatch, default, EXPERTS)


@pytest.mark.parametrize("modelopt", [NONE, EMPTY])
def test_where_the_modelopt_stack_alone_lacks_it_a_model_cannot_be_rebuilt(
    modelopt: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AssertionError, match="which the default spec has"):
        needed(monkeypatch, EXPERTS, modelopt)
