"""`doctor --run`: the suite in an environment of the user's own, and evidence of it.

No cell: there is no lock, what is installed is recorded as it is, and nothing goes into `reports/`.
Nothing is installed there and no file of it changes; pytest comes from the suite's own folder.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mcore_compat.analysis.doctor import pins_of, valid
from mcore_compat.base import files
from mcore_compat.base.errors import EvidenceError, InfrastructureError, UsageError
from mcore_compat.core.cells import AXES
from mcore_compat.core.outcomes import CellOutcome
from mcore_compat.environments import creation, process_variables
from mcore_compat.environments.scan import Installed
from mcore_compat.results import evidence
from mcore_compat.results.evidence import Evidence
from mcore_compat.results.from_events import Builder
from mcore_compat.run import machine, pipeline, runner
from mcore_compat.run.pipeline import Context, Options

NAME = "compat-current"
OLDEST = (3, 10)
"""The oldest Python that the suite runs on."""


def suite_in(python: Path, there: Installed, options: Options, context: Context) -> Evidence:
    """Evidence of an environment: the suite, run with its `python`.

    Raises:
        UsageError: it lacks what the suite is about.
        EvidenceError: the suite cannot run.
        InfrastructureError: no tools and no network, or the suite ended early.
    """
    base = _base(python, there)
    site = _site(there)
    variables = process_variables.inherited(
        python, site, process_variables.driver_stub(site, context.run)
    )
    try:
        tools = creation.tools(python=python, uv=context.uv, run=context.run, say=context.say)
    except InfrastructureError as error:
        raise InfrastructureError(
            f"pytest is fetched once, beside the environment, and that failed: {error}"
        ) from None
    builder = Builder(base)
    watch = machine.Watch(machine.device_class())

    def take(event: Mapping[str, Any]) -> None:
        watch.see(event)
        builder.take(event)

    logs = files.home() / "logs" / NAME
    logs.mkdir(parents=True, exist_ok=True)
    context.say(f"running the suite in the environment of {python}")
    try:
        # Two runs would write the same events.
        with FileLock(logs.with_suffix(".run"), timeout=0):
            done = runner.run_suite(
                python=python,
                tools=tools,
                variables=variables,
                logs=logs,
                run=context.run,
                on_event=take,
                on_line=lambda line: context.say(f"  {line}"),
                only=options.only,
                check_limit=options.limit,
            )
    except Timeout:
        raise InfrastructureError("another doctor --run is running") from None
    if builder.problem:
        raise EvidenceError(f"the suite cannot run: {builder.problem.splitlines()[0]}")
    result = builder.evidence()
    if not result.complete:
        raise InfrastructureError(
            f"the suite ended early, with exit code {done.returncode} (log: {logs / 'suite.log'})"
        )
    added = sorted(n for n, v in variables.items() if os.environ.get(n) != v)
    return replace(result, platform={**result.platform, "variables_set": added})


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
        device_class=pipeline.device_class(),
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


def write(result: Evidence, output: Path) -> None:
    """Write evidence to a file of its own, whole or not at all.

    Raises:
        EvidenceError: it does not follow its schema.
        InfrastructureError: the disk is full or not writable.
    """
    text = evidence.dumps(result)
    evidence.parse(text, output.name)
    files.write_text(output, text)
