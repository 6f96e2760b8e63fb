"""The commands `bundle` and `collect`, and `run --base current`: parsers, and what they do."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcore_compat.base.errors import InfrastructureError, UsageError

if TYPE_CHECKING:
    from mcore_compat.offline.archive import BundleFile
    from mcore_compat.offline.packing import PackingOptions
    from mcore_compat.results.evidence import Evidence
    from mcore_compat.run.part_results import Taken
    from mcore_compat.run.pipeline import Context

SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
LEAST = 1 << 20
"""Bytes of a part, at least: below that, nobody wants to carry them."""

CURRENT = ("torch", "transformer-engine*")
"""What `--base` takes from the Python that it runs over."""


def add_parsers(commands: Any) -> None:
    """The parsers of both commands."""
    bundle = commands.add_parser(
        "bundle", help="carry cells to a machine without a network", allow_abbrev=False
    )
    bundle.add_argument("cells", nargs="*", metavar="CELL", help="e.g. compat-0.16-modelopt0.41")
    bundle.add_argument("--output", type=Path, metavar="FILE", help="default: CELL.tar")
    bundle.add_argument("--part-size", metavar="SIZE", help="in parts of this size, e.g. 2G")
    bundle.add_argument(
        "--without",
        default="",
        metavar="NAMES",
        help="what the other machine brings, comma-separated, globs: torch,nvidia-*",
    )
    bundle.add_argument(
        "--base-list",
        type=Path,
        metavar="FREEZE",
        help="what the other machine's Python has, by its pip freeze: only the rest travels",
    )
    bundle.add_argument(
        "--gpu-arch",
        metavar="ARCH",
        help="the other machine's GPU, e.g. sm_90: kernels are compiled for it, by nvcc of torch's "
        "CUDA on this machine",
    )
    bundle.add_argument(
        "--only-arch",
        action="store_true",
        help="TE keeps the GPU code of --gpu-arch alone: a tenth to carry, and the results say so",
    )
    bundle.add_argument(
        "--build-limit", type=float, metavar="SECONDS", help="for each wheel that is built (3600)"
    )
    bundle.add_argument("--plan", type=Path, metavar="FILE", help="all of this in a TOML file")
    bundle.add_argument(
        "--check", action="store_true", help="with --plan: only say what is missing; 1 where it is"
    )
    collect = commands.add_parser(
        "collect", help="take back evidence of a bundle's runs", allow_abbrev=False
    )
    collect.add_argument("paths", nargs="+", type=Path, metavar="FILE|FOLDER")


def run(args: argparse.Namespace) -> int:
    """One of the two commands; its exit code."""
    if args.command == "collect":
        return collect(args.paths)
    return bundle(args)


def size_of(text: str) -> int:
    """Bytes of `2G`, `500M`, `1.5G`.

    Raises:
        UsageError: it is not a size, or too small a one.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMG]?)i?B?", text.strip(), re.IGNORECASE)
    if match is None:
        raise UsageError(f'--part-size: "{text}" is no size; write e.g. 500M or 2G')
    size = int(float(match[1]) * SIZES[match[2].upper()])
    if size < LEAST:
        raise UsageError("--part-size: a part has at least 1M")
    return size


def patterns_of(text: str) -> tuple[str, ...]:
    """The patterns of `--without`."""
    return tuple(dict.fromkeys(word.strip().lower() for word in text.split(",") if word.strip()))


