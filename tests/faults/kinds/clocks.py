"""Clocks that jump, and times that cannot be."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from faults.kinds.registry import add
from faults.trial import Trial
from faults.workshop import GOOD, READS, RUNS, Launch

CLOCK = Path(__file__).resolve().parents[1] / "clock"
"""A `sitecustomize` that has a clock of a Python process jump."""

JUMPS = {"forward": 3600.0, "far-forward": 40 * 86400.0, "back": -3600.0}


def _jumps(trial: Trial, *, clock: str, by: float) -> Iterator[Launch]:
    path = f"{CLOCK}{os.pathsep}{trial.shop.toy.variables['PYTHONPATH']}"
    after = str(trial.moment())
    variables = {"PYTHONPATH": path, "CLOCK": clock, "CLOCK_BY": str(by), "CLOCK_AFTER": after}
    yield Launch(variables=variables)


def _taken(trial: Trial, *, when: str) -> Iterator[Launch]:
    path = trial.shop.result(GOOD)
    text = path.read_text()
    taken = json.loads(text)["taken"]
    with trial.edited(path, text.replace(taken, when).encode()):
        yield Launch()


def _modified(trial: Trial, *, seconds: float) -> Iterator[Launch]:
    for folder in (trial.shop.toy.folder, trial.shop.toy.home / "logs", trial.shop.toy.home):
        for path in folder.rglob("*"):
            if not path.is_symlink():
                os.utime(path, (seconds, seconds))
    yield Launch()


for _name, _by in JUMPS.items():
    add(
        f"clock-wall-{_name}",
        f"the time of day jumps by {_by:.0f} s in the middle",
        (*RUNS, "report", "matrix"),
        partial(_jumps, clock="time", by=_by),
    )
for _name in ("forward", "far-forward"):
    add(
        f"clock-monotonic-{_name}",
        f"the machine was suspended: the monotonic clock is ahead by {JUMPS[_name]:.0f} s",
        (*RUNS, "run bare", "matrix"),
        partial(_jumps, clock="monotonic", by=JUMPS[_name]),
    )
for _name, _when in (
    ("future", "2999-01-01T00:00:00Z"),
    ("past", "1970-01-01T00:00:00Z"),
    ("nonsense", "2026-99-99T99:99:99Z"),
):
    add(
        f"clock-result-of-the-{_name}",
        f"a stored result says that it was taken at {_when}",
        ("run", *READS, "report"),
        partial(_taken, when=_when),
        codes=(2,),
    )
for _name, _seconds in (("epoch", 0.0), ("future", 32_503_680_000.0)):
    add(
        f"clock-files-of-the-{_name}",
        "all files have an odd modification time",
        (*RUNS, "report", "show"),
        partial(_modified, seconds=_seconds),
        share=0.5,
    )
