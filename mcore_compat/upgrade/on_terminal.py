"""Prints a Markdown document on a terminal, readable in 80 columns, in a pipe, without colour."""

from __future__ import annotations

import html
import io
from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mcore_compat.upgrade.reasons import Word

if TYPE_CHECKING:
    from markdown_it.token import Token

STYLES = {Word.GO: "bold green", Word.CHANGES: "bold yellow", Word.NO: "bold red"}
"""The style of the heading, which contains the word too."""

HEAD = 12
"""The number of lines that the head may have: the answer, why, what to do next, the
alternative."""

FOLDED = "<summary>"
"""Begins the title of a part that Markdown folds."""


def show(texts: Iterable[str], word: Word, console: Console) -> None:
    """Print the first text whose head is short enough, else the last one."""
    text = ""
    for text in texts:
        out = io.StringIO()
        _Printer(Console(file=out, width=console.width, highlight=False), "").print(text)
        if out.getvalue().partition("\n\n")[0].count("\n") < HEAD:
            break
    _Printer(console, STYLES[word]).print(text)


class _Printer:
    """Prints headings, lists, tables and the titles of folded parts."""

    def __init__(self, console: Console, style: str) -> None:
        self._console, self._style = console, style
        self._level, self._tag = 0, ""
        self._grid, self._row = Table(), list[Text]()

    def print(self, text: str) -> None:
        from markdown_it import MarkdownIt

        for token in MarkdownIt().enable("table").parse(text):
            self._take(token)

    def _take(self, token: Token) -> None:
        self._level += {"bullet_list_open": 2, "bullet_list_close": -2}.get(token.type, 0)
        if token.type in ("heading_open", "list_item_open", "th_open", "td_open"):
            self._tag = token.tag
        if token.type in ("list_item_open", "table_open"):
            self._grid = _grid(1 if self._tag == "li" else 2)
        elif token.type == "tr_close":
            self._grid.add_row(*self._row)
            self._row = []
        elif token.type == "table_close":
            self._console.print(Padding(self._grid, (0, 0, 0, 2), expand=False))
        elif token.type == "html_block":
            self._fold(token.content)
        elif token.type == "inline":
            self._inline(token.children or [])

    def _fold(self, content: str) -> None:
        """Show a folded part in full, indented below its title."""
        _, begins, text = content.partition(FOLDED)
        if begins:
            self._level += 2
            self._grid = _grid(1)
            self._item(Text(html.unescape(text.partition("<")[0])))
        else:
            self._level -= 2

    def _inline(self, parts: list[Token]) -> None:
        text = Text("".join(part.content for part in parts), overflow="fold")
        if self._tag == "h1":
            self._console.print(Text(text.plain, self._style))
        elif self._tag == "h2":
            self._console.print()
            self._console.print(Text(text.plain, "bold"))
        elif self._tag == "li":
            self._item(text)
        else:
            self._row.append(text)
            if self._tag == "th":
                self._grid.add_column()
            # A name that is broken in two cannot be copied.
            elif any(part.type == "code_inline" for part in parts):
                self._grid.columns[len(self._row) - 1].no_wrap = True

    def _item(self, text: Text) -> None:
        self._grid.add_row(Text("-"), text)
        self._console.print(Padding(self._grid, (0, 0, 0, self._level), expand=False))


def _grid(room: int) -> Table:
    return Table(box=None, pad_edge=False, padding=(0, room, 0, 0), show_header=False)
