"""An environment is compared, file by file, with what was installed."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest

from mcore_compat.environments import integrity

CONTENT = b"value = 1\n"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A package of two files, one of them in a folder that may be taken out."""
    rows = []
    for name in ("pkg/a.py", "pkg/data/b.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(CONTENT)
        digest = base64.urlsafe_b64encode(hashlib.sha256(CONTENT).digest()).rstrip(b"=").decode()
        rows.append(f"{name},sha256={digest},{len(CONTENT)}\n")
    info = tmp_path / "some_pkg-1.0.dist-info"
    info.mkdir()
    info.joinpath("RECORD").write_text("".join([*rows, "pkg/__pycache__/a.pyc,,\n", "RECORD,,\n"]))
    return tmp_path


@pytest.mark.parametrize("contents", [False, True])
def test_what_is_as_installed(site: Path, contents: bool) -> None:
    assert integrity.damaged(site, contents=contents) is None


def test_a_missing_file_and_a_cut_one_are_named(site: Path) -> None:
    (site / "pkg/a.py").write_bytes(CONTENT[:-1])
    damage = integrity.damaged(site, contents=False)
    assert damage is not None
    assert (damage.package, damage.file) == ("some_pkg", "pkg/a.py")
    assert "has 9 bytes, not 10" in str(damage)
    (site / "pkg/a.py").unlink()
    assert "cannot be read" in str(integrity.damaged(site, contents=False))


def test_a_changed_byte_is_seen_where_contents_are_read(site: Path) -> None:
    (site / "pkg/a.py").write_bytes(b"value = 2\n")
    assert integrity.damaged(site, contents=False) is None
    assert "other content" in str(integrity.damaged(site, contents=True))


def test_what_was_taken_out_on_purpose_is_not_missed(site: Path) -> None:
    (site / "pkg/data/b.py").unlink()
    assert integrity.damaged(site, contents=True, without=["pkg/data"]) is None
    assert integrity.damaged(site, contents=True) is not None
