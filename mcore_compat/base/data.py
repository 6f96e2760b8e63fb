"""Reads data files and JSON or TOML text that may be malformed in any way."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from mcore_compat.base.errors import MatrixError

T = TypeVar("T")


class DataError(ValueError):
    """The data cannot be used; says why in a few words, without the file's name."""


def text_of(path: Path) -> str:
    """The text of a file.

    Raises:
        FileNotFoundError: the file does not exist.
        DataError: it is not a regular file (reading a pipe may block forever), permission is
            denied, or it is not text.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise DataError("not a regular file")
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DataError(error.strerror or str(error)) from None
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8 text: {error.reason} at byte {error.start}") from None
    except ValueError as error:  # a path with a zero byte
        raise DataError(str(error)) from None


def of_file(path: Path, parse: Callable[[str, str], T], missing: T, remake: str) -> T:
    """What `parse` makes of a file's text and name; `missing` if the file does not exist.

    Raises:
        MatrixError: as `parse`, or the file cannot be read; `remake` is the remedy.
    """
    try:
        return parse(text_of(path), path.name)
    except FileNotFoundError:
        return missing
    except DataError as error:
        raise MatrixError(f"{path.name} cannot be read ({error}); {remake}") from None


def json_of(text: str | bytes, kind: Any = Any) -> Any:
    """Decode JSON text as `kind`.

    Raises:
        DataError: it is not JSON, does not match the type, or is nested too deeply.
    """
    try:
        return msgspec.json.decode(text, type=kind)
    except RecursionError:
        raise DataError(DEEP) from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DataError(str(error)) from None


def toml_of(text: str) -> dict[str, Any]:
    """Decode TOML text.

    Raises:
        DataError: it is not TOML, or is nested too deeply.
    """
    import tomllib

    try:
        return tomllib.loads(text)
    except RecursionError:
        raise DataError(DEEP) from None
    except ValueError as error:  # not TOML, or a number that is too long
        raise DataError(str(error)) from None


DEEP = "nested too deeply"
