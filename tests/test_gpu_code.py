"""GPU code of one architecture: containers as nvcc writes them, in a real ELF library."""

from __future__ import annotations

import base64
import hashlib
import shutil
import struct
import subprocess
import zipfile
from pathlib import Path

import pytest

from mcore_compat.base.errors import UsageError
from mcore_compat.offline import gpu_code

PTX, CODE = 1, 2
NAME = "transformer_engine/wheel_lib/libtransformer_engine.so"


def entry(kind: int, arch: int, code: bytes) -> bytes:
    """As nvcc writes one: a header of 64 bytes, then the code."""
    head = struct.pack("<HHIQ", kind, 0x101, 64, len(code)).ljust(28, b"\0")
    return (head + struct.pack("<I", arch)).ljust(64, b"\0") + code


def container(*entries: bytes) -> bytes:
    body = b"".join(entries)
    return struct.pack("<IHHQ", gpu_code.MAGIC, 1, 16, len(body)) + body


def library(folder: Path, *containers: bytes) -> bytearray:
    """A shared library with these, and something behind them."""
    assert shutil.which("cc"), "a C compiler is needed"
    values = ",".join(map(str, b"".join(containers) + bytes(8)))
    (folder / "a.c").write_text(
        '__attribute__((section(".nv_fatbin"), aligned(8), used)) '
        f"static const unsigned char code[] = {{{values}}};\nint after = 7;\n"
    )
    argv = ["cc", "-shared", "-fPIC", "-o", folder / "a.so", folder / "a.c"]
    subprocess.run(argv, check=True, timeout=60)
    return bytearray((folder / "a.so").read_bytes())


A, B, C = (letter * 40 for letter in (b"a", b"b", b"c"))
BOTH = container(entry(PTX, 80, C), entry(CODE, 80, A), entry(CODE, 90, B))
ONLY_PTX = container(entry(PTX, 75, C))


def told(data: bytearray) -> list[list[tuple[int, int]]]:
    return [[(c.kind, c.arch) for c in one.entries] for one in gpu_code.containers(data)]


def test_code_of_other_architectures_goes_and_all_else_stays(tmp_path: Path) -> None:
    data = library(tmp_path, BOTH, ONLY_PTX)
    before = bytes(data)
    assert told(data) == [[(PTX, 80), (CODE, 80), (CODE, 90)], [(PTX, 75)]]
    gpu_code.keep_only(data, 90)
    assert told(data) == [[(CODE, 90)], [(PTX, 75)]], "what has no code for it keeps its PTX"
    assert len(data) == len(before)
    assert B in data
    assert A not in data
    start = before.index(BOTH)
    assert data[:start] == before[:start]
    assert data[start + len(BOTH) :] == before[start + len(BOTH) :]


def test_an_architecture_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no code for sm_103; it has sm_80, sm_90"):
        gpu_code.keep_only(library(tmp_path, BOTH), 103)
    with pytest.raises(UsageError, match='"hopper" is not an architecture'):
        gpu_code.number("hopper")
    assert gpu_code.number("sm_90") == 90


def test_a_wheel_stays_one(tmp_path: Path) -> None:
    data = bytes(library(tmp_path, BOTH))
    wheel = tmp_path / "transformer_engine_cu13-2.11.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as out:
        out.writestr("x-1.dist-info/RECORD", f"{NAME},sha256=0,0\ny.py,,\nx-1.dist-info/RECORD,,\n")
        out.writestr(NAME, data)
        out.writestr("y.py", "Y = 1\n")
    made = [gpu_code.reduced(wheel, 90, tmp_path / name).read_bytes() for name in ("one", "two")]
    assert made[0] == made[1]
    with zipfile.ZipFile(tmp_path / "one" / wheel.name) as source:
        library_ = source.read(NAME)
        digest = base64.urlsafe_b64encode(hashlib.sha256(library_).digest()).rstrip(b"=").decode()
        rows = source.read("x-1.dist-info/RECORD").decode().splitlines()
        assert rows[:2] == [f"{NAME},sha256={digest},{len(data)}", "y.py,,"]
        assert source.read("y.py") == b"Y = 1\n"
    assert told(bytearray(library_)) == [[(CODE, 90)]]


def test_a_wheel_without_such_a_library_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as out:
        out.writestr("y.py", "Y = 1\n")
    with pytest.raises(UsageError, match="has no libtransformer_engine"):
        gpu_code.reduced(tmp_path / "a.whl", 90, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.whl"))
