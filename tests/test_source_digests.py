"""Digests of sources by release: their file, and how it is brought up to date."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from grades_support import FAILS, FILE, cell_of, known_of
from hypothesis import given
from hypothesis import strategies as st
from msgspec import to_builtins

from mcore_compat.analysis import concerned_files, digest_refresh
from mcore_compat.base.errors import InfrastructureError, MatrixError
from mcore_compat.core import source_digests
from mcore_compat.core.releases import Release, Releases
from mcore_compat.core.workspace import Workspace

VERSIONS = st.sampled_from(["0.9.0", "0.10.0", "0.11.0", "0.12.0"])
PATHS = st.sampled_from(["megatron/a.py", "megatron/b.py"])


@given(st.dictionaries(VERSIONS, st.dictionaries(PATHS, st.sampled_from(["1" * 64, "2" * 64]))))
def test_what_is_written_is_read_again(by_release: Mapping[str, Mapping[str, str]]) -> None:
    known = source_digests.made({"megatron-core": by_release}, {"f": ("megatron/a.py",)})
    again = source_digests.parse(source_digests.dumps(known), "digests.json")
    assert again == known
    paths = {path for files in by_release.values() for path in files}
    for version, files in by_release.items():
        for path in paths:
            assert again.of("megatron-core", version, path) == files.get(path, "")
    assert again.of("megatron-core", "1.0.0", "megatron/a.py") is None
    assert again.of("torch", "2.9.0", "torch/a.py") is None


@pytest.mark.parametrize(
    "text", ["", "[]", '{"packages": {"torch": {"releases": [], "files": {"a": [[0, "1"]]}}}}']
)
def test_a_damaged_file_is_told_with_what_remakes_it(text: str, tmp_path: Path) -> None:
    path = tmp_path / "digests.json"
    path.write_text(text)
    with pytest.raises(
        MatrixError, match=r"digests.json is not valid .*; remake it: nox -s refresh"
    ):
        source_digests.load(path)


@pytest.mark.parametrize(
    ("traceback", "message", "files"),
    [
        ('File "suite/a.py", line 1\n  File "torch/nn/b.py", line 2', "", ["torch/nn/b.py"]),
        (
            "",
            "cannot import name 'x' from 'megatron.core.utils' (megatron/core/utils.py)",
            ["megatron/core/utils.py", "megatron/core/utils/__init__.py"],
        ),
        ("", "No module named 'torch.onnx'", ["torch/onnx.py", "torch/onnx/__init__.py"]),
        ("", "No module named 'numpy'", []),
    ],
)
def test_files_of_a_traceback_and_of_the_names_in_a_message(
    traceback: str, message: str, files: list[str]
) -> None:
    assert list(concerned_files.files([traceback], message)) == files


def test_functions_that_a_call_does_not_fit() -> None:
    message = "Worker failure: C._f() missing 1 required positional argument: 'x'"
    assert concerned_files.called(message) == ("C._f",)
    assert concerned_files.called("'NoneType' object is not subscriptable") == ()


class Index:
    """An index whose wheels list one file, of another digest in each release."""

    def __init__(self, broken: str = "") -> None:
        self.asked: list[str] = []
        self.broken = broken

    def get_project_page(self, project: str) -> Any:
        rows = [
            SimpleNamespace(
                filename=f"p-{version}-py3-none-any.whl", version=version, package_type="wheel"
            )
            for version in ("0.16.0", "0.16.1", "0.17.0")
        ]
        return SimpleNamespace(packages=rows)

    def digests(self, file: Any) -> dict[str, str]:
        self.asked.append(file.version)
        if file.version == self.broken:
            raise InfrastructureError("the index did not answer")
        return {FILE: file.version, "megatron/core/none_of_ours.py": "1", "other/x.py": "2"}


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    here = Workspace(tmp_path)
    here.published.parent.mkdir()
    here.digests.parent.mkdir()
    here.published.write_text(json.dumps(to_builtins(known_of([cell_of("0.16.1", FAILS)]))))
    return here


def releases(*versions: str) -> Releases:
    rows = tuple(Release(package="megatron-core", version=version) for version in versions)
    return Releases({"megatron-core": rows})


def test_only_what_is_lacking_is_read(place: Workspace) -> None:
    index = Index()

    def update(*versions: str, begin: bool = False) -> tuple[str, ...]:
        index.asked.clear()
        known = releases(*versions)
        return digest_refresh.update(place, known, lambda: index, lambda line: None, begin=begin)

    assert update("0.16.0") == ()
    assert not place.digests.exists()
    assert update("0.16.0", "0.16.1", begin=True) == (
        "megatron-core 0.16.0",
        "megatron-core 0.16.1",
    )
    assert update("0.16.0", "0.16.1", "0.17.0") == ("megatron-core 0.17.0",)
    assert index.asked == ["0.17.0"]
    assert update("0.16.0", "0.16.1", "0.17.0") == ()
    assert index.asked == []
    known = source_digests.load(place.digests)
    assert [known.of("megatron-core", v, FILE) for v in ("0.16.0", "0.17.0")] == [
        "0.16.0",
        "0.17.0",
    ]
    assert list(known.files("megatron-core")) == [FILE]


def test_a_release_that_cannot_be_read_is_left_to_the_next_time(place: Workspace) -> None:
    said: list[str] = []
    index = Index(broken="0.16.0")
    digest_refresh.update(
        place, releases("0.16.0", "0.16.1"), lambda: index, said.append, begin=True
    )
    assert said[-1] == "  the index did not answer; the next refresh tries again"
    assert list(source_digests.load(place.digests).releases("megatron-core")) == ["0.16.1"]
