"""Writes files completely or not at all, with the same bytes for the same input."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from mcore_compat.base import watched
from mcore_compat.base.errors import InfrastructureError


def home() -> Path:
    """The folder of environments, wheels and logs: `$MCORE_COMPAT_HOME`, else the user's cache."""
    named = os.environ.get("MCORE_COMPAT_HOME")
    if named:
        return Path(named).expanduser().resolve()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "mcore-compat"


def shown(path: Path) -> str:
    """A path as the user would type it: relative if it is below the working directory."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


_OF_THE_DISK = frozenset(
    getattr(errno, name)
    for name in (
        *("ENOSPC", "EDQUOT", "EROFS", "EACCES", "EPERM", "EFBIG", "EIO", "EMFILE", "ENFILE"),
        *("ENOMEM", "ESTALE", "ENOTDIR", "EISDIR", "EEXIST", "ENAMETOOLONG", "ELOOP"),
    )
)
"""Error numbers of writes that fail because of the disk, a limit, or a file in the way."""


@contextlib.contextmanager
def disk_errors(what: Path) -> Iterator[None]:
    """Turn disk errors into one clear `InfrastructureError` that names `what`."""
    try:
        yield
    except OSError as error:
        if error.errno in _OF_THE_DISK:
            raise InfrastructureError(f"cannot write {what}: {error.strerror}") from error
        raise


def in_the_way(path: Path) -> Path | None:
    """A file where `path` needs a folder; None if there is none."""
    there = next(folder for folder in path.absolute().parents if folder.exists())
    return None if there.is_dir() else there


def write_text(path: Path, text: str | Iterable[str], *, durable: bool = True) -> None:
    """Write `text`, or its pieces, to `path` through a temporary file, fsync and rename.

    Not `durable`: without the fsync, for files that can be made again after a power cut. An fsync
    waits for all earlier writes, which may be a whole environment.

    Raises:
        InfrastructureError: the disk is full or not writable; `path` is then unchanged.
    """
    with _replaced(path) as handle, os.fdopen(handle, "w", encoding="utf-8", newline="\n") as out:
        write_into(out, text, durable=durable)


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` as `write_text` does."""
    with _replaced(path) as handle, os.fdopen(handle, "wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())


@contextlib.contextmanager
def _replaced(path: Path) -> Iterator[int]:
    """An open temporary file beside `path`, which replaces `path` if the block succeeds."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with watched.removed(Path(temporary), anyway=False):
            try:
                yield handle
                os.chmod(temporary, 0o644)
                os.replace(temporary, path)
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary)
                raise


def write_into(out: TextIO, text: str | Iterable[str], *, durable: bool) -> None:
    """Write `text`, or its pieces, into an open file, as `write_text` does."""
    for part in (text,) if isinstance(text, str) else text:
        out.write(part)
    out.flush()
    if durable:
        os.fsync(out.fileno())


def write_pages(folder: Path, pages: Iterable[tuple[str, str]]) -> int:
    """Write files, as pairs of name and text, into a new folder. Returns their number."""
    count, there = 0, {""}
    for name, text in pages:
        count += 1
        parent = name.rpartition("/")[0]
        if parent not in there:
            (folder / parent).mkdir(parents=True, exist_ok=True)
            there.add(parent)
        with open(f"{folder}/{name}", "x", encoding="utf-8", newline="\n") as out:
            out.write(text)
    return count


def dump_json(data: Any) -> str:
    """Sorted, indented JSON with a final newline. Keys are strings."""
    return _seen(json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False)) + "\n"


def _seen(text: str) -> str:
    """The same JSON data with each invisible character written as its escape."""
    if text.isascii() and "\x7f" not in text:
        return text
    return "".join(c if c.isprintable() or c == "\n" else _escape(c) for c in text)


def _escape(character: str) -> str:
    return json.dumps(character)[1:-1] if character != "\x7f" else "\\u007f"


Rows = Iterable[Any] | Mapping[str, Any]
"""A list, or a mapping, of which each element is a line."""


def json_with_rows(data: Mapping[str, Any], name: str, rows: Iterable[Any]) -> str:
    """As `dump_json` of a non-empty mapping, with one more key at the end: `name`, a list with one
    element a line."""
    return "".join(json_pieces(data, {name: rows}))


def json_pieces(data: Mapping[str, Any], sections: Mapping[str, Rows]) -> Iterator[str]:
    """As `json_with_rows`, for several keys at the end, and in pieces, so that the whole text is
    never in memory."""
    yield dump_json(data)[:-3]
    for name, rows in sections.items():
        opened, closed = "{}" if isinstance(rows, Mapping) else "[]"
        yield f",\n {json.dumps(name)}: {opened}"
        between = "\n  "
        for row in _lines(rows):
            yield f"{between}{_seen(row)}"
            between = ",\n  "
        yield closed if between == "\n  " else f"\n {closed}"
    yield "\n}\n"


def _lines(rows: Rows) -> Iterator[str]:
    if isinstance(rows, Mapping):
        yield from (f"{json.dumps(key)}:{_encode_sorted(rows[key])}" for key in sorted(rows))
    else:
        yield from map(_encode_sorted, rows)


_encode_sorted = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode


def sha256_bytes(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex digest of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as source:
        while chunk := source.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_tree(folder: Path, pattern: str = "*.py", *, deep: bool = True) -> str:
    """Digest of the names and contents of the files below `folder` that match `pattern`; not
    `deep`: of those directly in the folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob(pattern) if deep else folder.glob(pattern)):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        digest.update(sha256_file(path).encode() + b"\n")
    return digest.hexdigest()
