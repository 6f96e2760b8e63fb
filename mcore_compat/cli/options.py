"""Options that several commands have, said once."""

from __future__ import annotations

import math
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from mcore_compat.base import files
from mcore_compat.base.errors import UsageError, nearest
from mcore_compat.core import pins
from mcore_compat.core.cells import full_name

if TYPE_CHECKING:
    from mcore_compat.run.profile_words import ProfileWords

T = TypeVar("T")

CELL = "a cell, e.g. 0.16-modelopt0.41"


def cell(parser: ArgumentParser, name: str = "cell", **how: Any) -> None:
    """A cell by its name, of which the first word may be left out; in `how` what argparse takes,
    e.g. how many."""
    parser.add_argument(name, **{"metavar": "CELL", "help": CELL, "type": full_name, **how})


def containers(parser: ArgumentParser, origin: str, target: str) -> None:
    """Two containers in the place of two cells, and what is installed into them."""
    for end, what in (("from", origin), ("to", target)):
        parser.add_argument(
            f"--{end}-container",
            metavar="IMAGE",
            help=f"a container of NVIDIA's, {what}, e.g. pytorch:25.06",
        )
    parser.add_argument(
        "--installed",
        metavar="TEXT",
        help='what you install into containers, e.g. "megatron-core 0.16, modelopt 0.41"',
    )


def further(parser: ArgumentParser) -> None:
    """Pins beside the axes."""
    parser.add_argument(
        "--with",
        dest="further",
        action="append",
        type=pins.further,
        default=[],
        metavar="PIN",
        help="a further pin, e.g. 'transformers==4.57.*'; may be given several times",
    )


def choice(parser: Any, option: str, choices: Sequence[str], **how: Any) -> None:
    """One of a few words; into a parser, or a group of one."""
    parser.add_argument(
        option, **{"metavar": "|".join(choices), "type": one_of(option, choices), **how}
    )


def one_of(option: str, choices: Sequence[str]) -> Callable[[str], str]:
    """What takes one of a few words, and for any other raises UsageError with the nearest."""

    def checked(word: str) -> str:
        if word not in choices:
            raise UsageError(f'{option}: no such choice "{word}"{nearest(word, choices)}')
        return word

    return checked


MOST = 4096
"""No number of these options means more: neither cells, nor jobs, nor GPUs."""


def at_least(least: int, why: str) -> Callable[[str], int]:
    """What takes a number, and for a smaller one raises UsageError: `why`; for one of which there
    is no such number of anything, too."""

    def number(word: str) -> int:  # what is none at all is refused by argparse, by this name
        if int(word) < least:
            raise UsageError(why)
        if int(word) > MOST:
            raise UsageError(f"{why}, and at most {MOST}")
        return int(word)

    return number


def output(parser: ArgumentParser, what: str) -> None:
    """A file of the user's that is written anew."""

    def file(word: str) -> Path:
        path = Path(word)
        if path.is_dir():
            raise UsageError(f"--output: {word} is a folder; name a file")
        if path.exists() and not path.is_file():  # a device would become a file
            raise UsageError(f"--output: {word} is no regular file; name another")
        if there := files.in_the_way(path):
            raise UsageError(f"--output: {there} is a file, and no folder")
        return path

    parser.add_argument("--output", type=file, metavar="FILE", help=what)


def taken(kind: type[T], args: Namespace) -> T:
    """What was asked, as a class whose fields are called as the options are."""
    return msgspec.convert(args, kind, from_attributes=True)


def jobs(parser: ArgumentParser, default: int = 2, what: str = "cells") -> None:
    """How many run at a time."""
    parser.add_argument(
        "--jobs",
        "-j",
        type=at_least(1, "-j: at least one must run at a time"),
        default=default,
        metavar="N",
        help=f"{what} at a time ({default})",
    )


def some_checks(parser: ArgumentParser, more: str = "") -> None:
    """`--only` and `--limit`: which checks of the suite are asked, and for how long."""

    def words(text: str) -> str:
        if not text.replace(",", " ").strip():
            raise UsageError(f'--only: "{text}" names no check; write e.g. restore,dense')
        return text

    parser.add_argument(
        "--only",
        type=words,
        metavar="WORDS",
        help=f"ids, kinds or families of checks, comma-separated; globs{more}",
    )
    limit(parser)


def limit(parser: ArgumentParser) -> None:
    """The time limit of each check."""

    def seconds(word: str) -> float:
        if not 0 < float(word) < math.inf:
            raise UsageError("--limit: a time limit must be more than 0 s, and a number")
        return float(word)

    parser.add_argument(
        "--limit",
        type=seconds,
        metavar="S",
        help="most seconds a check may take (its own limit, or 120)",
    )


def running(parser: ArgumentParser) -> None:
    """How cells are run that are named."""
    parser.add_argument(
        "--ranks", action="store_true", help="only the checks over two ranks: parallel sizes"
    )
    parser.add_argument(
        "--gpu", action="store_true", help="only the GPU tier; with a GPU a whole run has both"
    )
    te_extension(parser)
    profile(parser)
    force(parser)
    parser.add_argument(
        "--publish",
        action="store_true",
        help="the result takes the place of the published one in reports/results",
    )
    some_checks(parser)
    parser.add_argument(
        "--base",
        metavar="PYTHON",
        help="over the torch and TE that a Python has; current: this one",
    )


def te_extension(parser: ArgumentParser) -> None:
    """Which torch extension of Transformer Engine."""
    choice(
        parser,
        "--te-extension",
        ("real", "stand-in"),
        help="Transformer Engine's torch extension: real is built where it is not there, stand-in "
        "has no kernels and takes a second (real where it is built already)",
    )


def force(parser: ArgumentParser) -> None:
    """Freshness does not count."""
    parser.add_argument("--force", action="store_true", help="run although nothing changed")


def shard(parser: ArgumentParser) -> None:
    """One part of the cells."""
    from mcore_compat.schedule.survey import parse_shard

    parser.add_argument(
        "--shard", type=parse_shard, metavar="K/N", default="1/1", help="one part of N, e.g. 2/8"
    )


def profile(parser: ArgumentParser) -> None:
    """For whom a verdict is given."""
    parser.add_argument(
        "--for",
        dest="profile",
        metavar="PROFILE",
        help="what you rely on: a profile of constraints/matrix.toml, FILE.toml:NAME, or features, "
        "e.g. restore,quantize:fp8 (default)",
    )
    parser.add_argument(
        "--families", metavar="NAMES", help="only these families, e.g. gpt,mla-moe (all)"
    )


def profile_of(args: Namespace) -> ProfileWords:
    """What was asked of `profile`."""
    from mcore_compat.run.profile_words import ProfileWords

    return ProfileWords(args.profile, args.families)


def run_named(names: Sequence[str], args: Namespace) -> int:
    """Run cells as the options of `running` say; the exit code."""
    from mcore_compat.run.cells import run_cells
    from mcore_compat.run.context import Options, context

    if args.publish and args.only:
        raise UsageError("--publish: with --only nothing is stored, a part is no verdict")
    parts = [part for part in ("ranks", "gpu") if getattr(args, part)]
    options = taken(Options, args)
    if args.base:  # never fresh, so --force has nothing to add
        from mcore_compat.offline.run_over_base import run_over_base

        return run_over_base(names, args.base, parts, options, context(profile=profile_of(args)))
    here = context(args.te_extension, profile_of(args))
    return run_cells(names, parts, options, here)
