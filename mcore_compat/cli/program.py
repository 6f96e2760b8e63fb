"""A command of `mcore-compat`, from its words to its exit code."""

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
"""What the system says where something cannot be written."""


class Ended(KeyboardInterrupt):
    """By SIGTERM or Ctrl-C. Python ends itself by SIGINT, whatever it was told, where a plain
    KeyboardInterrupt came in the middle of a text that was executed, as by a dataclass."""


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
    except BrokenPipeError:  # `| head`: who read has enough
        return InfrastructureError.exit_code
    except OSError as error:
        return _failed(_told(error))
    except (MemoryError, RuntimeError) as error:
        # Python's own words for what the system refused, as of a thread that it could not start.
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
    """Who interrupts again, out of impatience, would only see a traceback of what ends anyway.
    Where `argv` is not this process's own, its owner goes on, and keeps the signals."""
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
    """What the system refused, of which file."""
    if error.filename is None and error.errno in WRITING:
        try:
            print()  # the system does not say of what: where this fails, it is this
            output.finish()
        except (OSError, InfrastructureError):
            return InfrastructureError(f"standard output: {error.strerror or error}")
    where = f"{error.filename}: " if error.filename else ""
    return InfrastructureError(f"{where}{error.strerror or error}")


def _failed(error: CompatError) -> int:
    output.complain(one_line(error))
    return error.exit_code
