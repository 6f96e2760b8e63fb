"""`nox -s bench -- [NAME ...]`: measure, print a table, write benchmarks/results.json.

Each row compares the tool with the obvious alternative in the same run. These are not tests:
a slow machine gives slower figures, not a failure. A figure above its limit is marked.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.measure import HERE, Row, disk_usage
from benchmarks.scanning import scanning
from benchmarks.side_by_side import side_by_side
from benchmarks.site import site
from mcore_compat.base import files, processes
from mcore_compat.core import combinations
from mcore_compat.environments import creation as environments
from mcore_compat.environments import interpreters, wheelhouse
from mcore_compat.resolve import locks, resolution, resolvability
from mcore_compat.results.result import result_path
from mcore_compat.run import own, pipeline
from mcore_compat.run.context import context

REPEATS = 5
SAMPLE = 40
"""One of so many combinations is measured."""

SUITES = 3
CELL = "compat-0.16-modelopt0.41"
RESULTS = HERE.root / "benchmarks" / "results.json"


def timed(argv: Sequence[str | os.PathLike[str]], repeats: int = REPEATS) -> float:
    """Median seconds of a command over `repeats` runs, after one that warms the caches."""
    seconds: list[float] = []
    for _ in range(repeats + 1):
        done = processes.run(argv, timeout=600, cwd=HERE.root)
        if done.returncode not in (0, 1):
            raise SystemExit(f"{' '.join(map(str, argv))} failed:\n{done.output[-2000:]}")
        seconds.append(done.seconds)
    return statistics.median(seconds[1:])


def _nox() -> Path:
    return Path(sys.executable).with_name("nox")


def listing() -> list[Row]:
    """`nox -l` against a noxfile that declares as many sessions by hand and nothing else."""
    ours = timed([_nox(), "-l"])
    here = context()
    count = len(combinations.cells(here.matrix, here.releases))
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder) / "noxfile.py"
        bare.write_text(
            "import nox\n"
            f"for n in range({count}):\n"
            "    nox.session(lambda s: None, name=f'cell-{n}', venv_backend='none')\n"
        )
        plain = timed([_nox(), "-l", "-f", bare])
    return [
        Row(
            name="listing",
            what="nox -l: every cell with its last verdict",
            value=ours,
            unit="s",
            limit=1.0,
            alternative="nox -l of a bare noxfile with as many sessions",
            alternative_value=plain,
        )
    ]


def fresh() -> list[Row]:
    """The whole command for a cell in which nothing changed since this machine's own run."""
    processes.run([_nox(), "-s", CELL], timeout=1800, cwd=HERE.root)
    seconds = timed([_nox(), "-s", CELL])
    return [
        Row(
            name="fresh", what=f"nox -s {CELL}, nothing changed", value=seconds, unit="s", limit=2.0
        )
    ]


def suite() -> list[Row]:
    """The whole suite in an environment that exists, and of that the checks alone."""
    path = result_path(CELL, "host", own.workspace(HERE).results)
    seconds = []
    for _ in range(SUITES):
        done = processes.run(
            [sys.executable, "-m", "mcore_compat.cli", "run", CELL, "--force"],
            timeout=1800,
            cwd=HERE.root,
        )
        seconds.append(done.seconds)
        checks = json.loads(path.read_text())["checks"]
    spread = " to ".join(f"{s:.0f}" for s in (min(seconds), max(seconds)))
    return [
        Row(
            name="suite",
            what=f"{CELL}: {len(checks)} checks without a GPU, environment exists; median of "
            f"{SUITES}, from {spread} s",
            value=statistics.median(seconds),
            unit="s",
            limit=90.0,
            alternative="sum of the checks' own times",
            alternative_value=sum(check["seconds"] for check in checks),
        )
    ]


@contextlib.contextmanager
def _home_of_its_own() -> Iterator[None]:
    """Make environments in a folder beside the real ones, on the same file system."""
    kept = files.home()
    with tempfile.TemporaryDirectory(dir=kept) as folder:
        os.environ["MCORE_COMPAT_HOME"] = folder
        try:
            yield
        finally:
            os.environ["MCORE_COMPAT_HOME"] = str(kept)


def _nothing(line: str) -> None:
    """Swallow a progress line."""


