"""A matrix of thousands of cells, made from real results with changed pins. Nothing of it is
published: it lies in a temporary folder, and its releases do not exist.

`python -m benchmarks.synthetic RESULTS-FOLDER OUT-FOLDER` makes report and site of such a folder,
and prints what took how long.
"""

from __future__ import annotations

import gc
import json
import random
import resource
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.measure import HERE
from mcore_compat.base import file_group, files
from mcore_compat.core import matrix, releases
from mcore_compat.core.cells import AXES, Cell, parsed, series_of
from mcore_compat.core.releases import Release, Releases
from mcore_compat.publish import collation, report, site
from mcore_compat.publish.site.view import Site
from mcore_compat.results import large_values, store
from mcore_compat.results.result import Result

MCORE = [f"0.{n}" for n in range(9, 34)]
MODELOPT = [f"0.{n}" for n in range(21, 61)]
STACKS = (None, ("2.30", "2.20"), ("2.31", "2.20"), ("2.31", "2.21"), ("2.32", "2.22"))
"""TE and torch; None: the default stack. 25 × 40 × 5 is 5,000."""

ODD = 50
"""One of so many cells fails from a separate cause."""


def results_of(count: int, folder: Path) -> None:
    """Write results of `count` cells: each is copied from the real cell at the same place between
    the oldest and the newest, with other pins and durations, and some with another message."""
    paths = sorted(HERE.results.glob("compat-*/main.host.json"))
    real = [_unfolded(json.loads(path.read_text())) for path in paths]
    by_pair = {tuple(series_of(row["pins"][axis]) for axis in AXES[:2]): row for row in real}
    rows = sorted({pair[0] for pair in by_pair}, key=parsed)
    columns = sorted({pair[1] for pair in by_pair}, key=parsed)
    shutil.copytree(HERE.results / large_values.FOLDER, folder / large_values.FOLDER)
    chance = random.Random(5000)
    places = [
        (i, j, stack) for stack in STACKS for i in range(len(MCORE)) for j in range(len(MODELOPT))
    ]
    for number, (i, j, stack) in enumerate(places[:count]):
        here = rows[i * len(rows) // len(MCORE)], columns[j * len(columns) // len(MODELOPT)]
        source = by_pair.get(here) or real[number % len(real)]
        made = _changed(source, MCORE[i], MODELOPT[j], stack, number, chance)
        path = folder / made["cell"] / "main.host.json"
        path.parent.mkdir()
        path.write_text(files.dump_json(made), encoding="utf-8")
    large_values.pack(folder)  # as the published results lie


def _unfolded(source: dict[str, Any]) -> dict[str, Any]:
    """A real result with the rows of its checks as a run leaves them."""
    checks = [large_values.unfolded(check, HERE.results) for check in source["checks"]]
    return {**source, "checks": checks}


def _changed(
    source: Mapping[str, Any],
    mcore: str,
    modelopt: str,
    stack: tuple[str, str] | None,
    number: int,
    chance: random.Random,
) -> dict[str, Any]:
    name = f"compat-{mcore}-modelopt{modelopt}"
    pins = {**source["pins"], "megatron-core": f"{mcore}.0", "nvidia-modelopt": f"{modelopt}.0"}
    if stack:
        name += f"-te{stack[0]}-torch{stack[1]}"
        pins.update({"transformer-engine": f"{stack[0]}.0", "torch": f"{stack[1]}.0"})
    checks = []
    for check in source["checks"]:
        failure = check["failure"]
        if failure and number % ODD == 0:
            failure = {**failure, "message": f"{failure['message']} odd{'x' * (number // ODD)}"}
        seconds = round(check["seconds"] * (0.8 + 0.4 * chance.random()), 1)
        checks.append({**check, "seconds": seconds, "failure": failure})
    lock = f"{chance.getrandbits(256):064x}"
    return {**source, "cell": name, "pins": pins, "checks": checks, "lock": lock}


def known(found: Mapping[str, Result], real: Releases) -> Releases:
    """Releases of the synthetic versions, each with the requirements of a real one."""
    made: dict[str, tuple[Release, ...]] = dict(real.by_package)
    for axis in AXES[:4]:
        versions = sorted({e.pins[axis] for e in found.values()}, key=parsed)
        like = real.of(axis)
        made[axis] = tuple(
            replace(like[i * len(like) // len(versions)], version=version)
            for i, version in enumerate(versions)
        )
    return Releases(made)


def build(source: Path, out: Path, say: Callable[[str], None]) -> None:
    """Write report and site from the results below `source`, into `out`."""
    started, wall = time.process_time(), time.monotonic()

    def lap(what: str) -> None:
        others = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = time.process_time() - started + others.ru_utime + others.ru_stime
        peak = max(_peak(), others.ru_maxrss) / 1024
        say(f"{spent:6.2f} s  {peak:4.0f} MB  {what}")

    gc.disable()  # as the command does
    found = store.load_all(source)
    lap(f"{len(found)} cells loaded")
    by_name = {e.cell: e for e in found}
    real = matrix.load(HERE.matrix)
    declared = replace(
        real,
        mcore_series=tuple(MCORE),
        modelopt_series=tuple(MODELOPT),
        stacks={s: real.stacks.get(s, real.stacks[real.mcore_series[-1]]) for s in MCORE},
    )
    words = "mcore", "modelopt", "te", "torch", "python"
    cells = [
        Cell(
            name=e.cell,
            cuda=e.cuda,
            default="-te" not in e.cell,
            **{word: e.pins[axis] for word, axis in zip(words, AXES, strict=True)},
        )
        for e in found
    ]
    all_ = collation.collate(found, cells, declared, known(by_name, releases.load(HERE.releases)))
    with file_group.Changes() as changes:
        pages, also = site.halves(Site(all_, {}))
        count = changes.write_folder(
            out / site.FOLDER,
            pages,
            also,
            then=lambda: report.stage(report.of_all(all_, out), changes),
            also_then=lambda: report.stage(report.of_each(all_, out), changes),
        )
        changes.commit()
    lap(f"report and site of {count} files written")
    say(f"{time.monotonic() - wall:6.2f} s on the clock")


def _peak() -> int:
    """The most memory of this process so far, in KiB; `ru_maxrss` begins with its parent's."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0])


if __name__ == "__main__":
    build(Path(sys.argv[1]), Path(sys.argv[2]), print)
