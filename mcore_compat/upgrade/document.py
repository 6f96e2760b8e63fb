"""An answer as a document for people: Markdown, and that on the terminal; and as it is written, in
each format that there is."""

from __future__ import annotations

import io
import sys
from pathlib import Path

from rich.console import Console

from mcore_compat.base import files, terminal
from mcore_compat.exchange.report import HEADS
from mcore_compat.publish.rendering import render
from mcore_compat.results import comparison, verdict
from mcore_compat.upgrade import data
from mcore_compat.upgrade.answer import UpgradeAnswer, Word
from mcore_compat.upgrade.checkpoints import NOT_TESTED, Load, exchange_command

STYLES = {Word.GO: "bold green", Word.CHANGES: "bold yellow", Word.NO: "bold red"}
"""Beside the word, which says the same."""

CONSTRAINTS = "reports/constraints"

FORMATS = ("terminal", "markdown", "json")

WIDTH = 100
"""Of the terminal's form where it is not written to a terminal."""


def markdown(answer: UpgradeAnswer) -> str:
    """The whole document, the answer first, as `--format markdown` gives it. What comes from
    packages is text like any other, and escaped."""
    target, packages = answer.target, answer.packages
    restores = target.found and verdict.restores_all(target.found)
    moves = {name: f"{old} → {new}" for name, (old, new) in (packages.changed or {}).items()}
    rest = {"added": packages.added, "removed": packages.removed, "changed": moves}
    tested = answer.checkpoints and answer.checkpoints.state != NOT_TESTED
    loads = {r.load for r in answer.checkpoints.routes} if answer.checkpoints and tested else set()
    routes = answer.checkpoints.routes if answer.checkpoints else ()
    # What somebody accepts is lost all the same.
    needs = any(r.condition and not r.as_in_origin for r in routes)
    needs = needs or bool(answer.difference and answer.difference.needs)
    all_load = loads and loads <= {Load.WORKS, Load.NOT_SAVED} and not needs
    return render(
        "upgrade.md",
        answer=answer,
        fine=answer.word is Word.GO and not answer.losses and all_load,
        changes=data.difference(answer),
        rest={t: [f"{n} {v}" for n, v in (rows or {}).items()] for t, rows in rest.items()},
        constraints=f"{CONSTRAINTS}/{target.name}.txt" if restores else "",
        exchange_command=exchange_command(answer.origin.name, target.name),
        loads=Load,
        restoring=verdict.restoring,
        ways=HEADS,
        one_line=comparison.one_line,
    )


def show(answer: UpgradeAnswer, console: Console) -> None:
    """Print it: readable in 80 columns, in a pipe and without colour."""
    from markdown_it import MarkdownIt
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    level, style, tag = 0, STYLES[answer.word], ""
    grid, row = Table(), list[Text]()
    for token in MarkdownIt().enable("table").parse(markdown(answer)):
        level += {"bullet_list_open": 2, "bullet_list_close": -2}.get(token.type, 0)
        if token.type in ("heading_open", "list_item_open", "th_open", "td_open"):
            tag = token.tag
        if token.type in ("list_item_open", "table_open"):
            room = 1 if tag == "li" else 2
            grid = Table(box=None, pad_edge=False, padding=(0, room, 0, 0), show_header=False)
        elif token.type == "tr_close":
            grid.add_row(*row)
            row = []
        elif token.type == "table_close":
            console.print(Padding(grid, (0, 0, 0, 2), expand=False))
        elif token.type == "inline":
            parts = token.children or []
            text = Text("".join(part.content for part in parts), overflow="fold")
            if tag in ("h1", "h2"):
                if tag == "h2":
                    console.print()
                console.print(Text(text.plain, style if tag == "h1" else "bold"))
            elif tag == "li":
                grid.add_row(Text("-"), text)
                console.print(Padding(grid, (0, 0, 0, level), expand=False))
            else:
                row.append(text)
                if tag == "th":
                    grid.add_column()
                # A name that is broken in two cannot be copied.
                elif any(part.type == "code_inline" for part in parts):
                    grid.columns[len(row) - 1].no_wrap = True


def write(answer: UpgradeAnswer, form: str, output: Path | None) -> None:
    """Print an answer in one of `FORMATS`, or write it to `output` and print it in a line."""
    if form == "terminal" and output is None:
        width = None if sys.stdout.isatty() else WIDTH
        show(answer, terminal.console(width=width))
        return
    if form == "terminal":
        out = io.StringIO()
        show(answer, terminal.console(file=out, width=WIDTH))
        whole = "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())
    else:
        whole = data.text(answer) if form == "json" else markdown(answer)
    if output is None:
        sys.stdout.write(whole)
        return
    files.write_text(output, whole)
    print(f"{answer.origin.name} → {answer.target.name}: {answer.word.value}; {output}")
