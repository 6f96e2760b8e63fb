"""The line of cells between the two cells, or two containers, of a bisection."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import cached_property

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mcore_compat.analysis import constraints, container_cells
from mcore_compat.analysis.bisect import container_line, package_line, release_line, stack_line
from mcore_compat.analysis.bisect.package_line import End
from mcore_compat.analysis.bisect.release_line import Facts, ReleaseLine
from mcore_compat.base.errors import UsageError, nearest
from mcore_compat.core import containers
from mcore_compat.core.cells import AXES, Cell, is_series, name_of_pin
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
        releases = _Releases(package)
        ends = _end(good, releases, facts, here), _end(bad, releases, facts, here)
        return package_line.between(package, ends, releases.all, facts, patches=args.patches)
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


@dataclass(frozen=True)
class _Releases:
    """All releases of a package. Read from the index once they are needed: a wrong name is refused
    without it."""

    package: str

    @cached_property
    def all(self) -> list[str]:
        return package_index.installable(self.package, package_index.resolvers_client())

    def newest(self, pin: str) -> str:
        """Return the newest release that a pin allows.

        Raises:
            UsageError: there is none; names the nearest.
        """
        allowed = Requirement(pin).specifier
        fits = [version for version in self.all if allowed.contains(version)]
        if not fits:
            hint = nearest(pin.partition("==")[2].removesuffix(".*"), self.all)
            raise UsageError(f"{pin}: the index has no such release with a wheel{hint}")
        return fits[-1]


def _end(cell: Cell, releases: _Releases, facts: Facts, here: Context) -> End:
    """Return a cell with its release of a package: that of its name, else of its lock. Without a
    lock, the newest release stands for a series in its name.

    Raises:
        UsageError: it has no lock, or no such package or release; names the nearest.
    """
    package = releases.package
    pin = next((pin for pin in cell.further if name_of_pin(pin) == package), "")
    if pin and not is_series(pin):
        return End(cell=cell, version=pin.partition("==")[2])
    path = here.workspace.lock(cell.name)
    if not path.exists():
        if pin:
            return package_line.with_release(cell, package, releases.newest(pin), facts)
        raise UsageError(f"{cell.name} has no lock; make it: nox -s lock -- {cell.name}")
    lock = locks.read(path)
    version = lock.version(package)
    if version is None:
        known = (*AXES, *release_line.WORDS, *(pin.name for pin in lock.all_pins))
        raise UsageError(f'--axis: {cell.name} has no "{package}"{nearest(package, known)}')
    return End(cell=cell, version=version)
