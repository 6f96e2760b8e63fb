"""On the node: decides which packages of a cell to install over an existing torch and TE. Pure.

Existing packages stay. It installs megatron-core and ModelOpt, missing packages, and packages whose
existing version does not satisfy an installed one. torch and what belongs to it always stay, and so
does an existing TE. Packages compiled for another torch are not installed: without TE nothing can
run; the others serve one family, whose checks then report what is missing.
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
"""The packages under test: always those of the cell."""

UNKNOWN = ""
"""Stands for the unknown version of an installed package."""

NO_TORCH = "this Python has no torch; use one that has it"


@dataclass(frozen=True, kw_only=True)
class BasePython:
    """A Python with packages: version by name, and the CUDA that its torch was built for."""

    installed: Mapping[str, str]
    cuda: str | None


@dataclass(frozen=True, kw_only=True)
class OverlayPlan:
    """The names of the packages to install; `unmet`: requirements that are not satisfied, and
    packages of the cell that are missing."""

    install: tuple[str, ...]
    unmet: tuple[str, ...]


def plan(
    packages: Sequence[Mapping[str, Any]],
    base: BasePython,
    requires: Callable[[Mapping[str, Any]], Iterable[str]],
    cuda: int,
) -> OverlayPlan:
    """Which of a cell's `packages` to install over `base`; `requires` reads the requirements of a
    package, `cuda` is the CUDA that the cell's torch was built for.

    Raises:
        UsageError: torch or TE is missing and not in the bundle, or the bundle's TE was compiled
            for another torch.
    """
    if "torch" not in base.installed:
        raise UsageError(NO_TORCH)
    te = any(name.startswith("transformer-engine") for name in base.installed)
    stays = {p["name"] for p in packages if p["of"] == "torch" or (p["of"] == "te" and te)}
    by_name = {p["name"]: p for p in packages if p["name"] not in stays}
    # Compiled for torch, but not TE: a cell can run without it.
    optional = {n: p for n, p in by_name.items() if p["bound"] is not None and p["of"] != "te"}
    unfit = {n: why for n, p in optional.items() if (why := _unfit(p, base, cuda))}
    by_name = {name: package for name, package in by_name.items() if name not in unfit}
    wanted = {n for n in by_name if n in SUBJECTS or n not in base.installed}
    while True:
        more = {
            need.name
            for need, _ in _unmet(wanted, by_name, base.installed, requires)
            if need.name in by_name and need.name not in wanted
            # A package that was left out and does not fit is reported, but not fatal.
            if by_name[need.name]["files"] or need.name not in base.installed
        }
        if not more:
            break
        wanted |= more
    for name in sorted(wanted):
        why = _unfit(by_name[name], base, cuda)
        if why:
            way_out = "use a Python that has it, or a bundle with it"
            if by_name[name]["of"] == "te":
                way_out = "use a Python that also has TE, or a bundle of a cell with that torch"
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
    """The requirements of `wanted` packages that `there` does not satisfy, with the package."""
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
    """Why a package of the bundle cannot be installed over this torch; None if it can."""
    if not package["files"]:
        return "was left out, and this Python does not have it"
    return other_torch(base, package["bound"], cuda) if package["bound"] else None


def other_torch(base: BasePython, bound: str, cuda: int) -> str | None:
    """How the existing torch differs from the one that a package was compiled for, or None."""
    version = base.installed["torch"]
    if not _is_release(version, bound):
        return f"was compiled for torch {bound}, this Python has {version}"
    if base.cuda and int(base.cuda.split(".")[0]) != cuda:
        return f"was compiled for CUDA {cuda}, the torch here for {base.cuda}"
    return None


def _is_release(text: str, release: str) -> bool:
    """Whether a torch is exactly this release, for any CUDA, and not a vendor's build of an earlier
    or later state."""
    try:
        version = Version(text)
    except InvalidVersion:
        return False
    return version.base_version == release and not version.is_prerelease
