"""Bundles of stand-ins: the archive, its parts, and what was changed on the way."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import bundle_support
import pytest
from bundle_support import CELL, StandIn, result_of, run

from mcore_compat.base import files
from mcore_compat.base.errors import InfrastructureError, UsageError
from mcore_compat.offline import archive, contents
from mcore_compat.offline.node import run_script
from mcore_compat.offline.node.run_script import SUMS, SUMS_DIGEST, TOP


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> StandIn:
    return bundle_support.stand_in(tmp_path_factory.mktemp("repository"))


@pytest.fixture
def bundle(made: StandIn, tmp_path: Path) -> Path:
    return made.laid_out(tmp_path / "bundle")


# The archive


def test_the_same_input_makes_the_same_bytes(made: StandIn, tmp_path: Path) -> None:
    first = archive.save(made.bundle_files(), tmp_path / "a.tar")
    os.utime(made.workspace.suite / "check_it.py", (1, 1))
    second = archive.save(list(reversed(made.bundle_files())), tmp_path / "b.tar")
    assert first.manifest == second.manifest
    assert first.files[0].read_bytes() == second.files[0].read_bytes()
    with tarfile.open(tmp_path / "a.tar") as source:
        members = source.getmembers()
    assert {(m.uid, m.gid, m.uname, m.mtime) for m in members} == {(0, 0, "", archive.MOMENT)}


def test_parts_are_the_archive_cut_up(made: StandIn, tmp_path: Path) -> None:
    one = archive.save(made.bundle_files(), tmp_path / "a.tar")
    many = archive.save(made.bundle_files(), tmp_path / "parts" / "a.tar", 50_000)
    parts = [p for p in many.files if p.suffix[1:].isdigit()]
    assert len(parts) > 2
    assert {p.stat().st_size for p in parts[:-1]} == {50_000}
    assert b"".join(p.read_bytes() for p in parts) == one.files[0].read_bytes()
    assert one.manifest == many.manifest


def test_an_earlier_bundle_of_that_name_leaves_no_part(made: StandIn, tmp_path: Path) -> None:
    archive.save(made.bundle_files(), tmp_path / "a.tar", 20_000)
    archive.save(made.bundle_files(), tmp_path / "a.tar", 90_000)
    listed = run_script.sums(tmp_path / "a.tar.sha256")
    assert {p.name for p in tmp_path.iterdir()} == {*listed, "a.tar.sha256", "a.tar.manifest"}


def test_what_only_begins_as_a_part_is_not_removed(made: StandIn, tmp_path: Path) -> None:
    for name in ("a.tar.2024-notes.txt", "a.tar.12", "aXtar.001"):
        (tmp_path / name).write_text("the user's")
    archive.save(made.bundle_files(), tmp_path / "a.tar", 90_000)
    for name in ("a.tar.2024-notes.txt", "a.tar.12", "aXtar.001"):
        assert (tmp_path / name).read_text() == "the user's"


def test_a_script_of_the_users_is_not_replaced(made: StandIn, tmp_path: Path) -> None:
    (tmp_path / "run.py").write_text("the user's")
    for earlier in (False, True):  # a list of parts alone does not make it the bundle's
        if earlier:
            (tmp_path / "a.tar.sha256").write_text(f"{'0' * 64}  run.py\n")
        with pytest.raises(
            UsageError, match=r"run\.py does not belong to a bundle; name another folder"
        ):
            archive.save(made.bundle_files(), tmp_path / "a.tar", 90_000)
        assert (tmp_path / "run.py").read_text() == "the user's"
    archive.save(made.bundle_files(), tmp_path / "b.tar")
    assert (tmp_path / "run.py").read_text() == "the user's"


def test_the_script_of_an_earlier_bundle_is_replaced(made: StandIn, tmp_path: Path) -> None:
    (tmp_path / "run.py").write_text("an earlier release's")
    digest = files.sha256_file(tmp_path / "run.py")
    (tmp_path / "a.tar.sha256").write_text(f"{digest}  run.py\n")
    archive.save(made.bundle_files(), tmp_path / "a.tar", 90_000)
    assert (tmp_path / "run.py").read_bytes() == archive.RUN_SCRIPT.read_bytes()


def test_a_bundle_is_whole_or_not_there(made: StandIn, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_text("an earlier one")
    path = next(iter(made.downloads.values()))
    wrong = archive.BundleFile(name="wheels/z.whl", source=path, sha256="0" * 64)
    with pytest.raises(InfrastructureError, match=f"{path.name} changed since it was downloaded"):
        archive.save([*made.bundle_files(), wrong], tmp_path / "a.tar")
    assert [p.name for p in tmp_path.iterdir()] == ["a.tar"]
    assert (tmp_path / "a.tar").read_text() == "an earlier one"


def test_a_damaged_download_is_removed_and_nothing_of_the_users(
    made: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for home, there in ((tmp_path / "home", False), (tmp_path / "elsewhere", True)):
        monkeypatch.setenv("MCORE_COMPAT_HOME", str(home))
        path = tmp_path / "home" / "a.whl"
        path.parent.mkdir(exist_ok=True)
        path.write_text("cut")
        wrong = archive.BundleFile(name="wheels/a.whl", source=path, sha256="0" * 64)
        with pytest.raises(InfrastructureError, match="run it again" if not there else "remove it"):
            archive.save([*made.bundle_files(), wrong], tmp_path / "a.tar")
        assert path.exists() == there


def test_what_cells_share_is_there_once(made: StandIn) -> None:
    other = bundle_support.replace(CELL, name="compat-0.16-modelopt0.42")
    packed = [made.packed(), made.packed(cell=other)]
    names = [e.name for e in contents.bundle_files(packed, made.tools, made.workspace)]
    assert len(names) == len(set(names))
    assert sum("torch-2.9.1" in name for name in names if name.startswith("wheels/")) == 1
    assert {f"cells/{CELL.name}.json", f"cells/{other.name}.json"} <= set(names)


# What is left out


def test_patterns_never_take_what_the_cell_is_about(made: StandIn) -> None:
    torch = frozenset({"torch", "triton", "nvidia-cublas-cu12"})
    found = contents.left_out(made.lock, ["nvidia-*"], torch)
    assert found == {"nvidia-cublas-cu12"}
    assert contents.left_out(made.lock, ["nvidia-ml-py"], torch) == {"nvidia-ml-py"}
    assert contents.left_out(made.lock, ["torch"], torch) == torch
    with pytest.raises(UsageError, match="nvidia-modelopt is a package that"):
        contents.left_out(made.lock, ["nvidia-modelopt"], torch)
    with pytest.raises(UsageError, match='has no "nvida-ml"; did you mean "nvidia-ml-py"'):
        contents.left_out(made.lock, ["nvida-ml"], torch)


# What was changed on the way

PLANTED = Path("wheels") / "numpy-2.4.4-py3-none-any.whl"


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.unlink()  # it may be linked to where it was downloaded
    path.write_bytes(data)


@pytest.mark.parametrize(
    "name",
    [
        "run.py",
        "suite/check_it.py",
        "mcore_compat/offline/node/cell_run.py",
        str(PLANTED),
        f"cells/{CELL.name}.json",
        f"constraints/locks/{CELL.name}.txt",
        SUMS,
        SUMS_DIGEST,
    ],
)
def test_one_flipped_byte_is_refused_with_its_name(bundle: Path, name: str) -> None:
    if name == "run.py":  # one that still runs
        (bundle / name).write_text((bundle / name).read_text() + " ")
    else:
        flip(bundle / name)
    done = run(bundle)
    assert done.returncode == 2
    assert (SUMS if name == SUMS_DIGEST else name) in done.stderr.splitlines()[-1]
    assert len(done.stderr.strip().splitlines()) == 2, "what it does, and the one line"
    assert not [p for p in ("logs", "work", "results") if (bundle / p).exists()]


@pytest.mark.parametrize("name", ["suite/check_more.py", "argparse.py", "wheels/torch-9.whl"])
def test_what_is_not_of_the_bundle_is_refused(bundle: Path, name: str) -> None:
    (bundle / name).write_text("raise SystemExit('this was run')")
    done = run(bundle)
    assert done.returncode == 2
    assert f"{name} does not belong to this bundle" in done.stderr


def test_nothing_planted_runs_where_the_bundle_is_reached_by_a_link(
    bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(bundle)
    mark = tmp_path / "it was run"
    (bundle / "hashlib.py").write_text(f"open({str(mark)!r}, 'w')\nfrom _hashlib import *\n")
    for variables in ({}, {"PYTHONPATH": str(tmp_path / "link")}):
        done = subprocess.run(
            [sys.executable, tmp_path / "link" / "run.py"],
            cwd="/",
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        assert not mark.exists()
        assert done.returncode == 2
        assert "hashlib.py does not belong to this bundle" in done.stderr


def test_what_a_scheduler_writes_may_lie_there(bundle: Path) -> None:
    (bundle / "slurm-7.out").write_text("a job's output")
    run_script.verify(bundle)
    (bundle / "suite" / "slurm-7.out").write_text("")
    with pytest.raises(
        run_script.RefusedError, match=r"suite/slurm-7\.out does not belong to this bundle"
    ):
        run_script.verify(bundle)


def test_a_missing_file_is_named(bundle: Path) -> None:
    (bundle / PLANTED).unlink()
    assert f"{PLANTED} is missing" in run(bundle).stderr


def test_compiled_python_is_not_taken_on_trust(bundle: Path) -> None:
    kept = bundle / "suite" / "__pycache__"
    kept.mkdir()
    (kept / "run.cpython-312.pyc").write_bytes(b"anything")
    run_script.verify(bundle)
    assert not kept.exists()


def test_another_bundle_than_the_one_that_is_meant(bundle: Path) -> None:
    done = run(bundle, "--manifest", "0" * 64)
    assert done.returncode == 2
    assert run_script.sha256(bundle / SUMS) in done.stderr


# Parts


@pytest.fixture
def parts(made: StandIn, tmp_path: Path) -> Path:
    archive.save(made.bundle_files(), tmp_path / "parts" / "a.tar", 50_000)
    return tmp_path / "parts"


def test_parts_are_read_as_they_lie(parts: Path) -> None:
    done = run(parts)
    assert done.returncode == 0, done.stderr
    assert result_of(parts)["cell"] == CELL.name
    again = run(parts)
    assert again.returncode == 0, again.stderr
    assert "unpacking" not in again.stderr


def test_a_missing_part_is_named(parts: Path) -> None:
    (parts / "a.tar.002").unlink()
    done = run(parts)
    assert done.returncode == 2
    assert "a.tar.002" in done.stderr.splitlines()[-1]
    assert not (parts / TOP).exists()


def test_a_changed_part_is_named(parts: Path) -> None:
    flip(parts / "a.tar.003")
    done = run(parts)
    assert done.returncode == 2
    assert "a.tar.003 was changed" in done.stderr
    assert not (parts / TOP).exists()


def test_more_than_a_thousand_parts_are_read_in_their_order(
    made: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive.os, "fsync", lambda handle: None)
    archive.save(made.bundle_files(), tmp_path / "a.tar", 150)
    assert (tmp_path / "a.tar.1000").exists()
    run_script.verify(run_script.unpack(tmp_path))


def test_an_archive_that_ends_early_is_refused(made: StandIn, tmp_path: Path) -> None:
    archive.save(made.bundle_files(), tmp_path / "whole.tar")
    with tarfile.open(tmp_path / "whole.tar") as source:
        end = source.getmembers()[3].offset
    data = (tmp_path / "whole.tar").read_bytes()[:end] + bytes(1024)
    (tmp_path / "a.tar.001").write_bytes(data)
    (tmp_path / "a.tar.sha256").write_text(f"{files.sha256_bytes(data)}  a.tar.001\n")
    with pytest.raises(
        run_script.RefusedError, match=r"the archive is truncated: it lacks run\.py"
    ):
        run_script.unpack(tmp_path)
    assert not (tmp_path / TOP).exists()


def test_runs_that_start_together_unpack_once(parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unpacked: list[Path] = []
    extract = run_script._extract

    def slowly(source: run_script.JoinedParts, into: Path) -> None:
        unpacked.append(into)
        time.sleep(0.3)
        extract(source, into)

    monkeypatch.setattr(run_script, "_extract", slowly)
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(run_script.unpack, [parts] * 3))
    assert found == [parts / TOP] * 3
    assert len(unpacked) == 1
    run_script.verify(parts / TOP)


def test_a_folder_without_a_bundle(tmp_path: Path) -> None:
    shutil.copyfile(archive.RUN_SCRIPT, tmp_path / "run.py")
    done = run(tmp_path)
    assert done.returncode == 2
    assert "no bundle in " in done.stderr
