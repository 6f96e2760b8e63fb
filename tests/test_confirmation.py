"""A check whose outcome is doubted counts as it ended twice. A stand-in plays the suite's runs."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from engine_support import END, line_of
from support import ROOT, START, event, stand_in_cell

from mcore_compat.base import terminal
from mcore_compat.base.errors import InfrastructureError
from mcore_compat.base.processes import Completed
from mcore_compat.results import terminal_verdict
from mcore_compat.results.from_events import Builder
from mcore_compat.results.result import empty_result
from mcore_compat.run import runner
from mcore_compat.run.check_sets import MAIN
from mcore_compat.run.runner import SuiteEnvironment

BUILD, RESTORE = "build[gpt]", "restore[gpt]"


def died(check: str, kind: str = "SIGSEGV", reason: str | None = None) -> dict[str, Any]:
    made = event(check, "broken")
    made["failure"].update(type=kind, message="")
    return {**made, "outcome": "crashed", "reason": reason or f"killed by {kind}"}


def blocked(check: str, by: str) -> dict[str, Any]:
    return event(check, "blocked", reason=f"{by} is crashed")


@dataclass
class Runs:
    """The suite's processes, one for each of `runs`: the checks' events of each."""

    runs: list[list[dict[str, Any]]]
    only: list[str] = field(default_factory=list)

    def __call__(self, argv: Sequence[str | os.PathLike[str]], **_: Any) -> Completed:
        words = [os.fspath(word) for word in argv]
        self.only.append(words[words.index("--only") + 1] if "--only" in words else "")
        events = [START, *self.runs[len(self.only) - 1], END]
        Path(words[words.index("--events") + 1]).write_bytes(b"".join(map(line_of, events)))
        return Completed(argv=tuple(words), returncode=0, output="", seconds=1.0)


def asked(
    tmp_path: Path, *runs: list[dict[str, Any]], known: Mapping[str, str] = {}
) -> tuple[dict[str, Any], list[str]]:
    """By check, the event that counted; and what the runs after the first were asked for."""
    process, seen = Runs([*runs]), []
    place = SuiteEnvironment(
        name="compat-0.16-modelopt0.41",
        python=tmp_path / "python",
        tools=tmp_path,
        variables={},
        suite=ROOT / "suite",
        logs=tmp_path / "logs",
    )
    runner.run_suite(
        MAIN,
        place,
        run=process,
        say=lambda _: None,
        on_event=seen.append,
        device_class="host",
        known=known,
    )
    assert seen[0] == START
    assert seen[-1] == END
    assert len(process.only) == len(runs)
    return {one["check"]: one for one in seen[1:-1]}, process.only[1:]


def test_what_nobody_doubts_is_asked_once(tmp_path: Path) -> None:
    counted, again = asked(tmp_path, [event(BUILD), event(RESTORE, "broken")])
    assert counted[RESTORE]["outcome"] == "broken"
    assert again == []


def test_what_died_twice_counts(tmp_path: Path) -> None:
    counted, again = asked(tmp_path, [event(BUILD), died(RESTORE)], [died(RESTORE)])
    assert counted[RESTORE] == died(RESTORE)
    assert again == [RESTORE]


def test_what_died_once_flaps_and_a_third_run_decides(tmp_path: Path) -> None:
    counted, again = asked(tmp_path, [died(RESTORE)], [event(RESTORE)], [event(RESTORE)])
    assert counted[RESTORE]["outcome"] == "works"
    assert counted[RESTORE]["details"]["flapping"] == ["crashed", "works", "works"]
    assert again == [RESTORE, RESTORE]


def test_what_it_blocked_is_asked_with_it_and_is_taken_from_the_run_that_counts(
    tmp_path: Path,
) -> None:
    whole = [event(BUILD), event(RESTORE, "broken")]
    counted, again = asked(tmp_path, [died(BUILD), blocked(RESTORE, BUILD)], whole, whole)
    assert counted[BUILD]["outcome"] == "works"
    assert counted[RESTORE] == event(RESTORE, "broken")
    assert again == [f"{BUILD},{RESTORE}"] * 2


def test_what_stays_blocked_is_told_so(tmp_path: Path) -> None:
    run = [died(BUILD), blocked(RESTORE, BUILD)]
    assert asked(tmp_path, run, run)[0][RESTORE] == blocked(RESTORE, BUILD)


def test_each_time_differently_is_no_outcome(tmp_path: Path) -> None:
    runs = ([died(RESTORE)], [event(RESTORE)], [event(RESTORE, "broken")])
    with pytest.raises(InfrastructureError, match="crashed, works, broken"):
        asked(tmp_path, *runs)


@pytest.mark.parametrize("kind", ["SIGKILL", "SIGTERM", "SIGXCPU"])
def test_a_signal_from_outside_is_never_an_outcome(tmp_path: Path, kind: str) -> None:
    with pytest.raises(InfrastructureError, match=f"killed by {kind}, 2 times"):
        asked(tmp_path, [died(RESTORE, kind)], [died(RESTORE, kind)])


@pytest.mark.parametrize("kind", ["SIGKILL", "SIGTERM", "SIGXCPU"])
def test_what_a_signal_from_outside_ended_once_does_not_flap(tmp_path: Path, kind: str) -> None:
    whole = [event(RESTORE)]
    counted, again = asked(tmp_path, [died(RESTORE, kind)], whole, whole)
    assert counted[RESTORE] == event(RESTORE)
    assert again == [RESTORE, RESTORE]


def test_a_report_that_could_not_be_written_is_never_an_outcome(tmp_path: Path) -> None:
    run = [died(RESTORE, "Exited", "exited with code 70 without a report")]
    with pytest.raises(InfrastructureError, match="code 70"):
        asked(tmp_path, run, run)


@pytest.mark.parametrize("outcome", ["broken", "needs-gpu", "unsupported"])
def test_what_contradicts_a_result_is_asked_again(tmp_path: Path, outcome: str) -> None:
    run, known = [event(RESTORE, outcome)], {RESTORE: "works"}
    counted, again = asked(tmp_path, run, run, known=known)
    assert counted[RESTORE]["outcome"] == outcome
    assert again == [RESTORE]


def test_what_a_result_says_as_well_is_not(tmp_path: Path) -> None:
    assert asked(tmp_path, [died(RESTORE)], known={RESTORE: "crashed"})[1] == []
    assert asked(tmp_path, [event(RESTORE)], known={RESTORE: "broken"})[1] == []


@pytest.mark.parametrize(
    "message", ["process 4711 terminated with signal SIGKILL", "[Errno 32] Broken pipe"]
)
def test_what_lost_a_process_of_its_own_is_asked_again(tmp_path: Path, message: str) -> None:
    failed = event(RESTORE, "broken")
    failed["failure"].update(type="RuntimeError", message=message)
    counted, _ = asked(tmp_path, [failed], [event(RESTORE)], [event(RESTORE)])
    assert counted[RESTORE]["details"]["flapping"] == ["broken", "works", "works"]


def test_a_fault_of_the_machine_in_a_later_run_ends_it(tmp_path: Path) -> None:
    full = event(RESTORE, "broken")
    full["failure"].update(type="OSError", message="[Errno 28] No space left on device")
    with pytest.raises(InfrastructureError, match="No space left"):
        asked(tmp_path, [died(RESTORE)], [full])


def test_a_flapping_check_is_told_where_its_cell_is(tmp_path: Path) -> None:
    counted, _ = asked(tmp_path, [died(RESTORE)], [event(RESTORE)], [event(RESTORE)])
    builder = Builder(empty_result(stand_in_cell(), device_class="host", lock="l", suite="s"))
    for one in (START, counted[RESTORE], END):
        builder.take(one)
    out = io.StringIO()
    terminal_verdict.show(builder.result(), None, terminal.console(file=out, width=100))
    assert "flapping: restore[gpt] ended crashed, then works, then works" in out.getvalue()


def test_events_are_json(tmp_path: Path) -> None:
    counted, _ = asked(tmp_path, [died(RESTORE)], [event(RESTORE)], [event(RESTORE)])
    assert json.loads(json.dumps(counted)) == counted
