"""Standard output and error that may be closed or full, or have an encoding that lacks a
character."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import select
import sys

from mcore_compat.base.errors import InfrastructureError

ESCAPED = "mcore-compat-escaped"


def _escaped(error: UnicodeError) -> tuple[str, int]:
    r"""A character that the encoding lacks, as `\uXXXX`, which JSON reads back."""
    assert isinstance(error, UnicodeEncodeError)
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    numbers = (units[at : at + 2].hex() for at in range(0, len(units), 2))
    return "".join(f"\\u{number}" for number in numbers), error.end


codecs.register_error(ESCAPED, _escaped)


def prepare() -> None:
    """Make every text printable; keep files that are opened later from becoming standard streams.

    Raises:
        InfrastructureError: standard output is closed.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # to the very end
    if sys.stdout is None:
        raise InfrastructureError("standard output is closed; to print nothing: >/dev/null")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ESCAPED)


def finish() -> None:
    """Flush what was printed.

    Raises:
        BrokenPipeError: the reader closed the pipe.
        InfrastructureError: it could not be written.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise InfrastructureError(f"standard output: {error.strerror or error}") from None


def reader_ended() -> bool:
    """Whether standard output or error is a pipe that nobody reads any more, as after `| head`."""
    ends = select.poll()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # a replaced stream has no file number
            ends.register(stream.fileno(), 0)
    return any(event & select.POLLERR for _, event in ends.poll(0))


def abandon() -> None:
    """Discard what cannot be printed: else Python tries again at its exit, and reports an error."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            with contextlib.suppress(OSError):  # a replaced stream has no file number
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)


def complain(line: str) -> None:
    """Print an error; if standard error cannot be written, the exit code alone says so."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)
