"""A document of sections, as Markdown and on the terminal. Pure but for `show`.

What comes from packages is text like any other: `str` is escaped, `Code` stands as code, and only
what is `Ours`, written in this source, is left as it is.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from mcore_compat.publish.rendering import code, render
from mcore_compat.publish.rendering import markdown as escaped
from mcore_compat.results.fingerprint import plain

if TYPE_CHECKING:
    from rich.console import Console

FEW = 8
"""More names than these are counted."""


class Code(str):
    """A name, a version, a command."""


class Ours(str):
    """Words of this program."""


Parts = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Item:
    """A line of a list; `level`: how deep."""

    parts: Parts
    level: int = 0


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of equal length."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading and what stands below it. `style`: of the heading on the terminal."""

    title: Parts
    body: tuple[Item | Table, ...] = ()
    style: str = "bold"


def item(*parts: str, level: int = 0) -> Item:
    """A line of a list."""
    return Item(parts=parts, level=level)


def names(found: Sequence[str], most: int = FEW) -> Iterator[str]:
    """Names as code, with commas; how many more there are."""
    for place, name in enumerate(found[:most]):
        if place:
            yield Ours(", ")
        yield Code(name)
    if len(found) > most:
        yield Ours(f" and {len(found) - most} more")


def _line(text: str) -> str:
    return plain(" ".join(text.split()))


def markdown(sections: Sequence[Section]) -> str:
    """As Markdown; the first heading is the document's."""
    return render(
        "sections.md",
        part=_part,
        sections=[
            (section.title, [(kind is Table, list(blocks)) for kind, blocks in
                             itertools.groupby(section.body, key=type)])
            for section in sections
        ],
    )  # fmt: skip


def _part(part: str, *, table: bool = False) -> Markup:
    """One part of a line as Markdown; the spaces at its ends stay."""
    if isinstance(part, Ours):
        return Markup(part)
    if isinstance(part, Code):
        return code(part, table=table)
    space, end = _ends(part)
    return Markup(f"{space}{escaped(part)}{end}")


def _ends(part: str) -> tuple[str, str]:
    return " " * part[:1].isspace(), " " * (part[-1:].isspace() and bool(part.strip()))


def show(sections: Sequence[Section], console: Console) -> None:
    """Print it: readable in 80 columns, in a pipe and without colour."""
    from rich.padding import Padding
    from rich.table import Table as Grid
    from rich.text import Text

    for place, section in enumerate(sections):
        if place:
            console.print()
        console.print(Text("".join(map(_line_in, section.title)), section.style))
        for block in section.body:
            grid = Grid(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
            if isinstance(block, Item):
                grid.padding = (0, 1, 0, 0)
                grid.add_row(Text("-"), Text("".join(map(_line_in, block.parts)), overflow="fold"))
                console.print(Padding(grid, (0, 0, 0, 2 + 2 * block.level), expand=False))
                continue
            for column in zip(*block.rows, strict=True):
                # A name that is broken in two cannot be copied.
                grid.add_column(no_wrap=any(isinstance(part, Code) for part in column))
            for row in (block.head, *block.rows):
                grid.add_row(*(Text(_line(part), overflow="fold") for part in row))
            console.print(Padding(grid, (0, 0, 0, 2), expand=False))


def _line_in(part: str) -> str:
    """One part of a line; the spaces at its ends stay."""
    space, end = _ends(part)
    return f"{space}{_line(part)}{end}"
