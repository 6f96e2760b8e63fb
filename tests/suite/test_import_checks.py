"""The import checks: undeclared requirements, dead plugins, an extension of another torch."""

from __future__ import annotations

import ctypes
import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from suite import check_import, elf, requirements
from suite.requirements import Undeclared


def test_imports_are_told_apart_by_whether_a_failure_is_caught() -> None:
    found = requirements.imports(
        """
from typing import TYPE_CHECKING
import plain.part, also
from .own import thing
try:
    import tried
except ImportError:
    import instead
else:
    import then
if TYPE_CHECKING:
    import for_types
with import_plugin("x"):
    import swallowed
def function():
    import late
try:
    import unguarded
finally:
    pass
""",
        "own_package",
    )
    assert {entry.top for entry in found if not entry.guarded} == {
        "typing",
        "plain",
        "also",
        "unguarded",
        "own_package",
    }
    assert {entry.top for entry in found if entry.guarded} == {
        "tried",
        "instead",
        "then",
        "swallowed",
    }


def test_relative_imports_are_resolved() -> None:
    (one,) = requirements.imports("from ..other import name", "top.middle.package")
    assert (one.module, one.names) == ("top.middle.other", ("name",))


def test_what_only_a_guarded_import_reaches_is_optional(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "reached"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from .always import x\ntry:\n    from . import plugin\nexcept ImportError: pass\n"
    )
    (package / "always.py").write_text("x = 1\n")
    (package / "plugin.py").write_text("import pluggy\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.import_module("reached")
    modules = {name: sys.modules[name] for name in sys.modules if name.startswith("reached")}
    assert requirements.unguarded(["reached"], modules) == {"reached", "reached.always"}
    found = requirements.undeclared(
        "reached", "reached", modules, {"pluggy": ["pluggy"]}, ["reached"]
    )
    assert found == [Undeclared("reached", "pluggy", "reached.plugin", True, True)]


def test_an_import_that_the_package_does_not_declare_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "made_up.py").write_text("import pluggy, packaging, json\n")
    metadata = tmp_path / "made_up-1.dist-info"
    metadata.mkdir()
    metadata.joinpath("METADATA").write_text(
        "Metadata-Version: 2.1\nName: made-up\nVersion: 1\n"
        "Requires-Dist: packaging\nRequires-Dist: pluggy ; extra == 'more'\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import made_up  # type: ignore[import-not-found]

    owners = {"pluggy": ["pluggy"], "packaging": ["packaging"]}
    modules = {"made_up": made_up}
    found = requirements.undeclared("made-up", "made_up", modules, owners, ["made_up"])
    assert found == [Undeclared("made-up", "pluggy", "made_up", guarded=False, installed=True)]


def test_an_import_that_is_missing_and_not_caught_is_broken() -> None:
    error = ModuleNotFoundError("No module named 'einops'", name="einops.layers")
    found = [check_import.absent("megatron.core.ssm.mamba_mixer", error)]
    assert check_import.unmet(found) == [
        "megatron.core.ssm.mamba_mixer imports einops, which megatron-core does not declare"
        " and which is not installed"
    ]
    caught = [Undeclared("megatron-core", "apex", "megatron.core.x", True, False)]
    assert check_import.unmet(caught) == []


def test_a_plugin_that_modelopt_swallowed_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dead_plugin.py").write_text("from json import no_such_name\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ImportError, match="no_such_name"):
        check_import.loaded("dead_plugin", [])


def test_modelopts_own_words_are_kept_where_loading_again_fails_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dead_twice.py").write_text("raise KeyError('registered already')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    told = ["Failed to import megatron plugin due to: AttributeError('x')."]
    with pytest.raises(AssertionError, match=r"AttributeError\('x'\)"):
        check_import.loaded("dead_twice", told)


def test_a_plugin_that_is_loaded_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "living_plugin", ModuleType("living_plugin"))
    check_import.loaded("living_plugin", [])


