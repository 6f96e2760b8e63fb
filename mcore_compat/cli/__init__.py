"""The console command `mcore-compat`; nox sessions call the same `main`."""

from __future__ import annotations

import signal
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code and prints errors as one line each."""
    patient = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    try:
        if patient:  # Ctrl-C during imports prints no traceback: nothing has begun
            signal.signal(signal.SIGINT, signal.SIG_DFL)
    except ValueError:  # not in the main thread: its owner has the signals
        patient = False
    from mcore_compat.cli import program

    if patient:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return program.run(argv)
