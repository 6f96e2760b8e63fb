"""Every command, with arguments that are nearly right and arguments that are hostile: it ends with
an exit code of ours, says what is wrong in one line, and is never done without having done a thing.

`FUZZ_EXAMPLES=2000 pytest tests/test_fuzz_commands.py` tries more of them.
"""

# ruff: noqa: E501, RUF001

from __future__ import annotations

import argparse
import importlib
import os
from pathlib import Path

import fuzz_support
import pytest
from fuzz_support import CELLS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcore_compat.cli import parsing, registry

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "15"))

VERSIONS = (
    "0.14", "0.16", "0.16.1", "0.39", "0.41", "2.7", "2.9", "2.11.0", "3.12", "12", "3", "0", "",
    "v0.16", "0.16rc1", "1!0.16", "0.16+cu128", "0.16.dev0", "٠.١٦", "0.16.", "0x10", "-1", "²",
    "9" * 400, "9" * 5000, f"0.{'9' * 5000}", "0.99", " 0.16", "0.16\n", "*", "0.16.*",
)  # fmt: skip

WORDS = (
    "", " ", "-", "--", "---", "-h", "\n", "a\nb", "\t", "\x1b[31m", "\u202e", "\udc80",
    "\udcff0.16", "é", "日本", "%s", "%(prog)s", "{}", "{0.__class__}", "[", "[a-", "*", "**", "?", "(",
    "\\", "'", '"', "nan", "NaN", "inf", "-inf", "Infinity", "1e999", "-1", "0", "-0", "1", "2", "1.5",
    "1e3", "0x1", "1_0", "٣", "9" * 30, "9" * 5000, "-" + "9" * 30, "1e-400", "true", "None", "a" * 9000,
    "restore*", "restore[gpt]", "restore[mla]", "nothing[*]", "gpt", "main", "broken", "compatible",
    "partial", "untested", "1/1", "2/3", "0/0", "1/0", "9999/9999", "60m", "2h", "0m", "1e9h", "9" * 400 + "h",
    "te", "torch", "python", "transformer-engine", "mcore-0.16", "stack-default", "current", "json",
    "mem=32G", "=", "a=b=c", "sm_90", "sm_90a", "sm_9999", "2G", "500M", "0G", "1e3G", "9" * 400 + "G",
    "numpy", "torch-*", "transformer-engine-torch", "mamba-ssm", "mamba-sms", "local", "slurm", "strict",
)  # fmt: skip

SPECIFIERS = (
    ">=0.14", "==0.41.*", ">=0.99", "<0", "===0.16", "~=0.14", "~=0", ">=", "=>0.14", "==٠.١٦", ",",
    "!=0.16", ">=0.14,<0.14", f">={'9' * 5000}", "==0.16+local", "==1!0.16", ">=0.14.*", "torch 2.9",
    "torch", "torch any", "cuda 12", "cuda 12.8", "cuda >=99", "TE 2.9, torch 2.9", "modelopt >=0.39",
    "torch 2.9, torch 2.8", "numpy 1", "torch ٢.٩", f"torch {'9' * 5000}", "python 3.12.1", "python 2",
)  # fmt: skip

PATHS = (
    "file", "empty", "folder", "link", "fifo", "nowhere", "nowhere/file", "file/x", "link/x", "folder/x",
    ".", "..", "space", "space/constraints", "space/constraints/matrix.toml", "space/reports/results",
    "./x.tar", "a b", "a\nb", "é.json", "\udc80.json", "x" * 300, "x/" * 2500, "~", "~nobody/x",
    "space/reports/results/compat-0.16-modelopt0.41/main.host.json", "/proc/self/mem", "/dev/null/x",
)  # fmt: skip

