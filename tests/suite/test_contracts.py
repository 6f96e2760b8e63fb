"""The contracts of spec functions: what is renamed, moved or changed is found."""

from __future__ import annotations

import inspect
import sys
from types import ModuleType
from typing import Any

import pytest

from suite import check_interface, contracts
from suite.contracts import REQUIRED, Contract
from suite.outcomes import Unsupported

SOMETHING = object()
CONTRACT = {"config": REQUIRED, "remap": False, "quant": "None"}


def broken(function: Any) -> list[str]:
    return contracts.compare(inspect.signature(function), CONTRACT)


def test_the_contract_holds_with_a_further_parameter_that_has_a_default() -> None:
    def spec(config, remap=False, quant="None", more=1): ...

    assert broken(spec) == []
    assert contracts.extras(inspect.signature(spec), CONTRACT) == ["more"]


def test_a_renamed_parameter_breaks_it() -> None:
    def spec(config, remap_layernorm=False, quant="None"): ...

    assert broken(spec) == ["parameter remap is not there"]


def test_a_changed_default_breaks_it_even_to_an_equal_value_of_another_type() -> None:
    def spec(config, remap=0, quant=None): ...

    assert broken(spec) == [
        "parameter remap defaults to 0, where the contract says that it defaults to False",
        "parameter quant defaults to None, where the contract says that it defaults to 'None'",
    ]


def test_a_parameter_that_cannot_be_given_by_keyword_breaks_it() -> None:
    def spec(config, remap=False, /, quant="None"): ...

    assert [text for text in broken(spec) if "positional-only" in text]


def test_a_new_parameter_without_default_breaks_it() -> None:
    def spec(config, layers, remap=False, quant="None"): ...

    assert broken(spec) == ["parameter layers is new and has no default"]


def test_a_default_that_is_gone_breaks_it() -> None:
    def spec(config, remap, quant="None"): ...

    assert broken(spec) == [
        "parameter remap has no default, where the contract says that it defaults to False"
    ]


@pytest.fixture
def release(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A made-up release whose only module has a spec function."""
    module = ModuleType("made_up_release")
    module.__spec__ = __import__("importlib.machinery").machinery.ModuleSpec(
        "made_up_release", None
    )

    def get_spec(remap=False): ...

    module.get_spec = get_spec  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "made_up_release", module)
    return module


class Found:
    path = "made_up_release.get_spec"


def see(*lines: Contract, found: Any = Found) -> dict[str, Any]:
    told: dict[str, Any] = {}
    check_interface.see(found, lines, told.__setitem__, "GPT")
    return told


def test_the_interface_check_records_the_signature(release: ModuleType) -> None:
    told = see(Contract("made_up_release", "get_spec", {"remap": False}))
    assert told["made_up_release.get_spec"] == "(remap=False)"


def test_the_interface_check_says_broken_for_a_renamed_parameter(release: ModuleType) -> None:
    with pytest.raises(AssertionError, match="parameter remap_te is not there"):
        see(Contract("made_up_release", "get_spec", {"remap_te": False}))


def test_the_interface_check_says_broken_for_a_renamed_function(release: ModuleType) -> None:
    del release.get_spec
    with pytest.raises(AssertionError, match=r"made_up_release\.get_spec is not there"):
        see(Contract("made_up_release", "get_spec", {}), found=None)


def test_the_interface_check_says_broken_for_a_function_that_moved(release: ModuleType) -> None:
    with pytest.raises(AssertionError, match="not where callers look"):
        see(Contract("no_such_module", "get_spec", {}))


def test_the_interface_check_is_unsupported_where_the_release_has_neither() -> None:
    with pytest.raises(Unsupported):
        see(Contract("no_such_module", "get_spec", {}), found=None)


def test_a_line_is_told_by_what_the_release_has(release: ModuleType) -> None:
    line = Contract("made_up_release", "get_spec", {}, present=("made_up_release:get_spec(remap)",))
    assert contracts.applies(line)
    other = Contract("made_up_release", "get_spec", {}, absent=("made_up_release:get_spec",))
    assert not contracts.applies(other)


def test_a_signature_is_recorded_without_addresses() -> None:
    def spec(config: int, call: Any = SOMETHING) -> None: ...

    assert check_interface.text(inspect.signature(spec)).startswith("(config: ")
    assert " at 0x" not in check_interface.text(inspect.signature(spec))
