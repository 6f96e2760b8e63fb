"""Say what is wrong with an environment, from what is published; changes nothing. With --run, the
suite is run in it, too, and its evidence is written into a file of yours: minutes."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from pathlib import Path

from mcore_compat.analysis import doctor, inside_container, pin_drift, published
from mcore_compat.analysis.around import reading
from mcore_compat.analysis.around.locked import LockedVersions
from mcore_compat.analysis.doctor_report import FORMATS, DoctorReport
from mcore_compat.analysis.package_origin import EXTENSION, PackageOrigin
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
        "--python", type=Path, metavar="PATH", help="its Python; default: the active environment's"
    )
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="say so where all is right, too"
    )
    parser.add_argument(
        "--requirements",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="look at files of pins in place of an environment; nothing is installed",
    )
    options.cell(parser, "--against", help=f"hold the files against its lock: {options.CELL}")
    options.choice(
        parser, "--format", FORMATS, default="text", help="github: annotations of a workflow (text)"
    )
    parser.add_argument("--run", action="store_true", help="run the suite in it; minutes")
    options.output(parser, f"where its evidence goes ({OUTPUT})")
    options.profile(parser)
    options.some_checks(parser, "; writes no evidence")


def call(args: Namespace) -> int:
    """Print what is wrong; 0 where nothing is, with `--run` where the verdict is `compatible`."""
    given = [name for name in ("output", "only", "limit") if getattr(args, name) is not None]
    if given and not args.run:
        raise UsageError(f"--{given[0]} goes with --run")
    if args.only and args.output:
        raise UsageError("--output: with --only no evidence is written, a part is no verdict")
    if args.run and args.format != "text":
        raise UsageError("--format: with --run the answer is the evidence that it writes")
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
        # Not on stdout: whoever reads findings there reads none.
        say(f"nothing is wrong with {report.what}; -v prints what was read")
    return 1 if report.wrong else 0


def _print(report: DoctorReport, args: Namespace) -> None:
    for line in report.lines(args.format, verbose=args.verbose):
        print(line)


def _of_files(args: Namespace) -> int:
    """Hold files of requirements against what was tested."""
    if args.run or args.python:
        raise UsageError("--requirements reads files alone; leave --run and --python out")
    place = workspace.find()
    known = published.load(place.published)
    profile = options.profile_of(args).profile(matrix.load(place.matrix), place.suite)
    locked = LockedVersions(folder=place.locks, cells=known.cells)
    drift = pin_drift.check(args.requirements, known, locked, args.against, profile)
    cells = [remark.cell for remark in drift.remarks if remark.cell]
    report = DoctorReport(
        what=", ".join(map(str, args.requirements)),
        remarks=drift.remarks,
        versions=drift.pins,
        cell=drift.cell,
        results=citation.of_cells(cells, place.results),
    )
    _print(report, args)
    return 1 if report.wrong else 0


def _report(
    python: Path, there: scan.Installed, words: ProfileWords, *, verbose: bool
) -> DoctorReport:
    """All remarks on an environment."""
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
        results=citation.of_cells(cells, place.results),
    )


def _check_place(output: Path) -> None:
    """See that evidence can go to a place, before minutes are spent on it."""
    if output.is_relative_to(workspace.find().reports):
        raise UsageError(f"--output: {output} lies in reports/, which holds cells alone")
    if output.is_dir() or not output.parent.is_dir():
        what = "is a folder" if output.is_dir() else f"has no folder {output.parent}"
        raise UsageError(f"--output: {output} {what}")


def _run(
    python: Path, there: scan.Installed, output: Path, how: Options, profile: ProfileWords
) -> int:
    """Run the suite, write its evidence and print the verdict as a cell's."""
    from mcore_compat.analysis import doctor_run

    python = Path(os.path.abspath(python))  # links stay: they are what makes an environment
    # A project of the user's own may be searched, too (PYTHONPATH): files may be put there.
    packages = [p for p in there.places if p.name in ("site-packages", "dist-packages")]
    if any(output.is_relative_to(place) for place in packages):
        raise UsageError(f"--output: {output} lies in the environment, which is not to change")
    here = context(profile=profile)
    result = doctor_run.suite_in(python, there, how, here)
    if how.only:
        cells.show(result, here, advice=False)
        return cells.part_code(result)
    doctor_run.write(result, output)
    cells.show(result, here)
    print(f"evidence: {output}")
    return cells.verdict_code(result, here)
