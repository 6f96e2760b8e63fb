"""An answer is written: to the terminal, or into a file, in each format that there is."""

from __future__ import annotations

import io
import sys
from pathlib import Path

from rich.console import Console

from mcore_compat.base import files
from mcore_compat.upgrade import data, document
from mcore_compat.upgrade.answer import UpgradeAnswer

FORMATS = ("terminal", "markdown", "json")

WIDTH = 100
"""Of the terminal's form where it is not written to a terminal."""


def write(answer: UpgradeAnswer, form: str, output: Path | None) -> None:
    """Print an answer in one of `FORMATS`, or write it to `output` and print it in a line."""
    if form == "terminal" and output is None:
        width = None if sys.stdout.isatty() else WIDTH
        document.show(answer, Console(highlight=False, width=width))
        return
    if form == "terminal":
        out = io.StringIO()
        document.show(answer, Console(file=out, highlight=False, width=WIDTH))
        whole = "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())
    else:
        whole = data.text(answer) if form == "json" else document.markdown(answer)
    if output is None:
        sys.stdout.write(whole)
        return
    files.write_text(output, whole)
    print(f"{answer.origin.name} → {answer.target.name}: {answer.word.value}; {output}")
