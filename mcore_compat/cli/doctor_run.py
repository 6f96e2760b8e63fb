"""`doctor --run`: the suite in an environment of the user's own, and evidence of it.

No cell: there is no lock, what is installed is recorded as it is, and nothing goes into `reports/`.
Nothing is installed there and no file of it changes; pytest comes from the suite's own folder.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout
from rich.console import Console

from mcore_compat.analysis.doctor import pins_of, valid
from mcore_compat.base import files
from mcore_compat.base.errors import InfrastructureError, UsageError
from mcore_compat.cli import commands
from mcore_compat.core.cells import AXES
from mcore_compat.core.outcomes import CellOutcome
from mcore_compat.environments import creation, process_variables
from mcore_compat.environments.scan import Installed
from mcore_compat.results import evidence, verdict
from mcore_compat.results.evidence import Evidence
from mcore_compat.run import engine, pipeline, runner
from mcore_compat.run.check_sets import MAIN
from mcore_compat.run.context import Context, Options
from mcore_compat.run.runner import Place

NAME = "compat-current"
OUTPUT = Path(f"{NAME}.json")
OLDEST = (3, 10)
"""The oldest Python that the suite runs on."""


def doctor(args: argparse.Namespace) -> int:
    """Say what is wrong with an environment, and with `--run` what the suite shows there.

    Raises:
        CompatError: bad input, or a failure of the surroundings.
    """
    given = [name for name in ("output", "only", "limit") if getattr(args, name) is not None]
    if given and not args.run:
        raise UsageError(f"--{given[0]} goes with --run")
    if not args.run:
        return commands.doctor_(python=args.python, verbose=args.verbose)
    if args.only and args.output:
        raise UsageError("--output: with --only no evidence is written, a part is no verdict")
    runner.need_limit(args.limit)
    output = Path(os.path.abspath(args.output or OUTPUT))
    if not args.only:
        _check_place(output)
    python, there, _ = commands.examined(args.python, verbose=args.verbose)
    python = Path(os.path.abspath(python))  # links stay: they are what makes an environment
    # A project of the user's own may be searched, too (PYTHONPATH): files may be put there.
    packages = [p for p in there.places if p.name in ("site-packages", "dist-packages")]
    if any(output.is_relative_to(place) for place in packages):
        raise UsageError(f"--output: {output} lies in the environment, which is not to change")
    here = commands.context()
    found = suite_in(python, there, Options(only=args.only, limit=args.limit), here)
    if not args.only:
        write(found, output)
    return _tell(found, output, here, part=bool(args.only))


def _check_place(output: Path) -> None:
    """See that evidence can go to a place, before minutes are spent on it."""
    if output.is_relative_to(files.ROOT / "reports"):
        raise UsageError(f"--output: {output} lies in reports/, which holds cells alone")
    if output.is_dir() or not output.parent.is_dir():
        what = "is a folder" if output.is_dir() else f"has no folder {output.parent}"
        raise UsageError(f"--output: {output} {what}")


def suite_in(python: Path, there: Installed, options: Options, here: Context) -> Evidence:
    """Evidence of an environment: the suite, run with its `python`.

    Raises:
        UsageError: it lacks what the suite is about.
        EvidenceError: the suite cannot run.
        InfrastructureError: no tools and no network, or the suite ended early.
    """
    base = _base(python, there)
    site = _site(there)
    variables = process_variables.inherited(
        python, site, process_variables.driver_stub(site, here.run)
    )
    try:
        tools = creation.tools(python=python, uv=here.uv, run=here.run, say=here.say)
    except InfrastructureError as error:
        raise InfrastructureError(
            f"pytest is fetched once, beside the environment, and that failed: {error}"
        ) from None
    logs = engine.logs_of(NAME, MAIN)
    logs.mkdir(parents=True, exist_ok=True)
    place = Place(
        name=f"the environment of {python}",
        python=python,
        tools=tools,
        variables=variables,
        suite=files.ROOT / "suite",
        logs=logs,
    )
    try:
        # Two runs would write the same events.
        with FileLock(logs.with_suffix(".run"), timeout=0):
            found = engine.ask(MAIN, base, place, options, here)
    except Timeout:
        raise InfrastructureError("another doctor --run is running") from None
    added = sorted(n for n, v in variables.items() if os.environ.get(n) != v)
    return replace(found, platform={**found.platform, "variables_set": added})


def _base(python: Path, there: Installed) -> Evidence:
    """What is known before any check. Versions are of the releases, without what follows a `+`."""
    if tuple(map(int, there.python.split(".")[:2])) < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        raise UsageError(f"{python} is Python {there.python}; the suite needs {wanted} or newer")
    pins = pins_of(there)
    missing = [axis for axis in AXES if axis not in pins]
    if missing:
        raise UsageError(f"nothing to run: {', '.join(missing)} not installed beside {python}")
    for axis, version in pins.items():
        if not valid(version):
            raise UsageError(f"{axis} beside {python} has no valid version: {version!r}")
    return Evidence(
        cell=NAME,
        device_class=evidence.device_class_of(pipeline.device_class()),
        outcome=CellOutcome.UNTESTED,
        reason=None,
        taken=evidence.now(),
        pins={axis: pins[axis] for axis in AXES},
        cuda=int((there.cuda or "0").partition(".")[0]),
        lock="",
        suite=pipeline.suite_digest(),
        wheels={},
    )


def _site(there: Installed) -> Path:
    """The folder that holds torch: where its CUDA libraries lie, too, if it brings them."""
    of_torch = (place for place in there.places if (place / "torch").is_dir())
    return next(of_torch, there.places[-1])  # an editable torch brings none


def write(found: Evidence, output: Path) -> None:
    """Write evidence to a file of its own, whole or not at all.

    Raises:
        EvidenceError: it does not follow its schema.
        InfrastructureError: the disk is full or not writable.
    """
    text = evidence.dumps(found)
    evidence.parse(text, output.name)
    files.write_text(output, text)


def _tell(found: Evidence, output: Path, here: Context, *, part: bool) -> int:
    """Print the verdict as a cell's; the exit code of a cell's run."""
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    others = None if part else () if found.outcome is CellOutcome.COMPATIBLE else commands.others()
    verdict.show(found, others, console, here.matrix.expected)
    if part:
        return 0
    console.print(f"evidence: {output}", markup=False)
    return 0 if commands.as_expected(found, here) else 1
