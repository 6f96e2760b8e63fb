"""The tutorial as a reader types it: in a clone, with a cell that runs and an environment that is
broken and repaired."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import docs_support
import pytest
from docs_support import DOCS
from support import ROOT

from mcore_compat.base import files

CODES = {"doctor": (1, 0)}
"""Exit codes of commands that do not end with 0, in their order; `nox` says of what it ran."""


@pytest.fixture
def clone() -> Iterator[Path]:
    """A clone on the file system of the environments: they are taken over by hard links."""
    files.home().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=files.home(), prefix="tutorial-") as folder:
        where = Path(folder) / "clone"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(where)], check=True)
        yield where


def typed() -> Iterator[tuple[str, str]]:
    """Each command of the tutorial, with what the page shows below it, if anything."""
    command = ""
    for block in docs_support.blocks(DOCS / "tutorial.md"):
        if block.info == "text":
            yield command, block.body
            command = ""
        for after in block.commands if block.info == "console" else ():
            if command:
                yield command, ""
            command = after
    if command:
        yield command, ""


@pytest.mark.real
def test_the_tutorial(clone: Path) -> None:
    codes = {name: list(meant) for name, meant in CODES.items()}
    for command, shown in typed():
        line = command.replace("~/.cache/mcore-compat", str(files.home()))
        activate = ". .venv/bin/activate;" if (clone / ".venv").exists() else ""
        done = subprocess.run(
            ["bash", "-c", f"{activate} {line}"],
            cwd=clone,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1800,
            check=False,
        )
        name = re.sub(r"^mcore-compat ", "", line).split()[0]
        assert done.returncode == (codes[name].pop(0) if name in codes else 0), done.stdout
        missing = [text for text in shown.splitlines() if text not in done.stdout]
        assert missing == [], f"{line}\n{done.stdout}"
    assert codes == {"doctor": []}
