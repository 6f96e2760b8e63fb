"""The suite's events are handed on whole, in order and once each; without any there is no verdict.

No suite is run here: a stand-in writes the events that one would write.
"""

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from engine_support import END, EVENTS, SuiteProcess, line_of
from hypothesis import given, settings
from hypothesis import strategies as st
from support import ROOT, START, event

from mcore_compat.base.errors import InfrastructureError, ResultError
from mcore_compat.base.processes import Completed
from mcore_compat.run import runner
from mcore_compat.run.check_sets import GPU, MAIN, SUITE_LIMIT_S
from mcore_compat.run.runner import EventTail, SuiteEnvironment

CELL = "compat-0.16-modelopt0.41"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of the test's own."""
    monkeypatch.setenv("MCORE_COMPAT_HOME", str(tmp_path / "home"))


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


def run_suite(
    suite: SuiteProcess, logs: Path, seen: list[Any] | None = None, **options: Any
) -> None:
    """Run the stand-in; `seen` gets events and lines in the order in which they were handed on."""
    take = [].append if seen is None else seen.append
    place = SuiteEnvironment(
        name=CELL,
        python=Path("cell") / "python",
        tools=Path("tools"),
        variables=options.pop("variables", {"ONLY": "this"}),
        suite=ROOT / "suite",
        logs=logs,
    )
    given = {"device_class": "host", **options}
    check_set = given.pop("check_set", MAIN)
    runner.run_suite(check_set, place, run=suite, on_event=take, say=take, **given)


def test_the_suite_is_run_by_the_cells_python_with_what_was_asked(tmp_path: Path) -> None:
    suite = SuiteProcess(EVENTS)
    run_suite(suite, tmp_path / "logs", only="restore", check_limit=7.5)
    assert suite.argv[0] == str(Path("cell") / "python")
    assert str(ROOT / "suite" / "run.py") in suite.argv
    assert suite.after("--only") == "restore"
    assert suite.after("--timeout") == "7.5"
    assert suite.after("--tools") == "tools"
    assert "--checks" not in suite.argv
    given = suite.options.pop("env")
    temporary = {"TMPDIR", "TORCHINDUCTOR_CACHE_DIR", "TORCH_EXTENSIONS_DIR"}
    assert given.keys() - temporary == {"ONLY"}
    assert given["ONLY"] == "this"
    assert suite.options == {
        "timeout": SUITE_LIMIT_S,
        "cwd": ROOT,
        "log": tmp_path / "logs" / "suite.log",
    }


def test_without_a_choice_everything_is_asked_with_its_own_limit(tmp_path: Path) -> None:
    suite = SuiteProcess(EVENTS)
    run_suite(suite, tmp_path)
    assert "--only" not in suite.argv
    assert "--timeout" not in suite.argv  # each check has its own limit


