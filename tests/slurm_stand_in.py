"""A stand-in for a cell's command, and for the process that submits: plumbing, no real cell.

`python slurm_stand_in.py cell NAME FOLDER`: writes evidence as the pipeline does, check by check.
The first start of a cell whose name says so never ends by itself, after a check that failed.
`python slurm_stand_in.py submit SCHEDULER FOLDER NAME …`: runs such cells as jobs.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path

from mcore_compat.schedule.jobs.flags import Flags
from support import START, event, stand_in_cell

from mcore_compat.base import processes
from mcore_compat.results import evidence
from mcore_compat.results.from_events import Builder
from mcore_compat.schedule.jobs import schedulers
from mcore_compat.schedule.jobs.drive import Driver
from mcore_compat.schedule.jobs.records import CELLS, Task

ENDLESS = ("killed", "node", "late", "hung")


def cell(name: str, folder: Path) -> None:
    """One start of a cell."""
    with (folder / f"{name}.ran").open("a") as out:
        out.write("started\n")
    first = (folder / f"{name}.ran").read_text() == "started\n"
    named = dataclasses.replace(stand_in_cell(), name=f"compat-{name}")
    builder = Builder(evidence.start(named, device_class="host", lock="l", suite="s"))
    endless = first and name.partition("-")[0] in ENDLESS
    builder.take(START)
    builder.take(event("restore[gpt]", "broken" if endless else "works"))
    evidence.save(builder.evidence(), folder / "evidence")
    time.sleep(3600 if endless else 2)
    builder.take({"event": "end", "seconds": 1.0})
    evidence.save(builder.evidence(), folder / "evidence")


def submit(scheduler: str, folder: Path, names: list[str]) -> None:
    """Run cells as jobs."""
    command = (sys.executable, "-u", __file__, "cell")
    flags = Flags(scheduler=scheduler, minutes=1, parallel=3, poll=0.5, gpus=1)
    driver = Driver(
        kind=CELLS,
        tasks=[Task(name=n, argv=(*command, n, str(folder))) for n in names],
        scheduler=schedulers.of(flags, processes.run),
        among=folder / "submitted",
        minutes=flags.minutes,
        attempts=flags.attempts,
        poll=flags.poll,
        say=lambda line: print(line, flush=True),
        said_of=lambda name: (
            evidence.load(
                evidence.path_of(f"compat-{name}", "host", folder / "evidence")
            ).outcome.value
        ),
    )
    for name, result in driver.run().items():
        print(f"END {name}: {result.fate.value}: {result.reason}", flush=True)


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    if what == "cell":
        cell(rest[0], Path(rest[1]))
    else:
        submit(rest[0], Path(rest[1]), rest[2:])
