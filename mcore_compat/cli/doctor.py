"""Say what is wrong with an environment, from published results; changes nothing. With --run, also
runs the suite in it (minutes) and writes the result to a file."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from pathlib import Path

from mcore_compat.analysis import doctor, inside_container, pin_drift, published
from mcore_compat.analysis.around import code, reading, release_ranges
from mcore_compat.analysis.around.locked import LockedVersions
from mcore_compat.analysis.doctor_report import FORMATS, DoctorReport
from mcore_compat.analysis.package_origin import EXTENSION, PackageOrigin
from mcore_compat.analysis.pin_drift import PackageFacts
from mcore_compat.base import processes
from mcore_compat.base.errors import UsageError
from mcore_compat.cli import options
from mcore_compat.core import containers, matrix, releases, source_digests, workspace
from mcore_compat.environments import interpreters, scan
from mcore_compat.results import citation
from mcore_compat.run import cells
from mcore_compat.run.context import Options, context, say
from mcore_compat.run.profile_words import ProfileWords

OUTPUT = Path("compat-current.json")

ANSWERS = "0 nothing is wrong, 1 something is; with --run: 0 compatible for the profile, 1 not"


def add_options(parser: ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "--python",
        type=Path,
        metavar="PATH",
        help="Python of the environment (default: the active environment's)",
    )
    parser.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="also print the versions, those that the packages' code accepts, and minor remarks",
    )
    parser.add_argument(
        "--requirements",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="check requirements files instead of an environment; installs nothing",
    )
    options.cell(
        parser, "--against", help=f"compare the files with the lock of this cell: {options.CELL}"
    )
    options.choice(
        parser,
        "--format",
        FORMATS,
        default="text",
        help="github: annotations of a workflow (default: text)",
    )
    parser.add_argument(
        "--run", action="store_true", help="run the suite in the environment (minutes)"
    )
    options.output(parser, f"file for the result of --run (default: {OUTPUT})")
    options.profile(parser)
    options.some_checks(parser, "; writes no result")


def call(args: Namespace) -> int:
    """Print what is wrong; return 0 if nothing is, with `--run` if the verdict is `compatible`."""
    given = [name for name in ("output", "only", "limit") if getattr(args, name) is not None]
    if given and not args.run:
        raise UsageError(f"--{given[0]} goes with --run")
    if args.only and args.output:
        raise UsageError("--output: --only writes no result, because some checks give no verdict")
    if args.run and args.format != "text":
        raise UsageError("--format: not with --run, which writes its result as JSON to --output")
    if args.requirements:
        return _of_files(args)
    if args.against:
        raise UsageError("--against goes with --requirements")
    output = Path(os.path.abspath(args.output or OUTPUT))
    if args.run and not args.only:
        _check_place(output)
    python = args.python or interpreters.active()
    there = scan.inspect(python, processes.run)
    words = options.profile_of(args)
    report = _report(python, there, words, verbose=args.verbose)
    _print(report, args)
    if args.run:
        return _run(
            python,
            there,
            output,
            Options(only=args.only, limit=args.limit),
            options.profile_of(args),
        )
    if not report.remarks and not args.verbose:
        # Not on stdout: a program that reads remarks there must read none.
        say(f"nothing is wrong with {report.what}; -v prints its versions")
    return 1 if report.wrong else 0


def _print(report: DoctorReport, args: Namespace) -> None:
    for line in report.lines(args.format, verbose=args.verbose):
        print(line)


def _of_files(args: Namespace) -> int:
    """Compare requirements files with published results, or with a cell's lock."""
    if args.run or args.python:
        raise UsageError("--requirements reads only files; leave out --run and --python")
    place = workspace.find()
    known = published.load(place.published)
    facts = PackageFacts(
        locked=LockedVersions(folder=place.locks, cells=known.cells),
        ranges=release_ranges.load(place.version_ranges),
        matrix=matrix.load(place.matrix),
    )
    profile = options.profile_of(args).profile(facts.matrix, place.suite)
    drift = pin_drift.check(args.requirements, known, facts, args.against, profile)
    cells = [remark.cell for remark in drift.remarks if remark.cell]
    report = DoctorReport(
        what=", ".join(map(str, args.requirements)),
        remarks=drift.remarks,
        versions=drift.pins,
        accepted=drift.accepted,
        cell=drift.cell,
        results=citation.of_cells(cells, place.results),
    )
    _print(report, args)
    return 1 if report.wrong else 0


def _report(
    python: Path, there: scan.Installed, words: ProfileWords, *, verbose: bool
) -> DoctorReport:
    """Return the report on an environment."""
    place = workspace.find()
    known = published.load(place.published)
    declared = matrix.load(place.matrix)
    profile = words.profile(declared, place.suite)
    origin = PackageOrigin(
        container=inside_container.inside(os.environ, containers.load(place.containers)),
        releases=releases.load(place.releases),
        with_cuda=tuple(r.when for r in declared.source_only if r.nvcc and r.package == EXTENSION),
        nvcc=reading.has_nvcc(os.environ),
        cuda=there.cuda or "",
    )
    locked = LockedVersions(folder=place.locks, cells=known.cells)
    around = reading.read(there, os.environ, locked)
    digests = source_digests.load(place.digests)
    remarks = doctor.diagnose(
        there, declared, known, os.environ, profile, origin, around, digests, verbose=verbose
    )
    cells = [remark.cell for remark in remarks if remark.cell]
    return DoctorReport(
        what=f"the environment of {python}",
        remarks=remarks,
        versions=doctor.pins_of(there),
        accepted=code.accepted(around.ranges, there.versions),
        results=citation.of_cells(cells, place.results),
    )


def _check_place(output: Path) -> None:
    """Refuse a path that the result cannot be written to, before the suite runs for minutes."""
    if output.is_relative_to(workspace.find().reports):
        raise UsageError(f"--output: {output} is in reports/, which is only for results of cells")
    if output.is_dir() or not output.parent.is_dir():
        what = f"{output} is a folder; name a file"
        what = what if output.is_dir() else f"the folder {output.parent} does not exist"
        raise UsageError(f"--output: {what}")


def _run(
    python: Path, there: scan.Installed, output: Path, how: Options, profile: ProfileWords
) -> int:
    """Run the suite, write the result and print the verdict as for a cell."""
    from mcore_compat.analysis import doctor_run

    python = Path(os.path.abspath(python))  # keeps links, which a virtual environment relies on
    # Other folders (PYTHONPATH) may be the user's project, in which files may be written.
    packages = [p for p in there.places if p.name in ("site-packages", "dist-packages")]
    if any(output.is_relative_to(place) for place in packages):
        raise UsageError(f"--output: {output} is in the environment, which must not change")
    here = context(profile=profile)
    result = doctor_run.suite_in(python, there, how, here)
    if how.only:
        cells.show(result, here, advice=False)
        return cells.part_code(result)
    doctor_run.write(result, output)
    cells.show(result, here)
    print(f"result: {output}")
    return cells.verdict_code(result, here)
