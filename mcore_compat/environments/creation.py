"""Stage lock + wheelhouse → environment: exactly the lock's packages, else made again."""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock
from packaging.version import Version

from mcore_compat.base import exhaustion, files
from mcore_compat.base.errors import InfrastructureError, InterpreterError, WrongFileError
from mcore_compat.base.processes import Runner, undisturbed
from mcore_compat.base.progress import Heartbeat
from mcore_compat.core.cells import Cell
from mcore_compat.environments import bytecode, integrity, interpreters, process_variables
from mcore_compat.environments.build_log import last_line
from mcore_compat.environments.wheelhouse import Wheel
from mcore_compat.resolve import locks
from mcore_compat.resolve.locks import Lock

INSTALL_LIMIT_S = 1800.0

UNUSED = ("onnx/backend/test/data",)
"""Test data of other packages that is removed: its 3,600 folders of 4 KiB each cannot be
hard-linked as files can."""

_WRONG = re.compile(r"Hash mismatch for `([^`]+)`")
_DAMAGED = re.compile(r"Failed to install: \S+ \(([A-Za-z0-9._-]+)==")


@dataclass(frozen=True, kw_only=True)
class Environment:
    """A cell's environment; `variables` is the whole environment of its processes."""

    python: Path
    site: Path
    variables: Mapping[str, str]
    reused: bool


def environments() -> Path:
    """The folder of the cells' environments."""
    return files.home() / "envs"


def installed(site: Path) -> dict[str, str]:
    """Name and version of every distribution in a site-packages, from its folder names alone.

    A distribution that is present twice, after an interrupted upgrade, gets two names.
    """
    versions: dict[str, str] = {}
    for info in sorted(site.glob("*.dist-info")):
        name, _, version = info.name.removesuffix(".dist-info").rpartition("-")
        plain = re.sub(r"[-_.]+", "-", name).lower()
        versions[f"{plain} (once more)" if plain in versions else plain] = version
    return versions


def wanted(lock: Lock) -> dict[str, str]:
    """Name and version of every package that a cell's environment must have."""
    return {re.sub(r"[-_.]+", "-", pin.name): pin.version for pin in lock.all_pins}


def _is_exact(site: Path, lock: Lock) -> bool:
    """Whether an environment has exactly the lock's packages; folder names have normalized versions
    (`1.5.0.post8`)."""
    present, pins = installed(site), wanted(lock)
    return present.keys() == pins.keys() and all(
        Version(present[name].replace("_", "+")) == Version(pins[name]) for name in pins
    )


def _runs(folder: Path, python: Path, series: str) -> bool:
    """Whether a folder is an environment as uv makes it, for this Python and series."""
    settings = (folder / "pyvenv.cfg").read_text(encoding="utf-8")
    there = re.search(r"^version_info = (\d+\.\d+)", settings, re.MULTILINE)
    linked = os.path.realpath(folder / "bin" / "python") == os.path.realpath(python)
    return there is not None and there[1] == series and linked


def ensure(
    cell: Cell,
    lock: Lock,
    wheels: Sequence[Wheel],
    *,
    python: Path,
    uv: Path,
    run: Runner,
    say: Callable[[str], None],
    in_place: bool = False,
) -> Environment:
    """The environment of a cell; an existing one is reused only if it is exactly right.
    `in_place`: change an environment with other pins, which takes seconds.

    Raises:
        WrongFileError: the index has another file than the lock names.
        InfrastructureError: network or disk; an incomplete environment is never reused.
    """
    assert {wheel.key.package for wheel in wheels} == {pin.name for pin in lock.source_only}
    folder = environments() / cell.name
    mark = folder.with_name(f"{cell.name}.json")
    with files.disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    identity = {
        "lock": lock.digest,
        "python": os.path.realpath(python),
        "wheels": {w.path.name: w.sha256 for w in wheels},
    }
    with FileLock(folder.with_name(f"{cell.name}.lock")):
        try:
            before = json.loads(mark.read_text())
            runs = _runs(folder, python, cell.python)
            if in_place and runs and before == {**identity, "lock": before["lock"]}:
                mark.unlink()
                _change(folder, lock, uv, run)
                before = identity
                files.write_text(mark, files.dump_json(identity), durable=False)
            reused = before == identity and runs and _is_exact(_site(folder), lock)
        except (OSError, ValueError, KeyError, TypeError, StopIteration):
            reused = False
        damage = reused and integrity.damaged(_site(folder), contents=False, without=UNUSED)
        if damage:
            say(f"{damage}: creating the environment of {cell.name} again")
            reused = False
            _forget(damage, uv, run)
        if not reused:
            say(f"creating the environment of {cell.name}: {len(lock.pins)} packages")
            mark.unlink(missing_ok=True)
            with Heartbeat(say, f"installing {cell.name}"):
                _create(folder, lock, wheels, python, uv, run)
            if not _is_exact(_site(folder), lock):
                raise InfrastructureError(f"the environment {cell.name} differs from its lock")
            damage = integrity.damaged(_site(folder), contents=False, without=UNUSED)
            if damage:
                _forget(damage, uv, run)
                raise InfrastructureError(
                    f"{damage}, in the new environment of {cell.name}; run it again"
                )
            # In the background: Python itself compiles what is not linked yet.
            threading.Thread(target=bytecode.link, args=(_site(folder),)).start()
            files.write_text(mark, files.dump_json(identity), durable=False)
    site = _site(folder)
    return Environment(
        python=folder / "bin" / "python",
        site=site,
        variables=process_variables.variables(site, process_variables.driver_stub(site, run)),
        reused=reused,
    )


