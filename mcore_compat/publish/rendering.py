"""Templates → text: pages and pictures in HTML and SVG, reports in Markdown. All foreign text is
escaped on its way through a template, by the ending of the template's name. Pure."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from mcore_compat.base.foreign import plain
from mcore_compat.core.cells import AXES, series_of
from mcore_compat.core.matrix import thread as issue
from mcore_compat.core.outcomes import CellOutcome, CheckOutcome
from mcore_compat.results import verdict

NAMES = {
    "megatron-core": "megatron-core",
    "nvidia-modelopt": "ModelOpt",
    "transformer-engine": "TE",
    "torch": "torch",
    "python": "python",
}
"""What an axis is called at the head of a column."""

_INLINE = re.compile(
    r"(?<=\w)(?P<extra>\[[\w.+-]*\](?![\[(]))"  # `name[extra]` is no link: left as it is
    r"|(?P<entity>&(?=[#\w]|$))"
    r"|(?P<tag><(?=[A-Za-z/!?]|$))"
    r"|(?P<mark>[`*~|\[\]]|(?<=\s)#(?=#*$)|(?<!\w)_+|_+(?!\w)|\\(?=[!-/:-@\[-`{-~]|$))"
)
"""What Markdown may read as markup wherever it stands in a line."""

_START = re.compile(r"#{1,6}(?=\s|$)|[-+](?=\s|$)|>|[-=:](?=[-=:\s|]*$)|\d{1,9}(?=[.)](?:\s|$))")
"""What it reads as markup where a line begins."""


def shown(value: Any) -> Any:
    """A text without control characters and without what hides or turns text; else as it is."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return plain(value)


@functools.lru_cache(maxsize=1 << 16)
def _html(text: str) -> Markup:
    return escape(shown(text))


def _put_html(value: Any) -> Any:
    """What a template puts on a page: as `shown`, and escaped; most texts come again and again."""
    return _html(value) if type(value) is str else shown(value)


@functools.lru_cache(maxsize=1 << 16)
def markdown(text: str) -> Markup:
    """Foreign text as Markdown that reads as it is: on one line, in a table too, and escaped only
    where it would be markup."""
    text = _line(text)
    start = _START.match(text)
    if start is None:
        return Markup(_INLINE.sub(_escaped, text))
    at = start.end() if text[0].isdigit() else 0  # `1.` is no number of a list once it is `1\.`
    return Markup(f"{text[:at]}\\{text[at]}{_INLINE.sub(_escaped, text[at + 1 :])}")


def _escaped(match: re.Match[str]) -> str:
    mark = match[0]
    if match.lastgroup == "mark":
        return "".join(f"\\{character}" for character in mark)
    return {"&": "&amp;", "<": "&lt;"}.get(mark, mark)


def _line(text: str) -> str:
    return " ".join(str(shown(text)).split())


def _put_markdown(value: Any) -> Markup:
    return value if isinstance(value, Markup) else markdown(str(value))


def _put_text(value: Any) -> Markup:
    return Markup(shown(str(value)))


def code(text: str, *, table: bool = False) -> Markup:
    """A name or a command as code in Markdown; `table`: within a row of a table."""
    line = _line(text) or "-"
    ticks = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    room = " " if "`" in (line[0], line[-1]) else ""
    line = line.replace("|", "\\|") if table else line
    return Markup(f"{ticks}{room}{line}{room}{ticks}")


def codes(texts: Sequence[str], *, table: bool = False, most: int = 30) -> Markup:
    """Names as code, with commas; how many there are beyond `most`."""
    names = Markup(", ").join(code(text, table=table) for text in texts[:most])
    more = len(texts) - most
    return names + f" and {more} more" if more > 0 else names


def block(text: str) -> Markup:
    """Lines as a block of code in Markdown that none of them can end early."""
    lines = [shown(line) for line in text.splitlines()]
    runs = (len(run) for line in lines for run in re.findall("`+", line))
    fence = "`" * max(3, 1 + max(runs, default=0))
    return Markup("\n".join([fence, *lines, fence]))


def short(text: str, most: int) -> str:
    """A text on one line, cut to `most` characters."""
    line = _line(text)
    return line if len(line) <= most else f"{line[: most - 1]}…"


def tail(traceback: str) -> str:
    """The end of a traceback, as much of it as is shown."""
    return "\n".join(traceback.rstrip().splitlines()[-40:])


def script_json(value: Any) -> Markup:
    """Data for a `<script type="application/json">`: nothing in it can end the script."""
    text = json.dumps(_clean(value), ensure_ascii=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _clean(value: Any) -> Any:
    if isinstance(value, dict):
        return {shown(k): _clean(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(v) for v in value]
    return shown(value)


def address(*parts: str) -> str:
    """A relative address, each part escaped."""
    return "/".join(quote(part, safe="") for part in parts)


@functools.cache
def environment(put: Callable[[Any], Any] = _put_html) -> Environment:
    """The templates: everything is escaped, nothing undefined is passed over. `put` makes markup
    of what a template puts out."""
    templates = Environment(
        loader=PackageLoader("mcore_compat.publish"),
        autoescape=True,
        auto_reload=False,
        undefined=StrictUndefined,
        finalize=put,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.globals.update(address=address, issue=issue, symbols=verdict.SYMBOLS, names=NAMES)
    templates.globals.update(axes=AXES, cell_outcomes=tuple(CellOutcome), spelt=verdict.spelt)
    templates.globals.update(check_outcomes=tuple(CheckOutcome), series_of=series_of)
    templates.filters.update(code=code, codes=codes, block=block, short=short)
    templates.filters.update(gist=verdict.gist, tail=tail)
    return templates


def render(template: str, **values: Any) -> str:
    """A template's text. A page takes `root`, the way to the site's root: empty or `../`."""
    puts = {"md": _put_markdown, "txt": _put_text}
    put = puts.get(template.rpartition(".")[2], _put_html)
    return environment(put).get_template(template).render(**values)
