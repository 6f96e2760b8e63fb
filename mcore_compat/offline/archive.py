"""A bundle's entries → an archive, parts of one, or a folder: same entries, same bytes."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

from mcore_compat.base import files
from mcore_compat.base.errors import InfrastructureError, UsageError
from mcore_compat.offline.node import run_script
from mcore_compat.offline.node.run_script import PARTS, SUMS, SUMS_DIGEST, TOP, RefusedError, sums

MOMENT = 315532800
"""1980-01-01, of every file: the earliest that all tools can write."""

MANIFEST = ".manifest"
"""How the file beside parts ends that has the digest of their manifest."""

START = Path(run_script.__file__)


@dataclass(frozen=True, kw_only=True)
class BundleFile:
    """A file of a bundle: where its content is, and its SHA-256 where that was known before."""

    name: str
    source: Path | bytes
    sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class SavedBundle:
    """What was written: its files, their size together, and the digest of the manifest."""

    files: tuple[Path, ...]
    size: int
    manifest: str


class _HashedReader:
    """A file that is read once, and its digest."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self._digest.update(data)
        return data

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()


class _PartWriter:
    """Writes to one file after the other, each of at most `size` bytes; one file without."""

    def __init__(self, folder: Path, name: str, size: int | None) -> None:
        self._folder, self._name, self._size = folder, name, size
        self._out: IO[bytes] | None = None
        self._digest = hashlib.sha256()
        self._left = 0
        self.total = 0
        self.sums: dict[str, str] = {}

    def write(self, data: bytes) -> int:
        rest = memoryview(data)
        while rest:
            if self._left == 0:
                self._next()
            assert self._out is not None
            now = rest[: self._left]
            self._out.write(now)
            self._digest.update(now)
            self._left -= len(now)
            rest = rest[len(now) :]
        self.total += len(data)
        return len(data)

    def _next(self) -> None:
        self.close()
        # Zeros in front, so that a thousand parts are in order wherever names are sorted.
        number = f".{len(self.sums) + 1:03d}" if self._size else ""
        self._out = (self._folder / f"{self._name}{number}").open("xb")
        self._digest = hashlib.sha256()
        self._left = self._size or 1 << 62

    def close(self) -> None:
        if self._out is None:
            return
        with self._out as out:
            out.flush()
            os.fsync(out.fileno())
        self.sums[Path(out.name).name] = self._digest.hexdigest()
        self._out = None


def save(entries: Sequence[BundleFile], output: Path, part_size: int | None = None) -> SavedBundle:
    """Write an archive to `output`, or parts beside it: `output.001` and on, their list, and the
    `run.py` that reads them. Whole or not at all.

    Raises:
        InfrastructureError: the disk is full, or a file is not what it was said to be.
        UsageError: as `refuse`.
    """
    refuse(output, part_size)
    with files.disk_errors(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name}."))
        try:
            split = _PartWriter(fresh, output.name, part_size)
            try:
                manifest = _write(entries, split)
            finally:
                split.close()
            if part_size:
                shutil.copyfile(START, fresh / "run.py")
                split.sums["run.py"] = files.sha256_file(START)
                (fresh / f"{output.name}{MANIFEST}").write_text(f"{manifest}\n")
                (fresh / f"{output.stem}{PARTS}").write_text(_sums(split.sums))
            made = _put(fresh, output)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return SavedBundle(files=made, size=split.total, manifest=manifest)


def manifest_of(output: Path) -> str | None:
    """The digest of the manifest of parts that were made; None where that is not told."""
    try:
        return output.with_name(f"{output.name}{MANIFEST}").read_text(encoding="utf-8").strip()
    except OSError:
        return None


def manifest(entries: Sequence[BundleFile]) -> str:
    """The digest of the manifest that a bundle of these entries has."""
    found = {}
    for entry in entries:
        source = entry.source
        digest = files.sha256_bytes(source) if isinstance(source, bytes) else entry.sha256
        found[entry.name] = digest or files.sha256_file(Path(str(source)))
    return files.sha256_bytes(_sums(found).encode())


