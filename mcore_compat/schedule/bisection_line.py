"""The line of cells between the two cells, or two containers, of a bisection."""

from __future__ import annotations

import argparse

from packaging.utils import canonicalize_name

from mcore_compat.analysis import constraints, container_cells
from mcore_compat.analysis.bisect import container_line, package_line, release_line, stack_line
from mcore_compat.analysis.bisect.package_line import End
from mcore_compat.analysis.bisect.release_line import Facts, ReleaseLine
from mcore_compat.base.errors import UsageError, nearest
from mcore_compat.core import containers
from mcore_compat.core.cells import AXES, Cell
from mcore_compat.index import package_index
from mcore_compat.publish import cell_records
from mcore_compat.resolve import locks
from mcore_compat.results import store
from mcore_compat.run import machine, pipeline
from mcore_compat.run.context import Context


def facts_of(here: Context) -> Facts:
    """Return the facts that lines are made from."""
    return Facts(
        matrix=here.matrix,
        releases=here.releases,
        cell_of=lambda name: pipeline.chosen(name, here),
    )


def line_of(args: argparse.Namespace, here: Context) -> ReleaseLine:
    """Return the line between the two given cells or containers.

    Raises:
        UsageError: an unknown cell or container, or options that do not fit together.
    """
    facts = facts_of(here)
    if args.from_container or args.to_container:
        return _of_containers(args, facts, here)
    if args.installed:
        raise UsageError("--installed goes with --from-container and --to-container")
    for option in ("good", "bad"):
        if getattr(args, option) is None:
            raise UsageError(f"--{option} is missing: name a cell")
    good, bad = (facts.cell_of(name) for name in (args.good, args.bad))
    package = canonicalize_name(args.axis or "")
    alone = args.axis is None and not args.hold
    if args.axis == stack_line.AXIS or (alone and stack_line.is_meant(good, bad)):
        if args.hold:
            raise UsageError("--hold: not with --axis stack; name the axis to change with --axis")
        return stack_line.between(good, bad, facts)
    if args.axis and args.axis not in release_line.WORDS and package not in AXES:
        if args.hold:
            raise UsageError(f"--hold: not with --axis {package}, which changes only {package}")
        ends = _end(good, package, here), _end(bad, package, here)
        releases = package_index.installable(package, package_index.resolvers_client())
        return package_line.between(package, ends, releases, facts, patches=args.patches)
    words = (args.hold or "").split(",")
    hold = [release_line.axis_of(word.strip()) for word in words if word.strip()]
    for axis in hold:
        if axis not in release_line.STACK:
            raise UsageError(
                f"--hold: {axis} is not part of a stack ({', '.join(release_line.STACK)})"
            )
    return release_line.between(
        good,
        bad,
        facts,
        axis=release_line.axis_of(args.axis) if args.axis else None,
        hold=hold,
        patches=args.patches,
    )


def _of_containers(args: argparse.Namespace, facts: Facts, here: Context) -> ReleaseLine:
    """Return the line from one container, the good one, to another."""
    for option in ("good", "bad", "axis", "hold"):
        if getattr(args, option):
            raise UsageError(f"--{option}: not with --from-container and --to-container")
    if not (args.from_container and args.to_container):
        raise UsageError("--from-container and --to-container go together: name both")
    every = containers.load(here.workspace.containers)
    good, bad = (every.named(name) for name in (args.from_container, args.to_container))
    images = every.between(good, bad)
    mine = machine.device_class()
    stored = [e for e in store.load_all(here.workspace.results) if e.device_class == mine]
    published = cell_records.records(stored, here.matrix)
    beside = constraints.parse(args.installed) if args.installed else ()
    standing = container_cells.standing(images, published, beside=beside)
    return container_line.between(standing, facts, fixed=images[0].name == bad.name)


def _end(cell: Cell, package: str, here: Context) -> End:
    """Return a cell with its release of a package, from the cell's name or its lock.

    Raises:
        UsageError: it has no lock, or no such package; names the nearest.
    """
    asked = dict(pin.split("==") for pin in cell.further if not pin.endswith(".*"))
    if package in asked:
        return End(cell=cell, version=asked[package])
    path = here.workspace.lock(cell.name)
    if not path.exists():
        raise UsageError(f"{cell.name} has no lock; make it: nox -s lock -- {cell.name}")
    lock = locks.read(path)
    version = lock.version(package)
    if version is None:
        known = (*AXES, *release_line.WORDS, *(pin.name for pin in lock.all_pins))
        raise UsageError(f'--axis: {cell.name} has no "{package}"{nearest(package, known)}')
    return End(cell=cell, version=version)
