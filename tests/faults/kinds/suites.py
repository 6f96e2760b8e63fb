"""A suite that does not keep to its protocol."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from faults.kinds.registry import add
from faults.trial import Trial
from faults.workshop import RUNS, Launch

SUITES = {
    "ends": "ends in the middle with code 0",
    "ends-with-70": "ends in the middle with code 70",
    "half-line": "ends in the middle of a line",
    "half-line-goes-on": "writes half a line, and goes on",
    "twice": "writes a row twice",
    "garbage": "writes garbage",
    "not-utf8": "writes bytes that are not UTF-8",
    "list": "writes a list",
    "deep": "writes a line that is very deep",
    "unknown-event": "writes unknown events",
    "unknown-outcome": "writes an invalid outcome",
    "other-check": "writes a check that it did not announce",
    "nan": "writes seconds that are NaN",
    "infinite": "writes infinite seconds",
    "other-protocol": "starts again, with another protocol",
    "end-early": "says that it has ended, and goes on",
    "truncates": "empties its own events",
    "removes": "removes its own events",
    "closes-output": "closes its output",
    "much-output": "prints five megabytes in a line",
    "leaves-processes": "leaves processes",
    "daemon": "leaves a daemon",
    "hangs": "does nothing for a while",
}


def _suite(trial: Trial, *, fault: str) -> Iterator[Launch]:
    yield Launch(variables={"TOY_FAULT": f"{fault}@{trial.random.randint(1, 9)}"})


for _name, _what in SUITES.items():
    add(
        f"suite-{_name}",
        f"the suite {_what}",
        RUNS,
        partial(_suite, fault=_name),
        codes=(2,),
        share=0.6,
    )
