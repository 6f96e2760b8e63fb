"""Breaks one thing between ranks on purpose, so that tests can see the checks say so.

Only the environment variable `MCORE_COMPAT_SABOTAGE_RANKS` turns it on. A check that ran while it
was on says so in its details, and the host takes no such evidence.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Any

VARIABLE = "MCORE_COMPAT_SABOTAGE_RANKS"
KINDS = ("change-element", "die", "hang", "raise", "skip-load", "swap-shards")


def active() -> str | None:
    """The kind that is on; ValueError where the variable names none there is."""
    kind = os.environ.get(VARIABLE) or None
    if kind is not None and kind not in KINDS:
        raise ValueError(f"{VARIABLE}={kind}: there are {', '.join(KINDS)}")
    return kind


def before_load(rank: int) -> bool:
    """What the last rank does instead of loading; whether it is to pass on what it loads."""
    kind = active()
    if rank == 1 and kind == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    while rank == 1 and kind == "hang":
        time.sleep(60)
    if rank == 1 and kind == "raise":
        raise KeyError("raised on purpose")
    return not (rank == 1 and kind == "skip-load")


def loaded(model: Any, rank: int) -> None:
    """`swap-shards`: the ranks exchange a weight of the same shape; `change-element`: one element
    of one rank moves by one unit in the last place."""
    kind = active()
    if kind not in ("change-element", "swap-shards"):
        return
    import torch

    named = sorted(model.named_parameters())
    weight = next(one for name, one in named if name.endswith("linear_proj.weight"))
    with torch.no_grad():
        if kind == "swap-shards":
            all_ = [torch.empty_like(weight) for _ in range(torch.distributed.get_world_size())]
            torch.distributed.all_gather(all_, weight.detach())
            weight.copy_(all_[1 - rank])
        elif kind == "change-element" and rank == 1:
            first = weight.view(-1)[:1]
            first.copy_(torch.nextafter(first, torch.full_like(first, float("inf"))))
