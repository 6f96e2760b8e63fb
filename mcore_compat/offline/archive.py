"""Writes a bundle's files as an archive, parts of one, or a folder, reproducibly."""

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
"""The time of every file, 1980-01-01: the earliest that all tools can write."""

MANIFEST = ".manifest"
"""The suffix of the file beside the parts that has the digest of their manifest."""

RUN_SCRIPT = Path(run_script.__file__)


@dataclass(frozen=True, kw_only=True)
class BundleFile:
    """A file of a bundle: its content or where it is, and its expected SHA-256, if known."""

    name: str
    source: Path | bytes
    sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class SavedBundle:
    """A written bundle: its files, their total size, and the digest of the manifest."""

    files: tuple[Path, ...]
    size: int
    manifest: str


class _HashedReader:
    """Reads a file once and computes its digest."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self.sha256 = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self.sha256.update(data)
        return data


class _PartWriter:
    """Writes a stream to files of at most `size` bytes each; None: to one file."""

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
            chunk = rest[: self._left]
            self._out.write(chunk)
            self._digest.update(chunk)
            self._left -= len(chunk)
            rest = rest[len(chunk) :]
        self.total += len(data)
        return len(data)

    def _next(self) -> None:
        self.close()
        # Leading zeros, so that sorted names are in order.
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


def save(
    bundle_files: Sequence[BundleFile], output: Path, part_size: int | None = None
) -> SavedBundle:
    """Write an archive to `output`, or parts beside it (`output.001` and so on), their list, and
    the `run.py` that reads them. Writes everything or nothing.

    Raises:
        InfrastructureError: the disk is full, or a file does not have its expected digest.
        UsageError: as `refuse`.
    """
    refuse(output, part_size)
    with files.disk_errors(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name}."))
        try:
            parts = _PartWriter(folder, output.name, part_size)
            try:
                digest = _write(bundle_files, parts)
            finally:
                parts.close()
            if part_size:
                shutil.copyfile(RUN_SCRIPT, folder / "run.py")
                parts.sums["run.py"] = files.sha256_file(RUN_SCRIPT)
                (folder / f"{output.name}{MANIFEST}").write_text(f"{digest}\n")
                (folder / _list_of_parts(output).name).write_text(_sums(parts.sums))
            saved = _put(folder, output)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return SavedBundle(files=saved, size=parts.total, manifest=digest)


def wrong_parts(output: Path, digest: str) -> Iterator[str]:
    """What is wrong with the parts of a bundle whose manifest should have this digest, as text."""
    try:
        for name, sha256 in sorted(sums(_list_of_parts(output)).items()):
            path = output.parent / name
            if not path.is_file() or files.sha256_file(path) != sha256:
                yield f"{name} (or it was changed)"
        written = output.with_name(f"{output.name}{MANIFEST}").read_text(encoding="utf-8")
        if written.strip() != digest:
            yield f"{output.name} of the current locks, wheels and suite"
    except (RefusedError, OSError):
        yield f"the parts of {output.name}"


def _list_of_parts(output: Path) -> Path:
    return output.with_name(f"{output.stem}{PARTS}")


def manifest(bundle_files: Sequence[BundleFile]) -> str:
    """The digest of the manifest that a bundle of these files has."""
    digests = {}
    for file in bundle_files:
        if isinstance(file.source, bytes):
            digests[file.name] = files.sha256_bytes(file.source)
        else:
            digests[file.name] = file.sha256 or files.sha256_file(file.source)
    return _manifest_digest(digests)


def refuse(output: Path, part_size: int | None) -> None:
    """Refuse to overwrite a `run.py` that does not belong to a bundle.

    Raises:
        UsageError: there is one.
    """
    script = output.parent / "run.py"
    if not part_size or not script.exists():
        return
    ours = {files.sha256_file(RUN_SCRIPT)}
    with contextlib.suppress(RefusedError):  # no earlier bundle of that name
        ours.add(sums(_list_of_parts(output)).get("run.py", ""))
    if not script.is_file() or files.sha256_file(script) not in ours:
        raise UsageError(
            f"--output: {script} does not belong to a bundle; name another folder for the parts"
        )


def _put(folder: Path, output: Path) -> tuple[Path, ...]:
    """Move the new files to their place and remove those of an earlier bundle of that name."""
    part = re.compile(rf"{re.escape(output.name)}(\.\d{{3,}}|{re.escape(MANIFEST)})?")
    for path in [path for path in output.parent.iterdir() if part.fullmatch(path.name)]:
        path.unlink()
    _list_of_parts(output).unlink(missing_ok=True)
    names = sorted(path.name for path in folder.iterdir())
    # The list last: without it the parts are not a bundle yet.
    for name in sorted(names, key=lambda n: n.endswith(PARTS)):
        os.chmod(folder / name, 0o644)
        os.replace(folder / name, output.parent / name)
    return tuple(output.parent / name for name in names)


def _write(bundle_files: Sequence[BundleFile], out: _PartWriter) -> str:
    """Write the archive with its manifest at the end, when it is known; returns its digest."""
    digests: dict[str, str] = {}
    # As a stream, so that parts need no second pass.
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as archive:  # type: ignore[call-overload]
        for file in sorted(bundle_files, key=lambda f: f.name):
            content = file.source
            source: BinaryIO
            source = io.BytesIO(content) if isinstance(content, bytes) else content.open("rb")
            with source:
                size = source.seek(0, io.SEEK_END)
                source.seek(0)
                reader = _HashedReader(source)
                archive.addfile(_info(file.name, size), reader)
            digests[file.name] = _checked(file, reader.sha256.hexdigest())
        for name, data in _manifest(digests):
            archive.addfile(_info(name, len(data)), io.BytesIO(data))
    return _manifest_digest(digests)


def lay_out(bundle_files: Sequence[BundleFile], folder: Path) -> str:
    """Write the bundle unpacked, for this machine, with hard links to large files if possible;
    returns the digest of its manifest.

    Raises:
        InfrastructureError: as `save`.
    """
    digests: dict[str, str] = {}
    with files.disk_errors(folder):
        for file in sorted(bundle_files, key=lambda f: f.name):
            path = folder / file.name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(file.source, bytes):
                path.write_bytes(file.source)
            else:
                _link(file.source, path)
            digests[file.name] = _checked(file, files.sha256_file(path))
        for name, data in _manifest(digests):
            (folder / name).write_bytes(data)
    return _manifest_digest(digests)


def _link(source: Path, path: Path) -> None:
    if source.suffix == ".whl":
        with contextlib.suppress(OSError):  # another file system
            os.link(source, path)
            return
    shutil.copyfile(source, path)


def _checked(file: BundleFile, digest: str) -> str:
    if file.sha256 in (None, digest):
        return digest
    assert isinstance(file.source, Path)
    what = f"{files.shown(file.source)} changed since it was downloaded or built"
    if not file.source.is_relative_to(files.home()):
        raise InfrastructureError(f"{what}; remove it")
    file.source.unlink(missing_ok=True)
    raise InfrastructureError(f"{what}, and was removed; run it again")


def _manifest_digest(digests: dict[str, str]) -> str:
    return files.sha256_bytes(_sums(digests).encode())


def _manifest(digests: dict[str, str]) -> Iterator[tuple[str, bytes]]:
    yield SUMS, _sums(digests).encode()
    yield SUMS_DIGEST, _sums({SUMS: _manifest_digest(digests)}).encode()


def _sums(digests: dict[str, str]) -> str:
    """Text in the format of `sha256sum`, which can check it, too."""
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))


def _info(name: str, size: int) -> tarfile.TarInfo:
    """Metadata without properties of this machine: no owner, time or special mode."""
    info = tarfile.TarInfo(f"{TOP}/{name}")
    info.size, info.mtime, info.mode = size, MOMENT, 0o644
    return info
