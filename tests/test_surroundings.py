"""What a command finds around it, and cannot work with: streams, folders and variables. It ends as
it should, with a line that says so, and never with a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import fuzz_support
import pytest
from support import ROOT

PROGRAM = f"{sys.executable} -m mcore_compat.cli"


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace that nothing here writes to."""
    return fuzz_support.published_in(tmp_path_factory.mktemp("around") / "space é").root


def end(
    line: str, space: Path, variables: Mapping[str, str | None] | None = None
) -> tuple[int, str, str]:
    """How a line of a shell ends, of which `$P` is the program: its code, what it printed and what
    it said."""
    env = {
        **os.environ,
        "MCORE_COMPAT_WORKSPACE": str(space),
        "MCORE_COMPAT_HOME": str(space.parent / "home"),
        "PYTHONPATH": str(ROOT),
        "P": PROGRAM,
        **(variables or {}),
    }
    done = subprocess.run(
        ["/bin/bash", "-c", line],
        env={name: value for name, value in env.items() if value is not None},
        cwd=space.parent,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


CLOSED = "mcore-compat: standard output is closed; to print nothing: >/dev/null\n"
FULL = "mcore-compat: standard output: File too large\n"
"""What a limit of the shell says; a full disk says it in other words, at the same moment."""


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("$P list >&-", 3, CLOSED),
        ("$P list <&- >&-", 3, CLOSED),
        ("$P list >&- 2>&-", 3, ""),
        ("ulimit -f 0; $P list >full", 3, FULL),
        ("ulimit -f 0; $P list >full 2>&1", 3, ""),
        ("ulimit -f 0; $P --help >full", 3, FULL),
        ("ulimit -f 0; $P show --help >full", 3, FULL),
        ("ulimit -f 0; $P upgrade --no-run 0.14-modelopt0.39 0.16-modelopt0.41 >full", 3, FULL),
        ("$P list 2>&- | grep -c compat-", 0, ""),
        ("$P nonsense 2>&-", 2, ""),
        ("ulimit -f 0; $P nonsense 2>full", 2, ""),
        (
            "mkdir gone; cd gone; rmdir ../gone; $P list",
            3,
            "mcore-compat: the working directory was removed (No such file or directory); change "
            "to another one\n",
        ),
        ("$P list --workspace ''", 2, "mcore-compat: list: --workspace is empty; give a value\n"),
    ],
)
def test_streams_and_folders_that_are_not_there(
    line: str, code: int, said: str, space: Path
) -> None:
    ended = end(line, space)
    assert (ended[0], ended[2]) == (code, said)


@pytest.mark.parametrize("command", ["list", "show 0.16-modelopt0.41", "matrix --dry-run"])
def test_what_an_encoding_lacks_is_escaped(command: str, space: Path) -> None:
    usual = end(f"$P {command}", space)
    for variables in ({"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}):
        poor = end(f"$P {command}", space, {"PYTHONCOERCECLOCALE": "0", **variables})
        assert (poor[0], poor[2]) == (usual[0], usual[2])
        assert poor[1].isascii() or variables.get("LC_ALL")


def test_escaped_json_is_still_that_json(space: Path) -> None:
    line = "$P upgrade --no-run 0.14-modelopt0.39 0.16-modelopt0.41 --format json"
    code, usual, _ = end(line, space)
    assert end(line, space, {"PYTHONIOENCODING": "ascii"})[0] == code
    assert json.loads(end(line, space, {"PYTHONIOENCODING": "ascii"})[1]) == json.loads(usual)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"MCORE_COMPAT_HOME": "{file}"}, "MCORE_COMPAT_HOME: {file} is a file, not a folder"),
        ({"MCORE_COMPAT_HOME": "{file}/x"}, "MCORE_COMPAT_HOME: {file} is a file, not a folder"),
        (
            {"MCORE_COMPAT_HOME": None, "XDG_CACHE_HOME": "{file}"},
            "XDG_CACHE_HOME: {file} is a file, not a folder",
        ),
        (
            {"MCORE_COMPAT_HOME": None, "XDG_CACHE_HOME": None, "HOME": "{file}"},
            "HOME: {file} is a file, not a folder",
        ),
        (
            {"MCORE_COMPAT_HOME": "~nobody-of-this-name/x"},
            "MCORE_COMPAT_HOME: Could not determine home directory.; name a folder in "
            "MCORE_COMPAT_HOME",
        ),
        (
            {"MCORE_COMPAT_WORKSPACE": "~nobody-of-this-name/x"},
            "~nobody-of-this-name/x is not a workspace: it has no constraints/matrix.toml",
        ),
        (
            {"MCORE_COMPAT_WORKSPACE": "{file}"},
            "{file} is not a workspace: it has no constraints/matrix.toml",
        ),
        (
            {"MCORE_COMPAT_WORKSPACE": "a\nb"},
            "a\\nb is not a workspace: it has no constraints/matrix.toml",
        ),
    ],
)
def test_variables_that_name_no_folder(
    variables: Mapping[str, str | None], said: str, space: Path
) -> None:
    file = space.parent / "file"
    file.write_text("")
    filled = {name: value and value.format(file=file) for name, value in variables.items()}
    code, _, error = end("$P list", space, filled)
    assert (code, error) == (2, f"mcore-compat: {said.format(file=file)}\n")


@pytest.mark.parametrize("name", ["", "relative/home"])
def test_a_home_that_is_empty_or_relative_is_a_home(name: str, space: Path) -> None:
    variables = {"MCORE_COMPAT_HOME": name, "HOME": str(space.parent)}
    code, out, error = end("$P list", space, variables)
    assert (code, error) == (0, "")
    assert out.startswith("compat-")


def test_a_workspace_may_have_any_name(space: Path) -> None:
    for name in ("a b", "a\nb", "\udcff"):
        (space.parent / name).symlink_to(space)
        code, out, _ = end("$P show 0.14-modelopt0.41", space.parent / name)
        assert code == 0
        assert "compat-0.14-modelopt0.41: " in out
