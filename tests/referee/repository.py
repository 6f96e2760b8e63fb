"""Reads upstream's test files out of a git repository of Megatron-LM; it needs no work tree."""

from __future__ import annotations

import os
from pathlib import Path

from mcore_compat.base import processes
from mcore_compat.base.errors import UsageError
from referee import mapping

TESTS = "tests/unit_tests"


def git(checkout: Path, *words: str, codes: tuple[int, ...] = (0,)) -> str:
    """What git says, where it ends with one of `codes`.

    Raises:
        UsageError: it fails, since the folder is no repository or has no such tag.
    """
    argv = ["git", "-C", os.fspath(checkout), *words]
    done = processes.run(argv, timeout=120)
    if done.returncode not in codes:
        raise UsageError(f"{' '.join(argv)}: {done.output.strip()}")
    return done.output


def test_file(checkout: Path, tag: str) -> str:
    """The path of upstream's test file of the ModelOpt specs at `tag`.

    Raises:
        UsageError: the tag has none, or more than one.
    """
    names = git(checkout, "ls-tree", "-r", "--name-only", tag, "--", TESTS).split()
    found = [name for name in names if Path(name).name in mapping.FILES]
    if len(found) != 1:
        raise UsageError(f"{tag} has {len(found)} test files called {' or '.join(mapping.FILES)}")
    return found[0]


def source(checkout: Path, tag: str) -> str:
    """That file's text. Raises UsageError as `test_file`."""
    return git(checkout, "show", f"{tag}:{test_file(checkout, tag)}")


def naming_modelopt(checkout: Path, tag: str) -> list[str]:
    """The paths of all test files at `tag` that name ModelOpt, in whatever spelling."""
    argv = ("grep", "-l", "-i", "modelopt", tag, "--", f"{TESTS}/*.py")
    found = git(checkout, *argv, codes=(0, 1))  # 1: no file does
    return [line.removeprefix(f"{tag}:") for line in found.split()]
