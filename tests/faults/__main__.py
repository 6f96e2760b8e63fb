"""`nox -s faults -- [options]`: put faults in place, print and write what they came to."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

import faults
from faults import real_cell, score, session
from faults.kinds import REGISTRY
from faults.trial import Kind
from faults.workshop import Make, Workshop

TOTAL = 1000
EACH = 3
"""Injections of a kind, where only some are chosen."""

SEED = 17
INSIDE = "FAULTS_INSIDE"

WELL, FOUND, USAGE, INTERRUPTED = 0, 1, 2, 130


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line; ends the process with code 2 where it is wrong."""
    parser = argparse.ArgumentParser(
        prog="nox -s faults --",
        description=faults.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kinds", default="*", help="comma-separated names; globs")
    parser.add_argument("--sample", type=_count, help=f"so many injections, not {TOTAL}")
    parser.add_argument("--again", metavar="KIND/NUMBER", help="one injection")
    parser.add_argument("--seed", type=int, default=SEED, help=f"default: {SEED}")
    parser.add_argument("--jobs", type=_count, default=2, help="injections at a time (2)")
    parser.add_argument(
        "--renew", action="store_true", help="some kinds again, and their rows of the score"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the score there, too")
    parser.add_argument("--cell", metavar="NAME", help="a real cell of the cache, not the toys")
    parser.add_argument("--list", action="store_true", help="only name the kinds")
    return parser.parse_args(argv)


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}: at least 1")
    return number


def chosen(globs: str) -> dict[str, Kind]:
    """The kinds that are meant; every glob must mean one.

    Raises:
        LookupError: one means none.
    """
    words = [word for word in globs.split(",") if word]
    for word in words:
        if not any(fnmatchcase(name, word) for name in REGISTRY):
            raise LookupError(f"no kind is named {word}")
    return {n: k for n, k in REGISTRY.items() if any(fnmatchcase(n, word) for word in words)}


def alone(word: str) -> tuple[dict[str, Kind], session.Todo]:
    """One injection, by the name that a session printed.

    Raises:
        LookupError: there is no such kind, or no number.
    """
    name, _, number = word.partition("/")
    if name not in REGISTRY or not number.isdecimal():
        raise LookupError(f"{word} is no KIND/NUMBER of an injection")
    return {name: REGISTRY[name]}, [(REGISTRY[name], int(number))]


def main(argv: list[str]) -> int:
    """0: all was met well; 1: something was not."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # A shell starts what goes on in the background with these ignored, and so would the commands be
    # that are to be interrupted: nothing would be tried.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    try:
        return _main(argv)
    except KeyboardInterrupt:
        return INTERRUPTED


def _main(argv: list[str]) -> int:
    options = parse(argv)
    try:
        kinds, todo = alone(options.again) if options.again else (chosen(options.kinds), None)
    except LookupError as error:
        print(f"faults: {error}", file=sys.stderr)
        return USAGE
    make: Make = Workshop
    if options.cell:
        kinds = real_cell.kinds_of(kinds)
        todo = [(kinds[kind.name], number) for kind, number in todo or ()] or None
        make = partial(real_cell.RealWorkshop, cell=options.cell)
    if options.list:
        for name, kind in sorted(kinds.items()):
            print(f"{name}: {kind.what} ({', '.join(kind.commands)})")
        return WELL
    if INSIDE not in os.environ and (inside := _inside()):
        # Mounts of its own: they end with this process, however that ends.
        os.environ[INSIDE] = "1"
        os.execvp(inside[0], [*inside, sys.executable, "-m", "faults", *argv])
    why = _why_not(kinds)
    able = [kind for name, kind in kinds.items() if name not in why]
    if options.renew:
        every = [kind for name, kind in REGISTRY.items() if name not in _why_not(REGISTRY)]
        all_ = session.planned(every, TOTAL, options.seed)
        todo = [(kind, number) for kind, number in all_ if kind.name in kinds]
    if todo is None:
        whole = options.kinds == "*" and not options.cell
        total = options.sample or (TOTAL if whole else EACH * len(able))
        todo = session.planned(able, total, options.seed)
    started = time.monotonic()
    print(f"{len(todo)} injections of {len(able)} kinds, seed {options.seed}", flush=True)
    jobs = min(options.jobs, len(todo)) or 1
    run = session.Session(options.seed, jobs, lambda line: print(line, flush=True), make)
    verdicts = run.run(todo)
    result = score.of(verdicts, kinds, why, options.seed)
    print(score.shown(result))
    print(f"{(time.monotonic() - started) / 60:.1f} minutes")
    if options.json:
        options.json.write_text(score.dumped(result))
    if options.renew:
        score.write(score.renewed(result))
    elif not (options.again or options.sample or options.cell) and options.kinds == "*":
        score.write(result)
    return FOUND if score.failed(result) else WELL


def _why_not(kinds: Mapping[str, Kind]) -> dict[str, str]:
    """The kinds that cannot be tried here, and why."""
    missing = session.missing()
    found = {}
    for name, kind in kinds.items():
        for need in kind.needs:
            if need in missing:
                found[name] = f"needs {need}: {missing[need]}"
    return found


def _inside() -> list[str]:
    """How to get mounts of one's own: as root, else as root of a name space of users; empty where
    neither is allowed."""
    if shutil.which("unshare") is None:
        return []
    words = ["unshare", "--mount", "--propagation", "private"]
    for more in ([], ["--user", "--map-root-user"]):
        done = subprocess.run([*words, *more, "true"], capture_output=True, check=False)
        if done.returncode == 0:
            return [*words, *more]
    return []


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