NEAR_CELLS = (
    *CELLS,
    *(name.removeprefix("compat-") for name in CELLS),
    "0.16-modelopt0.39", "0.14-modelopt0.39-te2.11", "0.16-modelopt0.41-te2.7-torch2.8-py3.12",
    "compat-", "compat", "compat-compat-0.16-modelopt0.41", "0.16-modelopt", "-modelopt0.41",
    "0.16-modelopt0.41-py3", "0.16-modelopt0.41-py3.99", "0.16-modelopt0.41-te1!2.7",
    "0.16-modelopt0.41-torch2.9.1+cu128", "0.16.0-modelopt0.41.0", "0.016-modelopt0.41",
    "0.16-modelopt0.41 ", "../0.16-modelopt0.41", "0.16/../-modelopt0.41", "*",
)  # fmt: skip


def values() -> st.SearchStrategy[str]:
    """What may stand where a value is expected."""
    parts = st.sampled_from(VERSIONS)
    cells = st.tuples(parts, parts, st.sampled_from(("", "-te", "-torch", "-py", "-x")), parts).map(
        lambda p: f"{p[0]}-modelopt{p[1]}{p[2] + p[3] if p[2] else ''}"
    )
    bytes_ = st.binary(max_size=12).filter(lambda b: 0 not in b)  # as a process is given them
    anything = st.text(
        st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=9
    )
    return st.one_of(
        st.sampled_from(NEAR_CELLS),
        st.sampled_from(VERSIONS),
        st.sampled_from(WORDS),
        st.sampled_from(SPECIFIERS),
        st.sampled_from(PATHS),
        cells,
        anything,
        bytes_.map(os.fsdecode),
    )


def actions_of(name: str) -> list[argparse.Action]:
    """What a command's own parser takes."""
    module = importlib.import_module(f"mcore_compat.cli.{name}")
    return parsing.parser_of(registry.command(name), module)._actions


def fitting(action: argparse.Action) -> st.SearchStrategy[str]:
    """What an option may have: mostly what it looks like it wants."""
    metavar = str(action.metavar or "")
    near: tuple[str, ...] = VERSIONS
    if "|" in metavar and "FILE" not in metavar:
        near = (*metavar.split("|"), metavar, metavar.upper())
    elif metavar in ("CELL", "FROM", "TO"):
        near = NEAR_CELLS
    elif metavar in ("FILE", "FOLDER", "PATH", "FILE|FOLDER", "FREEZE", "PYTHON"):
        near = PATHS
    elif metavar in ("SPEC", "TEXT"):
        near = SPECIFIERS
    elif metavar:
        near = WORDS
    return st.one_of(st.sampled_from(near), st.sampled_from(near), values())


@st.composite
def command_lines(draw: st.DrawFn, name: str) -> list[str]:
    """A command with some of its options, in any order, and what is not its own now and then."""
    parts: list[list[str]] = []
    for action in actions_of(name):
        if action.option_strings:
            if "--help" in action.option_strings or not draw(_seldom(action)):
                continue
            option = draw(st.sampled_from(action.option_strings))
            if action.nargs == 0:
                parts.append([option])
            elif option.startswith("--") and draw(st.booleans()):
                parts.append([f"{option}={draw(fitting(action))}"])
            else:
                parts.append([option, draw(fitting(action))])
        else:
            most = 1 if action.nargs in (None, "?") else 3
            least = 0 if action.nargs in ("?", "*") else 1
            parts += [[draw(fitting(action))] for _ in range(draw(st.integers(least, most)))]
    if draw(st.integers(0, 19)) == 0:
        parts.append([draw(values())])
    return [name, *(word for part in draw(st.permutations(parts)) for word in part)]


def _seldom(action: argparse.Action) -> st.SearchStrategy[bool]:
    if action.required:
        return st.integers(0, 30).map(lambda n: n > 0)
    return st.integers(0, 3).map(lambda n: n == 0)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace that no command touches: each gets a copy."""
    return fuzz_support.published_in(tmp_path_factory.mktemp("fuzz") / "space").root


@pytest.mark.parametrize("name", registry.BY_NAME)
def test_whatever_a_command_is_told_it_ends_well(name: str, pristine: Path) -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize="FUZZ_EXAMPLES" not in os.environ,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(argv=command_lines(name))
    def ends_well(argv: list[str]) -> None:
        with fuzz_support.fresh(pristine) as (root, folder):
            fuzz_support.check(fuzz_support.run(argv, root, folder))

    ends_well()
