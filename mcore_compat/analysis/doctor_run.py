"""`doctor --run`: run the suite in the user's environment and write the result to a file.

The environment is not a cell: it has no lock, the result lists the installed versions, and nothing
goes into `reports/`. Nothing is installed in it and none of its files change; pytest comes from a
separate folder.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from mcore_compat.analysis.doctor import pins_of
from mcore_compat.base import files
from mcore_compat.base.errors import InfrastructureError, UsageError
from mcore_compat.core.cells import AXES, is_version
from mcore_compat.core.outcomes import CellOutcome
from mcore_compat.environments import process_variables
from mcore_compat.environments.scan import Installed
from mcore_compat.results import store
from mcore_compat.results.result import Result, device_class_of, now
from mcore_compat.run import engine, machine
from mcore_compat.run.check_sets import MAIN
from mcore_compat.run.context import Context, Options
from mcore_compat.run.runner import SuiteEnvironment

NAME = "compat-current"
OLDEST = (3, 10)
"""The oldest Python that the suite runs on."""


def suite_in(python: Path, there: Installed, options: Options, context: Context) -> Result:
    """Run the suite with the environment's `python` and return the result.

    Raises:
        UsageError: the environment lacks an axis, or its Python is too old.
        ResultError: the suite cannot run.
        InfrastructureError: pytest cannot be downloaded, or the suite ended early.
    """
    base = _base(python, there, context)
    site = _site(there)
    variables = process_variables.inherited(
        python, site, process_variables.driver_stub(site, context.run)
    )
    try:
        tools = engine.tools_of(python, context)
    except InfrastructureError as error:
        raise InfrastructureError(
            f"pytest cannot be downloaded (once, into a separate folder): {error}"
        ) from None
    logs = engine.logs_of(NAME, MAIN)
    logs.mkdir(parents=True, exist_ok=True)
    place = SuiteEnvironment(
        name=f"the environment of {python}",
        python=python,
        tools=tools,
        variables=variables,
        suite=context.workspace.suite,
        logs=logs,
    )
    try:
        # Two runs would write into the same events file.
        with FileLock(logs.with_suffix(".run"), timeout=0):
            result = engine.ask(MAIN, base, place, options, context)
    except Timeout:
        raise InfrastructureError("another doctor --run is running; wait for its end") from None
    added = sorted(n for n, v in variables.items() if os.environ.get(n) != v)
    return replace(result, platform={**result.platform, "variables_set": added})


def _base(python: Path, there: Installed, context: Context) -> Result:
    """Return a result without checks. Its versions have no local part (after `+`)."""
    if tuple(map(int, there.python.split(".")[:2])) < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        raise UsageError(f"{python} is Python {there.python}; the suite needs {wanted} or newer")
    pins = pins_of(there)
    missing = [axis for axis in AXES if axis not in pins]
    if missing:
        raise UsageError(f"{', '.join(missing)} not installed for {python}: the suite needs it")
    for axis, version in pins.items():
        if not is_version(version):
            raise UsageError(
                f"invalid version of {axis} in the environment of {python}: {version!r}"
            )
    return Result(
        cell=NAME,
        device_class=device_class_of(machine.device_class()),
        outcome=CellOutcome.UNTESTED,
        reason=None,
        taken=now(),
        pins={axis: pins[axis] for axis in AXES},
        cuda=int((there.cuda or "0").partition(".")[0]),
        lock="",
        suite=MAIN.digest(context.workspace.suite),
        wheels={},
    )


def _site(there: Installed) -> Path:
    """Return the folder that holds torch, and torch's CUDA libraries if it brings them."""
    of_torch = (place for place in there.places if (place / "torch").is_dir())
    return next(of_torch, there.places[-1])  # an editable torch brings none


def write(result: Result, output: Path) -> None:
    """Write a result to a file, completely or not at all.

    Raises:
        ResultError: the result does not follow its schema.
        InfrastructureError: the disk is full or not writable.
    """
    text = store.dumps(result)
    store.parse(text, output.name)
    files.write_text(output, text)
