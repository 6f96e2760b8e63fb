"""Read the axes' versions from a requirements file, or from the output of `pip freeze` or `pip
list`. Also reads the files that it names with `-r` and `-c`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import unquote

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from mcore_compat.analysis import constraints
from mcore_compat.analysis.constraints import ALIASES, CUDA, IMPLIED, Constraint
from mcore_compat.analysis.inventory import Inventory
from mcore_compat.base import data
from mcore_compat.base.data import DataError
from mcore_compat.base.errors import UsageError
from mcore_compat.core.cells import is_axis
from mcore_compat.core.combinations import machine

PYTHON = "3.12"
"""The Python that markers are evaluated for."""

_OTHER_FILE = re.compile(r"(?:-r|--requirement|-c|--constraint)(?:\s+|=|(?<=-[rc]))(?P<path>\S.*)")
_EDITABLE = re.compile(r"(?:-e|--editable)(?:\s+|=)(?P<what>.+)")
_HASH = re.compile(r"\s+--hash[= ]\S+")
_LISTED = re.compile(r"(?P<name>[A-Za-z][\w.-]*)\s+(?P<version>\d[\w.+!]*)(?:\s+\S.*)?", re.ASCII)
_HEAD = re.compile(r"Package\s+Version.*|[-\s]+", re.I)
_EGG = re.compile(r"[#&]egg=(?P<name>[\w.-]+)")
_TAG = re.compile(r"@(?:core_|release_)?v(?P<version>\d[\w.]*)(?:[#?/]|$)", re.ASCII)


class LineError(UsageError):
    """An invalid line of a file; the message has the line's number."""


@dataclass
class _Reading:
    """State while files are read."""

    found: list[Constraint] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    others: int = 0
    seen: set[Path] = field(default_factory=set)


