"""The console command `mcore-compat`; nox sessions call the same `main`."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Sequence

from mcore_compat.base.errors import CompatError, InfrastructureError, Interrupted
from mcore_compat.cli import parsing


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code and prints errors as one line each."""
    with contextlib.suppress(ValueError):  # not in the main thread: its owner has the signals
        # As Ctrl-C: whoever runs a process ends its whole group on the way out.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        call, args = parsing.parse(sys.argv[1:] if argv is None else argv)
        code = call(args)
        sys.stdout.flush()
        return code
    except CompatError as error:
        print(f"mcore-compat: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # `| head`: who read has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return InfrastructureError.exit_code
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"mcore-compat: {where}{error.strerror or error}", file=sys.stderr)
        return InfrastructureError.exit_code
    except KeyboardInterrupt:
        print("mcore-compat: interrupted; the next run continues", file=sys.stderr)
        return Interrupted.exit_code
