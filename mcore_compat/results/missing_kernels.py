"""Checks that cannot run on a GPU because a wheel was built without its CUDA part. Pure.

Without nvcc, mamba-ssm and causal-conv1d are built without their compiled modules, and the suite
replaces each by an empty module, so that the rest imports. On a GPU a model then calls into it, and
the suite calls that `broken`. The cause is our own module and says nothing about the packages: the
check cannot run here, and becomes `needs-gpu`.
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
"""By compiled module: its distribution, as its wheels are named."""

_MISSED = {
    "AttributeError": re.compile(r"module '(\w+)' has no attribute '\w+'"),
    "KernelReached": re.compile(r"reached a kernel of (\w+): .*"),
    "ImportError": re.compile(r"cannot import name '\w+' from '(\w+)' \(unknown location\)"),
}
"""By exception: the message for a name that an empty module, or one of names alone, lacks."""


def missed(event: Mapping[str, Any], wheels: Iterable[str]) -> str | None:
    """Why a check that failed on a GPU cannot run there, if the cause is a missing compiled module;
    else None. `wheels`: the names of the installed wheels.

    If the wheel has the compiled module (then it is of a platform, not `-none-any`), a missing name
    is a fault of the packages.
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
    """Why a check cannot run that is `blocked` by one that cannot; `before`: the reasons of those,
    by check."""
    name = str(event.get("reason") or "").removesuffix(" is broken")
    if event["outcome"] != "blocked" or name not in before:
        return None
    return f"{name}: {before[name]}"
