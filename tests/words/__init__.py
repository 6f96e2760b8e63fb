"""Words that user-facing text avoids: `words.toml` lists them, `python -m words` finds them.

Text is what a person reads: docstrings and strings of `mcore_compat/` (by `ast`; a string without
a space is a key), templates, the site's scripts, and Markdown without code.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec import Struct

LIST = Path(__file__).with_name("words.toml")

_MARKDOWN_CODE = re.compile(r"^( *)```.*?^\1```$|`[^`\n]*`|\]\([^)\n]*\)|<!--.*?-->", re.M | re.S)
_TEMPLATE_CODE = re.compile(r"\{[{%#].*?[}%#]\}|<(style|script)\b.*?</\1>|</?\w[^>]*>", re.S)
_CODE = re.compile(r"`[^`\n]+`")
_SCRIPT_STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"|`(?:[^`\\]|\\.)*`')


class Word(Struct, frozen=True, forbid_unknown_fields=True):
    """What to say instead of some words: regular expressions, in which a space is any white space.
    `right`: by file, why one of them is right there."""

    say: str
    words: tuple[str, ...]
    right: dict[str, str] = {}


class WordList(Struct, frozen=True, forbid_unknown_fields=True):
    """The list. `generated`: files that a program writes, or that quote other people's words."""

    generated: tuple[str, ...]
    word: tuple[Word, ...]


@dataclass(frozen=True)
class Finding:
    """A word of the list in a file."""

    path: str
    line: int
    found: str
    say: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.found!r}: write instead: {self.say}"


def read(path: Path = LIST) -> WordList:
    """The list."""
    return msgspec.toml.decode(path.read_bytes(), type=WordList)


def files(root: Path) -> list[Path]:
    """The files of a checkout that have user-facing text."""
    patterns = (
        *("mcore_compat/**/*.py", "mcore_compat/publish/templates/*", "docs/**/*.md"),
        *("mcore_compat/publish/site/static/*.js", "README.md", "CONTRIBUTING.md"),
    )
    return sorted(path for pattern in patterns for path in root.glob(pattern) if path.is_file())


def check(root: Path, words: WordList) -> Iterator[Finding]:
    """The findings in a checkout."""
    for path in files(root):
        name = path.relative_to(root).as_posix()
        if not any(name == other or name.startswith(f"{other}/") for other in words.generated):
            yield from check_text(name, path.read_text(encoding="utf-8"), words)


def check_text(name: str, text: str, words: WordList) -> Iterator[Finding]:
    """The findings in the text of one file."""
    for line, prose in sorted(texts(name, text)):
        for word in words.word:
            if name in word.right:
                continue
            for match in _pattern(word).finditer(prose):
                at = line + prose.count("\n", 0, match.start())
                yield Finding(name, at, " ".join(match[0].split()), word.say)


def texts(name: str, text: str) -> Iterator[tuple[int, str]]:
    """The pieces of a file that people read, each with the number of its first line."""
    if name.endswith(".py"):
        yield from ((line, _blank(_CODE, piece)) for line, piece in _strings(text))
    elif name.endswith(".js"):
        for match in _SCRIPT_STRING.finditer(text):
            if " " in match[0]:
                yield text.count("\n", 0, match.start()) + 1, match[0]
    else:
        yield 1, _blank(_MARKDOWN_CODE, _blank(_TEMPLATE_CODE, text))


def _strings(text: str) -> Iterator[tuple[int, str]]:
    tree = ast.parse(text)
    inner = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in node.values
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            values = (v.value if isinstance(v, ast.Constant) else "…" for v in node.values)
            value = "".join(map(str, values))
        elif (
            isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner
        ):
            value = node.value
        else:
            continue
        if re.search(r"\s", value):
            yield node.lineno, value


def _blank(code: re.Pattern[str], text: str) -> str:
    """The text with what matches left out, on the same lines."""
    return code.sub(lambda match: "…" + "\n" * match[0].count("\n"), text)


def _pattern(word: Word) -> re.Pattern[str]:
    return re.compile("|".join(rf"\b(?:{w})\b".replace(" ", r"\s+") for w in word.words), re.I)
