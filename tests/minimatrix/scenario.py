"""All that is done with the toy project, once for all tests, and what was to be seen meanwhile."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from minimatrix import packages, project, views
from minimatrix.index import Index
from minimatrix.project import Ended, Project

GOOD, BAD = "1.0-modelopt0.50", "1.2-modelopt0.50"


@dataclass
class Played:
    """By step: how its commands ended, and what was there afterwards."""

    ended: dict[str, Ended] = field(default_factory=dict)
    seen: dict[str, Any] = field(default_factory=dict)

    def dumps(self) -> str:
        """As text, for the other processes of a test run."""
        return json.dumps(
            {"ended": {k: asdict(v) for k, v in self.ended.items()}, "seen": self.seen}
        )


def loads(text: str) -> Played:
    """What `dumps` wrote."""
    data = json.loads(text)
    return Played({k: Ended(**v) for k, v in data["ended"].items()}, data["seen"])


def play(folder: Path) -> Played:
    """Everything, in order."""
    played = Played()
    with project.opened(folder) as (toy, index):
        for step in (_first_cell, _bisect, _matrix, _report, _answers, _upgrade):
            step(toy, played)
        _night(toy, index, played)
        played.seen["left behind"] = sorted(toy.processes())
    return played


def _first_cell(toy: Project, played: Played) -> None:
    ended, seen = played.ended, played.seen
    ended["refresh"] = toy.run("refresh")
    seen["releases"] = views.releases(toy)
    ended["run"] = toy.run("run", GOOD)
    seen["run"] = views.result(toy, f"compat-{GOOD}")
    seen["run: times"] = views.times(toy)
    ended["run again"], ended["run of none"] = toy.together(
        ("run", GOOD), ("run", "1.0-modelopt0.59")
    )
    seen["run again: times"] = views.times(toy)


def _bisect(toy: Project, played: Played) -> None:
    words = ("--good", GOOD, "--bad", "1.3-modelopt0.50", "--check", "restore[moe]")
    ended = played.ended["bisect"] = toy.run("bisect", *words, "--format", "json")
    played.seen["bisect"] = views.answer(ended.out, ["answer", "text_for_upstream"])
    played.ended["bisect again"] = toy.run("bisect", *words, "--no-run", "--format", "json")


def _matrix(toy: Project, played: Played) -> None:
    """Stopped twice: as soon as a cell has the first part of its result, and as soon as one more
    is complete; then to the end."""
    ended, seen = played.ended, played.seen
    known = seen["before: times"] = views.times(toy)

    def begun() -> bool:
        new = [cell for cell in views.cells(toy) if cell not in known]
        return any((views.result(toy, cell) or {}).get("checks") for cell in new)

    ended["SIGTERM"] = _stopped(toy, signal.SIGTERM, begun, seen)
    done = {cell for cell in known if views.result(toy, cell)["checks"]}

    def complete() -> bool:
        return any(views.result(toy, cell)["checks"] for cell in {*views.times(toy)} - done)

    ended["SIGKILL"] = _stopped(toy, signal.SIGKILL, complete, seen)
    ended["matrix"] = toy.run("matrix", "-j", "2")
    seen["matrix"] = views.results(toy)
    seen["matrix: times"] = views.times(toy)
    seen["locks"] = views.locks(toy)
    ended["matrix again"] = toy.run("matrix", "-j", "2")
    seen["matrix again: times"] = views.times(toy)


def _stopped(
    toy: Project, number: signal.Signals, when: Callable[[], object], seen: dict[str, Any]
) -> Ended:
    """The matrix, whose process group gets a signal; nothing of it goes on afterwards."""
    process = toy.start("matrix", "-j", "2")
    seen[f"{number.name}: came so far"] = project.wait_until(when)
    os.killpg(process.pid, number)
    ended = project.end(process)
    seen[f"{number.name}: nothing goes on"] = project.wait_until(lambda: not toy.processes())
    seen[f"{number.name}: times"] = views.times(toy)
    return ended


def _report(toy: Project, played: Played) -> None:
    played.ended["report"] = toy.run("report")
    played.seen["published"] = views.published(toy)
    played.seen["table"] = views.table(toy)


def _answers(toy: Project, played: Played) -> None:
    """Of what is published; none of them writes anything."""
    python = toy.home / "envs" / f"compat-{BAD}" / "bin" / "python"
    asked = {
        "check": ("report", "--check"),
        "explain": ("explain", BAD),
        "explain: unresolvable": ("explain", "1.0-modelopt0.52"),
        "recommend": ("recommend", "megatron-core <1.1"),
        "recommend: none": ("recommend", "modelopt >=0.52"),
        "doctor": ("doctor", "--python", str(python)),
        "list": ("list",),
    }
    played.ended.update(zip(asked, toy.together(*asked.values()), strict=True))
    table = toy.folder / "reports" / "COMPATIBILITY.md"
    text = table.read_text()
    table.write_text(text.replace("incompatible", "compatible"))
    played.ended["check of an edited table"] = toy.run("report", "--check")
    table.write_text(text)


def _upgrade(toy: Project, played: Played) -> None:
    ended = played.ended["upgrade"] = toy.run("upgrade", GOOD, BAD, "--format", "json")
    played.seen["upgrade"] = views.answer(ended.out)
    played.ended["upgrade: go"] = toy.run("upgrade", GOOD, "1.1-modelopt0.50", "--format", "json")


def _night(toy: Project, index: Index, played: Played) -> None:
    ended, seen = played.ended, played.seen
    before = views.contents(toy.folder / "constraints")
    index.add(packages.LATER)
    ended["night: dry"] = toy.run("nightly", "--dry-run")
    after = views.contents(toy.folder / "constraints")
    seen["night: dry wrote"] = [name for name in after if before.get(name) != after[name]]
    ended["night"] = toy.run("nightly", "-j", "2")
    seen["night: times"] = views.times(toy)
    seen["night"] = {
        "matrix": views.declared(toy),
        "results": {
            cell: views.result(toy, cell)
            for cell, time in seen["night: times"].items()
            if seen["matrix: times"].get(cell) != time
        },
    }
    ended["night: check"], ended["night again"] = toy.together(
        ("report", "--check"), ("nightly", "-j", "2")
    )
    seen["night again: times"] = views.times(toy)
