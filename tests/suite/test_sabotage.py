"""Sabotage is off unless asked for, and what it breaks is broken."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from suite import sabotage


def layer(**keys: str) -> SimpleNamespace:
    submodules = SimpleNamespace(sharded_state_dict_keys_map=dict(keys))
    return SimpleNamespace(module=object, submodules=submodules)


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(sabotage.VARIABLE, raising=False)


def test_nothing_is_broken_unless_asked_for() -> None:
    given = layer(norm="inside")
    assert sabotage.active() is None
    assert sabotage.spec(given).submodules.sharded_state_dict_keys_map == {"norm": "inside"}
    assert sabotage.parameters({"a": 1}) == {"a": 1}
    sabotage.writing()
    sabotage.restoring()


def test_a_kind_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(sabotage.VARIABLE, "drop-everything")
    with pytest.raises(ValueError, match="drop-key-map"):
        sabotage.active()


@pytest.mark.parametrize(
    "given",
    [
        layer(norm="inside"),
        SimpleNamespace(layer_specs=[layer(), layer(norm="inside")]),
        SimpleNamespace(submodules=SimpleNamespace(mamba_layer=layer(norm="inside"))),
    ],
    ids=["layer", "block", "stack"],
)
def test_a_key_map_loses_an_entry(given: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(sabotage.VARIABLE, "drop-key-map")
    broken = sabotage.spec(given)
    layers = getattr(broken, "layer_specs", None) or [
        getattr(broken.submodules, "mamba_layer", broken)
    ]
    assert not any(one.submodules.sharded_state_dict_keys_map for one in layers)


def test_a_spec_without_a_key_map_cannot_lose_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(sabotage.VARIABLE, "drop-key-map")
    with pytest.raises(ValueError, match="no key map"):
        sabotage.spec(layer())


def test_a_parameter_is_renamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(sabotage.VARIABLE, "rename-parameter")
    assert sabotage.parameters({"a": 1, "b": 2}) == {"renamed.a": 1, "b": 2}
