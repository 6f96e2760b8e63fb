"""Foreign text on a page, in an address and in a script's data. Pure."""

from __future__ import annotations

import functools
import json
import re
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from mcore_compat.core.cells import AXES
from mcore_compat.results.fingerprint import plain
from mcore_compat.results.verdict import SYMBOLS

NAMES = {
    "megatron-core": "megatron-core",
    "nvidia-modelopt": "ModelOpt",
    "transformer-engine": "TE",
    "torch": "torch",
    "python": "python",
}
"""What an axis is called at the head of a column."""

_UNSEEN = re.compile(
    "[\u061c\u2028\u2029\u206a-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
"""What `plain` leaves, and what no page should have: marks that are not seen, halves of pairs."""


def shown(value: Any) -> Any:
    """A text without control characters and without what hides or turns text; else as it is."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return _UNSEEN.sub("\ufffd", plain(value))


@functools.lru_cache(maxsize=1 << 16)
def _escaped(text: str) -> Markup:
    return escape(_UNSEEN.sub("\ufffd", plain(text)))


def _put(value: Any) -> Any:
    """What a template puts on a page: as `shown`, and escaped; most texts come again and again."""
    return _escaped(value) if type(value) is str else shown(value)


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


def issue(upstream: str) -> str:
    """The page of `owner/repository#number`; empty for what is none."""
    match = re.fullmatch(r"([\w.-]+/[\w.-]+)#(\d+)", upstream)
    return f"https://github.com/{match[1]}/issues/{match[2]}" if match else ""


@functools.cache
def environment() -> Environment:
    """The templates: everything is escaped, nothing undefined is passed over."""
    made = Environment(
        loader=PackageLoader("mcore_compat.publish.site"),
        autoescape=True,
        auto_reload=False,
        undefined=StrictUndefined,
        finalize=_put,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.globals.update(address=address, issue=issue, symbols=SYMBOLS, names=NAMES, axes=AXES)
    return made


def page(template: str, root: str, **values: Any) -> str:
    """A page's text; `root` is the way from it to the site's root: empty or `../`."""
    return environment().get_template(template).render(root=root, **values)
