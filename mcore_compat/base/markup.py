"""Foreign text in Markdown. Pure."""

from __future__ import annotations

import re


def escape(text: str) -> str:
    """Foreign text as Markdown that shows it as it is, on one line and inside a table."""
    text = " ".join(text.split())
    text = re.sub(r"[\x00-\x1f\x7f-\x9f]", "�", text)
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]()#+!|~-])", r"\\\1", text)