def refuse(output: Path, part_size: int | None) -> None:
    """Refuse a place where parts would take that of a `run.py` which is of no bundle.

    Raises:
        UsageError: there is one.
    """
    there = output.parent / "run.py"
    if not part_size or not there.exists():
        return
    ours = {files.sha256_file(START)}
    with contextlib.suppress(RefusedError):  # there is no earlier bundle of that name
        ours.add(sums(output.parent / f"{output.stem}{PARTS}").get("run.py", ""))
    if not there.is_file() or files.sha256_file(there) not in ours:
        raise UsageError(f"--output: {there} is of no bundle; name another folder for the parts")


def _put(fresh: Path, output: Path) -> tuple[Path, ...]:
    """Move what was made to its place; what an earlier bundle of that name left goes."""
    names = sorted(path.name for path in fresh.iterdir())
    part = re.compile(rf"{re.escape(output.name)}\.\d{{3,}}")
    old = {output.name, f"{output.stem}{PARTS}", f"{output.name}{MANIFEST}"}
    old |= {path.name for path in output.parent.iterdir() if part.fullmatch(path.name)}
    for name in sorted(old):
        (output.parent / name).unlink(missing_ok=True)
    # The list last: parts without one are no bundle yet.
    for name in sorted(names, key=lambda n: n.endswith(PARTS)):
        os.chmod(fresh / name, 0o644)
        os.replace(fresh / name, output.parent / name)
    return tuple(output.parent / name for name in names)


def _write(entries: Sequence[BundleFile], out: _PartWriter) -> str:
    """Write the archive; the digest of its manifest, which comes last, for then it is known."""
    found: dict[str, str] = {}
    # In a stream, so that the parts need no second pass.
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as archive:  # type: ignore[call-overload]
        for entry in sorted(entries, key=lambda e: e.name):
            with _opened(entry) as (source, size):
                hashed = _HashedReader(source)
                archive.addfile(_info(entry.name, size), hashed)
            found[entry.name] = _checked(entry, hashed.digest)
        for name, data in _manifest(found):
            archive.addfile(_info(name, len(data)), io.BytesIO(data))
    return files.sha256_bytes(_sums(found).encode())


def lay_out(entries: Sequence[BundleFile], folder: Path) -> str:
    """The bundle unpacked, for this machine; large files are linked where that can be. The digest
    of its manifest.

    Raises:
        InfrastructureError: as `save`.
    """
    found: dict[str, str] = {}
    with files.disk_errors(folder):
        for entry in sorted(entries, key=lambda e: e.name):
            path = folder / entry.name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(entry.source, bytes):
                path.write_bytes(entry.source)
            else:
                _link(entry.source, path)
            found[entry.name] = _checked(entry, files.sha256_file(path))
        for name, data in _manifest(found):
            (folder / name).write_bytes(data)
    return files.sha256_bytes(_sums(found).encode())


def _link(source: Path, path: Path) -> None:
    if source.suffix == ".whl":
        with contextlib.suppress(OSError):  # another file system
            os.link(source, path)
            return
    shutil.copyfile(source, path)


def _checked(entry: BundleFile, digest: str) -> str:
    if entry.sha256 not in (None, digest):
        raise InfrastructureError(
            f"{entry.source!s} is not what was downloaded or built; remove it"
        )
    return digest


def _manifest(found: dict[str, str]) -> Iterator[tuple[str, bytes]]:
    text = _sums(found).encode()
    yield SUMS, text
    yield SUMS_DIGEST, _sums({SUMS: files.sha256_bytes(text)}).encode()


def _sums(found: dict[str, str]) -> str:
    """In the form of `sha256sum`, which can check it, too."""
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(found.items()))


@contextlib.contextmanager
def _opened(entry: BundleFile) -> Iterator[tuple[BinaryIO, int]]:
    if isinstance(entry.source, bytes):
        yield io.BytesIO(entry.source), len(entry.source)
        return
    with entry.source.open("rb") as source:
        yield source, os.fstat(source.fileno()).st_size


def _info(name: str, size: int) -> tarfile.TarInfo:
    """Nothing of this machine: no owner, no time, no mode but the plain one."""
    info = tarfile.TarInfo(f"{TOP}/{name}")
    info.size, info.mtime, info.mode = size, MOMENT, 0o644
    return info
