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
from mcore_compat.base.errors import InfrastructureError, UsageError, nearest
from mcore_compat.cli import commands, exchange
from mcore_compat.core import combinations
from mcore_compat.core.cells import Cell
from mcore_compat.environments import scan
from mcore_compat.exchange import evidence as results
from mcore_compat.publish import collation, compatibility_json
from mcore_compat.results import comparison, evidence
from mcore_compat.results.evidence import Evidence
from mcore_compat.run import pipeline
from mcore_compat.run.pipeline import Context, Options
from mcore_compat.upgrade import answer as answers
from mcore_compat.upgrade import current, document, examples, losses, sides, text
from mcore_compat.upgrade import data as plain
from mcore_compat.upgrade.answer import Answer, Word
from mcore_compat.upgrade.checkpoints import named
from mcore_compat.upgrade.current import Chosen
from mcore_compat.upgrade.sides import Known

WIDTH = 100
"""Of the terminal's form where it is not written to a terminal."""


def run(args: Namespace) -> int:
    """Answer; 0 for go (and with `--changes-ok` for go with changes), else 1.

    Raises:
        UsageError: not two different cells, or options that contradict one another.
        CompatError: as `pipeline.run_cell`; nothing is answered then.
    """
    mine = pipeline.device_class()
    if args.no_run and args.blame:
        raise UsageError("--blame runs cells, and --no-run runs none: leave out one of them")
    if not args.no_run and args.device_class not in (None, mine):
        raise UsageError(f"--device-class: cells run here are of {mine}; add --no-run")
    if args.output and args.output.is_dir():
        raise UsageError(f"--output: {args.output} is a folder; name a file")
    here = commands.context()
    names, came = _names(args, here)
    if not args.no_run:
        _test(names, here)
    cells = [pipeline.chosen(name, here) for name in names]
    strict = not args.no_run or args.device_class is not None
    of = _known(cells, here, args.device_class or mine, strict=strict)
    _check_accepted(args.accept, of, cells)
    if args.blame and _blame(of, cells, args.accept, here):
        of = _known(cells, here, mine, strict=True)
    origin = of.side(cells[0], came.note, stands_in=came.stands_in)
    made = answers.answer(origin, of.side(cells[1]), of, args.accept)
    _print(made, args.format, args.output)
    fine = {Word.GO, Word.CHANGES} if args.changes_ok else {Word.GO}
    return 0 if made.word in fine else 1


def _names(args: Namespace, here: Context) -> tuple[list[str], Chosen]:
    """The two cells' names, and how the first was found where it is what is installed."""
    if args.target in current.WORDS:
        raise UsageError("current: only FROM can be what is installed; name the cell TO")
    target = exchange.name_of(args.target, here)
    if args.origin not in current.WORDS:
        if args.python:
            raise UsageError(f'--python: FROM is a cell, "{args.origin}", and not current')
        came = Chosen(exchange.name_of(args.origin, here), note="", stands_in=False)
    else:
        python = Path(args.python) if args.python else commands.active()
        rows = [
            published.record(compatibility_json.row(e, here.matrix)) for e in evidence.load_all()
        ]
        came = current.current(scan.inspect(python, here.run), rows)
    if pipeline.chosen(came.name, here).pins == pipeline.chosen(target, here).pins:
        raise UsageError(f"FROM and TO are the same cell, {target}: there is nothing to upgrade")
    return [came.name, target], came


def _test(names: Sequence[str], here: Context) -> None:
    """Run both cells and load the checkpoints of FROM in both, where that is not fresh: what does
    not load in FROM either is not lost."""
    found = [pipeline.run_cell(name, Options(), here).evidence for name in names]
    if not all(one.checks for one in found):
        return
    asked = exchange.Asked(origins=names[:1], targets=names)
    with contextlib.redirect_stdout(sys.stderr):  # the answer alone is printed
        code = exchange.exchange(asked, force=False, dry_run=False)
    if code == InfrastructureError.exit_code:
        raise InfrastructureError("not all checkpoints were loaded; run it again to continue")


def _known(cells: Sequence[Cell], here: Context, mine: str, *, strict: bool) -> Known:
    """All that is known by now; not `strict`: of the device class that both cells have."""
    found = evidence.load_all()
    names = [cell.name for cell in cells]
    chosen = mine if strict else sides.nearest_class(found, names, mine, evidence.DEVICE_CLASSES)
    declared = combinations.cells(here.matrix, here.releases)
    all_ = collation.collate(found, declared, here.matrix, here.releases)
    return examples.known(all_, chosen, results.load_all(), cells)


def _check_accepted(patterns: Sequence[str], of: Known, cells: Sequence[Cell]) -> None:
    """A pattern that means no check is a slip of the pen."""
    if not patterns:
        return
    origin, target = (of.side(cell) for cell in cells)
    made = answers.answer(origin, target, of)
    checks = {*origin.outcomes(), *target.outcomes()}
    checks |= {r.check for r in made.checkpoints.routes} if made.checkpoints else set()
    for one in patterns:
        if not any(named(check, [one]) for check in checks):
            raise UsageError(f'--accept: no check is called "{one}"{nearest(one, checks)}')


def _blame(of: Known, cells: Sequence[Cell], accepted: Sequence[str], here: Context) -> bool:
    """Run cells between the two until it is known what is to blame; whether any was run."""
    origin, target = (of.side(cell) for cell in cells)
    if not origin.outcomes() or not target.outcomes():
        return False
    assert origin.found is not None
    assert target.found is not None
    made = comparison.difference(origin.found, target.found)
    before = losses.losses(origin, target, made, of, accepted)
    open_ = {cell for one in before if one.blamed for cell in one.blamed.open}
    if not open_:
        return False
    seconds = max(one.blamed.seconds for one in before if one.blamed)
    here.say(
        f"--blame: at most {len(open_)} cells, about {seconds * len(open_) / 60:.0f} min without "
        "builds and downloads"
    )

    def test(cell: Cell) -> Evidence:
        return pipeline.run_cell(cell.name, Options(), here).evidence

    losses.losses(origin, target, made, of, accepted, test)
    return True


def _print(made: Answer, form: str, output: Path | None) -> None:
    from rich.console import Console

    if form == "terminal" and output is None:
        width = None if sys.stdout.isatty() else WIDTH
        text.show(document.sections(made), Console(highlight=False, width=width))
        return
    if form == "terminal":
        out = io.StringIO()
        text.show(document.sections(made), Console(file=out, highlight=False, width=WIDTH))
        whole = "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())
    else:
        whole = plain.text(made) if form == "json" else examples.markdown(made)
    if output is None:
        sys.stdout.write(whole)
        return
    files.write_text(output, whole)
    print(f"{made.origin.name} → {made.target.name}: {made.word.value}; {output}")
