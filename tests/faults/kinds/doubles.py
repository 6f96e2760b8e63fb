"""Two commands at a time."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from functools import partial

from faults.kinds.registry import add
from faults.trial import Trial
from faults.workshop import COMMANDS, Launch


def _also(trial: Trial, *, other: str) -> Iterator[Launch]:
    def during(process: subprocess.Popen[bytes]) -> None:
        time.sleep(trial.random.choice((0.0, trial.random.uniform(0, 0.5))))
        second = trial.shop.start(COMMANDS[other].words, Launch())
        trial.others.append((other, second, trial.shop.number))

    trial.during = during
    yield Launch()


TWICE = ("run", "run broken", "run new", "run unlocked", "run bare", "matrix", "report", "refresh")
for _name in (*TWICE, "lock", "collect", "bundle"):
    add(
        f"double-{_name.replace(' ', '-')}",
        f"`{_name}` runs twice at the same time",
        (_name,),
        partial(_also, other=_name),
        share=0.7,
        also=(_name,),
    )
for _name, _other in (
    ("run", "report"),
    ("run", "run broken"),
    ("run", "refresh"),
    ("run", "collect"),
    ("refresh", "lock"),
    ("run", "lock"),
    ("run", "doctor"),
):
    add(
        f"double-{_name}-and-{_other.replace(' ', '-')}",
        f"`{_name}` and `{_other}` run at the same time",
        (_name,),
        partial(_also, other=_other),
        share=0.4,
        also=(_other,),
    )
