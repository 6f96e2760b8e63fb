"""Build one wheel that a cell needs, unless the wheelhouse has it."""

from argparse import ArgumentParser, Namespace

from packaging.utils import canonicalize_name

from mcore_compat.base.errors import UsageError, nearest
from mcore_compat.cli import options
from mcore_compat.environments import interpreters
from mcore_compat.environments.wheelhouse import Unbuildable
from mcore_compat.resolve.resolution import Unresolvable
from mcore_compat.results.result import REAL
from mcore_compat.run import pipeline
from mcore_compat.run.context import context


def add_options(parser: ArgumentParser) -> None:
    """What the command takes."""
    options.cell(parser)
    parser.add_argument(
        "package",
        metavar="PACKAGE",
        help="a package of the cell without wheels, e.g. transformer-engine-torch",
    )


def call(args: Namespace) -> int:
    """Build it; 0 also if it cannot be built, which the cell's own run reports."""
    here = context()
    cell = pipeline.chosen(args.cell, here)
    lock = pipeline.lock_of(cell, here)
    if isinstance(lock, Unresolvable):
        raise UsageError(f"{cell.name} cannot be installed: {lock.reason}")
    names = [pin.name for pin in lock.source_only]
    package = canonicalize_name(args.package)
    if package not in names:
        hint = nearest(package, names) or "; all of its packages have wheels"
        raise UsageError(f'{cell.name} builds no package "{args.package}"{hint}')
    python = interpreters.find(cell.python, here.run, here.uv)
    wheels = pipeline.wheels_of(cell, lock, python, here, only=package, extension=REAL)
    if isinstance(wheels, Unbuildable):
        print(f"{wheels.key}: {wheels.reason}")
    else:
        print(", ".join(str(wheel.key) for wheel in wheels))
    return 0
