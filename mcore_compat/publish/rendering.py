"""Templates → text: pages and pictures in HTML and SVG, reports in Markdown. Templates escape all
foreign text, by the extension of the template. Pure."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from jinja2.environment import TemplateModule
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
"""The names of the axes in column heads."""

_INLINE = re.compile(
    r"(?<=\w)(?P<extra>\[[\w.+-]*\](?![\[(]))"  # `name[extra]` is not a link: left as it is
    r"|(?P<entity>&(?=[#\w]|$))"
    r"|(?P<tag><(?=[A-Za-z/!?]|$))"
    r"|(?P<mark>[`*~|\[\]]|(?<=\s)#(?=#*$)|(?<!\w)_+|_+(?!\w)|\\(?=[!-/:-@\[-`{-~]|$))"
)
"""Text that Markdown may read as markup anywhere in a line."""

_START = re.compile(r"#{1,6}(?=\s|$)|[-+](?=\s|$)|>|[-=:](?=[-=:\s|]*$)|\d{1,9}(?=[.)](?:\s|$))")
"""Text that Markdown reads as markup at the beginning of a line."""


def shown(value: Any) -> Any:
    """A text without control characters and without characters that hide or reverse text. Markup
    and other types are returned unchanged."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return plain(value)


@functools.lru_cache(maxsize=1 << 16)
def _html(text: str) -> Markup:
    return escape(shown(text))


def _put_html(value: Any) -> Any:
    """A value as a template puts it on a page: `shown`, and escaped. Cached, because most texts
    occur many times."""
    return _html(value) if type(value) is str else shown(value)


@functools.lru_cache(maxsize=1 << 16)
def markdown(text: str) -> Markup:
    """Foreign text as Markdown that renders literally: on one line, also in a table, and escaped
    only where it would be markup."""
    text = _line(text)
    start = _START.match(text)
    if start is None:
        return Markup(_INLINE.sub(_escaped, text))
    at = start.end() if text[0].isdigit() else 0  # `1\.` does not start a numbered list
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
    """A name or a command as code in Markdown; `table`: inside a table row."""
    line = _line(text) or "-"
    ticks = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    room = " " if "`" in (line[0], line[-1]) else ""
    line = line.replace("|", "\\|") if table else line
    return Markup(f"{ticks}{room}{line}{room}{ticks}")


def codes(texts: Sequence[str], *, table: bool = False, most: int = 30) -> Markup:
    """Names as code, separated by commas; beyond `most`, only their number."""
    names = Markup(", ").join(code(text, table=table) for text in texts[:most])
    more = len(texts) - most
    return names + f" and {more} more" if more > 0 else names


def block(text: str) -> Markup:
    """Lines as a code block in Markdown, with a fence that none of the lines contains."""
    lines = [shown(line) for line in text.splitlines()]
    runs = (len(run) for line in lines for run in re.findall("`+", line))
    fence = "`" * max(3, 1 + max(runs, default=0))
    return Markup("\n".join([fence, *lines, fence]))


def short(text: str, most: int) -> str:
    """A text on one line, cut to `most` characters."""
    line = _line(text)
    return line if len(line) <= most else f"{line[: most - 1]}…"


def tail(traceback: str) -> str:
    """The last lines of a traceback, as reports show it."""
    return "\n".join(traceback.rstrip().splitlines()[-40:])


def script_json(value: Any) -> Markup:
    """Data for a `<script type="application/json">`, escaped so that it cannot end the script."""
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


@functools.lru_cache(maxsize=1 << 16)
def address(*parts: str) -> str:
    """A relative URL, each part escaped."""
    return "/".join(quote(part, safe="") for part in parts)


@functools.cache
def environment(put: Callable[[Any], Any] = _put_html) -> Environment:
    """The template environment: everything is escaped, and an undefined name is an error. `put`
    converts each value that a template prints to markup."""
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
    if put in _PARTS:
        # Not imported by the templates: each page would make the module anew.
        templates.globals["parts"] = _parts(templates.get_template(_PARTS[put]).module)
    return templates


_PARTS: Mapping[Callable[[Any], Any], str] = {_put_html: "parts.html", _put_markdown: "parts.md"}
"""The template whose macros all others can call as `parts.NAME(...)`."""

_SHORT = ("outcome", "cell_link")
"""Macros of few texts, which stand on pages in hundreds of thousands of places."""


def _parts(made: TemplateModule) -> TemplateModule:
    """The module, with the texts of its `_SHORT` macros made once."""
    for name in _SHORT:
        if macro := getattr(made, name, None):
            setattr(made, name, functools.cache(macro))
    return made


def render(template: str, **values: Any) -> str:
    """The text of a template. Pages need `root`, the relative URL of the site's root: empty or
    `../`."""
    puts = {"md": _put_markdown, "txt": _put_text}
    put = puts.get(template.rpartition(".")[2], _put_html)
    return environment(put).get_template(template).render(**values)


def part(template: str, **values: Any) -> Markup:
    """The text of a template that is a part of a page."""
    return Markup(render(template, **values))
