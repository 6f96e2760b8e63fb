"""Bundles of stand-ins: made, carried, run by a real Python in real environments. What is tested
is that nothing gets lost or in between; no package under test is in them."""

from __future__ import annotations

import ensurepip
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import bundle_support
import pytest
from bundle_support import CELL, SERIES, StandIn, offline, run, wheel

from mcore_compat import files, runner
from mcore_compat.bundle import archive, carried, contents, node, start
from mcore_compat.bundle.start import SUMS, SUMS_DIGEST, TOP
from mcore_compat.errors import InfrastructureError, UsageError
from mcore_compat.parts.part import PARTS

EVIDENCE = Path("evidence") / CELL.name / "host.json"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> StandIn:
    return bundle_support.stand_in(tmp_path_factory.mktemp("repository"))


@pytest.fixture
def bundle(made: StandIn, tmp_path: Path) -> Path:
    return made.laid_out(tmp_path / "bundle")


def written(folder: Path) -> list[str]:
    """The files of evidence of the cell."""
    return sorted(path.name for path in (folder / EVIDENCE.parent).iterdir())


def evidence_of(folder: Path, name: Path = EVIDENCE) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / name).read_text())
    return found


def environments(folder: Path) -> list[Path]:
    """What runs have left behind, or are using."""
    return list((folder / "work").glob("*"))


# The archive


def test_the_same_input_makes_the_same_bytes(made: StandIn, tmp_path: Path) -> None:
    first = archive.save(made.entries(), tmp_path / "a.tar")
    os.utime(made.root / "suite" / "check_it.py", (1, 1))
    second = archive.save(list(reversed(made.entries())), tmp_path / "b.tar")
    assert first.manifest == second.manifest
    assert first.files[0].read_bytes() == second.files[0].read_bytes()
    with tarfile.open(tmp_path / "a.tar") as source:
        members = source.getmembers()
    assert {(m.uid, m.gid, m.uname, m.mtime) for m in members} == {(0, 0, "", archive.MOMENT)}


def test_parts_are_the_archive_cut_up(made: StandIn, tmp_path: Path) -> None:
    one = archive.save(made.entries(), tmp_path / "a.tar")
    many = archive.save(made.entries(), tmp_path / "parts" / "a.tar", 50_000)
    parts = [p for p in many.files if p.suffix[1:].isdigit()]
    assert len(parts) > 2
    assert {p.stat().st_size for p in parts[:-1]} == {50_000}
    assert b"".join(p.read_bytes() for p in parts) == one.files[0].read_bytes()
    assert one.manifest == many.manifest


def test_an_earlier_bundle_of_that_name_leaves_no_part(made: StandIn, tmp_path: Path) -> None:
    archive.save(made.entries(), tmp_path / "a.tar", 20_000)
    archive.save(made.entries(), tmp_path / "a.tar", 90_000)
    listed = start.sums(tmp_path / "a.tar.sha256")
    assert {p.name for p in tmp_path.iterdir()} == {*listed, "a.tar.sha256"}


def test_what_only_begins_as_a_part_is_not_removed(made: StandIn, tmp_path: Path) -> None:
    for name in ("a.tar.2024-notes.txt", "a.tar.12", "aXtar.001"):
        (tmp_path / name).write_text("the user's")
    archive.save(made.entries(), tmp_path / "a.tar", 90_000)
    for name in ("a.tar.2024-notes.txt", "a.tar.12", "aXtar.001"):
        assert (tmp_path / name).read_text() == "the user's"


def test_a_script_of_the_users_is_not_replaced(made: StandIn, tmp_path: Path) -> None:
    (tmp_path / "run.py").write_text("the user's")
    for earlier in (False, True):  # a list of parts alone does not make it the bundle's
        if earlier:
            (tmp_path / "a.tar.sha256").write_text(f"{'0' * 64}  run.py\n")
        with pytest.raises(UsageError, match=r"run\.py is of no bundle; name another folder"):
            archive.save(made.entries(), tmp_path / "a.tar", 90_000)
        assert (tmp_path / "run.py").read_text() == "the user's"
    archive.save(made.entries(), tmp_path / "b.tar")
    assert (tmp_path / "run.py").read_text() == "the user's"


