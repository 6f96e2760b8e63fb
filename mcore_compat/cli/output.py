"""Standard output and error as a command finds them: closed, full, or of an encoding that lacks
what is printed."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys

from mcore_compat.base.errors import InfrastructureError

ESCAPED = "mcore-compat-escaped"


def _escaped(error: UnicodeError) -> tuple[str, int]:
    r"""What an encoding lacks as `\uXXXX`: also where it stands in JSON that still means it."""
    assert isinstance(error, UnicodeEncodeError)
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    numbers = (units[at : at + 2].hex() for at in range(0, len(units), 2))
    return "".join(f"\\u{number}" for number in numbers), error.end


codecs.register_error(ESCAPED, _escaped)


def prepare() -> None:
    """Let every text be printed, and let no file that is opened be taken for a standard stream.

    Raises:
        InfrastructureError: standard output is closed: nobody would see an answer.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # to the very end
    if sys.stdout is None:
        raise InfrastructureError("standard output is closed; to print nothing: >/dev/null")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ESCAPED)


def finish() -> None:
    """See that all was printed.

    Raises:
        BrokenPipeError: who reads has enough.
        InfrastructureError: it could not be written.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise InfrastructureError(f"standard output: {error.strerror or error}") from None


def abandon() -> None:
    """Let go of what cannot be printed: Python would try again as it ends, and complain."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            with contextlib.suppress(OSError):  # a stand-in has no number
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)


def complain(line: str) -> None:
    """Print an error; where standard error is full or nobody reads it, the exit code tells."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)
