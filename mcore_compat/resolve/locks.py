"""Lock files: every package of a cell, pinned with hashes, as of a date."""

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
"""With 2_28 whole series would fail only because a dependency has no such wheel."""

_PIN = re.compile(r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^ ;\\]+)(?P<rest>.*)")
_HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Pin:
    """One package of a lock; `hashes` are the sha256 hex digests of its allowed files."""

    name: str
    version: str
    hashes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Lock:
    """A cell's lock: `axes` are the versions that it was made for, `pins` the packages from the
    index, `source_only` those from the wheelhouse. `digest` is the sha256 of its text."""

    cell: str
    text: str
    exclude_newer: str
    axes: Mapping[str, str]
    pins: tuple[Pin, ...]
    source_only: tuple[Pin, ...]

    @property
    def all_pins(self) -> tuple[Pin, ...]:
        """All packages, from the index and the wheelhouse."""
        return (*self.pins, *self.source_only)

    @property
    def digest(self) -> str:
        return files.sha256_bytes(self.text.encode())

    def version(self, name: str) -> str | None:
        """The version of a package, or None if the lock does not have it."""
        return next((pin.version for pin in self.all_pins if pin.name == name), None)


def head(cell: Cell, date: str, sources: Iterable[str], *, told: tuple[str, str], body: str) -> str:
    """The comment at the top of a lock, which `parse` reads. `told`: from `wishes.told`."""
    dates, extras = told
    further = f"# asked for beside them: {' '.join(cell.further)}\n" if cell.further else ""
    pins = " ".join(f"{axis}=={version}" for axis, version in cell.pins.items())
    return (
        f"# Lock of {cell.name}. Made by `nox -s lock -- {cell.name}`; not edited by hand.\n"
        f"# pins: {pins} cuda=={cell.cuda}\n"
        f"{further}"
        f"# exclude-newer: {date}\n"
        f"# of ModelOpt's time: {dates}\n"
        f"# platform: {PLATFORM}\n"
        f"# ranges declared in extras: {extras}\n"
        f"# source-only: {' '.join(sources)}\n"
        f"# sha256 of what follows: {files.sha256_bytes(body.encode())}\n"
    )


def parse(text: str, where: str) -> Lock:
    """A lock from its text.

    Raises:
        LockError: a line of the head is missing, the rest does not have its checksum, or an entry
            is not a pin or has no hash; names the line and what to do.
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
    """The cell of a lock and the lines of its head by key; LockError if the rest was changed."""
    head: dict[str, str] = {}
    rest = text
    while rest.startswith("# "):
        line, _, rest = rest.partition("\n")
        key, _, value = line[2:].partition(": ")
        head[key] = value
    first = text.splitlines()[0] if text else ""
    match = re.match(r"# Lock of (?P<cell>\S+)\. ", first)
    if match is None or not {"pins", "exclude-newer", "source-only"} <= set(head):
        raise LockError(f"{where} is not a lock file of mcore-compat; {_remake(where)}")
    if not _whole(head, rest):
        raise LockError(f"{where} is truncated or was edited by hand; {_remake(where)}")
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
        LockError: an entry is not a pin or has no hash; names the line.
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
                f"{where}:{started}: not a pin with a hash: {entry.strip()[:60]!r}; "
                f"{_remake(where)}"
            )
        yield Pin(name=match["name"].lower(), version=match["version"], hashes=hashes)
        entry, started = "", 0
    if entry:
        raise LockError(f"{where}:{started}: truncated; {_remake(where)}")


def _remake(where: str) -> str:
    return f"remake it: nox -s lock -- {Path(where).stem}"


def read(path: Path) -> Lock:
    """The lock at `path`; FileNotFoundError if there is none, LockError as `parse`."""
    return parse(path.read_text(encoding="utf-8", errors="replace"), path.name)


def refuse_other_files(new: Lock, former: Lock) -> None:
    """Refuse a new lock that has no file in common with the former lock for the same release: files
    of a release never change on an index, so that either the index or the former lock is wrong.

    Raises:
        InfrastructureError: names the first such release.
    """
    known = {(pin.name, pin.version): pin.hashes for pin in former.all_pins}
    for pin in new.all_pins:
        hashes = known.get((pin.name, pin.version))
        if hashes and not {*hashes} & {*pin.hashes}:
            raise InfrastructureError(
                f"the index has other files of {pin.name} {pin.version} than the lock of "
                f"{new.cell} ({pin.hashes[0][:12]}, not {hashes[0][:12]}), but a release's files "
                "never change; use another index, or remove the lock if it is wrong"
            )


def digest_at(path: Path) -> str:
    """The digest of the lock at `path`, after its checksum is verified; its pins are not parsed.

    Raises:
        LockError: a line of the head is missing, or the rest does not have its checksum.
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    _head_of(text, path.name)
    return files.sha256_bytes(text.encode())


def binary_part(lock: Lock) -> str:
    """The packages from the index, all but the source-only ones, as requirements with hashes."""
    return "".join(
        f"{pin.name}=={pin.version} {' '.join(f'--hash=sha256:{h}' for h in pin.hashes)}\n"
        for pin in lock.pins
    )
