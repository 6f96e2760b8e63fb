"""Runs a command of `mcore-compat`: from its arguments to its exit code."""

from __future__ import annotations

import contextlib
import errno
import signal
import sys
from collections.abc import Sequence

from mcore_compat.base import exhaustion
from mcore_compat.base.errors import CompatError, InfrastructureError, Interrupted, one_line
from mcore_compat.cli import output, parsing

WRITING = (errno.EBADF, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC)
"""Error numbers of failed writes."""

CLOSED_PIPE = 128 + signal.SIGPIPE
"""The exit code if `| head` has enough: that of programs which SIGPIPE ends. No error is printed,
as nothing failed."""


class Ended(KeyboardInterrupt):
    """SIGTERM or Ctrl-C. After a plain KeyboardInterrupt inside `exec`, as in a dataclass, Python
    ends itself by SIGINT, whatever exit code was set."""


def _end(number: int, frame: object) -> None:
    raise Ended


def run(argv: Sequence[str] | None) -> int:
    """Run one command; returns its exit code and prints errors as one line each."""
    with contextlib.suppress(ValueError):  # not in the main thread: its owner has the signals
        # As Ctrl-C: whoever runs a process ends its whole group on the way out.
        signal.signal(signal.SIGTERM, _end)
        if argv is None and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, _end)
    try:
        output.prepare()
        return _run(sys.argv[1:] if argv is None else argv)
    except CompatError as error:
        return _failed(error)
    except OSError as error:
        return CLOSED_PIPE if output.reader_ended() else _failed(_told(error))
    except (MemoryError, RuntimeError) as error:
        # How Python reports exhausted resources, for instance a thread that could not start.
        why = exhaustion.line_of([f"{type(error).__name__}: {error}"])
        if why is None:
            raise
        return _failed(InfrastructureError(why))
    except KeyboardInterrupt:
        _ignore_more(argv)
        return _failed(Interrupted("interrupted; the next run continues"))
    finally:
        _ignore_more(argv)
        output.abandon()


def _ignore_more(argv: Sequence[str] | None) -> None:
    """Ignore further signals: they would only print a traceback of a process that ends anyway. If
    `argv` was given, the caller goes on and keeps its signal handlers."""
    if argv is None:
        with contextlib.suppress(ValueError):  # not in the main thread
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGINT, signal.SIG_IGN)


def _run(argv: Sequence[str]) -> int:
    try:
        call, args = parsing.parse(argv)
        code = call(args)
    except SystemExit:  # help was printed
        output.finish()
        raise
    output.finish()
    return code


def _told(error: OSError) -> CompatError:
    """The error of a file as a message with its name."""
    if error.filename is None and error.errno in WRITING:
        try:
            print()  # the error names no file: find out whether it is standard output
            output.finish()
        except (OSError, InfrastructureError):
            return InfrastructureError(f"standard output: {error.strerror or error}")
    where = f"{error.filename}: " if error.filename else ""
    return InfrastructureError(f"{where}{error.strerror or error}")


def _failed(error: CompatError) -> int:
    output.complain(one_line(error))
    return error.exit_code
