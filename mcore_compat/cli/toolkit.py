"""Set up a CUDA toolkit without root. The compiler comes from the distribution's package or from
the package index, headers and libraries come from the package index."""

import re
from argparse import ArgumentParser, Namespace
from pathlib import Path

from mcore_compat.base.errors import UsageError
from mcore_compat.environments import new_toolkit
from mcore_compat.run.context import find_uv, say


def add_options(parser: ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "--cuda", required=True, type=_cuda, metavar="X.Y", help="CUDA version of torch, e.g. 12.4"
    )
    parser.add_argument(
        "--into",
        type=Path,
        metavar="DIR",
        help="a new folder (default: in the cache, where builds find it)",
    )
    parser.add_argument(
        "--archive",
        metavar="URL",
        help="Debian archive with the compilers before CUDA 13 (default: that of apt here)",
    )


def _cuda(word: str) -> str:
    match = re.fullmatch(r"(\d{1,3}\.\d{1,3})(\.\d+)*", word)
    if not match:
        raise UsageError(f'--cuda: invalid version "{word}"; write e.g. 12.4')
    if match[2]:
        raise UsageError(f'--cuda: "{word}" includes a patch number; did you mean "{match[1]}"?')
    return match[1]


def call(args: Namespace) -> int:
    """Set it up, unless it exists; 0."""
    from mcore_compat.base import processes

    into = (args.into or new_toolkit.folder_of(args.cuda)).expanduser().absolute()
    made = new_toolkit.make(args.cuda, into, processes.run, find_uv(), say, args.archive)
    print(f"CUDA {made.version}: {made.home}")
    if args.into:
        print(f"to use it in builds: export CUDA_HOME={made.home}")
    return 0
