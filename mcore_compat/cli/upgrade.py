"""The command `upgrade`: runs what is not fresh, answers, prints. Thin."""

from __future__ import annotations

import contextlib
import io
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from mcore_compat.analysis import published
from mcore_compat.base import files
from mcore_compat.base.errors import InfrastructureError, UsageError
from mcore_compat.cli import commands, exchange
from mcore_compat.environments import scan
from mcore_compat.publish import data
from mcore_compat.results import evidence
from mcore_compat.run import pipeline
from mcore_compat.run.pipeline import Context
from mcore_compat.upgrade import data as plain
from mcore_compat.upgrade import document, examples, sides, text
from mcore_compat.upgrade import run as upgrade_run
from mcore_compat.upgrade.answer import UpgradeAnswer, Word
from mcore_compat.upgrade.sides import ChosenCell

WIDTH = 100
"""Of the terminal's form where it is not written to a terminal."""


def run(args: Namespace) -> int:
    """Answer; 0 for go (and with `--changes-ok` for go with changes), else 1.

    Raises:
        UsageError: not two different cells, or options that contradict one another.
        CompatError: as `pipeline.run_cell`; nothing is answered then.
    """
    if args.no_run and args.blame:
        raise UsageError("--blame runs cells, and --no-run runs none: leave out one of them")
    mine = pipeline.device_class()
    if not args.no_run and args.device_class not in (None, mine):
        raise UsageError(f"--device-class: cells run here are of {mine}; add --no-run")
    if args.output and args.output.is_dir():
        raise UsageError(f"--output: {args.output} is a folder; name a file")
    here = commands.context()
    origin, target = _cells(args, here)
    question = upgrade_run.Question(
        origin=origin,
        target=target,
        accepted=args.accept,
        device_class=args.device_class,
        load=None if args.no_run else _load_checkpoints,
        blame=args.blame,
    )
    answer = upgrade_run.answered(question, here)
    _print(answer, args.format, args.output)
    fine = {Word.GO, Word.CHANGES} if args.changes_ok else {Word.GO}
    return 0 if answer.word in fine else 1


def _cells(args: Namespace, here: Context) -> tuple[ChosenCell, str]:
    """The two cells, and how the first was found where it is what is installed."""
    if args.target in sides.WORDS_FOR_INSTALLED:
        raise UsageError("current: only FROM can be what is installed; name the cell TO")
    target = exchange.name_of(args.target, here)
    if args.origin not in sides.WORDS_FOR_INSTALLED:
        if args.python:
            raise UsageError(f'--python: FROM is a cell, "{args.origin}", and not current')
        origin = ChosenCell(exchange.name_of(args.origin, here), note="", stands_in=False)
    else:
        python = Path(args.python) if args.python else commands.active()
        rows = [published.record(data.row(e, here.matrix)) for e in evidence.load_all()]
        origin = sides.installed(scan.inspect(python, here.run), rows)
    if pipeline.chosen(origin.name, here).pins == pipeline.chosen(target, here).pins:
        raise UsageError(f"FROM and TO are the same cell, {target}: there is nothing to upgrade")
    return origin, target


def _load_checkpoints(origin: str, targets: Sequence[str]) -> None:
    asked = exchange.Asked(origins=[origin], targets=targets)
    with contextlib.redirect_stdout(sys.stderr):  # the answer alone is printed
        code = exchange.exchange(asked, force=False, dry_run=False)
    if code == InfrastructureError.exit_code:
        raise InfrastructureError("not all checkpoints were loaded; run it again to continue")


def _print(answer: UpgradeAnswer, form: str, output: Path | None) -> None:
    from rich.console import Console

    if form == "terminal" and output is None:
        width = None if sys.stdout.isatty() else WIDTH
        text.show(document.sections(answer), Console(highlight=False, width=width))
        return
    if form == "terminal":
        out = io.StringIO()
        text.show(document.sections(answer), Console(file=out, highlight=False, width=WIDTH))
        whole = "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())
    else:
        whole = plain.text(answer) if form == "json" else examples.markdown(answer)
    if output is None:
        sys.stdout.write(whole)
        return
    files.write_text(output, whole)
    print(f"{answer.origin.name} → {answer.target.name}: {answer.word.value}; {output}")
