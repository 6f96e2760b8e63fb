"""The contracts of spec functions: what is renamed, moved or changed is found."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite import check_interface, contracts
from suite.contracts import REQUIRED, Contract
from suite.outcomes import Unsupported

SOMETHING = object()
CONTRACT = {"config": REQUIRED, "remap": False, "quant": "None"}


def broken(function: Any, *, exact: bool = False) -> list[str]:
    return contracts.compare(inspect.signature(function), CONTRACT, exact=exact)


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


def test_a_parameter_that_cannot_be_given_by_position_breaks_it() -> None:
    def spec(config, remap=False, *, quant="None"): ...

    assert broken(spec) == ["parameter quant is keyword-only"]


def test_parameters_in_another_order_break_it() -> None:
    def spec(config, quant="None", remap=False): ...

    assert broken(spec) == [
        "parameters are in the order config, quant, remap, not config, remap, quant"
    ]


def test_a_further_parameter_between_them_breaks_it() -> None:
    def spec(config, more=1, remap=False, quant="None"): ...

    assert [text for text in broken(spec) if "in the order" in text]


def test_where_one_is_missing_the_order_of_the_others_is_not_told_of() -> None:
    def spec(config, quant="None"): ...

    assert broken(spec) == ["parameter remap is not there"]


def test_an_exact_contract_has_no_further_parameter() -> None:
    def spec(config, remap=False, quant="None", more=1, **others): ...

    assert broken(spec) == []
    assert broken(spec, exact=True) == [
        "parameter more is new, where the contract allows no other",
        "parameter others is new, where the contract allows no other",
    ]


@given(st.permutations(list(CONTRACT)), st.booleans())
def test_only_the_contracts_own_order_holds(order: list[str], exact: bool) -> None:
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    # A signature with a default before a parameter without one cannot be written down.
    contract = dict.fromkeys(CONTRACT, False)
    signature = inspect.Signature([inspect.Parameter(n, kind, default=False) for n in order])
    assert (contracts.compare(signature, contract, exact=exact) == []) == (order == [*CONTRACT])


def test_a_new_parameter_without_default_breaks_it() -> None:
    def spec(config, layers, remap=False, quant="None"): ...

    assert "parameter layers is new and has no default" in broken(spec)


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


def test_the_interface_check_says_broken_for_a_parameter_that_an_exact_line_forbids(
    release: ModuleType,
) -> None:
    see(Contract("made_up_release", "get_spec", {}))
    with pytest.raises(AssertionError, match="remap is new, where the contract allows no other"):
        see(Contract("made_up_release", "get_spec", {}, exact=True))


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


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a package `torn`, with a module `parts`, that raises as it is imported."""
    folder = tmp_path / "torn"
    folder.mkdir()
    (folder / "__init__.py").write_text("import os\nos.no_such_name\n")
    (folder / "parts.py").write_text("def get_spec(remap=False): ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "torn"]:
        del sys.modules[name]


def test_a_module_is_there_although_its_parent_cannot_be_imported(package: Path) -> None:
    assert contracts.home("torn.parts")
    assert not contracts.home("torn.others")
    assert not contracts.home("no_such_package.parts")


def test_the_signature_of_what_cannot_be_imported_is_recorded_with_the_reason(
    package: Path,
) -> None:
    why = check_interface.signature_at("torn.parts:get_spec")
    assert why == {"not read": "AttributeError: module 'os' has no attribute 'no_such_name'"}
    assert check_interface.signature_at("torn.others:get_spec") is None


def test_the_signature_at_a_place_is_recorded(package: Path) -> None:
    (package / "__init__.py").write_text("")
    (package / "parts.py").write_text("class A:\n    def f(self, x=1): ...\nnothing = 1\n")
    assert check_interface.signature_at("torn.parts:A.f") == "(self, x=1)"
    assert check_interface.signature_at("torn.parts:A.g") is None
    assert list(check_interface.signature_at("torn.parts:nothing") or ()) == ["not read"]


def test_the_record_of_signatures_has_every_place_and_never_fails() -> None:
    told: dict[str, Any] = {}
    check_interface.check_signatures(told.__setitem__)
    assert list(told) == list(check_interface.RECORDED)
