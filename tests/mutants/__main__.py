"""`nox -s mutants -- [options]`: break cells on purpose, print and write the score."""

from __future__ import annotations

import argparse
import signal
import sys
from collections import Counter
from fnmatch import fnmatchcase

from mcore_compat.base.errors import CompatError, InfrastructureError, Interrupted
from mcore_compat.run import context as contexts
from mutants import CELLS, score
from mutants.asking import ERROR, MISSED, NOTICED
from mutants.faults import catalogue
from mutants.session import Ends, Session


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line; ends the process with code 2 where it is wrong."""
    parser = argparse.ArgumentParser(prog="nox -s mutants --", description=__doc__)
    parser.add_argument("--cell", action="append", help=f"default: {' and '.join(CELLS)}")
    parser.add_argument("--only", default="*", help="comma-separated ids of faults; globs")
    parser.add_argument("--unnoticed", action="store_true", help="only those not noticed so far")
    parser.add_argument("--resume", action="store_true", help="only those not tried by this suite")
    parser.add_argument("--jobs", type=int, default=1, help="faults at a time")
    parser.add_argument("--list", action="store_true", help="say where faults fit; run nothing")
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    """0: all were noticed that a host can notice; 1: one was missed; else as the program's other
    commands end."""
    options = parse(argv)
    if options.jobs < 1:
        print(f"mutants: --jobs {options.jobs}: at least 1", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    faults = catalogue()
    words = options.only.split(",")
    chosen = {n: f for n, f in faults.items() if any(fnmatchcase(n, word) for word in words)}
    if not chosen:
        print(f"no fault is named {options.only}", file=sys.stderr)
        return 2
    known = score.read()
    ends: Ends = []
    try:
        context = contexts.context()
        for name in options.cell or CELLS:
            run = Session(name, context, faults)
            asked = {"resume": options.resume, "unnoticed": options.unnoticed}
            todo = {n: f for n, f in chosen.items() if run.wanted(known, f, **asked)}
            if options.list:
                run.listed(todo)
            else:
                ends += run.tried(todo, options.jobs)
    except CompatError as error:
        print(f"mutants: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return Interrupted.exit_code
    if not options.list:
        print(summary(ends))
    return code(ends)


def summary(ends: Ends) -> str:
    """How many faults came to what, in a line."""
    words = Counter(score.shown(verdict.word, fault) for fault, verdict in ends)
    told = [f"{words[NOTICED]} noticed", f"{words[MISSED]} missed"]
    told += [f"{words[word]} {word}" for word in (score.REASONED, ERROR) if words[word]]
    return f"{'; '.join(told)}; of {len(ends)}"


def code(ends: Ends) -> int:
    """What the process ends with; a fault that is missed for a reason does not count."""
    words = {score.shown(verdict.word, fault) for fault, verdict in ends}
    return InfrastructureError.exit_code if ERROR in words else int(MISSED in words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
