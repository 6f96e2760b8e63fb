"""On the other machine: what of a cell is installed over the torch and TE that are there. Pure.

What is there stays. Installed are megatron-core and ModelOpt, what is not there, and what is there
in a version that a package which is installed does not admit. torch and what comes with it always
stay; TE does where it is there. What was compiled for another torch is not installed: without TE
nothing can be asked, all else of that kind serves one family, which then says what it lacks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from mcore_compat.base.errors import UsageError

SUBJECTS = ("megatron-core", "nvidia-modelopt", "nvidia-modelopt-core")
"""What a cell is about: always the cell's own."""

UNKNOWN = ""
"""In the place of a version that nobody knows, of a package that is there."""

NO_TORCH = "this Python has no torch to go over; run it with one that has"


@dataclass(frozen=True, kw_only=True)
class BasePython:
    """A Python with packages: version by name, and the CUDA that its torch was built for."""

    installed: Mapping[str, str]
    cuda: str | None


@dataclass(frozen=True, kw_only=True)
class OverlayPlan:
    """The names of what is installed; `unmet` tells which of their requirements are not met, and
    what of the cell is neither installed nor there."""

    install: tuple[str, ...]
    unmet: tuple[str, ...]


def plan(
    packages: Sequence[Mapping[str, Any]],
    base: BasePython,
    requires: Callable[[Mapping[str, Any]], Iterable[str]],
    cuda: int,
) -> OverlayPlan:
    """What is installed of a cell's `packages` over `base`; `requires` reads a package's own
    requirements, `cuda` is what the cell's torch was built for.

    Raises:
        UsageError: torch or TE is missing and not in the bundle, or TE of the bundle was compiled
            for another torch.
    """
    if "torch" not in base.installed:
        raise UsageError(NO_TORCH)
    te = any(name.startswith("transformer-engine") for name in base.installed)
    stays = {p["name"] for p in packages if p["of"] == "torch" or (p["of"] == "te" and te)}
    by_name = {p["name"]: p for p in packages if p["name"] not in stays}
    # Compiled for torch, and not TE: a cell can be asked without it.
    optional = {n: p for n, p in by_name.items() if p["bound"] is not None and p["of"] != "te"}
    unfit = {n: why for n, p in optional.items() if (why := _unfit(p, base, cuda))}
    by_name = {name: package for name, package in by_name.items() if name not in unfit}
    wanted = {n for n in by_name if n in SUBJECTS or n not in base.installed}
    while True:
        more = {
            need.name
            for need, _ in _unmet(wanted, by_name, base.installed, requires)
            if need.name in by_name and need.name not in wanted
            # What was left out and does not fit is told, and no reason to ask nothing.
            if by_name[need.name]["files"] or need.name not in base.installed
        }
        if not more:
            break
        wanted |= more
    for name in sorted(wanted):
        why = _unfit(by_name[name], base, cuda)
        if why:
            way_out = "take a Python that has it, or a bundle with it"
            if by_name[name]["of"] == "te":
                way_out = "take a Python that has TE as well, or a bundle of a cell with that torch"
            raise UsageError(f"{name} of this bundle {why}; {way_out}")
    stays_there = {n: v for n, v in base.installed.items() if n not in wanted}
    unmet = sorted({
        f"{of['name']} {of['version']} requires {need.name}{need.specifier}, "
        f"{stays_there.get(need.name, 'none')} is there"
        for need, of in _unmet(wanted, by_name, stays_there, requires)
        if need.name not in wanted
    })  # fmt: skip
    missing = [f"{name} {why}" for name, why in sorted(unfit.items()) if name not in base.installed]
    return OverlayPlan(install=tuple(sorted(wanted)), unmet=(*unmet, *missing))


def _unmet(
    wanted: Iterable[str],
    by_name: Mapping[str, Mapping[str, Any]],
    there: Mapping[str, str],
    requires: Callable[[Mapping[str, Any]], Iterable[str]],
) -> Iterator[tuple[Requirement, Mapping[str, Any]]]:
    """The requirements of what is installed that what is there does not meet, with whose it is."""
    for name in wanted:
        for text in requires(by_name[name]):
            requirement = Requirement(text)
            requirement.name = canonicalize_name(requirement.name)
            if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
                continue
            version = there.get(requirement.name)
            if version is None or not _admits(requirement, version):
                yield requirement, by_name[name]


def _admits(requirement: Requirement, version: str) -> bool:
    if version == UNKNOWN:
        return not requirement.specifier
    return requirement.specifier.contains(version, prereleases=True)


def _unfit(package: Mapping[str, Any], base: BasePython, cuda: int) -> str | None:
    """Why a package of the bundle cannot be installed over this torch; None where it can."""
    if not package["files"]:
        return "was left out, and this Python has none"
    return other_torch(base, package["bound"], cuda) if package["bound"] else None


def other_torch(base: BasePython, bound: str, cuda: int) -> str | None:
    """In what the torch that is there differs from the one that something was compiled for."""
    version = base.installed["torch"]
    if not _is_release(version, bound):
        return f"was compiled for torch {bound}, this Python has {version}"
    if base.cuda and int(base.cuda.split(".")[0]) != cuda:
        return f"was compiled for CUDA {cuda}, the torch here for {base.cuda}"
    return None


def _is_release(text: str, release: str) -> bool:
    """Whether a torch is that very release, whatever CUDA it was built for: no vendor's build of a
    state before or after it."""
    try:
        version = Version(text)
    except InvalidVersion:
        return False
    return version.base_version == release and not version.is_prerelease
