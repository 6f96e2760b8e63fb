"""The suite's events are handed on whole, in order and once each; without any there is no verdict.

No suite is run here: a stand-in writes the events that one would write.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import START, event

from mcore_compat.base.errors import InfrastructureError
from mcore_compat.base.files import ROOT
from mcore_compat.base.processes import Completed
from mcore_compat.run import runner
from mcore_compat.run.runner import EventTail

EVENTS: list[Mapping[str, Any]] = [START, event("import[torch]"), {"event": "end", "seconds": 1.0}]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of the test's own."""
    monkeypatch.setenv("MCORE_COMPAT_HOME", str(tmp_path / "home"))


def line_of(one: Mapping[str, Any]) -> bytes:
    return json.dumps(one, ensure_ascii=False).encode() + b"\n"


@settings(deadline=None, max_examples=50)
@given(
    events=st.lists(st.fixed_dictionaries({"event": st.text(max_size=5)}), max_size=5),
    cuts=st.lists(st.floats(0, 1), max_size=8),
)
def test_however_the_bytes_come_every_event_is_passed_on_once(
    tmp_path_factory: pytest.TempPathFactory, events: list[dict[str, Any]], cuts: list[float]
) -> None:
    data = b"".join(map(line_of, events))
    ends = [*sorted(int(cut * len(data)) for cut in cuts), len(data)]
    seen: list[Mapping[str, Any]] = []
    tail = EventTail(path=tmp_path_factory.getbasetemp() / "events.jsonl", on_event=seen.append)
    tail.path.write_bytes(b"")
    start = 0
    for end in ends:
        with tail.path.open("ab") as out:
            out.write(data[start:end])
        tail.drain()
        assert len(seen) == data[:end].count(b"\n")
        start = end
    tail.drain()
    assert seen == events
    assert tail.seen == len(events)


def test_a_line_that_is_still_being_written_waits(tmp_path: Path) -> None:
    seen: list[Mapping[str, Any]] = []
    tail = EventTail(path=tmp_path / "events.jsonl", on_event=seen.append)
    tail.path.write_bytes(b'{"event": "end"}')
    tail.drain()
    assert seen == []
    with tail.path.open("ab") as out:
        out.write(b"\n")
    tail.drain()
    assert seen == [{"event": "end"}]


def test_a_file_that_is_not_there_yet_has_no_events(tmp_path: Path) -> None:
    seen: list[Mapping[str, Any]] = []
    tail = EventTail(path=tmp_path / "events.jsonl", on_event=seen.append)
    tail.drain()
    assert tail.seen == 0
    tail.path.write_bytes(line_of(START))
    tail.drain()
    assert seen == [START]


