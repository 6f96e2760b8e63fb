"""Sources → interface, by griffe, of a made-up package; and how a refresh reads releases."""

from __future__ import annotations

import zipfile
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace
from typing import Any

import pytest
from index_support import file, quiet

from mcore_compat.api import extraction, interface_index, packages, refresh, sources
from mcore_compat.base.errors import InfrastructureError
from mcore_compat.core.releases import Release, Releases
from mcore_compat.index import pip_index

FILES = {
    "modelopt/__init__.py": """
        from . import tools
        from .tools import helper as assistant
        import torch
        """,
    "modelopt/tools.py": """
        from dataclasses import dataclass, field
        from functools import lru_cache
        from pydantic import BaseModel
        from .deep import *
        LIMIT = 3
        Deep = inner

        @dataclass
        class Base:
            a: int
            b: str = "x"

        @dataclass
        class Derived(Base):
            c: list = field(default_factory=list)
            d: int = field(init=False)

        @dataclass
        class OfAnother(BaseModel):
            a: int

        class Plain(Base, metaclass=Meta):
            NAME = "n"
            def __init__(self, x, /, *args, y=None, **kw):
                self.z = x
                self.typed: int = 1
            @property
            def size(self): ...
            @size.setter
            def size(self, value): ...
            @staticmethod
            def make(a): ...
            @classmethod
            def of(cls, a, *, b): ...

        @lru_cache
        def helper(one, two=(1, 2)): ...

        @unknown
        def changed(one): ...

        if torch.cuda:
            def either(a): ...
        else:
            def either(a, b): ...
        try:
            from apex import fused
        except ImportError:
            fused = None
        def late(x: "int" = 1) -> None: ...
        """,
    "modelopt/deep/__init__.py": "def inner(): ...\n_private = 1\n",
    "modelopt/no_init/module.py": "def f(): ...\n",
    "modelopt/lazy.py": "def __getattr__(name): ...\n",
    "modelopt/dynamic.py": "globals()['x'] = 1\n",
    "modelopt/outside.py": "from torch import *\n",
    "modelopt/compiled.cpython-312-x86_64-linux-gnu.so": "",
}


def lay_out(folder: Path) -> None:
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    folder = tmp_path_factory.mktemp("sources")
    lay_out(folder)
    sources._complete(folder)
    return extraction.extract(folder, "modelopt")


def test_modules_are_there_also_without_init_and_without_source(
    extracted: dict[str, dict[str, str]],
) -> None:
    plain = {name for name, names in extracted.items() if names[""] == "module"}
    deep = {"modelopt.tools", "modelopt.deep", "modelopt.no_init", "modelopt.no_init.module"}
    assert plain == {"modelopt", *deep}
    opened = {"lazy", "dynamic", "outside", "compiled"}
    assert extracted.keys() - plain == {f"modelopt.{name}" for name in opened}


def test_names_from_elsewhere(extracted: dict[str, dict[str, str]]) -> None:
    assert extracted["modelopt"]["assistant"] == "= modelopt.tools.helper"
    assert extracted["modelopt"]["torch"] == "import"
    tools = extracted["modelopt.tools"]
    assert tools["inner"] == "= modelopt.deep.inner"
    assert "_private" not in tools
    assert tools["LIMIT"] == "value"
    assert tools["fused"] == "import"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Base.__init__", "def(self, a, b='x')"),
        ("Derived", "class(modelopt.tools.Base)"),
        ("Derived.__init__", "def(self, a, b='x', c=list())"),
        ("OfAnother.__init__", "def?(self, a)"),
        ("Plain", "class?(modelopt.tools.Base)"),
        ("Plain.__init__", "def?(self, x, /, *args, y=None, **kw)"),
        ("Plain.NAME", "value"),
        ("Plain.size", "property"),
        ("Plain.make", "staticmethod(a)"),
        ("Plain.of", "classmethod(cls, a, *, b)"),
        ("helper", "def(one, two=(1, 2))"),
        ("changed", "def?(one)"),
        ("either", "def(a) | def(a, b)"),
        ("late", "def(x=1)"),
    ],
)
def test_definitions(extracted: dict[str, dict[str, str]], name: str, text: str) -> None:
    assert extracted["modelopt.tools"][name] == text


def test_what_a_method_gives_to_self_is_no_name_of_the_class(
    extracted: dict[str, dict[str, str]],
) -> None:
    of_class = {n for n in extracted["modelopt.tools"] if n.startswith("Plain.")}
    assert of_class == {f"Plain.{n}" for n in ("__init__", "NAME", "size", "make", "of")}


