"""Files of data, and text in JSON or TOML, of which anybody may have made anything."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import msgspec


class DataError(ValueError):
    """What was read is of no use; says why in a few words, without the file's name."""


def text_of(path: Path) -> str:
    """The text of a file.

    Raises:
        FileNotFoundError: there is none.
        DataError: it is no regular file (to read a pipe may take for ever), may not be read, or is
            no text.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise DataError("it is no regular file")
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DataError(error.strerror or str(error)) from None
    except UnicodeDecodeError as error:
        raise DataError(f"it is no text in UTF-8: {error.reason} at byte {error.start}") from None
    except ValueError as error:  # a path with a zero byte
        raise DataError(str(error)) from None


def json_of(text: str | bytes, kind: Any = Any) -> Any:
    """What a text in JSON says, as a type.

    Raises:
        DataError: it is no JSON, not of the type, or nested more deeply than data is.
    """
    try:
        return msgspec.json.decode(text, type=kind)
    except RecursionError:
        raise DataError(DEEP) from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DataError(str(error)) from None


def toml_of(text: str) -> dict[str, Any]:
    """What a text in TOML says.

    Raises:
        DataError: it is no TOML, or nested more deeply than data is.
    """
    import tomllib

    try:
        return tomllib.loads(text)
    except RecursionError:
        raise DataError(DEEP) from None
    except ValueError as error:  # no TOML, or a number that is too long
        raise DataError(str(error)) from None


DEEP = "it is nested too deeply"