@dataclass
class Suite:
    """Stands in for the suite's process: writes `events`, a line after each but the last.

    `raises` is what interrupts it after its last event.
    """

    events: list[Mapping[str, Any]]
    output: str = ""
    returncode: int = 0
    timed_out: bool = False
    raises: BaseException | None = None
    argv: list[str] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)

    def __call__(
        self,
        argv: Sequence[str | os.PathLike[str]],
        *,
        timeout: float,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        log: Path | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> Completed:
        self.argv = [os.fspath(a) for a in argv]
        self.options = {"timeout": timeout, "env": env, "cwd": cwd, "log": log}
        path = Path(self.argv[self.argv.index("--events") + 1])
        for number, one in enumerate(self.events, start=1):
            with path.open("ab") as out:
                out.write(line_of(one))
            if on_line and number < len(self.events):
                on_line(f"line {number}")
        if self.raises:
            raise self.raises
        return Completed(
            argv=tuple(self.argv),
            returncode=self.returncode,
            output=self.output,
            seconds=1.0,
            timed_out=self.timed_out,
        )


def run_suite(suite: Suite, logs: Path, seen: list[Any] | None = None, **options: Any) -> Completed:
    """Run the stand-in; `seen` gets events and lines in the order in which they were handed on."""
    take = [].append if seen is None else seen.append
    return runner.run_suite(
        python=Path("cell") / "python",
        tools=Path("tools"),
        variables=options.pop("variables", {"ONLY": "this"}),
        logs=logs,
        run=suite,
        on_event=take,
        on_line=take,
        **options,
    )


def after(argv: list[str], option: str) -> str:
    return argv[argv.index(option) + 1]


def test_the_suite_is_run_by_the_cells_python_with_what_was_asked(tmp_path: Path) -> None:
    suite = Suite(EVENTS)
    run_suite(suite, tmp_path / "logs", only="restore", check_limit=7.5)
    assert suite.argv[0] == str(Path("cell") / "python")
    assert str(ROOT / "suite" / "run.py") in suite.argv
    assert after(suite.argv, "--only") == "restore"
    assert after(suite.argv, "--timeout") == "7.5"
    assert after(suite.argv, "--tools") == "tools"
    assert suite.options == {
        "timeout": runner.SUITE_LIMIT_S,
        "env": {"ONLY": "this"},
        "cwd": ROOT,
        "log": tmp_path / "logs" / "suite.log",
    }


def test_without_a_choice_everything_is_asked_with_its_own_limit(tmp_path: Path) -> None:
    suite = Suite(EVENTS)
    run_suite(suite, tmp_path)
    assert "--only" not in suite.argv
    assert "--timeout" not in suite.argv  # each check has its own limit


def test_events_that_end_at_any_byte_give_their_whole_lines(tmp_path: Path) -> None:
    lines = [
        json.dumps({"event": "check", "reason": "zwölf"}, ensure_ascii=False),
        '{"event": "end"}',
    ]
    data = "".join(f"{line}\n" for line in lines).encode()
    for size in range(len(data) + 1):
        path = tmp_path / "events.jsonl"
        path.write_bytes(data[:size])
        seen: list[Any] = []
        tail = runner.EventTail(path=path, on_event=seen.append)
        tail.drain()
        assert seen == [json.loads(line) for line in lines[: data[:size].count(b"\n")]]
        path.write_bytes(data)
        tail.drain()
        assert seen == [json.loads(line) for line in lines]


@pytest.mark.parametrize(("devices", "told"), [("", True), ("0", False), (None, False)])
def test_where_all_devices_are_hidden_the_suite_is_told_to_ask_none(
    devices: str | None, told: bool, tmp_path: Path
) -> None:
    suite = Suite(EVENTS)
    variables = {} if devices is None else {"CUDA_VISIBLE_DEVICES": devices}
    run_suite(suite, tmp_path, variables=variables)
    assert ("--gpu" in suite.argv) is told
    assert not told or after(suite.argv, "--gpu") == "never"


def test_events_are_handed_on_before_the_line_that_follows_them(tmp_path: Path) -> None:
    seen: list[Any] = []
    run_suite(Suite(EVENTS), tmp_path, seen)
    assert seen == [EVENTS[0], "line 1", EVENTS[1], "line 2", EVENTS[2]]


def test_events_and_the_log_of_an_earlier_run_are_not_taken(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_bytes(line_of(event("from before")))
    (tmp_path / "suite.log").write_text("from before")
    seen: list[Any] = []
    run_suite(Suite([START]), tmp_path, seen)
    assert seen == [START]
    assert not (tmp_path / "suite.log").exists()


def test_how_the_suite_ended_is_handed_back(tmp_path: Path) -> None:
    done = run_suite(Suite(EVENTS, returncode=3, output="x"), tmp_path)
    assert done.returncode == 3
    assert done.output == "x"


def test_an_interrupted_suite_keeps_what_it_wrote(tmp_path: Path) -> None:
    seen: list[Any] = []
    with pytest.raises(KeyboardInterrupt):
        run_suite(Suite(EVENTS, raises=KeyboardInterrupt()), tmp_path, seen)
    assert [one for one in seen if not isinstance(one, str)] == EVENTS


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("Traceback\n  x\nModuleNotFoundError: No module named 'pytest'\n\n", "No module named"),
        ("", "it printed nothing"),
    ],
)
@pytest.mark.parametrize("timed_out", [False, True])
def test_a_suite_without_events_is_no_verdict(
    tmp_path: Path, output: str, said: str, timed_out: bool
) -> None:
    with pytest.raises(InfrastructureError) as caught:
        run_suite(Suite([], output=output, returncode=1, timed_out=timed_out), tmp_path)
    assert said in str(caught.value)
    assert "suite.log" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 3


def test_a_suite_over_its_limit_is_no_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "SUITE_LIMIT_S", 71.0)
    seen: list[Any] = []
    suite = Suite(EVENTS[:2], returncode=-9, timed_out=True)
    with pytest.raises(InfrastructureError, match="limit of 71 s"):
        run_suite(suite, tmp_path, seen)
    assert suite.options["timeout"] == 71.0
    assert EVENTS[1] in seen


def test_an_interruption_while_an_event_is_taken_does_not_bring_it_twice(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"".join(line_of({"n": n}) for n in range(3)))
    seen: list[int] = []

    def take(one: Mapping[str, Any]) -> None:
        seen.append(one["n"])
        if len(seen) == 2:
            raise KeyboardInterrupt

    tail = EventTail(path=path, on_event=take)
    with pytest.raises(KeyboardInterrupt):
        tail.drain()
    tail.drain()
    assert seen == [0, 1, 2]
