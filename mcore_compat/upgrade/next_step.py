"""What to do next: one command. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mcore_compat.analysis.install_line import InstallFacts
from mcore_compat.core.cells import PREFIX
from mcore_compat.publish import constraints_files
from mcore_compat.upgrade.checkpoints import Load
from mcore_compat.upgrade.reasons import Word
from mcore_compat.upgrade.sides import FRESH, Side

if TYPE_CHECKING:
    from mcore_compat.upgrade.answer import UpgradeAnswer

CONSTRAINTS = f"reports/{constraints_files.FOLDER}"


@dataclass(frozen=True, kw_only=True)
class NextStep:
    """A command, and what it does."""

    command: str = ""
    what: str = ""


def upgrade_command(origin: str, target: str, options: str) -> str:
    """The command that runs whatever is out of date for an upgrade, and answers."""
    short = [name.removeprefix(PREFIX) for name in (origin, target)]
    return " ".join(filter(None, ("nox -s upgrade --", *short, options)))


def next_step(answer: UpgradeAnswer, options: str, facts: InstallFacts) -> NextStep:
    """The one thing to do with this answer; `options`: those of its profile."""
    origin, target = answer.origin, answer.target
    if origin.stands_in:
        what = "runs the suite in your environment, which was not tested"
        return NextStep(command="mcore-compat doctor --run", what=what)
    if origin.found is None or target.found is None:
        return NextStep(command=answer.command, what="runs the untested cells")
    if answer.word is Word.NO:
        return _after_no(answer, options)
    over = answer.checkpoints
    open_ = over and [r for w in (Load.UNTESTED, Load.OPEN) for r in over.of(w) if r.decides]
    if open_ or any(r.command == answer.command for r in answer.reasons):
        what = "runs everything that is out of date or untested"
        return NextStep(command=answer.command, what=what)
    what = "installs TO"
    if answer.word is Word.CHANGES:
        what += ", once the changes above are made"
    return NextStep(command=_install(target, facts), what=what)


NEEDS_GPU = "needs a GPU"


def _after_no(answer: UpgradeAnswer, options: str) -> NextStep:
    if answer.alternatives and not answer.nearest:
        command = upgrade_command(answer.origin.name, answer.alternatives[0].cell, options)
        return NextStep(command=command, what="answers the same question for the best alternative")
    if not answer.works and any(r.why.endswith(NEEDS_GPU) for r in answer.reasons):
        return NextStep(command=answer.command, what="run it on a machine with a GPU")
    if any(side.state != FRESH for side in (answer.origin, answer.target)):
        return NextStep(command=answer.command, what="runs everything that is out of date")
    command = f"mcore-compat explain {answer.target.name.removeprefix(PREFIX)}"
    return NextStep(command=command, what="shows which versions fail, and where that is discussed")


def _install(side: Side, facts: InstallFacts) -> str:
    """The command that installs a cell, with its constraints file if it has one."""
    if side.found is None:
        return ""
    path = f"{CONSTRAINTS}/{side.name}.txt"
    tested = constraints_files.environments([side.found], facts).get(side.name)
    pins = (f"{axis}=={version}" for axis, version in side.pins.items() if axis != "python")
    return tested.install.command(path) if tested else f"pip install {' '.join(pins)}"