def bundle(args: argparse.Namespace) -> int:
    """Write a bundle of cells."""
    from mcore_compat.cli import commands
    from mcore_compat.core import combinations
    from mcore_compat.environments import build_folder
    from mcore_compat.offline import archive, base_list, packing

    if args.plan:
        _planned(args)
    if args.check and not args.plan:
        raise UsageError("--check: say of which --plan")
    if not args.cells:
        raise UsageError("bundle: name a cell, or a --plan")
    if args.build_limit is not None:
        os.environ[build_folder.LIMIT] = str(
            build_folder.seconds(str(args.build_limit), "--build-limit")
        )
    here = commands.context()
    size = size_of(args.part_size) if args.part_size else None
    names = [combinations.named(n, here.matrix, here.releases).name for n in args.cells]
    names = [*dict.fromkeys(names)]
    if args.output is None and len(names) > 1:
        raise UsageError("--output: say where a bundle of several cells goes, e.g. cells.tar")
    target = (Path(f"{names[0]}.tar") if args.output is None else args.output).absolute()
    if target.suffix != ".tar":
        raise UsageError(f"--output: the name of a bundle ends in .tar, not {target.name}")
    archive.refuse(target, size)  # before hours of building
    choice = packing.PackingOptions(
        without=patterns_of(args.without),
        there=base_list.read(args.base_list) if args.base_list else None,
        gpu_arch=args.gpu_arch,
        only_arch=args.only_arch,
    )
    cells = dict.fromkeys(names, choice)
    if args.check:
        return _checked(cells, target, here)
    found = packing.bundle_files(cells, here)
    if args.plan and not _wrong(found, target):
        print(f"nothing to do: {target.name} is made of today's locks, wheels and suite")
        return 0
    made = archive.save(found, target, size)
    for path in made.files:
        print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB")
    print(f"{len(names)} cells in {len(made.files)} files, {made.size / 1e9:.2f} GB")
    print(f"SHA-256 of its manifest: {made.manifest}")
    return 0


def _planned(args: argparse.Namespace) -> None:
    """Take what a plan says, where the command line does not say it."""
    from mcore_compat.offline import plan_file

    plan = plan_file.read(args.plan)
    args.cells = args.cells or list(plan.cells)
    for name in ("output", "base_list", "gpu_arch", "part_size"):
        if getattr(args, name) is None:
            setattr(args, name, getattr(plan, name))


def _checked(cells: Mapping[str, PackingOptions], target: Path, here: Context) -> int:
    """Say what is missing; 1 where something is."""
    from mcore_compat.offline import packing, plan_file

    arch = next(iter(cells.values())).gpu_arch
    wrong = [*dict.fromkeys(plan_file.missing([*cells], arch, here))]
    wrong = wrong or _wrong(packing.bundle_files(cells, here), target)
    for what in wrong:
        print(f"missing: {what}")
    print(f"{len(wrong)} missing" if wrong else f"nothing is missing: {target.name} is ready")
    return 1 if wrong else 0


def _wrong(found: Sequence[BundleFile], target: Path) -> list[str]:
    from mcore_compat.offline import archive

    return [*archive.wrong_parts(target, archive.manifest(found))]


def collect(paths: Sequence[Path]) -> int:
    """Take evidence back; 0 where all was taken, whatever it shows."""
    taken(paths)
    return 0


def taken(paths: Sequence[Path]) -> list[Evidence | Taken]:
    """Take evidence back and print it, one line for each file and each difference to a lock.

    Raises:
        CompatError: a file is refused; nothing is stored then.
    """
    from mcore_compat.base.files import ROOT
    from mcore_compat.core import matrix, releases
    from mcore_compat.offline import collection as taking
    from mcore_compat.offline.verification import Reference
    from mcore_compat.run import pipeline
    from mcore_compat.run.check_sets import PARTS

    known = Reference(
        matrix=matrix.load(),
        releases=releases.load(),
        suite=pipeline.suite_digest(),
        parts={name: part.digest() for name, part in PARTS.items()},
    )
    done = taking.collect(paths, known)
    for path, one, asked, stays in done:
        first, *more = _told(one, asked)
        if stays:
            print(f"{first}; not taken: what is of {stays} stays, this is of {one.taken}")
        else:
            print("\n".join([f"{first}; {os.path.relpath(path, ROOT)}", *more]))
        for name, versions in sorted((one.base or {}).get("differs", {}).items()):
            print(f"  {name}: lock {versions['lock']}, there {versions['there'] or 'none'}")
    return [one.one for one in done]


def _told(one: Evidence | Taken, asked: int) -> list[str]:
    """What came of it: a line, and for a part of the suite why checks did not work."""
    from mcore_compat.cli import part_commands
    from mcore_compat.results import verdict
    from mcore_compat.run.part_results import Taken

    over = f"; over a base, with the lock of {one.base['cell']}" if one.base else ""
    if not one.complete:
        over += f"; incomplete: {len(one.checks)} of {asked} checks"
    if isinstance(one, Taken):
        first, *more = part_commands.lines(one)
        return [f"{first}{over}", *more]
    return [f"{one.cell} ({one.device_class}): {verdict.spelt(one.outcome)}{over}"]


