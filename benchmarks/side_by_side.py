"""This tool beside plain nox with virtualenv and pip, tox with tox-uv, and riot.

Each tool runs the same three cells, with the same pins and hashes, locally built wheels and suite.
Figures, each over all three cells, in seconds except for disk:

- cold: no environment and an empty package cache, until one check has its outcome
- warm: no environment, the package cache as the cold run left it, until one check has its outcome
- again: everything in place, until one check has its outcome; the median of three
- unchanged: the same command once more after a whole run
- disk: of the three environments, hard links counted once
- further disk: what an environment adds to those before it, the mean of the second and the third
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import HERE, Row, disk_usage
from mcore_compat.base import files, processes
from mcore_compat.core import combinations
from mcore_compat.environments import interpreters, process_variables, wheelhouse
from mcore_compat.resolve import locks
from mcore_compat.results import large_values
from mcore_compat.results.result import result_path
from mcore_compat.run import engine, pipeline
from mcore_compat.run.context import context

CELLS = ("compat-0.9-modelopt0.21", "compat-0.10-modelopt0.23", "compat-0.11-modelopt0.25")
"""Cells with the shortest suites, so that the tools' own time dominates."""

CHECK = "import-packages"
LIMIT_S = 3600.0
REPEATS = 3
FIGURES = ("cold", "warm", "again", "unchanged", "disk", "further disk")
SHARE = {"unchanged": 0.2}
"""What is promised: of the best other tool's figure at most so much; else not more than that."""

LAUNCH = '''"""Starts the suite with the variables of its packages; says that it ran to its end."""
import glob, os, subprocess, sys, tempfile
site = next(p for p in sys.path if p.endswith("site-packages") and os.path.isdir(p + "/torch"))
libraries = sorted(glob.glob(site + "/nvidia/*/lib"))
os.environ["LD_LIBRARY_PATH"] = ":".join(filter(None, [*libraries, {stub!r}]))
os.environ["CUDA_HOME"] = site + "/nvidia"
events = tempfile.mkstemp(dir={folder!r})[1]
suite = [sys.executable, "-u", {suite!r}, "--tools", {tools!r}, "--events", events]
only = os.environ.get("ONLY")
code = subprocess.call([*suite, *(["--only", only] if only else [])])
if code in (0, 1):
    with open({launched!r}, "a") as out:
        out.write(site + "\\n")
sys.exit(code)
'''


@dataclass(frozen=True, kw_only=True)
class Work:
    """What each tool is given: requirements and ModelOpt's version by cell, the interpreter, what
    starts the suite.

    `launched` gets a line for each suite that ran to its end: a tool that installed nothing, or ran
    nothing, would be the fastest of all.
    """

    requirements: Mapping[str, Path]
    modelopt: Mapping[str, str]
    python: Path
    launch: Path
    launched: Path


@dataclass(frozen=True, kw_only=True)
class Tool:
    """`prepare` writes the tool's files into its folder; `argv` runs all cells from there.

    `whole` are variables for a run of the whole suite, `check` for one check; `reuse` is added to
    `argv` once environments exist.
    """

    name: str
    prepare: Callable[[Path, Work], None]
    argv: tuple[str, ...]
    reuse: tuple[str, ...] = ()
    environments: str = ""
    home: str = ""
    only: Callable[[bool], tuple[tuple[str, ...], dict[str, str]]] = lambda one: (
        (),
        {"ONLY": CHECK} if one else {},
    )