def test_the_script_of_an_earlier_bundle_is_replaced(made: StandIn, tmp_path: Path) -> None:
    (tmp_path / "run.py").write_text("an earlier release's")
    digest = files.sha256_file(tmp_path / "run.py")
    (tmp_path / "a.tar.sha256").write_text(f"{digest}  run.py\n")
    archive.save(made.entries(), tmp_path / "a.tar", 90_000)
    assert (tmp_path / "run.py").read_bytes() == archive.START.read_bytes()


def test_a_bundle_is_whole_or_not_there(made: StandIn, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_text("an earlier one")
    path = next(iter(made.downloads.values()))
    wrong = archive.Entry(name="wheels/z.whl", source=path, sha256="0" * 64)
    with pytest.raises(InfrastructureError, match=f"{path.name} is not what was downloaded"):
        archive.save([*made.entries(), wrong], tmp_path / "a.tar")
    assert [p.name for p in tmp_path.iterdir()] == ["a.tar"]
    assert (tmp_path / "a.tar").read_text() == "an earlier one"


def test_what_cells_share_is_there_once(made: StandIn) -> None:
    other = bundle_support.replace(CELL, name="compat-0.16-modelopt0.42")
    packed = [made.packed(), made.packed(cell=other)]
    names = [e.name for e in contents.entries(packed, made.tools, made.root)]
    assert len(names) == len(set(names))
    assert sum("torch-2.9.1" in name for name in names if name.startswith("wheels/")) == 1
    assert {f"cells/{CELL.name}.json", f"cells/{other.name}.json"} <= set(names)


# What is left out


def test_patterns_never_take_what_the_cell_is_about(made: StandIn) -> None:
    torch = frozenset({"torch", "triton", "nvidia-cublas-cu12"})
    found = contents.chosen(made.lock, ["nvidia-*"], torch)
    assert found == {"nvidia-cublas-cu12"}
    assert contents.chosen(made.lock, ["nvidia-ml-py"], torch) == {"nvidia-ml-py"}
    assert contents.chosen(made.lock, ["torch"], torch) == torch
    with pytest.raises(UsageError, match="nvidia-modelopt is what"):
        contents.chosen(made.lock, ["nvidia-modelopt"], torch)
    with pytest.raises(UsageError, match='has no "nvida-ml"; did you mean "nvidia-ml-py"'):
        contents.chosen(made.lock, ["nvida-ml"], torch)


# Run there


def test_it_runs_without_a_network_and_writes_evidence(made: StandIn, bundle: Path) -> None:
    if not offline():
        pytest.skip("this machine makes no network namespace for a test")
    done = run(bundle)
    assert done.returncode == 0, done.stderr
    found = evidence_of(bundle)
    assert found["lock"] == made.lock.digest
    assert found["suite"] == files.sha256_tree(made.root / "suite", deep=False)
    assert found["wheels"] == {one.path.name: one.sha256 for one in made.local}
    assert found["base"] is None
    assert found["part"] is None
    events = found["events"]
    assert isinstance(events, list)
    assert [e["event"] for e in events] == ["start", "check", "check", "end"]
    wanted = {pin.name: pin.version for pin in (*made.lock.pins, *made.lock.source_only)}
    assert events[0]["installed"] == wanted
    assert not environments(bundle), "the environment is removed"
    assert "works 2" in done.stdout
    assert not list(carried.problems(found))


def test_pip_of_the_bundle_does_it_as_well(bundle: Path, made: StandIn, tmp_path: Path) -> None:
    bundled = sorted((Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl"))
    if not bundled:
        pytest.skip("this Python comes without the wheel of pip that the test takes")
    tools = {**made.tools, files.sha256_file(bundled[0]): bundled[0]}
    archive.lay_out(contents.entries([made.packed()], tools, made.root), tmp_path / "with-pip")
    done = run(tmp_path / "with-pip", "--installer", "pip", PIP_INDEX_URL="http://index.invalid")
    assert done.returncode == 0, done.stderr
    assert run(bundle, "--installer", "uv").returncode == 0
    both = [evidence_of(folder)["events"] for folder in (bundle, tmp_path / "with-pip")]
    assert [e["installed"] for e in (both[0][0], both[1][0])] == [both[0][0]["installed"]] * 2  # type: ignore[index]


def test_a_machine_without_a_loopback_is_refused(bundle: Path) -> None:
    if not offline():
        pytest.skip("this machine makes no network namespace for a test")
    argv = ["unshare", "-rn", sys.executable, "run.py"]
    done = subprocess.run(argv, cwd=bundle, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "no loopback interface" in done.stderr


def test_an_old_python_starts_it(bundle: Path) -> None:
    old = next((p for p in Path.home().glob(".pyenv/versions/3.10.*/bin/python")), None)
    old = old or (Path(found) if (found := shutil.which("python3.10")) else None)
    if old is None:
        pytest.skip("there is no Python 3.10 on this machine")
    done = run(bundle, "--python", sys.executable, python=old)
    assert done.returncode == 0, done.stderr
    assert evidence_of(bundle)["cell"] == CELL.name


def test_only_some_checks_are_no_evidence(bundle: Path) -> None:
    done = run(bundle, "--only", "import-torch")
    assert done.returncode == 0, done.stderr
    assert "works 1" in done.stdout
    assert not (bundle / "evidence").exists()


def test_both_sides_have_the_same_parts_of_the_suite() -> None:
    assert tuple(PARTS) == node.PARTS
    schema = json.loads(carried.SCHEMA.read_text())["properties"]["part"]["anyOf"][1]
    assert schema["properties"]["name"]["enum"] == list(PARTS)


def test_a_part_of_the_suite_is_run_in_its_place(bundle: Path, made: StandIn) -> None:
    done = run(bundle, "--gpu")
    assert done.returncode == 0, done.stderr
    assert f"{CELL.name}.gpu (host): works 2" in done.stdout
    assert written(bundle) == ["gpu.host.json"]
    found = evidence_of(bundle, EVIDENCE.with_name("gpu.host.json"))
    assert not list(carried.problems(found))
    suite = files.sha256_tree(made.root / "suite", deep=False)
    assert found["suite"] == suite
    digest = runner.digest(suite, made.root / "suite" / "gpu")
    assert found["part"] == {"name": "gpu", "digest": digest}
    assert [e.get("check") for e in found["events"]][1] == "gpu-megatron_core"  # type: ignore[attr-defined]


def test_with_a_gpu_a_whole_run_has_all_parts(bundle: Path) -> None:
    done = run(bundle, "--only", "import-torch", STAND_IN_DEVICE="gpu")
    assert done.returncode == 0, done.stderr
    assert not (bundle / "evidence").exists()
    done = run(bundle, STAND_IN_DEVICE="gpu")
    assert done.returncode == 0, done.stderr
    assert written(bundle) == ["gpu.gpu.json", "gpu.json", "ranks.gpu.json"]


def test_two_cells_of_a_bundle_run_at_the_same_time(made: StandIn, tmp_path: Path) -> None:
    other = bundle_support.replace(CELL, name="compat-0.16-modelopt0.42")
    packed = [made.packed(), made.packed(cell=other)]
    bundle = tmp_path / "bundle"
    archive.lay_out(contents.entries(packed, made.tools, made.root), bundle)
    with hanging(bundle, tmp_path / "pid", "--cell", CELL.name):
        used = environments(bundle)
        done = run(bundle, "--cell", other.name)
        assert done.returncode == 0, done.stderr
        assert environments(bundle) == used == [bundle / "work" / CELL.name]
        refused = run(bundle, "--cell", CELL.name)
        assert refused.returncode == 3
        last = refused.stderr.splitlines()[-1]
        assert f"{CELL.name} is being run by another process in {bundle}" in last
        assert environments(bundle) == used
        assert (used[0] / "environment" / "bin" / "python").exists()


def test_a_kept_environment_is_taken_again(bundle: Path) -> None:
    assert "creating the environment" in run(bundle, "--keep").stderr
    again = run(bundle, "--keep")
    assert again.returncode == 0, again.stderr
    assert "creating the environment" not in again.stderr
    site = next((bundle / "work" / CELL.name).glob("environment/lib/python3*/site-packages"))
    shutil.rmtree(next(site.glob("numpy-*.dist-info")))
    assert "creating the environment" in run(bundle).stderr


@pytest.mark.parametrize("words", [["--cell", "compat-0.9-modelopt0.21"], ["--limit", "0"]])
def test_what_is_wrong_is_said_in_one_line(bundle: Path, words: list[str]) -> None:
    done = run(bundle, *words)
    assert done.returncode == 2
    assert words[0].strip("-") in done.stderr.splitlines()[-1]
    assert not (bundle / "evidence").exists()


def test_a_suite_that_ends_early_is_no_evidence(bundle: Path) -> None:
    done = run(bundle, STAND_IN_ENDS_EARLY="1")
    assert done.returncode == 3
    assert "ended early" in done.stderr
    assert not (bundle / "evidence").exists()


def alive(pid: int) -> bool:
    try:
        return (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]) != "Z"
    except OSError:
        return False


def test_a_suite_past_its_limit_is_killed(bundle: Path, tmp_path: Path) -> None:
    done = run(bundle, "--suite-limit", "2", STAND_IN_HANGS=str(tmp_path / "pid"))
    assert done.returncode == 3
    assert "passed its limit of 2 s" in done.stderr
    assert not alive(int((tmp_path / "pid").read_text()))
    assert not environments(bundle)


@contextmanager
def hanging(bundle: Path, pid: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A run whose suite hangs, from then on; it is ended with the block."""
    path = f"{bundle_support.pipeline.find_uv().parent}{os.pathsep}{os.environ['PATH']}"
    with subprocess.Popen(
        [sys.executable, "run.py", *words],
        cwd=bundle,
        env={**os.environ, "PATH": path, "STAND_IN_HANGS": str(pid)},
        stderr=subprocess.PIPE,
    ) as started:
        try:
            deadline = time.monotonic() + 60
            while not pid.exists() and time.monotonic() < deadline:
                time.sleep(0.1)
            yield started
        finally:
            if started.poll() is None:
                started.send_signal(signal.SIGTERM)
                started.communicate(timeout=30)


def test_an_interruption_ends_everything(bundle: Path, tmp_path: Path) -> None:
    with hanging(bundle, tmp_path / "pid") as started:
        started.send_signal(signal.SIGTERM)
        assert started.communicate(timeout=30)[1].endswith(b"run.py: interrupted\n")
    assert started.returncode == 130
    assert not alive(int((tmp_path / "pid").read_text()))
    assert not environments(bundle)


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
        "mcore_compat/bundle/node.py",
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
    assert not [p for p in ("logs", "work", "evidence") if (bundle / p).exists()]


@pytest.mark.parametrize("name", ["suite/check_more.py", "argparse.py", "wheels/torch-9.whl"])
def test_what_is_not_of_the_bundle_is_refused(bundle: Path, name: str) -> None:
    (bundle / name).write_text("raise SystemExit('this was run')")
    done = run(bundle)
    assert done.returncode == 2
    assert f"{name} is not of this bundle" in done.stderr


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
        assert "hashlib.py is not of this bundle" in done.stderr


def test_what_a_scheduler_writes_may_lie_there(bundle: Path) -> None:
    (bundle / "slurm-7.out").write_text("a job's output")
    start.verify(bundle)
    (bundle / "suite" / "slurm-7.out").write_text("")
    with pytest.raises(start.RefusedError, match=r"suite/slurm-7\.out is not of this bundle"):
        start.verify(bundle)


def test_a_missing_file_is_named(bundle: Path) -> None:
    (bundle / PLANTED).unlink()
    assert f"{PLANTED} is missing" in run(bundle).stderr


def test_compiled_python_is_not_taken_on_trust(bundle: Path) -> None:
    kept = bundle / "suite" / "__pycache__"
    kept.mkdir()
    (kept / "run.cpython-312.pyc").write_bytes(b"anything")
    start.verify(bundle)
    assert not kept.exists()


def test_another_bundle_than_the_one_that_is_meant(bundle: Path) -> None:
    done = run(bundle, "--manifest", "0" * 64)
    assert done.returncode == 2
    assert start.sha256(bundle / SUMS) in done.stderr


# Parts


@pytest.fixture
def parts(made: StandIn, tmp_path: Path) -> Path:
    archive.save(made.entries(), tmp_path / "parts" / "a.tar", 50_000)
    return tmp_path / "parts"


def test_parts_are_read_as_they_lie(parts: Path) -> None:
    done = run(parts)
    assert done.returncode == 0, done.stderr
    assert evidence_of(parts)["cell"] == CELL.name
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
    archive.save(made.entries(), tmp_path / "a.tar", 150)
    assert (tmp_path / "a.tar.1000").exists()
    start.verify(start.unpack(tmp_path))


def test_an_archive_that_ends_early_is_refused(made: StandIn, tmp_path: Path) -> None:
    archive.save(made.entries(), tmp_path / "whole.tar")
    with tarfile.open(tmp_path / "whole.tar") as source:
        end = source.getmembers()[3].offset
    data = (tmp_path / "whole.tar").read_bytes()[:end] + bytes(1024)
    (tmp_path / "a.tar.001").write_bytes(data)
    (tmp_path / "a.tar.sha256").write_text(f"{files.sha256_bytes(data)}  a.tar.001\n")
    with pytest.raises(start.RefusedError, match=r"the archive ends early, without run\.py"):
        start.unpack(tmp_path)
    assert not (tmp_path / TOP).exists()


def test_runs_that_start_together_unpack_once(parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unpacked: list[Path] = []
    extract = start._extract

    def slowly(source: start.Joined, into: Path) -> None:
        unpacked.append(into)
        time.sleep(0.3)
        extract(source, into)

    monkeypatch.setattr(start, "_extract", slowly)
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(start.unpack, [parts] * 3))
    assert found == [parts / TOP] * 3
    assert len(unpacked) == 1
    start.verify(parts / TOP)


def test_a_folder_without_a_bundle(tmp_path: Path) -> None:
    shutil.copyfile(archive.START, tmp_path / "run.py")
    done = run(tmp_path)
    assert done.returncode == 2
    assert "no bundle lies here" in done.stderr


# Over what is there


def base_python(folder: Path, *wheels: Path) -> Path:
    """A Python that has packages of its own; stands in for a vendor's container."""
    uv = bundle_support.pipeline.find_uv()
    subprocess.run([uv, "venv", "-q", "-p", sys.executable, folder], check=True)
    python = folder / "bin" / "python"
    subprocess.run(
        [uv, "pip", "install", "-q", "--no-deps", "--no-index", "-p", python, *wheels], check=True
    )
    return python


def contents_of(folder: Path) -> dict[str, tuple[int, str]]:
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, files.sha256_file(path))
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_over_the_torch_that_is_there(made: StandIn, tmp_path: Path) -> None:
    python = base_python(
        tmp_path / "base",
        wheel(tmp_path, "torch", "2.8.0a0+5228986c39.nv25.6"),
        wheel(tmp_path, "transformer-engine", "2.4.0+3cd6870"),
        wheel(tmp_path, "numpy", "1.26.4"),
        wheel(tmp_path, "filelock", "3.18.0"),
        wheel(tmp_path, "nvidia-ml-py", "13.5"),
        wheel(tmp_path, "megatron-core", "0.13.0"),
    )
    before = contents_of(tmp_path / "base")
    bundle = made.laid_out(tmp_path / "bundle", ["torch", "nvidia-*"])
    assert not list(bundle.glob("wheels/torch-*"))
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    done = run(bundle, "--base", "current", python=python, TMPDIR=str(temporary))
    assert done.returncode == 0, done.stderr
    found = evidence_of(bundle, EVIDENCE.with_name("host-base.json"))
    # numpy 1.26 is there, and ModelOpt does not admit it; the rest stays.
    short = "2.8.0a0+5228986c39.nv25.6"
    assert not list(carried.problems(found))
    assert found["base"] == {
        "installed": ["megatron-core", "numpy", "nvidia-modelopt"],
        "unmet": [
            f"megatron-core {CELL.mcore} requires torch>=2.9, {short} is there",
            f"mamba-ssm was compiled for torch {CELL.torch}, this Python has {short}",
        ],
        "without": ["torch", "nvidia-*"],
    }
    start_, *checks, _ = found["events"]  # type: ignore[misc]
    there = start_["installed"]
    assert there["torch"] == "2.8.0a0+5228986c39.nv25.6"
    assert there["transformer-engine"] == "2.4.0+3cd6870"
    assert (there["megatron-core"], there["numpy"]) == (CELL.mcore, "2.4.4")
    assert {c["details"]["version"] for c in checks} == {CELL.mcore, "2.8.0a0+5228986c39.nv25.6"}
    assert contents_of(tmp_path / "base") == before, "nothing is changed there"
    assert not list(temporary.iterdir()), "the environment is removed"


def test_over_a_base_parts_of_the_suite_tell_so_as_well(made: StandIn, tmp_path: Path) -> None:
    python = base_python(
        tmp_path / "base",
        *(wheel(tmp_path, name, "2.8.0a0") for name in ("torch", "transformer-engine")),
    )
    bundle = made.laid_out(tmp_path / "bundle", ["torch", "nvidia-*", "mamba-ssm"])
    done = run(bundle, "--base", "current", "--ranks", python=python)
    assert done.returncode == 0, done.stderr
    assert written(bundle) == ["ranks.host-base.json"]
    found = evidence_of(bundle, EVIDENCE.with_name("ranks.host-base.json"))
    assert not list(carried.problems(found))
    assert isinstance(found["base"], dict)
    assert "mamba-ssm was left out, and this Python has none" in found["base"]["unmet"]


def test_a_bundle_without_torch_needs_one(made: StandIn, tmp_path: Path) -> None:
    bundle = made.laid_out(tmp_path / "bundle", ["torch"])
    python = base_python(tmp_path / "base", wheel(tmp_path, "numpy", "2.4.4"))
    done = run(bundle, python=python)
    assert done.returncode == 2
    assert "this Python has no torch" in done.stderr.splitlines()[-1]


def test_what_was_compiled_for_another_torch_is_refused(made: StandIn, tmp_path: Path) -> None:
    bundle = made.laid_out(tmp_path / "bundle", ["torch"])
    python = base_python(tmp_path / "base", wheel(tmp_path, "torch", "2.8.0"))
    done = run(bundle, python=python)
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert "transformer-engine-torch of this bundle was compiled for torch 2.9.1" in last
    assert "this Python has 2.8.0" in last


def test_another_python_cannot_be_the_base(made: StandIn, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    made.laid_out(folder, ["torch"])
    path = folder / "cells" / f"{CELL.name}.json"
    text = path.read_text().replace(f'"python": "{SERIES}"', '"python": "3.9"')
    entries = [e for e in made.entries(["torch"]) if not e.name.startswith("cells/")]
    shutil.rmtree(folder)
    entry = archive.Entry(name=f"cells/{CELL.name}.json", source=text.encode())
    archive.lay_out([*entries, entry], folder)
    done = run(folder)
    assert done.returncode == 2
    assert f"with -py{SERIES} in its name" in done.stderr
