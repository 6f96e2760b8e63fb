"""A stand-in for a cell's command, and for the process that submits: plumbing, no real cell.

`python slurm_stand_in.py cell NAME FOLDER`: writes a result as the pipeline does, check by check.
The first start of a cell whose name says so never ends by itself, after a check that failed.
`python slurm_stand_in.py submit SCHEDULER FOLDER NAME …`: runs such cells as jobs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import sys
import time
from pathlib import Path

from support import START, event, stand_in_cell

from mcore_compat.base import processes
from mcore_compat.core.cells import Cell
from mcore_compat.results import store
from mcore_compat.results.from_events import Builder
from mcore_compat.results.result import empty_result, result_path
from mcore_compat.schedule.jobs import schedulers
from mcore_compat.schedule.jobs.drive import Driver
from mcore_compat.schedule.jobs.job_options import JobOptions
from mcore_compat.schedule.jobs.records import CELLS, Task

ENDLESS = ("killed", "node", "late", "hung")


def cell_of(name: str) -> Cell:
    """The cell that a name stands for."""
    modelopt = f"0.41.0+{name.replace('-', '.')}"
    return dataclasses.replace(
        stand_in_cell(modelopt=modelopt), name=f"compat-0.16-modelopt{modelopt}"
    )


def cell(name: str, folder: Path) -> None:
    """One start of a cell; as the real command it ends by SIGTERM, with what it runs."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with (folder / f"{name}.ran").open("a") as out:
        out.write("started\n")
    first = (folder / f"{name}.ran").read_text() == "started\n"
    named = cell_of(name)
    builder = Builder(empty_result(named, device_class="host", lock="l", suite="s"))
    endless = first and name.partition("-")[0] in ENDLESS
    builder.take(START)
    builder.take(event("restore[gpt]", "broken" if endless else "works"))
    store.save(builder.result(), folder / "results")
    if endless:
        processes.run([sys.executable, "-c", "import time; time.sleep(3600)", folder], timeout=3600)
    time.sleep(2)
    builder.take({"event": "end", "seconds": 1.0})
    store.save(builder.result(), folder / "results")


def submit(scheduler: str, folder: Path, names: list[str]) -> None:
    """Run cells as jobs."""
    command = (sys.executable, "-u", __file__, "cell")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    options = JobOptions(scheduler=scheduler, minutes=1, parallel=3, poll=0.5, gpus=1)
    with contextlib.closing(schedulers.of(options, processes.run)) as there:
        driver = Driver(
            kind=CELLS,
            tasks=[Task(name=n, argv=(*command, n, str(folder))) for n in names],
            scheduler=there,
            among=folder / "submitted",
            minutes=options.minutes,
            attempts=options.attempts,
            poll=options.poll,
            say=lambda line: print(line, flush=True),
            outcome_of=lambda name: (
                store.load(
                    result_path(cell_of(name).name, "host", folder / "results")
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
