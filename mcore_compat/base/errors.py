"""Every way this program ends early: one class each, with an exit code and a one-line message.

A message says what was wrong, where, and the nearest valid choice. None of these is published as
an incompatibility: that is an outcome (`mcore_compat.core.outcomes`), not an error.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence


class CompatError(Exception):
    """A fatal error of this program; `exit_code` is the exit code of the process."""

    exit_code = 2


class UsageError(CompatError):
    """The user's input is invalid, or names something that does not exist."""


class MatrixError(CompatError):
    """`constraints/matrix.toml` or `constraints/releases.json` is not valid."""


class LockError(CompatError):
    """A lock file is corrupt, or belongs to another cell than its name says."""


class ResultError(CompatError):
    """A result file is corrupt or does not follow its schema."""


class InterpreterError(CompatError):
    """The Python interpreter that a cell needs was not found."""


class InfrastructureError(CompatError):
    """Network, disk, memory or an interruption: retried, never published as an incompatibility."""

    exit_code = 3


class WrongFileError(InfrastructureError):
    """The package index has other files than those that a lock names."""


class Interrupted(InfrastructureError):
    """Ctrl-C or SIGTERM; finished work is kept and the next run continues."""

    exit_code = 130


class ExitCode(int):
    """The exit code of a command that gave a verdict; `why`: the reason in one line."""

    why: str

    def __new__(cls, code: int, why: str = "") -> ExitCode:
        made = super().__new__(cls, code)
        made.why = why
        return made


LONGEST = 400
"""The maximum length of an error line, in characters."""


def one_line(error: CompatError) -> str:
    """An error as it is printed: one line, safe for a terminal whatever the user typed or a file
    contains. If it is too long the middle is cut: the start says what was wrong, the end what to
    do."""
    line = f"mcore-compat: {printable(str(error))}"
    half = (LONGEST - 3) // 2
    return line if len(line) <= LONGEST else f"{line[:half]} … {line[-half:]}"


MOST = 4
"""The most choices that a suggestion names."""

SHORTEST = 4
"""The fewest letters of a word that may have a typing error: short words are all alike."""

_WORD = re.compile(r"[^-_:\[\]\s]+")


def printable(text: str) -> str:
    """The text with every unprintable character replaced by its Python escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def nearest(value: str, choices: Iterable[str]) -> str:
    """`'; did you mean "x" or "y"?'` for the choices with a word like it, else for the closest one,
    else a short list of choices, else ""."""
    known = list(choices)
    alike = _with_word(value, known)
    if 0 < len(alike) <= MOST:
        *others, last = (f'"{choice}"' for choice in alike)
        return f"; did you mean {' or '.join([', '.join(others), last] if others else [last])}?"
    close = difflib.get_close_matches(value, known, n=len(known) or 1, cutoff=0.5)
    if close:
        return f'; did you mean "{min(close, key=lambda choice: slip(value, choice))}"?'
    if known and len(known) <= 20:
        return f"; valid: {', '.join(known)}"
    return ""


def _with_word(value: str, choices: Sequence[str]) -> list[str]:
    """The choices of several words that contain `value` as words, as `mla-moe` and `llama4-moe` do
    `moe`; else those with a word that is one edit away, unless a whole choice is."""
    typed = "-".join(_WORD.findall(value))
    words = {choice: _WORD.findall(choice) for choice in choices}
    several = {choice: its for choice, its in words.items() if len(its) > 1}
    found = [c for c, its in several.items() if typed and f"-{typed}-" in f"-{'-'.join(its)}-"]
    if found or len(typed) < SHORTEST or any(_one_edit(value, choice) for choice in words):
        return found
    return [c for c, its in several.items() if any(_one_edit(typed, word) for word in its)]


def _one_edit(typed: str, meant: str) -> bool:
    return abs(len(typed) - len(meant)) <= 1 and edits(typed, meant) == 1


def slip(typed: str, meant: str) -> tuple[int, bool, bool, bool]:
    """A sort key for how likely `typed` is a typo of `meant`, the most likely first: by number of
    edits (a swap of neighbours counts as one), then by having the same letters, then by the first
    letter, which is seldom wrong, then by length."""
    first, length = typed[:1] != meant[:1], len(typed) != len(meant)
    return edits(typed, meant), sorted(typed) != sorted(meant), first, length


def edits(typed: str, meant: str) -> int:
    """The number of insertions, deletions, substitutions and swaps of neighbours (optimal string
    alignment)."""
    before: list[int] = []
    last = list(range(len(meant) + 1))
    for i, letter in enumerate(typed, 1):
        row = [i]
        for j, other in enumerate(meant, 1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (letter != other))
            if i > 1 < j and (letter, typed[i - 2]) == (meant[j - 2], other):
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before, last = last, row
    return last[-1]
