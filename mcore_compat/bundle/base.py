"""On the other machine: what of a cell is installed over the torch and TE that are there. Pure.

What is there stays. Installed are megatron-core and ModelOpt, what is not there, and what is there
in a version that a package which is installed does not admit. torch and what comes with it always
stay; TE does where it is there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from packaging.requirements import Requirement
from packaging.version import Version

from mcore_compat.errors import UsageError

SUBJECTS = ("megatron-core", "nvidia-modelopt", "nvidia-modelopt-core")
"""What a cell is about: always the cell's own."""


@dataclass(frozen=True, kw_only=True)
class Base:
    """A Python with packages: version by name, and the CUDA that its torch was built for."""

    installed: Mapping[str, str]
    cuda: str | None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The names of what is installed; `unmet` tells which of their requirements are not met."""

    install: tuple[str, ...]
    unmet: tuple[str, ...]


def plan(
    packages: Sequence[Mapping[str, Any]],
    base: Base,
    requires: Callable[[Mapping[str, Any]], Iterable[str]],
    cuda: int,
) -> Plan:
    """What is installed of a cell's `packages` over `base`; `requires` reads a package's own
    requirements, `cuda` is what the cell's torch was built for.

    Raises:
        UsageError: torch or TE is missing, or a package was compiled for another torch.
    """
    if "torch" not in base.installed:
        raise UsageError("this Python has no torch to go over; run it with one that has")
    te = any(name.startswith("transformer-engine") for name in base.installed)
    stays = {p["name"] for p in packages if p["of"] == "torch" or (p["of"] == "te" and te)}
    by_name = {p["name"]: p for p in packages if p["name"] not in stays}
    wanted = {n for n in by_name if n in SUBJECTS or n not in base.installed}
    while True:
        more = {
            need.name
            for need, _ in _unmet(wanted, by_name, base.installed, requires)
            if need.name in by_name and need.name not in wanted
        }
        if not more:
            break
        wanted |= more
    for name in sorted(wanted):
        _check(by_name[name], base, cuda)
    there = {n: v for n, v in base.installed.items() if n not in wanted}
    said = sorted({
        f"{of['name']} {of['version']} requires {need.name}{need.specifier}, "
        f"{there.get(need.name, 'none')} is there"
        for need, of in _unmet(wanted, by_name, there, requires)
        if need.name not in wanted
    })  # fmt: skip
    return Plan(install=tuple(sorted(wanted)), unmet=tuple(said))


def _unmet(
    wanted: Iterable[str],
    by_name: Mapping[str, Mapping[str, Any]],
    there: Mapping[str, str],
    requires: Callable[[Mapping[str, Any]], Iterable[str]],
) -> Iterator[tuple[Requirement, Mapping[str, Any]]]:
    """The requirements of what is installed that what is there does not meet, with whose it is."""
    for name in wanted:
        for text in requires(by_name[name]):
            need = Requirement(text)
            need.name = normal(need.name)
            if need.marker and not need.marker.evaluate({"extra": ""}):
                continue
            version = there.get(need.name)
            if version is None or not need.specifier.contains(version, prereleases=True):
                yield need, by_name[name]


def _check(package: Mapping[str, Any], base: Base, cuda: int) -> None:
    name = package["name"]
    if not package["files"]:
        raise UsageError(f"{name} was left out of this bundle, and this Python has none")
    bound = package["bound"]
    if bound is None:
        return
    here = base.installed["torch"]
    if Version(here).base_version != bound or Version(here).is_prerelease:
        raise UsageError(
            f"{name} of this bundle was compiled for torch {bound}, this Python has {here}; make a "
            f"bundle with --without '{name}' as well, or of a cell with that torch"
        )
    if base.cuda and int(base.cuda.split(".")[0]) != cuda:
        raise UsageError(
            f"{name} of this bundle was compiled for CUDA {cuda}, the torch here for {base.cuda}"
        )


def normal(name: str) -> str:
    """A distribution's name as the index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()
