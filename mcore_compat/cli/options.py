"""Options that several commands share."""

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
    """A cell by its name, with or without its prefix `compat-`; `how`: arguments for argparse."""
    parser.add_argument(name, **{"metavar": "CELL", "help": CELL, "type": full_name, **how})


def containers(parser: ArgumentParser, origin: str, target: str) -> None:
    """Two containers instead of two cells, and what is installed into them."""
    for end, what in (("from", origin), ("to", target)):
        parser.add_argument(
            f"--{end}-container",
            metavar="IMAGE",
            help=f"an NVIDIA container, {what}, e.g. pytorch:25.06",
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
        help="pin another package, too, e.g. 'transformers==4.57.*'; repeatable",
    )


def choice(parser: Any, option: str, choices: Sequence[str], **how: Any) -> None:
    """An option with a few valid words, for a parser or a group of one."""
    parser.add_argument(
        option, **{"metavar": "|".join(choices), "type": one_of(option, choices), **how}
    )


def one_of(option: str, choices: Sequence[str]) -> Callable[[str], str]:
    """A parser of one of a few words; for any other it raises UsageError with the nearest."""

    def checked(word: str) -> str:
        if word not in choices:
            raise UsageError(f'{option}: no such choice "{word}"{nearest(word, choices)}')
        return word

    return checked


MOST = 4096
"""The highest valid number of cells, jobs or GPUs."""


def at_least(least: int, why: str) -> Callable[[str], int]:
    """A parser of a number from `least` to `MOST`; for others it raises UsageError with `why`."""

    def number(word: str) -> int:  # argparse names this function for text that is not a number
        if int(word) < least:
            raise UsageError(why)
        if int(word) > MOST:
            raise UsageError(f"{why}, and at most {MOST}")
        return int(word)

    return number


def output(parser: ArgumentParser, what: str) -> None:
    """A file of the user's that is written, or overwritten."""

    def file(word: str) -> Path:
        path = Path(word)
        if path.is_dir():
            raise UsageError(f"--output: {word} is a folder; name a file")
        if path.exists() and not path.is_file():  # a device would become a file
            raise UsageError(f"--output: {word} is not a regular file; name another")
        if there := files.in_the_way(path):
            raise UsageError(f"--output: {there} is a file, not a folder")
        return path

    parser.add_argument("--output", type=file, metavar="FILE", help=what)


def taken(kind: type[T], args: Namespace) -> T:
    """The options as a class whose fields have the options' names."""
    return msgspec.convert(args, kind, from_attributes=True)


def jobs(parser: ArgumentParser, default: int = 2, what: str = "cells") -> None:
    """The number that runs at a time."""
    parser.add_argument(
        "--jobs",
        "-j",
        type=at_least(1, "-j: at least one must run at a time"),
        default=default,
        metavar="N",
        help=f"run N {what} at a time (default: {default})",
    )


def some_checks(parser: ArgumentParser, more: str = "") -> None:
    """`--only` and `--limit`: which checks of the suite run, and for how long."""

    def words(text: str) -> str:
        if not text.replace(",", " ").strip():
            raise UsageError(f'--only: "{text}" names no check; write e.g. restore,dense')
        return text

    parser.add_argument(
        "--only",
        type=words,
        metavar="WORDS",
        help=f"run only these checks: ids, kinds or families, comma-separated, or globs{more}",
    )
    limit(parser)


def limit(parser: ArgumentParser) -> None:
    """The time limit of each check."""

    def seconds(word: str) -> float:
        if not 0 < float(word) < math.inf:
            raise UsageError("--limit: must be a number of seconds, more than 0 s")
        return float(word)

    parser.add_argument(
        "--limit",
        type=seconds,
        metavar="S",
        help="time limit of each check in seconds (default: its own, or 120)",
    )


def running(parser: ArgumentParser) -> None:
    """How `run` and `compat` run cells."""
    parser.add_argument(
        "--ranks", action="store_true", help="run only the checks over two ranks (parallel sizes)"
    )
    parser.add_argument(
        "--gpu",
        action="store_true",
        help="run only the GPU checks; on a machine with a GPU, all sets run by default",
    )
    te_extension(parser)
    profile(parser)
    force(parser)
    parser.add_argument(
        "--publish",
        action="store_true",
        help="store the result in reports/results, instead of the published one",
    )
    some_checks(parser)
    parser.add_argument(
        "--base",
        metavar="PYTHON",
        help="use the torch and TE installed for this Python; current: the running one",
    )


def te_extension(parser: ArgumentParser) -> None:
    """The torch extension of Transformer Engine."""
    choice(
        parser,
        "--te-extension",
        ("real", "stand-in"),
        help="Transformer Engine's torch extension: real (built if necessary, in minutes) or a "
        "stand-in without kernels (default: real if it is built already or a GPU is visible)",
    )


def force(parser: ArgumentParser) -> None:
    """Run also what is up to date."""
    parser.add_argument(
        "--force", action="store_true", help="run again, also if the result is up to date"
    )


def shard(parser: ArgumentParser) -> None:
    """A part of the cells."""
    from mcore_compat.schedule.survey import parse_shard

    parser.add_argument(
        "--shard",
        type=parse_shard,
        metavar="K/N",
        default="1/1",
        help="run part K of N of the cells, e.g. 2/8",
    )


def profile(parser: ArgumentParser) -> None:
    """The profile that a verdict is given for."""
    parser.add_argument(
        "--for",
        dest="profile",
        metavar="PROFILE",
        help="what you rely on: a profile of constraints/matrix.toml, FILE.toml:NAME, or features, "
        "e.g. restore,quantize:fp8 (default: the profile named default)",
    )
    parser.add_argument(
        "--families",
        metavar="NAMES",
        help="only these model families, e.g. gpt,mla-moe (default: all)",
    )


def profile_of(args: Namespace) -> ProfileWords:
    """The words of the options of `profile`."""
    from mcore_compat.run.profile_words import ProfileWords

    return ProfileWords(args.profile, args.families)


def run_named(names: Sequence[str], args: Namespace) -> int:
    """Run cells as the options of `running` say; the exit code."""
    from mcore_compat.run.cells import run_cells
    from mcore_compat.run.context import Options, context

    if args.publish and args.only:
        raise UsageError(
            "--publish: a run of some checks (--only) gives no verdict to publish; leave one out"
        )
    parts = [part for part in ("ranks", "gpu") if getattr(args, part)]
    options = taken(Options, args)
    if args.base:  # always runs, with or without --force
        from mcore_compat.offline.run_over_base import run_over_base

        return run_over_base(names, args.base, parts, options, context(profile=profile_of(args)))
    here = context(args.te_extension, profile_of(args))
    return run_cells(names, parts, options, here)
