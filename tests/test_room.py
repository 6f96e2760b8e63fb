"""Room on the machine: what a suite needs is asked before it runs, and what ran out is told."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support import ROOT

from mcore_compat.base.errors import InfrastructureError
from mcore_compat.run import room
from mcore_compat.run.room import GIB, MIB, Sampler


def disk(monkeypatch: pytest.MonkeyPatch, **fields: Any) -> None:
    """All disks are as these fields of `statvfs` say."""
    whole = {"f_flag": 0, "f_bavail": 1 << 30, "f_frsize": 4096, "f_blocks": 1 << 31}
    stat = SimpleNamespace(**{**whole, "f_files": 1 << 20, "f_favail": 1 << 19, **fields})
    monkeypatch.setattr(os, "statvfs", lambda _: stat)


def test_this_machine_has_room(tmp_path: Path) -> None:
    room.require([tmp_path, tmp_path / "not" / "there"])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"f_bavail": 100}, "0.4 MiB left"),
        ({"f_favail": 3}, "3 more files"),
        ({"f_flag": os.ST_RDONLY}, "cannot be written to"),
    ],
)
def test_a_disk_without_room_is_named(
    fields: dict[str, int], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk(monkeypatch, **fields)
    with pytest.raises(InfrastructureError, match=f"{tmp_path}.*{said}"):
        room.require([tmp_path])


def test_a_file_system_that_counts_nothing_is_no_full_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk(monkeypatch, f_blocks=0, f_bavail=0, f_files=0, f_favail=0)
    room.require([tmp_path])


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("RLIMIT_AS", 3 * GIB, "address space"),
        ("RLIMIT_DATA", GIB, "data segment"),
        ("RLIMIT_FSIZE", MIB, "size of a file"),
        ("RLIMIT_NOFILE", 64, "open files"),
        ("RLIMIT_CPU", 60, "processor time"),
    ],
)
def test_a_limit_that_is_too_low_is_named_and_one_that_may_be_raised_is(
    name: str, value: int, words: str, tmp_path: Path
) -> None:
    code = (
        "import resource, sys\nfrom pathlib import Path\nfrom mcore_compat.run import room\n"
        f"kind, hard = resource.{name}, int(sys.argv[1])\n"
        f"resource.setrlimit(kind, ({value}, hard))\nroom.require([Path(sys.argv[2])])"
    )
    for hard, wrong in ((resource.getrlimit(getattr(resource, name))[1], False), (value, True)):
        done = subprocess.run(
            [sys.executable, "-c", code, str(hard), str(tmp_path)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert bool(done.returncode) is wrong, done.stderr
        assert (words in done.stderr) is wrong


def test_memory_is_the_least_of_the_machine_and_the_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 9 kB\nMemAvailable: 4194304 kB\n")
    monkeypatch.setattr(room, "MEMINFO", meminfo)
    monkeypatch.setattr(room, "GROUP", tmp_path)
    assert room.memory_left() == 4 * GIB
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text(f"{GIB}\n")
    assert room.memory_left() == 4 * GIB
    (tmp_path / "memory.max").write_text(f"{2 * GIB}\n")
    (tmp_path / "memory.stat").write_text(f"anon 1\ninactive_file {MIB}\n")
    assert room.memory_left() == GIB + MIB
    with pytest.raises(InfrastructureError, match="memory are free"):
        room.require([])
    monkeypatch.setattr(room, "MEMINFO", tmp_path / "none")
    monkeypatch.setattr(room, "GROUP", tmp_path / "none")
    assert room.memory_left() is None


class TestSampler:
    def test_what_was_exhausted_meanwhile_is_told_at_the_end_of_the_check(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sampler = Sampler([tmp_path])
        assert sampler.short(late=False) is None
        with monkeypatch.context() as full:
            disk(full, f_bavail=0)
            sampler.look()
        assert "0.0 MiB left" in str(sampler.short(late=False))
        assert "0.0 MiB left" in str(sampler.short(late=False)), "of the check before, too"
        assert sampler.short(late=False) is None

    @pytest.mark.parametrize(
        ("passed", "wall", "said"),
        [(60.0, 60.0, "stood still for 60 s"), (1.0, 3600.0, "set by [+]3599 s"), (1.0, 1.2, None)],
    )
    def test_a_machine_that_stood_still_and_a_clock_that_was_set(
        self, passed: float, wall: float, said: str | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clocks = iter([room._Clocks(0, 0, 0), room._Clocks(passed, passed, wall)])
        monkeypatch.setattr(room._Clocks, "now", staticmethod(lambda: next(clocks)))
        sampler = Sampler([])
        sampler.look()
        assert sampler._seen == [], "no other failure comes from that"
        assert bool(sampler._delays) is bool(said)
        if said:
            assert re.search(said, sampler._delays[0])

    def test_a_machine_with_far_more_work_than_processors(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "getloadavg", lambda: (1e4, 0, 0))
        assert "processes competed" in str(Sampler([]).short(late=True))
        assert Sampler([]).short(late=False) is None

    def test_it_looks_by_itself(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(room, "PAUSE_S", 0.001)
        looked: list[int] = []
        sampler = Sampler([tmp_path])
        monkeypatch.setattr(sampler, "look", lambda: looked.append(1))
        with sampler.running():
            while len(looked) < 3:
                pass
        assert len(looked) >= 3