def over_base(
    names: Sequence[str], base: str, *, parts: Sequence[str], only: str | None, limit: float | None
) -> int:
    """Run cells, or `parts` of the suite in them, over the torch and TE of a Python (`current`: the
    one that runs this): a bundle is laid out in a temporary folder, run there as on another
    machine, and its evidence taken back. 0 where nothing speaks against a cell.

    Raises:
        CompatError: as `fitting` and `entries`, or as the bundle's run ended.
    """
    from mcore_compat.cli import commands
    from mcore_compat.offline import archive, packing

    here = commands.context()
    python = sys.executable if base == "current" else shutil.which(base)
    if python is None:
        raise UsageError(f"--base: {base} is no Python; give its path, or current")
    without = fitting(names, Path(python), here)
    with tempfile.TemporaryDirectory(prefix="mcore-compat-") as name:
        folder = Path(name)
        cells = {
            name: packing.PackingOptions(without=patterns) for name, patterns in without.items()
        }
        archive.lay_out(packing.bundle_files(cells, here), folder)
        argv: list[str | Path] = [python, folder / "run.py", "--base", "current"]
        argv += () if limit is None else ("--limit", str(limit))
        argv += ("--only", only) if only else ()
        argv += [f"--{part}" for part in parts]
        done = here.run(argv, timeout=24 * 3600.0, on_line=here.say, grace=30.0)
        # Of one that ended early as well: what was learnt is kept.
        back = taken([folder]) if any(folder.glob("evidence/*/*.json")) else []
        if not done.ok:
            last = (done.output.strip().splitlines() or ["it printed nothing"])[-1]
            kind = UsageError if done.returncode == UsageError.exit_code else InfrastructureError
            raise kind(last.removeprefix("run.py: "))
        return 1 if any(map(_speaks_against, back)) else 0


def fitting(names: Sequence[str], python: Path, here: Context) -> dict[str, tuple[str, ...]]:
    """What a bundle to go over `python` is made without, by cell: torch, TE, and where that is
    another torch than the cell's, what would be compiled for the cell's. Builds nothing.

    Raises:
        UsageError: it has no torch or no TE, or is not the Python of a cell.
    """
    from mcore_compat.environments import scan
    from mcore_compat.offline.node.overlay import NO_TORCH, BasePython, other_torch
    from mcore_compat.resolve.locks import Unresolvable
    from mcore_compat.run import pipeline

    try:
        there = scan.inspect(python, here.run)
    except UsageError:
        raise UsageError(f"--base: {python} is no Python that runs") from None
    if "torch" not in there.versions:
        raise UsageError(f"--base: {NO_TORCH}")
    if not any(name.startswith("transformer-engine") for name in there.versions):
        raise UsageError("--base: this Python has no TE to go over; run it with one that has")
    series = there.python.rpartition(".")[0]
    base = BasePython(installed=there.versions, cuda=there.cuda)
    found: dict[str, tuple[str, ...]] = {}
    for cell in (pipeline.chosen(name, here) for name in names):
        if cell.python != series:
            raise UsageError(
                f"--base: {python} is {series}, {cell.name} is of {cell.python}; name the cell "
                f"with -py{series}"
            )
        found[cell.name] = CURRENT
        lock = pipeline.lock_of(cell, here)
        if not isinstance(lock, Unresolvable) and other_torch(base, cell.torch, cell.cuda):
            found[cell.name] += tuple(pin.name for pin in lock.source_only)
    return found


def _speaks_against(one: Evidence | Taken) -> bool:
    """Whether something that was asked failed."""
    from mcore_compat.core.outcomes import FAILS, CellOutcome
    from mcore_compat.run.part_results import Taken

    if isinstance(one, Taken):
        return any(check.outcome in FAILS for check in one.checks)
    return one.outcome is not CellOutcome.COMPATIBLE
