"""On the other machine: makes a cell's environment, runs the suite in it, writes the evidence.

`run.py` calls this after it has verified the bundle.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcore_compat import files, proc, runner, runtime
from mcore_compat.errors import CompatError, InfrastructureError, Interrupted, UsageError

SCHEMA = 1
TOOLKIT = Path("/usr/local/cuda")
"""Where a machine has CUDA that has not come with torch's packages."""

CACHES = (
    "CUDA_CACHE_PATH",
    "TORCHINDUCTOR_CACHE_DIR",
    "TORCH_EXTENSIONS_DIR",
    "TRITON_CACHE_DIR",
    "XDG_CACHE_HOME",
)
"""Where packages keep what they compile: with `--base current`, in the environment."""

BAD = ("broken", "crashed", "timed-out")


@dataclass(frozen=True, kw_only=True)
class Here:
    """This run: the bundle's folder and digest, where things are left, what was asked for."""

    root: Path
    digest: str
    into: Path
    args: argparse.Namespace


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What the suite runs in; `base` is what the evidence says of what was there before."""

    python: Path
    tools: Path
    variables: Mapping[str, str]
    wheels: Mapping[str, str]
    folders: tuple[str, ...]
    base: Mapping[str, Any] | None


def main(args: argparse.Namespace, root: Path, digest: str) -> int:
    """Run the cells that were asked for; the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    into = Path(args.into or root).resolve()
    # Imported out of its wheel, for this Python need not have it.
    sys.path.insert(0, str(sorted(root.glob("wheels/packaging-*-none-any.whl"))[-1]))
    try:
        if min(args.limit, args.suite_limit) <= 0:
            raise UsageError("--limit, --suite-limit: a time limit must be more than 0 s")
        loopback()
        with files.disk_errors(into):
            into.mkdir(parents=True, exist_ok=True)
            for name in args.cell:
                run_cell(name, Here(root=root, digest=digest, into=into, args=args))
    except CompatError as error:
        print(f"run.py: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("run.py: interrupted", file=sys.stderr)
        return Interrupted.exit_code
    return 0


def loopback() -> None:
    """Refuse a machine that cannot speak to itself: process groups need that, and a check that
    fails for want of it could be taken for one that needs a GPU.

    Raises:
        InfrastructureError: there is no loopback interface, or it is down.
    """
    with socket.socket() as here, socket.socket() as other:
        other.settimeout(5)
        try:
            here.bind(("127.0.0.1", 0))
            here.listen()
            other.connect(here.getsockname())
        except OSError as error:
            raise InfrastructureError(f"this machine has no loopback interface: {error}") from None


def say(line: str) -> None:
    """Progress; on stderr, so that the verdict can be piped."""
    print(line, file=sys.stderr, flush=True)


def run_cell(name: str, here: Here) -> Path | None:
    """Run one cell; its evidence, None with `--only`: a part of the suite is no verdict.

    Raises:
        CompatError: bad input, or a failure of the surroundings; nothing is written then.
    """
    said = json.loads((here.root / "cells" / f"{name}.json").read_text(encoding="utf-8"))
    taken = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    events: list[Mapping[str, Any]] = []
    with environment(said, here) as there:
        say(f"running the suite in {name}")
        done = runner.run_suite(
            python=there.python,
            tools=there.tools,
            variables=there.variables,
            logs=here.into / "logs" / name,
            run=proc.run,
            on_event=events.append,
            on_line=lambda line: say(f"  {line}"),
            only=here.args.only,
            check_limit=here.args.limit,
            limit=here.args.suite_limit,
        )
    for event in events:
        if event["event"] == "error":
            raise UsageError(f"the suite cannot run: {str(event['message']).splitlines()[0]}")
    show(name, events)
    if events[-1]["event"] != "end":
        raise InfrastructureError(
            f"the suite ended early, with exit code {done.returncode} "
            f"(log: {here.into / 'logs' / name / 'suite.log'}); no evidence is written"
        )
    if here.args.only:
        say("some checks only: no evidence is written")
        return None
    return write(said, there, events, taken, here)


def write(
    said: Mapping[str, Any],
    there: Environment,
    events: Sequence[Mapping[str, Any]],
    taken: str,
    here: Here,
) -> Path:
    """The evidence of a run, as `collect` takes it: what the suite said, and of what bundle."""
    device = events[0]["device_class"]
    kind = f"{device}-base" if there.base else device
    path: Path = here.into / "evidence" / said["cell"] / f"{kind}.json"
    data = {
        "base": there.base,
        "bundle": here.digest,
        "cell": said["cell"],
        "folders": list(there.folders),
        "lock": files.sha256_file(here.root / said["lock"]),
        "schema": SCHEMA,
        "suite": files.sha256_tree(here.root / "suite", deep=False),
        "taken": taken,
        "wheels": dict(there.wheels),
    }
    files.write_text(path, files.dump_json(data, rows={"events": events}))
    print(f"evidence: {path}")
    return path


def show(name: str, events: Sequence[Mapping[str, Any]]) -> None:
    """What the checks came to, and why where they did not work."""
    checks = [event for event in events if event["event"] == "check"]
    counts = Counter(check["outcome"] for check in checks)
    print(f"{name} ({events[0]['device_class']}): ", end="")
    print(", ".join(f"{outcome} {n}" for outcome, n in sorted(counts.items())) or "no check")
    for check in checks:
        if check["outcome"] in BAD:
            reason = " ".join(str(check["reason"] or "").split())
            print(f"  {check['check']}: {check['outcome']}: {reason[:160]}")


@contextmanager
def environment(said: Mapping[str, Any], here: Here) -> Iterator[Environment]:
    """A cell's environment, removed at the end unless it is to be kept.

    Raises:
        CompatError: it cannot be made here.
    """
    from mcore_compat.bundle import install

    paths = install.paths_here(here.root)
    over = here.args.base == "current" or any(not p["files"] for p in said["packages"])
    uv = None if here.args.installer == "pip" else shutil.which("uv")
    if here.args.installer == "uv" and uv is None:
        raise UsageError("--installer uv: it is not on PATH")
    installer = install.Installer(root=here.root, uv=Path(uv) if uv else None)
    temporary = over and not here.args.keep
    try:
        work = Path(tempfile.mkdtemp(prefix="mcore-compat-")) if temporary else here.into / "work"
        work.mkdir(parents=True, exist_ok=True)
        os.environ["MCORE_COMPAT_HOME"] = str(work)  # where the driver's stand-in is put
        found: Environment = (_over if over else _own)(said, installer, work, paths, here)
        yield found
    finally:
        if here.args.keep:
            say(f"the environment stays: {work}")
        else:
            shutil.rmtree(work, ignore_errors=True)


def _own(
    said: Mapping[str, Any], installer: Any, work: Path, paths: Sequence[Path], here: Here
) -> Environment:
    """The environment that the lock says, no more and no less."""
    from mcore_compat.bundle import install

    python = install.interpreter(said["python"], here.args.python)
    folder = work / said["cell"]
    mark = work / f"{said['cell']}.json"
    packages = said["packages"]
    wanted = {p["name"]: install.version_of(here.root, p) for p in packages}
    identity = {"bundle": here.digest, "python": os.path.realpath(python)}
    kept = mark.exists() and json.loads(mark.read_text()) == identity
    if not (kept and install.same(install.versions([install.site_of(folder)]), wanted)):
        say(f"creating the environment of {said['cell']}: {len(packages)} packages")
        mark.unlink(missing_ok=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        site = install.create(folder, python)
        install.fill(installer, folder, packages)
        if not install.same(install.versions([site]), wanted):
            raise InfrastructureError(
                f"the environment of {said['cell']} is not what its lock says"
            )
        files.write_text(mark, files.dump_json(identity))
    site = install.site_of(folder)
    stub = runtime.driver_stub(site, proc.run)
    return Environment(
        python=folder / "bin" / "python",
        tools=install.tools(installer, folder / "bin" / "python", work),
        variables=runtime.variables(site, stub),
        wheels=_wheels(packages),
        folders=_folders(here, work),
        base=None,
    )


def _over(
    said: Mapping[str, Any], installer: Any, work: Path, paths: Sequence[Path], here: Here
) -> Environment:
    """megatron-core and ModelOpt of the cell over what this Python has, which stays as it is."""
    from mcore_compat.bundle import base, install

    series = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if here.args.python:
        raise UsageError("--python: with --base current it is the Python that runs this")
    if series != said["python"]:
        raise UsageError(
            f"this Python is {series}, {said['cell']} is of {said['python']}; make a bundle of the "
            f"cell with -py{series} in its name"
        )
    packages = said["packages"]
    there = install.versions(paths)
    plan = base.plan(
        packages,
        base.Base(installed=there, cuda=cuda_of(_torch())),
        lambda package: install.requires(here.root, package),
        said["cuda"],
    )
    say(f"over torch {there['torch']} of this Python: {len(plan.install)} packages are installed")
    for line in plan.unmet:
        say(f"  not met: {line}")
    folder = work / f"{said['cell']}-base"
    site = install.create(folder, Path(sys.executable))
    mine = [p for p in packages if p["name"] in plan.install]
    install.fill(installer, folder, mine)
    install.over(site, paths)
    return Environment(
        python=folder / "bin" / "python",
        tools=install.tools(installer, folder / "bin" / "python", work),
        variables=_variables(folder, work, temporary=not here.args.keep),
        wheels=_wheels(mine),
        folders=(*_folders(here, work), *map(str, paths)),
        base={
            "installed": list(plan.install),
            "unmet": list(plan.unmet),
            "without": list(said["without"]),
        },
    )


def _torch() -> Path | None:
    """The folder of this Python's torch; it is not imported."""
    spec = importlib.util.find_spec("torch")
    return Path(spec.origin).parent if spec and spec.origin else None


def cuda_of(torch: Path | None) -> str | None:
    """The CUDA that a torch was built for, as its `version.py` says."""
    path = torch / "version.py" if torch else None
    if path is None or not path.is_file():
        return None
    match = re.search(r"^cuda\b[^=\n]*=\s*['\"]([\d.]+)['\"]", path.read_text(), re.MULTILINE)
    return match[1] if match else None


def _variables(folder: Path, work: Path, *, temporary: bool) -> dict[str, str]:
    """What the cell's processes need, where this machine does not say so itself."""
    torch = _torch()
    assert torch is not None  # the plan refuses where there is none
    site = torch.parent
    found = runtime.variables(site, runtime.driver_stub(site, proc.run))
    if not (site / "nvidia").is_dir() and TOOLKIT.is_dir():
        found["CUDA_HOME"] = str(TOOLKIT)
    for name in ("CUDA_HOME", "CUDA_PATH"):
        if os.environ.get(name):
            found[name] = os.environ[name]
    found["PATH"] = f"{folder / 'bin'}:{os.environ.get('PATH', '/usr/bin:/bin')}"
    found["PYTHONDONTWRITEBYTECODE"] = "1"  # what is compiled would lie beside its source
    if temporary:  # processes that are killed leave folders there; a socket's path must be short
        (work / "tmp").mkdir()
        found["TMPDIR"] = str(work / "tmp")
    found.update({name: str(folder / "cache" / name.lower()) for name in CACHES})
    return found


def _wheels(packages: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Digest by file name of the locally built wheels that are installed."""
    local = [p["files"] for p in packages if p["local"]]
    return {name.rpartition("/")[2]: digest for one in local for name, digest in one.items()}


def _folders(here: Here, work: Path) -> tuple[str, ...]:
    """The paths of this machine, which no evidence shows."""
    named = (here.root, here.into, work, Path.home(), Path(tempfile.gettempdir()))
    return tuple(dict.fromkeys(str(path) for path in named if len(path.parts) > 1))
