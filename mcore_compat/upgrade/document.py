"""An answer as a document for people: Markdown, and that on the terminal; and as it is written, in
each format that there is. What decides stands in its first lines."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from mcore_compat.base import files, terminal
from mcore_compat.core import profiles
from mcore_compat.exchange.report import HEADS
from mcore_compat.publish.rendering import render
from mcore_compat.results import answer as verdicts
from mcore_compat.results import comparison, verdict
from mcore_compat.upgrade import data
from mcore_compat.upgrade.answer import UpgradeAnswer
from mcore_compat.upgrade.checkpoints import LABELS, NOT_TESTED, Load, exchange_command
from mcore_compat.upgrade.neighbours import FINE
from mcore_compat.upgrade.next_step import CONSTRAINTS
from mcore_compat.upgrade.reasons import CUDA, Word
from mcore_compat.upgrade.sides import Side

STYLES = {Word.GO: "bold green", Word.CHANGES: "bold yellow", Word.NO: "bold red"}
"""Beside the word, which says the same."""

FORMATS = ("terminal", "markdown", "json")

WIDTH = 100
"""Of the terminal's form where it is not written to a terminal."""

HEAD = 12
"""Lines in which the answer, why, what to do next and the alternative stand."""

CAUSES = 3
"""How many reasons stand in the head at most."""

SOME, EVERY = 8, 10_000
"""How many names of a list are told on the terminal, and in Markdown, where lists are folded."""


def markdown(answer: UpgradeAnswer, causes: int = CAUSES, most: int = EVERY) -> str:
    """The whole document, the answer first, as `--format markdown` gives it. What comes from
    packages is text like any other, and escaped."""
    target, packages = answer.target, answer.packages
    restores = target.found and verdict.restores_all(target.found)
    moves = {name: f"{old} → {new}" for name, (old, new) in (packages.changed or {}).items()}
    rest = {"added": packages.added, "removed": packages.removed, "changed": moves}
    first = [r for r in answer.reasons if r.subject == CUDA]
    others = [r for r in answer.reasons if r.subject != CUDA]
    lead = [r for r in others if r.word is answer.word is not Word.GO]
    return render(
        "upgrade.md",
        answer=answer,
        profile=answer.profile.text(),
        cuda=first,
        lead=lead[:causes],
        more=len(lead) - len(lead[:causes]),
        reasons=[r for r in others if r not in lead[:causes]],
        holds="; ".join(_holds(answer)),
        changes=data.difference(answer),
        rest={t: [f"{n} {v}" for n, v in (rows or {}).items()] for t, rows in rest.items()},
        constraints=f"{CONSTRAINTS}/{target.name}.txt" if restores else "",
        exchange_command=exchange_command(answer.origin.name, target.name),
        loads=Load,
        counted=lambda side: _counted(side, answer),
        outcome=lambda side: verdicts.outcome(side.found, answer.profile),
        ways=HEADS,
        labels=LABELS,
        one_line=comparison.one_line,
        most=most,
    )


def _counted(side: Side, answer: UpgradeAnswer) -> str:
    """How much of the profile holds, feature by feature."""
    checks = side.found.checks if side.found else ()
    return "; ".join(profiles.counted(checks, answer.profile))


def _holds(answer: UpgradeAnswer) -> Iterator[str]:
    """What speaks for TO, of what the profile takes; nothing where the answer is no."""
    if answer.word is Word.NO or not answer.origin.works():
        return
    # What somebody accepts is lost all the same.
    lost = any(loss.counts for loss in answer.losses)
    needs = any(r.subject == "conditions" for r in answer.reasons)
    if not lost:
        yield "all that works in FROM works in TO" + (NEEDS if needs else "")
    over = answer.checkpoints
    routes = [r for r in over.routes if r.counts] if over and over.state != NOT_TESTED else []
    bare = all(not r.condition or r.as_in_origin for r in routes)
    if routes and {r.load for r in routes} <= FINE and not needs and bare:
        yield "its checkpoints load there"
    known = not any(i.back or i.not_recorded for i in answer.interfaces)
    calls = "interface" in answer.profile.features
    breaks = any(c.counts(answer.profile) for i in answer.interfaces for c in i.breaking)
    if calls and known and not breaks:
        yield "no known call breaks"


NEEDS = ", some of it under a condition"


def show(answer: UpgradeAnswer, console: Console) -> None:
    """Print it: readable in 80 columns, in a pipe and without colour. As many causes stand in the
    head as leave it short."""
    out = io.StringIO()
    for causes in range(CAUSES, 0, -1):
        out = io.StringIO()
        _print(answer, Console(file=out, width=console.width, highlight=False), causes)
        if out.getvalue().partition("\n\n")[0].count("\n") < HEAD:
            break
    _print(answer, console, causes)


def _print(answer: UpgradeAnswer, console: Console, causes: int) -> None:
    from markdown_it import MarkdownIt
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    level, style, tag = 0, STYLES[answer.word], ""
    grid, row = Table(), list[Text]()
    for token in MarkdownIt().enable("table").parse(markdown(answer, causes, SOME)):
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