def _script(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def _nox(folder: Path, work: Work) -> None:
    rows = {name: str(path) for name, path in work.requirements.items()}
    (folder / "noxfile.py").write_text(
        "import nox\n"
        f"ROWS = {rows!r}\n"
        f"@nox.session(python={str(work.python)!r}, venv_backend='virtualenv')\n"
        "@nox.parametrize('cell', sorted(ROWS))\n"
        "def compat(session, cell):\n"
        "    session.install('--no-deps', '--require-hashes', '-r', ROWS[cell])\n"
        f"    session.run('python', {str(work.launch)!r}, success_codes=[0, 1])\n"
    )


def _tox(folder: Path, work: Work) -> None:
    # A lock overrides pins of TE's that no set of these versions meets: nothing is left to resolve.
    install = f"install_command = {_script('uv')} pip install --no-deps {{opts}} {{packages}}"
    head = f"[tox]\nenv_list = {','.join(sorted(work.requirements))}\nno_package = true\n"
    rows = "".join(
        f"[testenv:{name}]\nbase_python = {work.python}\npass_env = *\n"
        f"deps = -r{path}\ncommands = python {work.launch}\n{install}\n"
        for name, path in sorted(work.requirements.items())
    )
    (folder / "tox.ini").write_text(head + rows)


def _riot(folder: Path, work: Work) -> None:
    series = ".".join(work.python.name.removeprefix("python").split(".")[:2])
    # By its packages riot names an environment: cells of the same would share one.
    rows = {name: {"nvidia-modelopt": f"=={v}"} for name, v in sorted(work.modelopt.items())}
    (folder / "riotfile.py").write_text(
        "from riot import Venv\n"
        f"ROWS = {rows!r}\n"
        "venv = Venv(skip_dev_install=True, venvs=[\n"
        f"    Venv(name=name, command='python {work.launch}', pys='{series}', pkgs=pkgs,\n"
        "         env={'CELL': name}) for name, pkgs in ROWS.items()])\n"
    )
    # riot resolves and pins by itself; given the pins, it installs those.
    told = processes.run(
        [sys.executable, "-c", _RIOT_HASHES], timeout=60, cwd=folder, env={**os.environ}
    )
    if told.returncode:
        raise SystemExit(f"riot does not tell its hashes:\n{told.output}")
    for line in told.output.splitlines():
        name, _, digest = line.partition(" ")
        if name in work.requirements:
            place = folder / ".riot" / "requirements" / f"{digest}.txt"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(work.requirements[name].read_text())


_RIOT_HASHES = """
from riot.session import Session
for one in Session.from_config_file('riotfile.py').venv.instances():
    if one.name:
        print(one.name, one.short_hash)
"""


def _ours(folder: Path, work: Work) -> None:
    home = folder / "home"
    home.mkdir()
    for part in ("wheelhouse", "tools", "libcuda-stub"):
        if (files.home() / part).exists():
            (home / part).symlink_to(files.home() / part)


TOOLS = (
    Tool(
        name="this tool",
        prepare=_ours,
        argv=(sys.executable, "-m", "mcore_compat.cli", "run", *CELLS),
        environments="home/envs",
        home="home",
        only=lambda one: (("--only", CHECK) if one else (), {}),
    ),
    Tool(
        name="nox, virtualenv, pip",
        prepare=_nox,
        argv=(_script("nox"), "-s", "compat"),
        reuse=("-R",),
        environments=".nox",
    ),
    Tool(
        name="tox, tox-uv",
        prepare=_tox,
        argv=(_script("tox"), "run"),
        environments=".tox",
    ),
    Tool(
        name="riot",
        prepare=_riot,
        argv=(_script("riot"), "run", "--pass-env", "compat-.*"),
        environments=".riot",
    ),
)


def work_in(folder: Path) -> Work:
    """The cells' requirements as files, and the launcher."""
    here = context()
    rows: dict[str, Path] = {}
    modelopt: dict[str, str] = {}
    python = Path()
    for name in CELLS:
        cell = pipeline.chosen(name, here)
        lock = locks.read(here.workspace.lock(cell.name))
        python = interpreters.find(cell.python, processes.run, here.uv)
        wheels = pipeline.wheels_of(cell, lock, python, here)
        if isinstance(wheels, wheelhouse.Unbuildable):
            raise SystemExit(wheels.reason)
        local = "".join(f"{w.path} --hash=sha256:{w.sha256}\n" for w in wheels)
        rows[name] = folder / f"{name}.txt"
        rows[name].write_text(locks.binary_part(lock) + local)
        modelopt[name] = cell.modelopt
    tools = engine.tools_of(python, here)
    sites = sorted((files.home() / "envs" / CELLS[-1] / "lib").glob("python3*/site-packages"))
    stub = process_variables.driver_stub(sites[0], processes.run) if sites else None
    launch = folder / "launch.py"
    suite = here.workspace.suite / "run.py"
    launched = folder / "launched"
    places = {"stub": stub or "", "suite": suite, "tools": tools, "launched": launched}
    places["folder"] = folder
    launch.write_text(LAUNCH.format(**{name: str(path) for name, path in places.items()}))
    return Work(
        requirements=rows, modelopt=modelopt, python=python, launch=launch, launched=launched
    )


def measure(tool: Tool, work: Work, folder: Path) -> dict[str, float]:
    """One tool's figures."""
    place = folder / "".join(c if c.isalnum() else "-" for c in tool.name)
    place.mkdir()
    tool.prepare(place, work)
    # Set by some images and CI systems, this would have the others' Pythons compile everything in
    # each run; this tool does not hand it on.
    base = {
        **{k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"},
        "PIP_CACHE_DIR": str(place / "pip"),
        "UV_CACHE_DIR": str(place / "uv"),
        "PATH": f"{work.python.parent}:{os.environ['PATH']}",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_DEPS": "1",  # riot offers no option for it
    }
    if tool.home:
        base["MCORE_COMPAT_HOME"] = str(place / tool.home)
    cwd = HERE.root if tool.home else place

    def run(*, one: bool, reuse: bool) -> float:
        words, more = tool.only(one)
        argv = [*tool.argv, *(tool.reuse if reuse else ()), *words]
        os.sync()  # pending writes belong to the last run
        work.launched.write_text("")
        done = processes.run(argv, timeout=LIMIT_S, env={**base, **more}, cwd=cwd)
        started = set(work.launched.read_text().split())
        if done.returncode not in (0, 1) or not (tool.home or len(started) == len(CELLS)):
            raise SystemExit(f"{tool.name} failed:\n{done.output[-3000:]}")
        return done.seconds

    found = {"cold": run(one=True, reuse=False)}
    shutil.rmtree(place / tool.environments)
    if tool.name == "riot":
        tool.prepare(place, work)
    found["warm"] = run(one=True, reuse=False)
    found.update(_disk(place / tool.environments))
    found["again"] = statistics.median(run(one=True, reuse=True) for _ in range(REPEATS))
    if tool.home:  # the others keep nothing of a run: the first one costs what the next does
        run(one=False, reuse=True)
    found["unchanged"] = run(one=False, reuse=True)
    shutil.rmtree(place)
    return found


def _disk(folder: Path) -> dict[str, float]:
    """Megabytes of all environments, and of a further one."""
    there = sorted(site.parents[3] for site in folder.glob("*/lib/python3*/site-packages/torch"))
    if len(there) != len(CELLS):
        raise SystemExit(f"{len(there)} environments with torch in {folder}")
    seen: set[tuple[int, int]] = set()
    grown = [disk_usage(one, seen) / 1e6 for one in there]
    rest = disk_usage(folder, seen) / 1e6
    return {"disk": sum(grown) + rest, "further disk": statistics.mean(grown[1:])}


def side_by_side() -> list[Row]:
    """A row for each figure, with the other tools' figures beside ours."""
    here = context()
    kept = {
        path: path.read_bytes()
        for name in CELLS
        if (
            path := result_path(
                combinations.named(name, here.matrix, here.releases).name, "host", HERE.results
            )
        )
        and path.exists()
    }
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(dir=files.home()) as name:
        folder = Path(name)
        work = work_in(folder)
        for tool in TOOLS:
            print(f"  {tool.name}", file=sys.stderr, flush=True)
            found[tool.name] = measure(tool, work, folder)
            told = ", ".join(f"{name} {value:.1f}" for name, value in found[tool.name].items())
            print(f"    {told}", file=sys.stderr, flush=True)
    for path, data in kept.items():  # a measurement publishes nothing
        path.write_bytes(data)
    large_values.pack(HERE.results)
    return [_row(figure, found) for figure in FIGURES]


def _row(figure: str, found: Mapping[str, Mapping[str, float]]) -> Row:
    others = {tool.name: found[tool.name][figure] for tool in TOOLS[1:]}
    nearest = min(others, key=lambda name: others[name])
    told = ", ".join(f"{name} {value:.1f}" for name, value in sorted(others.items()))
    return Row(
        name=f"side-by-side {figure}",
        what=f"three cells, {figure}; others: {told}",
        value=found[TOOLS[0].name][figure],
        unit="MB" if "disk" in figure else "s",
        limit=others[nearest] * SHARE.get(figure, 1.0),
        alternative=f"the best of the others, {nearest}",
        alternative_value=others[nearest],
    )