def of_text(text: str, path: Path) -> Inventory:
    """Return the inventory of a requirements file; `path`: of the file.

    Raises:
        UsageError: an invalid line, an unknown version, or a named file that does not exist; with
            the file's name and the line's number.
    """
    reading = _Reading(seen={path.resolve()})
    _read(text, path, reading)
    found: dict[str, Constraint] = {}
    for constraint in sorted(reading.found, key=lambda c: IMPLIED in c.text):
        before = found.get(constraint.axis)
        if before and IMPLIED in constraint.text:
            continue
        found[constraint.axis] = _both(before, constraint) if before else constraint
    if not found:
        raise UsageError(f"{path} names none of megatron-core, ModelOpt, TE and torch")
    if reading.others:
        other = "package is" if reading.others == 1 else "packages are"
        reading.notes.append(f"{path}: {reading.others} other {other} left out")
    return Inventory(
        constraints=tuple(found[axis] for axis in sorted(found)), notes=tuple(reading.notes)
    )


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One requirement at a line of a file; `version`: the pinned one, else empty."""

    name: str
    specifier: SpecifierSet
    line: int

    @property
    def version(self) -> str:
        exact = [one.version for one in self.specifier if one.operator in ("==", "===")]
        return exact[0] if exact and not exact[0].endswith(".*") else ""


def entries(text: str, path: Path) -> Iterator[Entry]:
    """Yield the requirements of a file that apply on Linux, without those of files that it names,
    and without packages from an address or folder.

    Raises:
        UsageError: an invalid line; with the file's name and the line's number.
    """
    for number, line in _logical(text):
        listed = _LISTED.fullmatch(line)
        if line.startswith(("-", ".", "/")) or "://" in line or _HEAD.fullmatch(line):
            continue
        try:
            need = Requirement(f"{listed['name']}=={listed['version']}" if listed else line)
            holds = need.marker is None or need.marker.evaluate({**machine(PYTHON)})
        except (InvalidRequirement, RecursionError, ValueError):
            raise LineError(f'{path}: line {number}: invalid requirement "{line}"') from None
        if holds:
            yield Entry(name=canonicalize_name(need.name), specifier=need.specifier, line=number)


def _both(one: Constraint, other: Constraint) -> Constraint:
    """Return the intersection of two constraints on one axis, e.g. of TE's parts, or of a range and
    a pin."""
    if one.specifier == other.specifier:
        return one
    return replace(
        one,
        specifier=one.specifier & other.specifier,
        text=f"{one.text}, {other.text}",
        note="; ".join(filter(None, (one.note, other.note))),
        version=one.version or other.version,
    )


def _read(text: str, path: Path, reading: _Reading) -> None:
    for number, line in _logical(text):
        try:
            _take(line, path, reading)
        except LineError:  # from a file that this one names
            raise
        except UsageError as error:
            raise LineError(f"{path}: line {number}: {error}") from None


def _logical(text: str) -> Iterator[tuple[int, str]]:
    """Yield the logical lines (continued lines joined, without comments and hashes), each with the
    number of its first line."""
    whole, first = "", 0
    for number, raw in enumerate(text.splitlines(), 1):
        line = re.sub(r"(^|\s)#.*$", "", raw) if "egg=" not in raw else raw
        first = first or number
        if line.endswith("\\"):
            whole += line[:-1] + " "
            continue
        line, whole, at, first = _HASH.sub("", whole + line).strip(), "", first, 0
        if line:
            yield at, line
    if whole.strip():
        yield first, _HASH.sub("", whole).strip()


def _take(line: str, path: Path, reading: _Reading) -> None:
    """Read one line."""
    other, editable = _OTHER_FILE.fullmatch(line), _EDITABLE.fullmatch(line)
    if other:
        _follow(other["path"].strip(), path, reading)
    elif editable:
        _from_source(editable["what"], reading)
    elif line.startswith("-") or _HEAD.fullmatch(line):
        return  # an option of pip, or the head of a table
    elif "://" in line.partition(" @ ")[0] or line.startswith((".", "/")):
        _from_source(line, reading)
    else:
        listed = _LISTED.fullmatch(line)
        text = f"{listed['name']}=={listed['version']}" if listed else line
        try:
            need = Requirement(text)
        except (InvalidRequirement, RecursionError, ValueError):
            raise UsageError(f'invalid requirement "{line}"') from None
        _need(need, line, reading)


def _follow(name: str, path: Path, reading: _Reading) -> None:
    if "://" in name:
        raise UsageError(f"{name} is a remote file: download it first")
    target = path.parent / name
    if target.resolve() in reading.seen:
        return
    reading.seen.add(target.resolve())
    try:
        text = data.text_of(target)
    except FileNotFoundError:
        raise UsageError(f"{name} does not exist") from None
    except (DataError, OSError) as error:
        raise UsageError(f"{name} cannot be read: {error}") from None
    _read(text, target, reading)


def _axis(name: str) -> str | None:
    """Return the axis that a package is, or is a part of; None for another package."""
    canonical = canonicalize_name(name)
    if canonical.startswith("nvidia-cuda-runtime"):
        return CUDA
    return ALIASES.get(canonical) if is_axis(canonical) else None


def _need(need: Requirement, line: str, reading: _Reading) -> None:
    """Read one requirement of any package."""
    axis = _axis(need.name)
    if axis is None:
        reading.others += 1
        return
    try:
        applies = need.marker is None or need.marker.evaluate({**machine(PYTHON)})
    except ValueError:
        raise UsageError(f"the marker of {need.name} cannot be evaluated: {need.marker}") from None
    if not applies:
        reading.notes.append(f'"{line}" is not for Python {PYTHON} on Linux: left out')
        return
    if need.url:
        reading.found += _of_address(axis, need.name, need.url)
    elif need.specifier:
        value = str(need.specifier)
        if axis == CUDA:
            reading.found += _of_runtime(value)
        else:
            reading.found += constraints.of_version(axis, value, f"{need.name}{value}")


def _of_runtime(value: str) -> Iterator[Constraint]:
    """Yield the constraint on CUDA that a pinned CUDA runtime implies; torch's build tag may imply
    it, too."""
    for one in constraints.of_version(CUDA, value.removeprefix("=="), f"cuda {value}"):
        yield replace(
            one, text=f"CUDA {one.version or value} {IMPLIED}nvidia-cuda-runtime", note=""
        )


def _from_source(what: str, reading: _Reading) -> None:
    """Read a package from an address or a folder; it may be an axis."""
    egg = _EGG.search(what)
    names = [egg["name"]] if egg else re.findall(r"[A-Za-z][\w-]+", what.partition("@")[0])
    axis = next(filter(None, map(_axis, names)), None)
    if axis is None and re.search(r"/megatron-lm\b", what, re.I):
        axis = "megatron-core"
    if axis is None or axis == CUDA:
        reading.others += 1
        return
    reading.found += _of_address(axis, axis, what)


def _of_address(axis: str, name: str, address: str) -> tuple[Constraint, ...]:
    """Return the constraints of a package from an address: a wheel's version is in its name, a
    repository's in its tag.

    Raises:
        UsageError: neither has a version.
    """
    try:
        file = unquote(address.partition("#")[0]).rpartition("/")[2]
        version = str(parse_wheel_filename(file)[1])
    except InvalidWheelFilename:
        tag = _TAG.search(address)
        if tag is None:
            raise UsageError(f"no version of {name} in {address}; write {axis}==VERSION") from None
        version = tag["version"]
    return constraints.of_version(axis, f"=={version}", f"{name} @ {address}")
