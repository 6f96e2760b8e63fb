"""Every way this tool ends early: one class each, with its exit code and a one-line message.

A message says what was wrong, where, and the nearest valid choice. Nothing here is
published as incompatibility: that is an outcome (`mcore_compat.core.outcomes`), not an error.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CompatError(Exception):
    """A fatal error of ours; `exit_code` is what the process ends with."""

    exit_code = 2


class UsageError(CompatError):
    """What the user typed cannot be understood or names nothing."""


class MatrixError(CompatError):
    """`constraints/matrix.toml` or `constraints/releases.json` is not valid."""


class LockError(CompatError):
    """A lock is corrupt or is not the lock of the cell it is named after."""


class EvidenceError(CompatError):
    """An evidence file is corrupt or does not follow its schema."""


class InterpreterError(CompatError):
    """The Python that a cell needs was found nowhere."""


class InfrastructureError(CompatError):
    """Network, disk, memory or an interruption: retried, never published as incompatibility."""

    exit_code = 3


class WrongFileError(InfrastructureError):
    """An index has other files than those that a lock names."""


class Interrupted(InfrastructureError):
    """Ctrl-C or SIGTERM; what was learnt is kept and the next run continues."""

    exit_code = 130


class ExitCode(int):
    """What a process ends with where a verdict was given; `why`: in the one line that matters."""

    why: str

    def __new__(cls, code: int, why: str = "") -> ExitCode:
        made = super().__new__(cls, code)
        made.why = why
        return made


LONGEST = 400
"""Characters of an error: what is longer is no line any more."""


def one_line(error: CompatError) -> str:
    """An error as it is printed: one line that a terminal may have, whatever was typed or lies in a
    file. Of one that is too long the middle is left out: it begins with what was wrong and ends
    with the way out."""
    line = f"mcore-compat: {printable(str(error))}"
    half = (LONGEST - 3) // 2
    return line if len(line) <= LONGEST else f"{line[:half]} … {line[-half:]}"


def printable(text: str) -> str:
    """A text with what is no character to be seen as its escape, as in Python."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def nearest(value: str, choices: Iterable[str]) -> str:
    """`'; did you mean "x"?'` for the closest choice, or a short list of them, or nothing."""
    known = list(choices)
    close = difflib.get_close_matches(value, known, n=len(known) or 1, cutoff=0.5)
    if close:
        return f'; did you mean "{min(close, key=lambda choice: slip(value, choice))}"?'
    if known and len(known) <= 20:
        return f"; valid: {', '.join(known)}"
    return ""


def slip(typed: str, meant: str) -> tuple[int, bool, bool, bool]:
    """How likely somebody typed a word who meant another, the likeliest first: by edits, of which
    two letters that changed places are one, and where edits are as many by letters that are the
    same, then by the first letter, which is seldom wrong, then by the length."""
    first, length = typed[:1] != meant[:1], len(typed) != len(meant)
    return edits(typed, meant), sorted(typed) != sorted(meant), first, length


def edits(typed: str, meant: str) -> int:
    """How many letters are to be put in, left out, taken for others, or swapped with the next
    (optimal string alignment)."""
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
