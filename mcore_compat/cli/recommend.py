"""Recommend tested combinations that fit what you have, the best first. Runs nothing.

What you have: versions; `current`, the active environment; a requirements file or the output of
`pip freeze`; a Dockerfile; or an NVIDIA container."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from mcore_compat.analysis import (
    constraints,
    dockerfile,
    inventory,
    published,
    recommend,
    requirements_file,
    untested_releases,
)
from mcore_compat.analysis.constraints import Constraint
from mcore_compat.analysis.grades import Grades
from mcore_compat.analysis.install_line import InstallFacts
from mcore_compat.analysis.inventory import Inventory
from mcore_compat.analysis.recommend import Advice
from mcore_compat.base import data, processes
from mcore_compat.base.data import DataError
from mcore_compat.base.errors import UsageError
from mcore_compat.cli import options
from mcore_compat.core import containers, matrix, releases, source_digests, workspace
from mcore_compat.core.profiles import DEFAULT
from mcore_compat.core.workspace import Workspace
from mcore_compat.environments import interpreters, scan
from mcore_compat.publish import constraints_files

ANSWERS = "0 the best that fits is compatible for the profile, 1 none that fits is"

CURRENT = "current"


def add_options(parser: ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "constraints",
        nargs="*",
        metavar="TEXT",
        help='"torch 2.9, modelopt >=0.39"; current: the active environment; or a file, as with -r',
    )
    parser.add_argument(
        "-r",
        "--requirement",
        action="append",
        default=[],
        metavar="FILE",
        help="a requirements file, the output of pip freeze, or a Dockerfile",
    )
    parser.add_argument(
        "--container",
        metavar="IMAGE",
        help="the packages of an NVIDIA container, e.g. pytorch:25.06",
    )
    parser.add_argument(
        "--python", type=Path, metavar="PATH", help="with current: Python of the environment"
    )
    least = options.at_least(1, "-n: at least one must be shown")
    options.profile(parser)
    parser.add_argument(
        "-n", type=least, default=5, metavar="N", help="how many to show (default: 5)"
    )


def call(args: Namespace) -> int:
    """Print the recommendations; return 1 if none that fits is compatible for the profile."""
    place = workspace.find()
    there = inventory.together([*_inventories(args, place)])
    facts = InstallFacts(matrix=matrix.load(place.matrix), releases=releases.load(place.releases))
    constraints.refuse_mistyped(there.constraints, facts.releases)
    profile = options.profile_of(args).profile(facts.matrix, place.suite)
    known = published.load(place.published).cells
    advice = recommend.advise(there.constraints, known, profile or DEFAULT)
    advice = replace(advice, notes=(*there.notes, *advice.notes))
    folder = place.reports / constraints_files.FOLDER
    untested = () if advice.cells or advice.tested else _untested(there.constraints, advice, place)
    for line in recommend.lines(advice, folder, facts, args.n, untested):
        print(line)
    return 0 if advice.good else 1


def _untested(wishes: Sequence[Constraint], advice: Advice, place: Workspace) -> Iterator[str]:
    """Yield known failures of exactly the requested releases, which were not run together; these
    lines recommend nothing."""
    known, facts = published.load(place.published), releases.load(place.releases)
    near = recommend.closest(wishes, known.cells, advice.profile)
    pins = untested_releases.wished(wishes, near.cell, facts) if near else None
    if pins is None or not any(c.version for c in wishes):
        return
    spelt = ", ".join(f"{axis} {version}" for axis, version in pins.items())
    declared = matrix.load(place.matrix)
    if refused := untested_releases.refused(pins, declared, facts):
        yield f"cannot be installed: {spelt}"
        yield from (f"  {reason}" for reason in refused)
        return
    yield f"not run: {spelt}"
    for graded in Grades(known, source_digests.load(place.digests)).of(pins):
        cells = graded.checks.values()
        mine = {c.check for cell in cells for c in cell.asked if advice.profile.takes(c)}
        yield from (f"  {line}" for line in untested_releases.told(graded, mine))
    if ask := untested_releases.command(pins, declared, facts):
        yield f"  test it in a minute or two: {ask}"


def _inventories(args: Namespace, place: Workspace) -> Iterator[Inventory]:
    """Yield the inventory of each source; that of the words on the command line last."""
    words = [word for word in args.constraints if word != CURRENT]
    named = [word for word in words if _is_file(word)]
    if CURRENT in args.constraints or args.python:
        python = args.python or interpreters.active()
        yield inventory.of_installed(scan.inspect(python, processes.run))
    if args.container is not None:
        yield inventory.of_container(containers.load(place.containers).named(args.container))
    for name in (*args.requirement, *named):
        yield _of_file(Path(name), place)
    if text := " ".join(word for word in words if word not in named):
        yield inventory.of_words(text)


def _is_file(word: str) -> bool:
    try:
        return Path(word).is_file()
    except (OSError, ValueError):  # too long for a path, or a zero byte in it
        return False


def _of_file(path: Path, place: Workspace) -> Inventory:
    try:
        text = data.text_of(path)
    except FileNotFoundError:
        raise UsageError(f"-r: {path} does not exist") from None
    except DataError as error:
        raise UsageError(f"-r: {path} cannot be read: {error}") from None
    if dockerfile.is_one(text):
        return dockerfile.of_text(text, path, containers.load(place.containers))
    return requirements_file.of_text(text, path)