# A refresh.


class WheelIndex:
    """An index of one package; `broken`: releases whose wheels are none."""

    def __init__(self, folder: Path, *versions: str, broken: tuple[str, ...] = ()) -> None:
        self.folder, self.broken, self.read = folder, broken, []
        self.files = [
            file(f"nvidia_modelopt-{v}-py3-none-any.whl", v, project="nvidia-modelopt")
            for v in versions
        ]

    def get_project_page(self, project: str) -> Any:
        return SimpleNamespace(packages=self.files if project == "nvidia-modelopt" else [])

    def sources(self, wheel: Any, folder: Path) -> None:
        self.read.append(wheel.version)
        if wheel.version in self.broken:
            raise InfrastructureError("the index sent something else")
        lay_out(folder)
        (folder / "modelopt" / "version.py").write_text(f"def of_{wheel.version[0]}(): ...\n")


def known(*versions: str) -> Releases:
    rows = tuple(Release(package="nvidia-modelopt", version=v) for v in versions)
    return Releases({"nvidia-modelopt": rows})


MODELOPT = packages.BY_NAME[packages.MODELOPT]


def test_a_refresh_reads_only_what_the_index_lacks(tmp_path: Path) -> None:
    index = WheelIndex(tmp_path, "1.0", "2.0", "3.0")
    assert refresh.update(tmp_path, known("1.0"), lambda: index, quiet) == ()
    assert refresh.update(tmp_path, known("1.0", "3.0"), lambda: index, quiet, begin=True) == (
        "nvidia-modelopt 1.0", "nvidia-modelopt 3.0",
    )  # fmt: skip
    assert refresh.update(tmp_path, known("1.0", "2.0", "3.0"), lambda: index, quiet) == (
        "nvidia-modelopt 2.0",
    )
    assert index.read == ["1.0", "3.0", "2.0"]
    made = interface_index.load(MODELOPT, tmp_path)
    assert made.releases == ("1.0", "2.0", "3.0")
    assert [made.at("modelopt.version", "of_2", place) for place in range(3)] == [
        None,
        "def()",
        None,
    ]


def test_a_release_that_cannot_be_read_is_said_and_tried_again(tmp_path: Path) -> None:
    index = WheelIndex(tmp_path, "1.0", "2.0", broken=("2.0",))
    said: list[str] = []
    update = refresh.update(tmp_path, known("1.0", "2.0"), lambda: index, said.append, begin=True)
    assert update == ("nvidia-modelopt 1.0",)
    assert said[-1] == "  the index sent something else; the next refresh tries again"
    index.broken = ()
    assert refresh.update(tmp_path, known("1.0", "2.0"), lambda: index, quiet) == (
        "nvidia-modelopt 2.0",
    )


def test_sources_that_are_no_python_are_said(tmp_path: Path) -> None:
    index = WheelIndex(tmp_path, "1.0")

    def broken(wheel: Any, folder: Path) -> None:
        (folder / "modelopt").mkdir()
        (folder / "modelopt" / "__init__.py").write_text("def (:\n")

    index.sources = broken  # type: ignore[method-assign]
    with pytest.raises(
        InfrastructureError, match=r"sources of nvidia-modelopt 1\.0 cannot be read"
    ):
        refresh.interface(MODELOPT, "1.0", index)


def test_without_griffe_it_says_how_to_have_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "available", lambda: False)
    said: list[str] = []
    index = WheelIndex(tmp_path, "1.0")
    assert refresh.update(tmp_path, known("1.0"), lambda: index, said.append, begin=True) == ()
    assert said == [
        "the interfaces of 1 releases were not read: griffe is not installed; "
        "pip install 'mcore-compat[refresh]'"
    ]


def test_of_a_wheel_only_sources_are_taken_and_none_outside_the_folder(tmp_path: Path) -> None:
    path = tmp_path / "a.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name in ("a/b.py", "a/c.so", "a/d.txt", "../out.py", "/abs.py"):
            wheel.writestr(name, "x = 1")
    with zipfile.ZipFile(path) as wheel:
        pip_index._extract(wheel, tmp_path / "to")
    there = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert there == {"a.whl", "to/a/b.py", "to/a/c.so"}
    assert (tmp_path / "to/a/c.so").read_bytes() == b""
