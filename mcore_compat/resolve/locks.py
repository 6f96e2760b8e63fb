"""The file of a lock: every package of a cell, pinned with hashes, as of a date of its time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.version import InvalidVersion, Version

from mcore_compat.base import files
from mcore_compat.base.errors import InfrastructureError, LockError
from mcore_compat.core.cells import Cell

PLATFORM = "x86_64-manylinux_2_35"
"""With 2_28 whole series fail falsely: a dependency of theirs has no such wheel."""

_PIN = re.compile(r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^ ;\\]+)(?P<rest>.*)")
_HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Pin:
    """One package of a lock; `hashes` are sha256 hex digests of the files that may be taken."""

    name: str
    version: str
    hashes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Lock:
    """A cell's lock: `axes` are the versions that it was made for, `pins` what comes from the
    index, `source_only` what comes from the wheelhouse. `digest` is the sha256 of its text."""

    cell: str
    text: str
    exclude_newer: str
    axes: Mapping[str, str]
    pins: tuple[Pin, ...]
    source_only: tuple[Pin, ...]

    @property
    def all_pins(self) -> tuple[Pin, ...]:
        """Every package, wherever it comes from."""
        return (*self.pins, *self.source_only)

    @property
    def digest(self) -> str:
        return files.sha256_bytes(self.text.encode())

    def version(self, name: str) -> str | None:
        """The version of a package, None where the lock has none of that name."""
        return next((pin.version for pin in self.all_pins if pin.name == name), None)


def head(cell: Cell, date: str, sources: Iterable[str], *, extras: str, body: str) -> str:
    """The comment at the top of a lock; `parse` reads it back."""
    pins = " ".join(f"{axis}=={version}" for axis, version in cell.pins.items())
    return (
        f"# Lock of {cell.name}. Made by `nox -s lock -- {cell.name}`; not edited by hand.\n"
        f"# pins: {pins} cuda=={cell.cuda}\n"
        f"# exclude-newer: {date}\n"
        f"# platform: {PLATFORM}\n"
        f"# ranges declared in extras: {extras}\n"
        f"# source-only: {' '.join(sources)}\n"
        f"# sha256 of what follows: {files.sha256_bytes(body.encode())}\n"
    )


def parse(text: str, where: str) -> Lock:
    """A lock from its text.

    Raises:
        LockError: a line of the head is missing, what follows it is not what was written, or an
            entry is no pin or has no hash; names the line and the way out.
    """
    cell, head = _head_of(text, where)
    sources = set(head["source-only"].split())
    pins = tuple(pins_of(text, where))
    return Lock(
        cell=cell,
        text=text,
        exclude_newer=head["exclude-newer"],
        axes=_axes(head["pins"]),
        pins=tuple(p for p in pins if p.name not in sources),
        source_only=tuple(p for p in pins if p.name in sources),
    )


def _head_of(text: str, where: str) -> tuple[str, dict[str, str]]:
    """The cell of a lock, and what its head says; LockError where what follows is not whole."""
    head: dict[str, str] = {}
    rest = text
    while rest.startswith("# "):
        line, _, rest = rest.partition("\n")
        key, _, value = line[2:].partition(": ")
        head[key] = value
    first = text.splitlines()[0] if text else ""
    match = re.match(r"# Lock of (?P<cell>\S+)\. ", first)
    if match is None or not {"pins", "exclude-newer", "source-only"} <= set(head):
        raise LockError(f"{where} is not a lock of ours; {_remake(where)}")
    if not _whole(head, rest):
        raise LockError(f"{where} is cut short or was edited by hand; {_remake(where)}")
    return match["cell"], head


def _whole(head: Mapping[str, str], rest: str) -> bool:
    try:
        for version in _axes(head["pins"]).values():
            Version(version)
    except InvalidVersion:
        return False
    return head.get("sha256 of what follows") == files.sha256_bytes(rest.encode())


def _axes(pins: str) -> dict[str, str]:
    return dict(word.split("==", 1) for word in pins.split() if "==" in word)


def pins_of(text: str, where: str) -> Iterable[Pin]:
    """The pins of a requirements file with hashes.

    Raises:
        LockError: an entry is no pin or has no hash; names the line.
    """
    entry, started = "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("#") or not line.strip():
            continue
        started = started or number
        entry += " " + line.strip().removesuffix("\\")
        if line.rstrip().endswith("\\"):
            continue
        match = _PIN.match(entry.strip())
        hashes = tuple(h.split(":")[1] for h in _HASH.findall(entry))
        if match is None or not hashes:
            raise LockError(
                f"{where}:{started}: no pin with a hash: {entry.strip()[:60]!r}; {_remake(where)}"
            )
        yield Pin(name=match["name"].lower(), version=match["version"], hashes=hashes)
        entry, started = "", 0
    if entry:
        raise LockError(f"{where}:{started}: cut short; {_remake(where)}")


def _remake(where: str) -> str:
    return f"remake it: nox -s lock -- {Path(where).stem}"


def read(path: Path) -> Lock:
    """The lock at `path`; FileNotFoundError where there is none, LockError as `parse`."""
    return parse(path.read_text(encoding="utf-8", errors="replace"), path.name)


def refuse_other_files(new: Lock, former: Lock) -> None:
    """A release's files never change on an index, only which there are: the index lies, or the
    lock that is there does, where both have a release with no file in common.

    Raises:
        InfrastructureError: names the first such release.
    """
    known = {(pin.name, pin.version): pin.hashes for pin in former.all_pins}
    for pin in new.all_pins:
        hashes = known.get((pin.name, pin.version))
        if hashes and not {*hashes} & {*pin.hashes}:
            raise InfrastructureError(
                f"the index has other files of {pin.name} {pin.version} than the lock of "
                f"{new.cell} names ({pin.hashes[0][:12]}, not {hashes[0][:12]}), and a release's "
                "files never change: ask another index, or remove the lock if it is wrong"
            )


def digest_at(path: Path) -> str:
    """The digest of the lock at `path`, which is whole; its pins are not looked at.

    Raises:
        LockError: its head lacks a line, or what follows is not what was written.
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    _head_of(text, path.name)
    return files.sha256_bytes(text.encode())


def binary_part(lock: Lock) -> str:
    """Requirements, with hashes, of everything that is installed from the index: all but
    source-only."""
    return "".join(
        f"{pin.name}=={pin.version} {' '.join(f'--hash=sha256:{h}' for h in pin.hashes)}\n"
        for pin in lock.pins
    )
