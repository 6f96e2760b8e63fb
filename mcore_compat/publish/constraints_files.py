"""Stage results → constraints files for pip and uv: the tested environment of each cell that can be
recommended. Pure."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from packaging.version import InvalidVersion, Version

from mcore_compat.analysis import install_line
from mcore_compat.analysis.install_line import InstallFacts, InstallLine
from mcore_compat.base.foreign import line, plain
from mcore_compat.core.outcomes import FAILURES
from mcore_compat.results import verdict
from mcore_compat.results.repairs import Repair
from mcore_compat.results.result import Result

FOLDER = "constraints"
"""The folder of the constraints files, beside the report."""

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
"""A package name, as PEP 508 defines it."""


@functools.cache
def _pin(name: str, version: str) -> str | None:
    """A line that pins a package; None if its name or version is invalid."""
    try:
        valid = _NAME.fullmatch(name) and version.isascii() and Version(version)
    except InvalidVersion:
        return None
    return f"{name}=={version.strip()}" if valid else None


class TestedEnvironment(NamedTuple):
    """A cell that can be recommended: its result, the pin that repairs it, its packages, and how to
    make its environment."""

    result: Result
    repair: Repair | None
    pins: Mapping[str, str]
    install: InstallLine


def texts(environments: Mapping[str, TestedEnvironment]) -> dict[str, str]:
    """By cell name: the text of a constraints file for pip and uv, for each of `environments`."""
    return {name: text_of(one) for name, one in environments.items()}


def environments(
    results: Sequence[Result],
    facts: InstallFacts,
    repairs: Mapping[tuple[str, str], Repair] | None = None,
) -> dict[str, TestedEnvironment]:
    """By cell name: each cell that can be recommended. A repaired cell has the pins with which it
    works, not those of its lock.

    If a cell has results of both device classes, the one of the GPU counts. Environment variables
    come from either, if both have the same lock.
    """
    known = {(e.cell, e.lock): e.variables for e in results if e.variables is not None}
    found = {}
    for name, e in recommendable(results).items():
        repair = (repairs or {}).get((name, e.device_class))
        pins = _pins(_installed(e, repair))
        variables = known.get((name, e.lock)) if e.variables is None else e.variables
        line = facts.line(pins, e.pins["python"], variables)
        found[name] = TestedEnvironment(result=e, repair=repair, pins=pins, install=line)
    return found


def recommendable(results: Sequence[Result]) -> dict[str, Result]:
    """By cell name: the results of cells that can be recommended."""
    best = {e.cell: e for e in sorted(results, key=lambda e: e.device_class != "host")}
    return {name: e for name, e in sorted(best.items()) if verdict.restores_all(e)}


def _installed(e: Result, repair: Repair | None) -> Mapping[str, str]:
    return repair.installed if repair else e.installed


def _pins(installed: Mapping[str, str]) -> dict[str, str]:
    """The packages that have a valid name and version."""
    pins = (_pin(*one) for one in sorted(installed.items()))
    return dict(pin.split("==") for pin in pins if pin)


def text_of(tested: TestedEnvironment) -> str:
    """The text of a constraints file, with the command that makes the environment."""
    e, repair, pinned, install = tested
    failed = sorted(c.check for c in e.checks if c.outcome in FAILURES)
    lines = [
        f"# {e.cell}: {e.outcome.value}, device class {e.device_class}, {e.taken[:10]}",
        f"# python {e.pins['python']}, CUDA of torch: {e.cuda}",
        f"# The checkpoint restores for: {', '.join(verdict.restoring(e))}.",
    ]
    lines += [f"# Fails: {check}" for check in failed]
    for condition, checks in verdict.conditions(e.checks).items():
        lines.append(f"# Works with a condition: {', '.join(c.check for c in checks)}:")
        lines += [f"#   {plain(one)}" for one in condition.splitlines()]
    if repair:
        moved = (
            f"{name} {old or 'none'} -> {new or 'none'}" for name, (old, new) in _moved(repair)
        )
        lines.append(f"# Repaired: {line(repair.requirement)}; unlike its lock: {', '.join(moved)}")
    pins = [f"{name}=={version}" for name, version in pinned.items()]
    lines.append(f"{install_line.LABEL}{line(install.command(install_line.FILE))}")
    lines += [f"#   {line(note)}" for note in install.notes()]
    lines.append(
        "# The lock of the same name in constraints/locks/ has hashes"
        + (", without the repair." if repair else ".")
    )
    odd = len(_installed(e, repair)) - len(pins)
    if odd:
        lines.append(f"# {odd} of the packages have no valid name or version: left out.")
    return "\n".join([*lines, *pins]) + "\n"


def _moved(repair: Repair) -> list[tuple[str, tuple[str | None, str | None]]]:
    """The packages that a repair changes, with old and new version; only valid names and
    versions."""
    return [
        (name, pair)
        for name, pair in sorted(repair.changes.items())
        if all(version is None or _pin(name, version) for version in pair)
    ]
