"""Pack cells for a machine without a network: their wheels, the suite, and a script that installs
and runs them there. `collect` stores the results of these runs here."""

from __future__ import annotations

import os
import re
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path

from mcore_compat.base.errors import UsageError
from mcore_compat.cli import options
from mcore_compat.core import combinations, workspace
from mcore_compat.core.cells import full_name
from mcore_compat.environments import build_folder
from mcore_compat.offline import archive, base_list, packing, plan_file
from mcore_compat.offline.archive import BundleFile
from mcore_compat.offline.packing import PackingOptions
from mcore_compat.run.context import Context, context

SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
LEAST = 1 << 20
"""The minimum size of a part, in bytes."""

MOST = 1 << 60
"""The maximum size of a part, in bytes: no file system has larger files."""

ANSWERS = "0 done, 1 something is missing (with --check)"


def add_options(parser: ArgumentParser) -> None:
    """What the command takes."""
    options.cell(parser, "cells", nargs="*")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="the bundle (default: CELL.tar)"
    )
    parser.add_argument(
        "--part-size", metavar="SIZE", help="split the bundle into parts of this size, e.g. 2G"
    )
    parser.add_argument(
        "--without",
        metavar="NAMES",
        help="leave out packages that the other machine has, comma-separated globs: torch,nvidia-*",
    )
    parser.add_argument(
        "--base-list",
        type=Path,
        metavar="FREEZE",
        help="output of pip freeze on the other machine: pack only what it lacks",
    )
    parser.add_argument(
        "--gpu-arch",
        metavar="ARCH",
        help="the other machine's GPU, e.g. sm_90: compile kernels for it here, with "
        "the nvcc of torch's CUDA version",
    )
    parser.add_argument(
        "--only-arch",
        action="store_true",
        help="keep only TE's GPU code for --gpu-arch: a tenth of the size; the results say so",
    )
    parser.add_argument(
        "--build-limit",
        type=float,
        metavar="SECONDS",
        help="time limit of each wheel's build (default: 3600)",
    )
    parser.add_argument(
        "--plan",
        type=Path,
        metavar="FILE",
        help="read these options and the cells from a TOML file",
    )
    parser.add_argument(
        "--check", action="store_true", help="with --plan: build nothing, only list what is missing"
    )


def call(args: Namespace) -> int:
    """Write a bundle of cells; with `--check` 1 if something is missing for it."""
    if args.plan:
        _take_plan(args)
    elif args.check:
        raise UsageError("--check: needs a plan; add --plan FILE")
    if not args.cells:
        raise UsageError("bundle: no cells; name a cell, or a plan with --plan FILE")
    if args.build_limit is not None:
        os.environ[build_folder.LIMIT] = str(
            build_folder.seconds(str(args.build_limit), "--build-limit")
        )
    here = context()
    size = size_of(args.part_size) if args.part_size else None
    cells = [combinations.named(name, here.matrix, here.releases) for name in args.cells]
    names = [*dict.fromkeys(cell.name for cell in cells)]
    target = _target(args.output, names)
    archive.refuse(target, size)  # before hours of building
    choice = PackingOptions(
        without=patterns_of(args.without or ""),
        there=base_list.read(args.base_list) if args.base_list else None,
        gpu_arch=args.gpu_arch,
        only_arch=args.only_arch,
    )
    choices = dict.fromkeys(names, choice)
    if args.check:
        return _check(choices, target, here)
    entries = packing.bundle_files(choices, here)
    if args.plan and not _outdated(entries, target):
        print(f"nothing to do: {target.name} has the current locks, wheels and suite")
        return 0
    saved = archive.save(entries, target, size)
    for path in saved.files:
        print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB")
    print(f"{len(names)} cells in {len(saved.files)} files, {saved.size / 1e9:.2f} GB")
    print(f"SHA-256 of its manifest: {saved.manifest}")
    return 0


def _take_plan(args: Namespace) -> None:
    """Take from a plan what the command line leaves open."""
    plan = plan_file.read(args.plan, workspace.find().root)
    args.cells = args.cells or list(map(full_name, plan.cells))
    for name in ("output", "base_list", "gpu_arch", "part_size"):
        if getattr(args, name) is None:
            setattr(args, name, getattr(plan, name))


def _target(output: Path | None, names: Sequence[str]) -> Path:
    if output is None and len(names) > 1:
        raise UsageError("--output: required for a bundle of several cells, e.g. cells.tar")
    target = (output or Path(f"{names[0]}.tar")).absolute()
    if target.suffix != ".tar":
        raise UsageError(f"--output: {target.name} does not end in .tar, as a bundle must")
    return target


def size_of(text: str) -> int:
    """Bytes of `2G`, `500M`, `1.5G`.

    Raises:
        UsageError: it is not a size, or out of range.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMG]?)i?B?", text.strip(), re.IGNORECASE)
    if match is None:
        raise UsageError(f'--part-size: invalid size "{text}"; write e.g. 500M or 2G')
    size = float(match[1]) * SIZES[match[2].upper()]
    if size < LEAST:
        raise UsageError("--part-size: must be at least 1M")
    if size > MOST:
        raise UsageError("--part-size: larger than any file can be; leave it out for one file")
    return int(size)


def patterns_of(text: str) -> tuple[str, ...]:
    """The patterns of `--without`."""
    return tuple(dict.fromkeys(word.strip().lower() for word in text.split(",") if word.strip()))


def _check(choices: Mapping[str, PackingOptions], target: Path, here: Context) -> int:
    """Print what is missing; 1 if something is."""
    arch = next(iter(choices.values())).gpu_arch
    missing = [*dict.fromkeys(plan_file.missing([*choices], arch, here))]
    missing = missing or _outdated(packing.bundle_files(choices, here), target)
    for what in missing:
        print(f"missing: {what}")
    print(f"{len(missing)} missing" if missing else f"nothing is missing: {target.name} is ready")
    return 1 if missing else 0


def _outdated(entries: Sequence[BundleFile], target: Path) -> list[str]:
    return [*archive.wrong_parts(target, archive.manifest(entries))]