@pytest.fixture
def extension(tmp_path: Path) -> Path:
    """A shared library that calls a C++ function which nobody has."""
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler on this machine to make a library with")
    source = tmp_path / "extension.cpp"
    source.write_text(
        "namespace at { struct Tensor; void gone(const Tensor&); }\n"
        'extern "C" void call(const at::Tensor& t) { at::gone(t); }\n'
    )
    library = tmp_path / "extension.so"
    subprocess.run([compiler, "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
    return library


def test_the_symbol_that_an_extension_misses_is_named(extension: Path) -> None:
    library = elf.read(extension)
    missing = check_import.unresolved(library, "failure")
    assert missing == ["at::gone(at::Tensor const&)"]
    assert check_import.abi_text({"te.so": missing}, "2.6.0") == (
        "ABI mismatch with torch 2.6.0: te.so misses at::gone(at::Tensor const&)"
    )


def test_a_missing_symbol_of_te_itself_is_not_blamed_on_torch() -> None:
    text = check_import.abi_text({"te.so": ["nvte_permute(void*)"]}, "2.6.0")
    assert "torch" not in text
    assert "nvte_permute" in text


def test_a_library_that_binds_late_tells_what_it_misses(
    extension: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opened by its owner so that symbols are bound when they are called, it opens again."""
    ctypes.CDLL(None).dlopen(os.fsencode(extension), os.RTLD_LAZY | os.RTLD_GLOBAL)
    torch = SimpleNamespace(_C=SimpleNamespace(_GLIBCXX_USE_CXX11_ABI=True), __version__="2.6.0")
    monkeypatch.setitem(sys.modules, "torch", torch)  # type: ignore[arg-type]
    monkeypatch.setattr(check_import, "extension_files", lambda: [extension])
    told: dict[str, object] = {}
    check_import.check_import_te_abi(told.__setitem__)
    assert told["missing"] == {}
    assert told["missing when called"] == {"extension.so": ["at::gone(at::Tensor const&)"]}


def test_a_symbol_that_is_there_is_not_missing(extension: Path) -> None:
    library = elf.Library(needed=(), undefined=("malloc", "free"))
    assert check_import.unresolved(library, "the linker's words") == ["the linker's words"]


COMMON = """
import ctypes, pathlib
folder = pathlib.Path(__file__).parent.parent
ctypes.CDLL(str(folder / "opened_first.so"), mode=ctypes.RTLD_GLOBAL)
ctypes.CDLL(str(folder / "libtransformer_engine.so"), mode=ctypes.RTLD_GLOBAL)
"""
ASK = """
from suite import check_import
told = {}
try:
    check_import.check_import_te_abi(told.__setitem__)
except AssertionError as error:
    print(error)
else:
    print("works", told["missing"])
"""


@pytest.mark.parametrize(
    ("first", "said"),
    [
        ("first_call", "works {}"),
        ("other", "ABI mismatch with the libraries that it was installed with: "
         "libtransformer_engine.so misses first_call; transformer_engine_torch.so misses nvte"),
    ],
    ids=["what TE opens first", "a symbol that nobody has"],
)  # fmt: skip
def test_a_core_is_opened_after_what_te_opens_before_it(
    first: str, said: str, tmp_path: Path
) -> None:
    """As TE up to 1.13 does with NVRTC, of which its core uses functions without naming it."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    te = tmp_path / "transformer_engine"
    sources = {
        te / "opened_first.so": f"void {first}(void) {{}}",
        te / "libtransformer_engine.so": "void first_call(void); void nvte(void) { first_call(); }",
        tmp_path / "transformer_engine_torch.so": "void nvte(void); void call(void) { nvte(); }",
    }
    (te / "common").mkdir(parents=True)
    (te / "__init__.py").write_text("import transformer_engine.common\n")
    (te / "common" / "__init__.py").write_text(COMMON)
    torch = "from types import SimpleNamespace\n"
    torch += "__version__, _C = '2.5.1', SimpleNamespace(_GLIBCXX_USE_CXX11_ABI=False)\n"
    (tmp_path / "torch.py").write_text(torch)
    for library, source in sources.items():
        (tmp_path / "x.c").write_text(source)
        command = [compiler, "-shared", "-fPIC", str(tmp_path / "x.c"), "-o", str(library)]
        subprocess.run(command, check=True, timeout=60)
    root = Path(check_import.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        env={"PYTHONPATH": f"{tmp_path}:{root}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.strip() == said, done.stderr


def test_what_is_no_elf_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.so").write_bytes(b"#!/bin/sh\n" * 10)
    with pytest.raises(ValueError, match=r"x\.so"):
        elf.read(tmp_path / "x.so")


def test_a_symbol_of_c_is_left_as_it_is() -> None:
    assert elf.demangle("malloc") == "malloc"