def environment() -> list[Row]:
    """A second environment of one cell, made by the tool itself on a warm cache.

    Compared with the disk of the first one, and with the time to find that one exists already.
    """
    here = context()
    cell = combinations.named(CELL, here.matrix, here.releases)
    lock = locks.read(here.workspace.lock(cell.name))
    python = interpreters.find(cell.python, processes.run, here.uv)
    wheels = pipeline.wheels_of(cell, lock, python, here)
    if isinstance(wheels, wheelhouse.Unbuildable):
        raise SystemExit(wheels.reason)
    first = environments.ensure(
        cell, lock, wheels, python=python, uv=here.uv, run=processes.run, say=print
    )
    seen: set[tuple[int, int]] = set()
    alone = disk_usage(first.python.parents[1], seen) / 1e6
    made: list[float] = []
    again: list[float] = []
    for _ in range(REPEATS):
        with _home_of_its_own():
            os.sync()  # what the last one's removal left to write is not this one's time
            for seconds in (made, again):
                started = time.monotonic()
                second = environments.ensure(
                    cell, lock, wheels, python=python, uv=here.uv, run=processes.run, say=_nothing
                )
                seconds.append(time.monotonic() - started)
            size = disk_usage(second.python.parents[1], set(seen)) / 1e6
    what = "a second environment with the same torch, warm cache"
    return [
        Row(
            name="environment",
            what=what,
            value=statistics.median(made),
            unit="s",
            limit=2.0,
            alternative="to find that it exists already",
            alternative_value=statistics.median(again),
        ),
        Row(
            name="disk",
            what=what,
            value=size,
            unit="MB",
            limit=20.0,
            alternative="the first one alone",
            alternative_value=alone,
        ),
    ]


def static() -> list[Row]:
    """The static pass over a sample of all combinations, offline, with no answer cached."""
    here = context()
    cells = list(combinations.product(here.matrix, here.releases))[::SAMPLE]
    cell = combinations.named(CELL, here.matrix, here.releases)
    # The measurement is offline and warm: download first what this machine lacks.
    resolvability.sweep(cells, here.matrix, here.releases, offline=False, jobs=2, say=_nothing)
    resolution.make(cell, here.matrix, here.releases, uv=here.uv, run=processes.run)
    store = files.home() / "metadata"
    with _home_of_its_own():
        shutil.copytree(store, files.home() / "metadata", ignore=lambda *_: ["answers"])
        seconds = []
        for _ in range(2):
            started = time.monotonic()
            answers = resolvability.sweep(
                cells, here.matrix, here.releases, offline=True, jobs=2, say=_nothing
            )
            seconds.append((time.monotonic() - started) / len(cells))
        unsaid = sum(one.installs is None for one in answers.verdicts.values())
    by_uv = []
    for _ in range(REPEATS):
        started = time.monotonic()
        resolution.make(
            cell, here.matrix, here.releases, uv=here.uv, run=processes.run, offline=True
        )
        by_uv.append(time.monotonic() - started)
    what = f"static pass, a combination ({len(cells)} of them, {unsaid} left to uv), 2 processes"
    return [
        Row(
            name="static",
            what=what,
            value=seconds[0],
            unit="s",
            limit=0.07,
            alternative="uv pip compile --offline of one",
            alternative_value=statistics.median(by_uv),
        ),
        Row(
            name="static again",
            what="the same, all answers cached",
            value=seconds[1],
            unit="s",
            limit=0.07,
        ),
    ]


def nothing() -> list[Row]:
    """`nox -s matrix` over all declared cells, with nothing to do."""
    argv: list[str | os.PathLike[str]] = [_nox(), "-s", "matrix"]
    plan = processes.run([*argv, "--", "--dry-run"], timeout=600, cwd=HERE.root)
    idle = "\n0 cells to run" in plan.output
    seconds = timed(argv if idle else [*argv, "--", "--dry-run"])
    what = "nox -s matrix, nothing to do" if idle else "nox -s matrix -- --dry-run"
    here = context()
    count = len(combinations.cells(here.matrix, here.releases))
    return [Row(name="matrix", what=f"{what}, {count} cells", value=seconds, unit="s", limit=3.0)]


BENCHMARKS: dict[str, Callable[[], list[Row]]] = {
    "listing": listing,
    "fresh": fresh,
    "environment": environment,
    "suite": suite,
    "static": static,
    "matrix": nothing,
    "scan": scanning,
    "side-by-side": side_by_side,
    "site": site,
}
LONG = ("side-by-side", "site")
"""Run only if named: the first takes most of an hour, the second needs chromium."""


def show(row: Row) -> str:
    """One line of the table."""
    mark = "ok" if row.value <= row.limit else "ABOVE ITS LIMIT"
    figure = f"{row.name:<12} {row.value:>9.2f} {row.unit:<3}"
    line = f"{figure} (limit {row.limit:g}) {mark}: {row.what}"
    if row.alternative_value is not None:
        line += f"; {row.alternative}: {row.alternative_value:.2f} {row.unit}"
    return line


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    names = parser.parse_args().names or [name for name in BENCHMARKS if name not in LONG]
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no such benchmark: {unknown[0]}; valid: {', '.join(BENCHMARKS)}")
    for name in names:
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        rows = BENCHMARKS[name]()
        for row in rows:
            print(show(row), flush=True)
        keep(rows)  # at once: a later benchmark may fail


def keep(rows: Sequence[Row]) -> None:
    """Write the rows into the file of results, in place of those of the same names."""
    kept = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []
    measured = {row.name for row in rows}
    data = {
        "machine": {"cpus": os.cpu_count(), "machine": platform.machine()},
        "rows": sorted(
            [*(row for row in kept if row["name"] not in measured), *map(asdict, rows)],
            key=lambda row: str(row["name"]),
        ),
    }
    files.write_text(RESULTS, files.dump_json(data))


if __name__ == "__main__":
    main()
