"""One rank: `worker.py JOB.json`, started by torchrun.

It loads a checkpoint into its part of a model that was filled with a sentinel, tells what it
holds then, and takes part in saving it again.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

LOADING = "keys, offsets and tensors of a checkpoint are compared by Python code, on no device"


class NoNccl(Exception):  # noqa: N818 (a statement about the machine, not an error)
    """The ranks speak gloo, and it fell short."""


def main() -> int:
    job = json.loads(Path(sys.argv[1]).read_text())
    rank = int(os.environ["RANK"])
    folder = Path(job["folder"])
    (folder / f"pid.{rank}").write_text(str(os.getpid()))
    stack = (folder / f"stack.{rank}").open("w")
    faulthandler.register(signal.SIGUSR1, stack, all_threads=True)
    sys.path[:] = [path for path in sys.path if Path(path) != Path(__file__).parent]
    sys.path += [path for path in job["path"] if path not in sys.path]
    stated: list[str] = []
    report: dict[str, Any]
    try:
        report = {"found": run(job, rank, stated)}
    except BaseException as error:
        report = {"judgement": judge(error, job, stated), "at": time.monotonic()}
    part = folder / f"report.{rank}.part"
    part.write_text(json.dumps(report))
    os.replace(part, folder / f"report.{rank}")
    sys.stdout.flush()
    # Not past the packages' own ends: what a rank found is written, and one that waits there for
    # another would hang.
    os._exit(1 if "judgement" in report else 0)


def judge(error: BaseException, job: dict[str, Any], stated: list[str]) -> dict[str, Any]:
    """As the suite judges an error of a check."""
    from suite import plugin
    from suite.outcomes import NeedsGpu
    from suite.ranks import gloo

    if not job["device"] and gloo.fell_short(error):
        error = NeedsGpu(f"gloo, which stands in for NCCL here, fell short: {error}")
    why = stated[-1] if stated else None
    return plugin.judged(error, host=not job["device"], stated=why)


def load(model: Any, folder: Path) -> tuple[Any, str]:
    """As `checkpoints.load_somehow`, but what a refused load has put in place is filled with the
    sentinel again: nothing has judged this load before."""
    from suite import checkpoints, compare

    try:
        checkpoints.load(model, folder)
        return None, ""
    except checkpoints.failures() as error:
        for condition in checkpoints.CONDITIONS:
            checkpoints.forget(model)
            with contextlib.suppress(*checkpoints.failures()):
                checkpoints.load(model, folder, condition)
                return condition, f"{type(error).__name__}: {compare.last_line(error)}"
        raise


def run(job: dict[str, Any], rank: int, stated: list[str]) -> dict[str, Any]:
    """Load, tell, save."""
    from suite import preload

    preload.load(preload.PACKAGES, host=not job["device"])
    if not job["device"]:
        from suite import stand_in

        stand_in.install()
    from suite import checkpoints, compare, families
    from suite.ranks import models, sabotage, shards

    size = models.Size(job["axis"], job["ranks"])
    models.start(size, families.SEED, device=job["device"])
    folder = Path(job["folder"])
    model = models.model(job["family"], job["spec"], size, folder, seed=99)
    if job["device"]:
        model.cuda()
    sentinels = checkpoints.forget(model)
    stated.append(LOADING)
    into = model
    if not sabotage.before_load(rank):  # the others load together, so this rank does, into nothing
        into = models.model(job["family"], job["spec"], size, folder, seed=99)
    condition, refused = load(into, Path(job["load"]))
    sabotage.loaded(model, rank)
    problems = compare.untouched(sentinels, checkpoints.parameters(model))
    stage = rank if size.axis == "pp" else 0
    held = models.held(model, rank, stage)
    checkpoints.save(model, Path(job["save"]), quick=True)
    said = {"condition": condition and condition.text, "refused": refused}
    return {"rank": rank, "problems": problems, "held": shards.data(held), **said}


if __name__ == "__main__":
    sys.exit(main())
