"""All that is done with the toy project, once for all tests, and what was to be seen meanwhile."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from minimatrix import packages, project, views
from minimatrix.index import Index
from minimatrix.project import Ended, Project

GOOD, BAD = "1.0-modelopt0.50", "1.2-modelopt0.50"
OFF = "1.0-modelopt0.50-torch2.10"
OTHER = "1.1-modelopt0.50-torch2.10"
BETWEEN = ("--good", GOOD, "--bad", "1.3-modelopt0.50", "--check", "restore[moe]")


@dataclass
class Played:
    """By step: how its commands ended, and what was there afterwards."""

    ended: dict[str, Ended] = field(default_factory=dict)
    seen: dict[str, Any] = field(default_factory=dict)

    def dumps(self) -> str:
        """As text, for the other processes of a test run."""
        ended = {name: asdict(one) for name, one in self.ended.items()}
        return json.dumps({"ended": ended, "seen": self.seen})


def loads(text: str) -> Played:
    """What `dumps` wrote."""
    data = json.loads(text)
    return Played({k: Ended(**v) for k, v in data["ended"].items()}, data["seen"])


def play(folder: Path) -> Played:
    """Everything, in order."""
    played = Played()
    with project.opened(folder) as (toy, index):
        first = (_first_cell, _bisect, _matrix, _report, _answers, _own)
        for step in (*first, _upgrade, _edges, _meeting):
            step(toy, played)
        _news(toy, index, played)
        _night(toy, played)
        played.seen["left behind"] = sorted(toy.processes())
    return played


def _first_cell(toy: Project, played: Played) -> None:
    ended, seen = played.ended, played.seen
    ended["refresh"] = toy.run("refresh")
    seen["releases"] = views.releases(toy)
    ended["run"] = toy.run("run", GOOD, "--publish")
    seen["run"] = views.result(toy, GOOD)
    seen["run: times"] = views.times(toy)
    commands = {
        "run again": ("run", GOOD, "--publish"),
        "run of none": ("run", "1.0-modelopt0.59"),
        "bisect: dry": ("bisect", *BETWEEN, "--dry-run", "--format", "json"),
    }
    ended.update(toy.together(commands))
    seen["run again: times"] = views.times(toy)
    seen["bisect: dry"] = views.answer(ended["bisect: dry"].out, ["most_minutes"])


def _own(toy: Project, played: Played) -> None:
    """As in a clone, in which results of others are published: of one cell, and of one that fails;
    then of one of which nothing is."""
    ended, seen = played.ended, played.seen
    before = views.contents(toy.folder / "reports")
    alone = "1.0-modelopt0.51-torch2.10"
    commands = {"own": ("run", GOOD), "own: broken": ("run", BAD), "own: alone": ("run", alone)}
    ended.update(toy.together(commands))
    commands = {
        "own again": ("run", GOOD),
        "own: a part": ("run", BAD, "--only", "restore"),
        "own: shown": ("show", GOOD),
        "own: shown alone": ("show", alone),
        "own: explained": ("explain", alone),
        "own: matrix": ("matrix", "--mcore", "==1.0.*"),
        "own: for all": ("matrix", "--mcore", "==1.2.*", "--for", "all"),
    }
    ended.update(toy.together(commands))
    after = views.contents(toy.folder / "reports")
    seen["own: changed"] = sorted(name for name in after if before.get(name) != after[name])


def _bisect(toy: Project, played: Played) -> None:
    ended = played.ended["bisect"] = toy.run("bisect", *BETWEEN, "--format", "json")
    played.seen["bisect"] = views.answer(ended.out, ["answer", "text_for_upstream"])


def _matrix(toy: Project, played: Played) -> None:
    """Stopped twice, while checks hang: in all cells that run, and in the last one; then to the
    end. What ends it leaves two cells half done, and then one."""
    ended, seen = played.ended, played.seen
    known = seen["before: times"] = views.times(toy)

    def half_done() -> bool:
        return len(seen_of(lambda cell: cell not in known)) == 2

    def done_but_one() -> bool:
        return len(seen_of(lambda cell: views.complete(toy, cell))) == len(known) + 3

    def seen_of(which: Callable[[str], bool]) -> list[str]:
        return [c for c in views.cells(toy) if which(c) and "restore[gpt]" in views.checks(toy, c)]

    at = {"TOY_HANGS_AT": "modelopt-state-fp8[gpt]"}
    ended["SIGTERM"] = _stopped(toy, signal.SIGTERM, half_done, seen, **at)
    seen["SIGTERM: half done"] = [views.result(toy, c) for c in seen_of(lambda c: c not in known)]
    ended["SIGKILL"] = _stopped(toy, signal.SIGKILL, done_but_one, seen, **at, TOY_HANGS_IN="1.2")
    ended["matrix"] = toy.run("matrix", "-j", "2")
    seen["matrix"] = views.results(toy)
    seen["matrix: times"] = views.times(toy)
    seen["locks"] = views.locks(toy)
    ended["matrix again"] = toy.run("matrix", "-j", "2")
    seen["matrix again: times"] = views.times(toy)


def _stopped(
    toy: Project,
    number: signal.Signals,
    when: Callable[[], bool],
    seen: dict[str, Any],
    **variables: str,
) -> Ended:
    """The matrix, whose process group gets a signal; nothing of it goes on afterwards."""
    process = toy.start("matrix", "-j", "2", **variables)
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
    commands = {
        "check": ("report", "--check"),
        "bisect: known": ("bisect", *BETWEEN, "--no-run"),
        "explain": ("explain", BAD),
        "explain: unresolvable": ("explain", "1.0-modelopt0.52"),
        "recommend": ("recommend", "megatron-core <1.1"),
        "recommend: none": ("recommend", "modelopt >=0.52"),
        "doctor": ("doctor", "--python", str(python)),
        "list": ("list",),
        "matrix: none": ("matrix", "--only", "timed-out"),
    }
    played.ended.update(toy.together(commands))
    played.seen["bisect: known"] = views.undated(played.ended["bisect: known"].out)
    table = toy.folder / "reports" / "COMPATIBILITY.md"
    with _edited(table, lambda text: text.replace("incompatible", "compatible")):
        played.ended["check: edited"] = toy.run("report", "--check")
    with _edited(toy.folder / "constraints" / "matrix.toml", lambda text: "[axes"):
        played.ended["corrupt matrix"] = toy.run("list")


@contextmanager
def _edited(path: Path, change: Callable[[str], str]) -> Iterator[None]:
    """A file of another text meanwhile."""
    text, before = path.read_text(), path.stat()
    path.write_text(change(text))
    yield
    path.write_text(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _upgrade(toy: Project, played: Played) -> None:
    ended = played.ended["upgrade"] = toy.run("upgrade", GOOD, BAD, "--format", "json")
    played.seen["upgrade"] = views.answer(ended.out)
    fine = "1.1-modelopt0.50"
    played.ended["upgrade: go"] = toy.run("upgrade", GOOD, fine, "--format", "json")
    python = toy.home / "envs" / f"compat-{GOOD}" / "bin" / "python"
    file = toy.home / "answer.md"
    commands = {
        "upgrade: current": ("upgrade", "current", fine, "--no-run", "--python", str(python)),
        "upgrade: file": ("upgrade", GOOD, BAD, "--no-run", "--format", "markdown"),
        "upgrade: accepted": ("upgrade", GOOD, BAD, "--no-run", "--accept", "*moe*"),
        "upgrade: untested": ("upgrade", GOOD, "1.0-modelopt0.52", "--format", "json"),
    }
    commands["upgrade: file"] += ("--output", str(file))
    played.ended.update(toy.together(commands))
    played.seen["upgrade: file"] = views.undated(file.read_text())


def _edges(toy: Project, played: Played) -> None:
    """One cell each, what else may come of a run."""
    results, locks = toy.folder / "reports" / "results", toy.folder / "constraints" / "locks"
    commands = {
        "forced": ("run", GOOD, "--force", "--publish"),
        "part": ("run", OTHER, "--only", "restore"),
        "part of none": ("run", "1.1-modelopt0.50", "--only", "restoer"),
        "ended early": ("run", OFF, "--publish"),
        "no index": ("run", "1.2-modelopt0.50-torch2.10", "--publish"),
        "corrupt result": ("run", "1.1-modelopt0.51"),
        "corrupt lock": ("run", "1.2-modelopt0.51"),
        "other lock": ("run", "1.3-modelopt0.51"),
    }
    silent = {"UV_DEFAULT_INDEX": "http://index.invalid", "UV_HTTP_RETRIES": "0"}
    variables = {"ended early": {"TOY_ENDS_AFTER": "3"}, "no index": silent}
    with (
        _edited(results / "compat-1.1-modelopt0.51" / "main.host.json", lambda text: "{"),
        _edited(locks / "compat-1.2-modelopt0.51.txt", lambda text: "nonsense\n"),
        _edited(
            locks / "compat-1.3-modelopt0.51.txt",
            lambda text: text.replace(
                "# pins: megatron-core==1.3.0", "# pins: megatron-core==1.2.0"
            ),
        ),
    ):
        played.ended.update(toy.together(commands, **variables))
    played.seen["edges: times"] = views.times(toy)
    played.seen["edges"] = {
        name: views.result(toy, commands[name][1]) for name in ("part", "ended early", "no index")
    }
    with _edited(toy.folder / "suite" / "run.py", lambda text: f"{text}# more\n"):
        commands = {
            "suite changed": ("run", "1.1-modelopt0.51", "--publish"),
            "ended": ("run", OFF, "--publish"),
        }
        played.ended.update(toy.together(commands))
    played.seen["suite changed: times"] = views.times(toy)
    played.seen["ended"] = views.result(toy, OFF)


def _meeting(toy: Project, played: Played) -> None:
    """A second run of a cell whose first one hangs; then that is told to end."""
    first = toy.start("run", OTHER, "--publish", TOY_HANGS_AT="restore[gpt]")
    project.wait_until(lambda: "import" in views.checks(toy, OTHER))
    played.ended["second run"] = toy.run("run", OTHER, "--publish")
    first.terminate()
    played.ended["first run"] = project.end(first)
    played.seen["first run"] = views.result(toy, OTHER)


def _news(toy: Project, index: Index, played: Played) -> None:
    """New releases are seen, and join the matrix where that is asked for."""
    ended, seen = played.ended, played.seen
    seen["before the news: times"] = views.times(toy)
    index.add(packages.LATER)
    constraints = toy.folder / "constraints"
    for name, words in (
        ("night: dry", ("nightly", "--dry-run")),
        ("refresh: news", ("refresh",)),
        ("refresh: join", ("refresh", "--join")),
    ):
        before = views.contents(constraints)
        ended[name] = toy.run(*words)
        after = views.contents(constraints)
        seen[f"{name}: wrote"] = sorted(k for k in after if before.get(k) != after[k])
    seen["joined"] = views.declared(toy)
    commands = {
        f"night: list {part}": ("nightly", "--list", "--shard", part)
        for part in ("1/1", "1/2", "2/2")
    }
    ended.update(toy.together(commands))


def _night(toy: Project, played: Played) -> None:
    """The night goes on where the refresh stopped."""
    ended, seen = played.ended, played.seen
    ended["night"] = toy.run("nightly", "-j", "2")
    seen["night: times"] = views.times(toy)
    old = seen["before the news: times"]
    ran = [cell for cell, time in seen["night: times"].items() if old.get(cell) != time]
    seen["night"] = {cell: views.result(toy, cell) for cell in ran}
    seen["night: locks"] = {cell: lock for cell, lock in views.locks(toy).items() if cell in ran}
    mended = ("--good", "1.3-modelopt0.50", "--bad", BAD, "--check", "restore[moe]")
    commands = {
        "night: check": ("report", "--check"),
        "night again": ("nightly", "-j", "2"),
        "bisect: mended": ("bisect", *mended, "--no-run", "--format", "json"),
    }
    before = views.contents(toy.folder / "constraints")
    ended.update(toy.together(commands))
    after = views.contents(toy.folder / "constraints")
    seen["night again: wrote"] = [name for name in after if before.get(name) != after[name]]
    seen["night again: times"] = views.times(toy)
