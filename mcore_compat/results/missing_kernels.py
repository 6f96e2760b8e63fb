"""What a wheel that was built without its CUDA part cannot be asked on a GPU. Pure.

Without nvcc, mamba-ssm and causal-conv1d are built without their compiled modules, and the suite
puts an empty module in the place of each, so that the rest imports. On a GPU a model then calls
into it, and the suite calls that `broken`. It is our own module that falls short, and nothing was
learnt of the packages: the check cannot be asked here, `needs-gpu`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

COMPILED = {
    "causal_conv1d_cuda": "causal_conv1d",
    "flash_attn_2_cuda": "flash_attn",
    "selective_scan_cuda": "mamba_ssm",
}
"""By compiled module, the distribution that it is of, as its wheels are named."""

_MISSED = {
    "AttributeError": re.compile(r"module '(\w+)' has no attribute '\w+'"),
    "KernelReached": re.compile(r"reached a kernel of (\w+): .*"),
    "ImportError": re.compile(r"cannot import name '\w+' from '(\w+)' \(unknown location\)"),
}
"""What Python says of a name that an empty module does not have, and a module of names alone."""


def missed(event: Mapping[str, Any], wheels: Iterable[str]) -> str | None:
    """Why a check that failed on a GPU could not be asked, where that is for want of a compiled
    module; None where it is not. `wheels`: the names of the wheels that are installed.

    Where the compiled module is there, a name that it lacks is the packages' own fault: a wheel
    that has one is of a platform.
    """
    failure = event.get("failure")
    if event["outcome"] != "broken" or not failure or failure["type"] not in _MISSED:
        return None
    match = _MISSED[failure["type"]].fullmatch(failure["message"])
    distribution = COMPILED.get(match[1]) if match else None
    if match is None or distribution is None:
        return None
    for wheel in wheels:
        if wheel.startswith(f"{distribution}-") and wheel.endswith("-none-any.whl"):
            return f"{wheel} was built without its CUDA part, {match[1]}: there was no nvcc for it"
    return None


def passed_on(event: Mapping[str, Any], before: Mapping[str, str]) -> str | None:
    """Why a check was not asked that is `blocked` by one that could not be; `before`: the reasons
    of those, by check."""
    name = str(event.get("reason") or "").removesuffix(" is broken")
    if event["outcome"] != "blocked" or name not in before:
        return None
    return f"{name}: {before[name]}"
