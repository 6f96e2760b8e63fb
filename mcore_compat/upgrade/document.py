"""An answer as a document for people, which decides the matter in its first lines; and how each
format is written."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mcore_compat.api import scan_report
from mcore_compat.api.scan import FAILURE, GUARDED, NOTE, PackageFit
from mcore_compat.base import files, terminal
from mcore_compat.core import profiles
from mcore_compat.exchange.report import HEADS
from mcore_compat.publish.rendering import render
from mcore_compat.results import answer as verdicts
from mcore_compat.results import citation, comparison, verdict
from mcore_compat.upgrade import data, losses, on_terminal, words
from mcore_compat.upgrade.answer import UpgradeAnswer
from mcore_compat.upgrade.checkpoints import LABELS, NOT_TESTED, Load, exchange_command
from mcore_compat.upgrade.losses import described
from mcore_compat.upgrade.neighbours import FINE
from mcore_compat.upgrade.next_step import CONSTRAINTS
from mcore_compat.upgrade.reasons import CODE, CUDA, OUTSIDE, Word
from mcore_compat.upgrade.sides import Side

if TYPE_CHECKING:
    from rich.console import Console

FORMATS = ("terminal", "markdown", "json")

WIDTH = 100
"""Of the terminal format, if the output is not a terminal."""

CAUSES = 3
"""How many reasons the head shows at most."""

SOME, EVERY = 8, 10_000
"""How many names of a list are shown on the terminal; and in Markdown, where lists are folded."""


def markdown(answer: UpgradeAnswer, causes: int = CAUSES, most: int = EVERY) -> str:
    """The whole document, the answer first, as `--format markdown` prints it. Text that comes from
    packages is escaped."""
    target, packages = answer.target, answer.packages
    restores = target.found and verdict.restores_all(target.found)
    moves = {name: f"{old} → {new}" for name, (old, new) in (packages.changed or {}).items()}
    rest = {"added": packages.added, "removed": packages.removed, "changed": moves}
    first = [r for r in answer.reasons if r.subject in (CUDA, CODE)]
    others = [r for r in answer.reasons if r not in first]
    lead = [r for r in others if r.word is answer.word is not Word.GO]
    return render(
        "upgrade.md",
        answer=answer,
        profile=answer.profile.text(),
        first=first,
        code=_code(answer),
        lead=lead[:causes],
        more=len(lead) - len(lead[:causes]),
        reasons=[r for r in others if r not in lead[:causes]],
        needs=_needs(answer),
        holds="; ".join(_holds(answer)),
        changes=data.difference(answer),
        rest={t: [f"{n} {v}" for n, v in (rows or {}).items()] for t, rows in rest.items()},
        constraints=f"{CONSTRAINTS}/{target.name}.txt" if restores else "",
        exchange_command=exchange_command(answer.origin.name, target.name),
        loads=Load,
        causes=[cause for cause in losses.causes(answer.losses) if cause.counts],
        about=lambda checks: words.about(described(checks, answer.origin, answer.target)),
        counted=lambda side: _counted(side, answer),
        outcome=lambda side: verdicts.outcome(side.found, answer.profile),
        ways=HEADS,
        labels=LABELS,
        one_line=comparison.one_line,
        results=citation.line(answer.citations),
        most=most,
    )


def _code(answer: UpgradeAnswer) -> dict[str, list[str]]:
    """The findings in the user's code: lines of text, by their heading."""
    report = answer.code
    if report is None:
        return {}

    def told(level: str) -> list[str]:
        return [
            f"{scan_report.shown(f.file)}:{f.line}: {scan_report.message(f)}"
            for f in report.findings
            if f.level == level
        ]

    return {
        "fits": [_fit(fit, answer) for fit in report.fits],
        "failures": told(FAILURE),
        "changes that your code already handles": told(GUARDED),
        "changes that break nothing": told(NOTE),
        "files that could not be read": [
            f"{scan_report.shown(u.file)}:{u.line}: {u.why}" for u in report.unreadable
        ],
    }


def _fit(fit: PackageFit, answer: UpgradeAnswer) -> str:
    """How many uses in the user's code a package's new release breaks. Uses that do not fit FROM
    either are not counted."""
    what = f"{fit.package} {answer.origin.cell.pins[fit.package]} → {fit.release}"
    if not fit.uses:
        return f"{what}: not used"
    breaks = f"{fit.failures} of {fit.uses}" if fit.failures else f"none of {fit.uses}"
    newest = fit.newest or "none"
    return f"{what}: {breaks} uses break; the newest release that all of them fit: {newest}"


def _counted(side: Side, answer: UpgradeAnswer) -> str:
    """How many checks in the profile work, feature by feature."""
    checks = side.found.checks if side.found else ()
    return "; ".join(profiles.counted(profiles.points(checks), answer.profile))


def _holds(answer: UpgradeAnswer) -> Iterator[str]:
    """What an upgrade to TO keeps, within the profile; nothing if the answer is no."""
    if answer.word is Word.NO or not answer.works:
        return
    # A loss that the user accepts is still a loss.
    lost = any(loss.counts for loss in answer.losses)
    needs = _needs(answer)
    if not lost:
        yield "everything in the profile that works in FROM works in TO" + needs
    over = answer.checkpoints
    routes = [r for r in over.routes if r.counts] if over and over.state != NOT_TESTED else []
    bare = all(not r.condition or r.as_in_origin for r in routes)
    if routes and {r.load for r in routes} <= FINE and not needs and bare:
        yield "FROM's checkpoints load in TO"
    known = not any(i.back or i.not_recorded for i in answer.interfaces)
    calls = "interface" in answer.profile.features
    breaks = any(c.counts(answer.profile) for i in answer.interfaces for c in i.breaking)
    if answer.code:
        if not answer.code.failures:
            uses = sum(fit.uses for fit in answer.code.fits)
            yield f"none of the {uses} uses in your code breaks"
    elif calls and known and not breaks:
        yield "no known call breaks"


def _needs(answer: UpgradeAnswer) -> str:
    """A note that something in the profile needs a condition in TO; empty if nothing does."""
    told = [r.text for r in answer.reasons if r.subject == "conditions"]
    return (
        "" if all(text.startswith(OUTSIDE) for text in told) else ", some of it under a condition"
    )


def show(answer: UpgradeAnswer, console: Console) -> None:
    """Print an answer, with as many reasons in its head as keep the head short."""
    texts = (markdown(answer, causes, SOME) for causes in range(CAUSES, 0, -1))
    on_terminal.show(texts, answer.word, console)


def write(answer: UpgradeAnswer, form: str, output: Path | None) -> None:
    """Print an answer in one of `FORMATS`; or write it to `output`, and print one line."""
    if form == "terminal" and output is None:
        width = None if sys.stdout.isatty() else WIDTH
        show(answer, terminal.console(width=width))
        return
    if form == "terminal":
        out = io.StringIO()
        show(answer, terminal.console(file=out, width=WIDTH))
        whole = "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())
    else:
        whole = data.text(answer) if form == "json" else markdown(answer)
    if output is None:
        sys.stdout.write(whole)
        return
    files.write_text(output, whole)
    print(f"{answer.origin.name} → {answer.target.name}: {answer.word.value}; {output}")
