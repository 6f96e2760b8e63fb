"""Private names that packages take from one another are found, and missed where they are gone."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from suite import check_private

SOURCE = """
from torch.distributed.checkpoint.filesystem import FileSystemWriter, _write_item
from megatron.core.own import _mine
from os import _exit
try:
    from torch._inner import guarded_name
except ImportError:
    pass
"""


class Kept:
    """Stands in for the evidence."""

    def __init__(self) -> None:
        self.said: dict[str, object] = {}

    def __call__(self, name: str, value: object) -> None:
        self.said[name] = value


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Packages that stand in for Megatron and torch."""
    for name, text in {
        "megatron/core/dist_checkpointing/writer.py": SOURCE,
        "torch/distributed/checkpoint/filesystem.py": "def _write_item(a, b=1): ...\n",
    }.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True)
        file.write_text(text)
        for folder in file.parents:
            if folder == tmp_path:
                break
            (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [n for n in sys.modules if n.split(".")[0] in check_private.OWNERS]:
        monkeypatch.delitem(sys.modules, name)
    importlib.invalidate_caches()
    monkeypatch.setattr(check_private, "PLACES", ("megatron.core.dist_checkpointing", "modelopt.x"))
    yield tmp_path
    for name in [n for n in sys.modules if n.split(".")[0] in check_private.OWNERS]:
        del sys.modules[name]


def test_private_names_of_other_packages_are_found(release: Path) -> None:
    found = set(check_private.taken("megatron.core.dist_checkpointing"))
    by = "megatron.core.dist_checkpointing.writer"
    assert found == {
        ("torch.distributed.checkpoint.filesystem", "_write_item", by, False),
        ("torch._inner", "guarded_name", by, True),
    }


def test_what_is_there_is_recorded_with_its_signature(release: Path) -> None:
    kept = Kept()
    check_private.check_private_names(kept)  # type: ignore[arg-type]
    entry = kept.said["torch.distributed.checkpoint.filesystem:_write_item"]
    assert entry == {
        "by": "megatron.core.dist_checkpointing.writer",
        "guarded": False,
        "is": "(a, b=1)",
    }


def test_a_name_that_is_gone_is_broken(release: Path) -> None:
    (release / "torch/distributed/checkpoint/filesystem.py").write_text("def other(): ...\n")
    with pytest.raises(AssertionError):
        check_private.check_private_names(Kept())  # type: ignore[arg-type]


def test_one_gone_of_two_is_named(release: Path) -> None:
    writer = release / "megatron/core/dist_checkpointing/writer.py"
    writer.write_text(
        "from torch.distributed.checkpoint.filesystem import _write_item, _split_items\n"
    )
    with pytest.raises(AssertionError, match="writer takes _split_items from torch"):
        check_private.check_private_names(Kept())  # type: ignore[arg-type]
