"""A cell's verdict in the terminal: the answer first, then features × families, then the causes;
readable in 80 columns, in a pipe and without colour."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mcore_compat.base.foreign import plain
from mcore_compat.core.cells import AXES
from mcore_compat.core.outcomes import CellOutcome, CheckOutcome
from mcore_compat.core.profiles import DEFAULT, Profile
from mcore_compat.results import answer
from mcore_compat.results.better_cells import BetterCell
from mcore_compat.results.result import Result
from mcore_compat.results.verdict import (
    SYMBOLS,
    by_feature,
    causes,
    conditions,
    declared,
    flapping,
    gist,
    refusals,
    spelt,
    stood_in,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from mcore_compat.core.matrix import Pairs

_STYLES = {
    "works": "green",
    "works-with": "yellow",
    "compatible": "green",
    "partial": "yellow",
    "broken": "red",
    "incompatible": "red",
    "crashed": "red",
    "timed-out": "red",
    "needs-gpu": "cyan",
}


def show(
    result: Result,
    instead: Sequence[BetterCell] | None,
    console: Console,
    rules: Sequence[Pairs] = (),
    *,
    profile: Profile = DEFAULT,
    every: bool = False,
) -> None:
    """Print a cell's verdict for a profile.

    `instead`: better cells for the profile, None for no advice; `rules`: the failures that the
    matrix declares; `every`: also the outcome of each check.
    """
    from rich.text import Text

    def say(text: str, style: str = "") -> None:
        console.print(Text(plain(text), style))

    ended = answer.outcome(result, profile)
    head = Text(answer.head(result, profile))
    head.highlight_words([spelt(ended)], _style(ended))
    console.print(head)
    for what, text in answer.lines(result, rules, profile):
        say(f"  {what}: {text}")
    if instead is not None and ended is not CellOutcome.COMPATIBLE:
        for better in instead:
            say(f"  instead: {better.text()}")
        if not instead:
            say(
                "  instead: no tested cell is better for this profile; all cells: mcore-compat list"
            )
    if result.reason:
        say(f"  {result.reason.kind}: {result.reason.message}")
        if result.reason.help:
            say(f"  what would help: {result.reason.help}")
    say("  " + ", ".join(f"{axis} {result.pins[axis]}" for axis in AXES))
    if result.checks:
        if stood_in(result):
            say(f"  {stood_in(result)}")
        console.print(_features(result))
    for name, outcomes in flapping(result.checks).items():
        say(f"flapping: {name} ended {', then '.join(outcomes)}", "bold")
    _show_causes(result, rules, say)
    _show_conditions(result, say)
    if every and result.checks:
        console.print(_checks(result))


def _show_causes(result: Result, rules: Sequence[Pairs], say: Callable[..., None]) -> None:
    """Why checks fail."""
    for cause in causes(result.checks):
        say(f"why not: {', '.join(cause.checks)}", "bold")
        say(f"  {cause.type}: {gist(cause.message)}")
        say(f"  in {cause.frame or 'unknown'}; fingerprint {cause.fingerprint}")
        if cause.gpu_independent:
            say(f"  the same with a GPU: {cause.gpu_independent}")
        for reason in declared(result, cause, rules):
            say(f"  declared: {reason}")


def _show_conditions(result: Result, say: Callable[..., None]) -> None:
    """The conditions of the cell's checks, and the variables that Transformer Engine needs."""
    if result.variables:
        values = " ".join(f"{name}={value}" for name, value in result.variables.items())
        say(f"importing Transformer Engine needs {values}")
    for condition, members in conditions(result.checks).items():
        say(f"works with: {', '.join(c.check for c in members)}", "bold")
        for line in condition.splitlines():
            say(f"  {line}")
        for failure, checks in refusals(members).items():
            of = "" if len(checks) == len(members) else f" ({', '.join(checks)})"
            say(f"  without it{of}: {failure}")


def _style(outcome: CheckOutcome | CellOutcome) -> str:
    return _STYLES.get(outcome.value, "")


def _features(result: Result) -> Table:
    """Features × families, each with the combined outcome of its checks."""
    from rich.table import Table
    from rich.text import Text

    families, rows = answer.table(result.endings)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("feature", *families, "of no family"):
        table.add_column(Text(name))
    for feature, squares in rows.items():
        table.add_row(Text(feature), *(_square(text) for text in squares))
    return table


def _square(text: str) -> Text:
    from rich.text import Text

    word, _, count = text.partition(" ")
    if not word:
        return Text("")
    if word == CheckOutcome.UNSUPPORTED:  # only the symbol, to keep the table narrow
        return Text(SYMBOLS[word])
    return Text(f"{SYMBOLS[word]} {count or word}", _STYLES.get(word, ""))


def _checks(result: Result) -> Table:
    """The outcome of each check: kinds × families."""
    from rich.table import Table
    from rich.text import Text

    families = result.families()
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("check", overflow="fold")  # shortened names could be equal
    for family in families:
        table.add_column(Text(family))
    for feature, kinds in by_feature(result.checks).items():
        if feature:
            table.add_row(Text(f"{feature}:", "bold"))
        for kind, checks in kinds.items():
            outcomes = [checks[f].outcome if f in checks else None for f in families]
            row = [checks[""].outcome] if "" in checks else outcomes
            table.add_row(Text(kind), *(Text(spelt(o), _style(o)) if o else "" for o in row))
    return table