def test_events_that_end_at_any_byte_give_their_whole_lines(tmp_path: Path) -> None:
    lines = [
        json.dumps({"event": "begin", "check": "zwölf"}, ensure_ascii=False),
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
    suite = SuiteProcess(EVENTS)
    variables = {} if devices is None else {"CUDA_VISIBLE_DEVICES": devices}
    run_suite(suite, tmp_path, variables=variables)
    assert ("--gpu" in suite.argv) is told
    assert not told or suite.after("--gpu") == "never"


def test_events_are_handed_on_before_the_line_that_follows_them(tmp_path: Path) -> None:
    seen: list[Any] = []
    run_suite(SuiteProcess(EVENTS), tmp_path, seen)
    assert seen == [EVENTS[0], "  line 1", EVENTS[1], "  line 2", EVENTS[2]]


def test_events_and_the_log_of_an_earlier_run_are_not_taken(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_bytes(line_of(event("from before")))
    (tmp_path / "suite.log").write_text("from before")
    seen: list[Any] = []
    run_suite(SuiteProcess([START, END]), tmp_path, seen)
    assert seen == [START, "  line 1", END]
    assert not (tmp_path / "suite.log").exists()


def test_checks_of_another_set_are_asked_from_its_folder_within_its_limit(tmp_path: Path) -> None:
    suite = SuiteProcess()
    run_suite(suite, tmp_path, check_set=GPU)
    assert suite.after("--checks") == str(ROOT / "suite" / "gpu")
    assert suite.options["timeout"] == GPU.limit
    run_suite(suite, tmp_path, check_set=GPU, limit=7.0)
    assert suite.options["timeout"] == 7.0


@pytest.mark.parametrize("returncode", [0, 1, -9])
def test_only_the_suites_own_word_for_it_is_an_end(tmp_path: Path, returncode: int) -> None:
    run_suite(SuiteProcess(EVENTS, returncode=returncode), tmp_path)  # 1: something failed
    suite = SuiteProcess(EVENTS[:2], returncode=returncode)
    seen: list[Any] = []
    early = rf"in {CELL}, after \d checks, with exit code {returncode} "
    with pytest.raises(InfrastructureError, match=early):
        run_suite(suite, tmp_path, seen)
    assert EVENTS[1] in seen


def test_where_the_suite_says_an_error_its_first_line_is_told(tmp_path: Path) -> None:
    wrong = {"event": "error", "message": "--only: no check matches 'x'\nmore"}
    with pytest.raises(ResultError) as caught:
        run_suite(SuiteProcess([START, wrong]), tmp_path)
    assert str(caught.value) == "the suite cannot run: --only: no check matches 'x'"


def test_an_interrupted_suite_keeps_what_it_wrote(tmp_path: Path) -> None:
    seen: list[Any] = []
    with pytest.raises(KeyboardInterrupt):
        run_suite(SuiteProcess(EVENTS, raises=KeyboardInterrupt()), tmp_path, seen)
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
        run_suite(SuiteProcess([], output=output, returncode=1, timed_out=timed_out), tmp_path)
    assert said in str(caught.value)
    assert "suite.log" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 3


def test_a_suite_over_its_limit_is_no_verdict(tmp_path: Path) -> None:
    seen: list[Any] = []
    suite = SuiteProcess(EVENTS[:2], returncode=-9, timed_out=True)
    with pytest.raises(InfrastructureError, match="limit of 71 s"):
        run_suite(suite, tmp_path, seen, check_set=replace(MAIN, limit=71.0))
    assert suite.options["timeout"] == 71.0
    assert EVENTS[1] in seen


def test_an_interruption_while_an_event_is_taken_does_not_bring_it_twice(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"".join(line_of({"event": "n", "n": n}) for n in range(3)))
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


class Orphan(SuiteProcess):
    """A suite beside which one of an older run still writes, into the file that it has open and
    into one of that name."""

    def __init__(self, older: Path, events: list[Any]) -> None:
        super().__init__(events)
        self._path, self._open = older, older.open("ab")

    def __call__(self, argv: Sequence[str | os.PathLike[str]], **options: Any) -> Completed:
        with self._open as out, self._path.open("ab") as again:
            for file in (out, again):
                file.write(line_of(event("import[old]")))
        return super().__call__(argv, **options)


def test_what_an_older_runs_orphan_writes_does_not_reach_the_newer_run(tmp_path: Path) -> None:
    first = SuiteProcess(EVENTS, raises=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run_suite(first, tmp_path)
    orphan, seen = Orphan(Path(first.after("--events")), EVENTS), list[Any]()
    run_suite(orphan, tmp_path, seen)
    assert [one for one in seen if not isinstance(one, str)] == EVENTS
    run_suite(SuiteProcess(EVENTS), tmp_path)
    assert len(list(tmp_path.glob("events*"))) == 1, "those of older runs are removed"


class Untidy(SuiteProcess):
    """A suite that leaves files in its temporary folder, and tells of one."""

    def __call__(self, argv: Sequence[str | os.PathLike[str]], **options: Any) -> Completed:
        folder = Path(options["env"]["TMPDIR"])
        (folder / "pymp-x").mkdir()
        (folder / "pymp-x" / "listener").touch()
        self.events = [START, event("import[torch]", reason=f"no {folder}/pymp-x"), END]
        return super().__call__(argv, **options)


def test_what_a_suite_leaves_in_its_temporary_folder_goes_and_no_path_tells_of_it(
    tmp_path: Path,
) -> None:
    """Equal runs say the same, wherever they were run."""
    with tempfile.TemporaryDirectory(prefix="x", dir="/tmp") as place:
        seen: list[Any] = []
        suite = Untidy()
        run_suite(suite, tmp_path, seen, variables={"TMPDIR": place})
        assert suite.options["env"]["TMPDIR"].startswith(f"{place}/mcore-compat-")
        assert list(Path(place).iterdir()) == []
        assert seen[2]["reason"] == f"no {place}/pymp-x"


def test_where_a_sockets_path_would_be_too_long_the_temporary_folder_stays_as_it_is(
    tmp_path: Path,
) -> None:
    place = tmp_path / ("x" * 60)
    place.mkdir()
    suite = SuiteProcess(EVENTS)
    run_suite(suite, tmp_path, variables={"TMPDIR": str(place)})
    assert suite.options["env"]["TMPDIR"] == str(place)
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(
    "line",
    [
        b"[]",
        b"null",
        b"{}",
        b'{"event": 3}',
        b'{"event": "check"}',
        b'{"event": "check", "check": "a", "outcome": "broken", "failure": {"type": 1}}',
        b"{" * 50_000,
        b"\xff",
    ],
)
def test_a_line_that_is_no_event_is_no_traceback(line: bytes, tmp_path: Path) -> None:
    tail = EventTail(path=tmp_path / "events.jsonl", on_event=lambda _: None)
    tail.path.write_bytes(line + b"\n")
    with pytest.raises(InfrastructureError, match="the suite wrote"):
        tail.drain()


def test_what_is_compiled_while_checks_run_is_kept_for_later_runs(tmp_path: Path) -> None:
    suite = SuiteProcess()
    run_suite(suite, tmp_path, check_set=GPU)
    first = dict(suite.options["env"])
    run_suite(suite, tmp_path, check_set=GPU)
    second = dict(suite.options["env"])
    assert first.pop("TMPDIR") != second.pop("TMPDIR")
    assert first == second
    assert Path(first["TORCH_EXTENSIONS_DIR"]).parent == Path(tempfile.gettempdir())
    run_suite(suite, tmp_path, check_set=GPU, variables={"TORCH_EXTENSIONS_DIR": "/named"})
    assert suite.options["env"]["TORCH_EXTENSIONS_DIR"] == "/named"