def require_intact(environment: Path, uv: Path, run: Runner) -> None:
    """Compare every file of a cell's environment with the installed wheels, which takes half a
    minute. If one differs, the next run makes the environment again.

    Raises:
        InfrastructureError: a file differs; names it.
    """
    damage = integrity.damaged(_site(environment), contents=True, without=UNUSED)
    if damage:
        environment.with_name(f"{environment.name}.json").unlink(missing_ok=True)
        _forget(damage, uv, run)
        raise InfrastructureError(
            f"{damage}, in the environment of {environment.name}; run it again to recreate it"
        )


def _forget(damage: integrity.Damage, uv: Path, run: Runner) -> None:
    """Have uv download a package again: its cache has the same damaged files."""
    run([uv, "cache", "clean", "--quiet", damage.package], timeout=INSTALL_LIMIT_S)


def _site(folder: Path) -> Path:
    return next((folder / "lib").glob("python3*/site-packages"))


def _change(folder: Path, lock: Lock, uv: Path, run: Runner) -> None:
    """Change an environment to a lock: install missing packages, remove others.

    Raises:
        InfrastructureError: network or disk.
    """
    present, pins = installed(_site(folder)), wanted(lock)
    other = [
        pin for pin in lock.pins if present.get(re.sub(r"[-_.]+", "-", pin.name)) != pin.version
    ]
    python, pinned = folder / "bin" / "python", folder.with_name(f"{folder.name}.txt")
    files.write_text(pinned, locks.binary_part(replace(lock, pins=tuple(other))), durable=False)
    gone = sorted(present.keys() - pins.keys())
    steps: list[list[str | Path]] = []
    if gone:
        steps.append([uv, "pip", "uninstall", "--no-config", "--quiet", "-p", python, *gone])
    if other:
        install: list[str | Path] = [uv, "pip", "install", "--no-config", "--quiet", "--no-deps"]
        install += ["--link-mode", "hardlink", "-p", python, "--require-hashes", "-r", pinned]
        steps.append(install)
    for argv in steps:
        completed = run(argv, timeout=INSTALL_LIMIT_S)
        if not completed.ok:
            raise InfrastructureError(f"changing {folder.name} failed: {last_line(completed)}")
    pinned.unlink()


def _create(
    folder: Path, lock: Lock, wheels: Sequence[Wheel], python: Path, uv: Path, run: Runner
) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    pinned = folder.with_name(f"{folder.name}.txt")
    files.write_text(pinned, locks.binary_part(lock), durable=False)
    for wheel in wheels:
        if files.sha256_file(wheel.path) != wheel.sha256:
            raise InfrastructureError(f"{wheel.path.name} changed in the wheelhouse; remove it")
    install: list[str | Path] = [uv, "pip", "install", "--no-config", "--quiet", "--no-deps"]
    install += ["--link-mode", "hardlink", "-p", folder / "bin" / "python"]
    steps: list[list[str | Path]] = [
        [uv, "venv", "--no-config", "--quiet", "-p", python, folder],
        [*install, "--require-hashes", "-r", pinned],
    ]
    if wheels:
        steps.append([*install, *(w.path for w in wheels)])
    try:
        for argv in steps:
            _installed(argv, folder.name, uv, run)
    finally:
        pinned.unlink(missing_ok=True)
    for number, name in enumerate(UNUSED):
        unused, gone = _site(folder) / name, folder.with_name(f".{folder.name}.gone{number}")
        if unused.exists():
            shutil.rmtree(gone, ignore_errors=True)
            os.rename(unused, gone)
            # In the background: removing thousands of folders takes long.
            threading.Thread(target=shutil.rmtree, args=(gone, True)).start()


def _installed(argv: Sequence[str | Path], name: str, uv: Path, run: Runner) -> None:
    """Run one step of an installation; a package that is damaged in uv's cache is fetched again.

    Raises:
        WrongFileError: the index has another file than the lock names.
        InfrastructureError: network or disk.
    """
    completed = run(argv, timeout=INSTALL_LIMIT_S)
    damaged = _DAMAGED.search(completed.output)
    if damaged and not exhaustion.ran_out(completed.output):
        run([uv, "cache", "clean", "--quiet", damaged[1]], timeout=INSTALL_LIMIT_S)
        completed = run(argv, timeout=INSTALL_LIMIT_S)
    if wrong := _WRONG.search(completed.output):
        raise WrongFileError(
            f"the index has another file of {wrong[1]} than the lock of {name}: "
            f"use another index, or remake the lock: nox -s lock -- {name}"
        )
    if not completed.ok:
        raise InfrastructureError(f"installing {name} failed: {last_line(completed)}")


def tools(lock: Path, *, python: Path, uv: Path, run: Runner, say: Callable[[str], None]) -> Path:
    """The folder with the suite's tools (pytest) that `lock` pins, outside the cells' environments.

    Raises:
        InfrastructureError: network or disk.
    """
    # One for each python: older ones need more packages.
    series = undisturbed(run([python, "-IB", "-c", interpreters.ASK_SERIES], timeout=60))
    if not series.ok:
        raise InterpreterError(f"{python} does not run: {last_line(series)}")
    digest = files.sha256_file(lock)[:16]
    folder = files.home() / "tools" / f"{digest}-py{series.output.strip()}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        if folder.exists():
            return folder
        say("installing the suite's tools")
        part = folder.with_name(f"{folder.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        argv: list[str | Path] = [uv, "pip", "install", "--no-config", "--quiet", "--no-deps"]
        argv += ["--require-hashes", "-p", python, "--target", part, "-r", lock]
        completed = run(argv, timeout=300)
        if not completed.ok:
            shutil.rmtree(part, ignore_errors=True)
            raise InfrastructureError(
                f"installing the suite's tools failed: {last_line(completed)}"
            )
        os.replace(part, folder)
    return folder
