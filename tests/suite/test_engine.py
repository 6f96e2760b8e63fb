"""The suite's engine: whatever a check does to itself, it does to no other."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Run, command, read, write

Ask = Callable[..., Run]


def running(marker: str) -> list[str]:
    """Commands of running processes that have `marker` among their arguments."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
        except OSError:
            continue
        if marker.encode() in words:
            found.append(entry.name)
    return found


def gone(marker: str) -> bool:
    deadline = time.monotonic() + 5
    while running(marker) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not running(marker)


def test_a_check_that_returns_works(ask: Ask) -> None:
    run = ask("def check_it_holds(record): record('seen', {'b': {2, 1}})")
    assert run.code == 0
    assert run.outcomes == {"it-holds": "works"}
    assert run["it-holds"]["details"] == {"seen": {"b": [1, 2]}}
    assert run["it-holds"]["failure"] is None


def test_an_assertion_that_fails_is_broken_and_says_why(ask: Ask) -> None:
    event = ask("def check_it():\n    assert 1 == 2, 'one is not two'")["it"]
    assert event["outcome"] == "broken"
    assert event["failure"]["type"] == "AssertionError"
    assert "one is not two" in event["failure"]["message"]
    assert event["failure"]["frames"][-1]["function"] == "check_it"
    assert event["failure"]["gpu_independent"]


def test_a_check_that_hangs_is_timed_out_and_says_where(ask: Ask) -> None:
    run = ask(
        """
        def wait_for_ever(): time.sleep(1000)
        @pytest.mark.limit(0.5)
        def check_hang(): wait_for_ever()
        def check_next(): pass
        """
    )
    assert run.outcomes == {"hang": "timed-out", "next": "works"}
    assert "wait_for_ever" in run["hang"]["reason"]
    assert run["hang"]["seconds"] < 5


@pytest.mark.parametrize(
    ("arguments", "limits"),
    [
        ((), {"long": 300, "plain": 120, "short": 0.5}),
        (("--timeout", "7"), {"long": 7, "plain": 7, "short": 0.5}),
    ],
)
def test_the_command_lines_limit_caps_the_checks_own(
    ask: Ask, arguments: tuple[str, ...], limits: dict[str, float]
) -> None:
    run = ask(
        """
        from suite.plugin import Suite
        def told(request, record):
            plugins = request.config.pluginmanager.get_plugins()
            most = next(p for p in plugins if isinstance(p, Suite)).limit
            from suite.plugin import limit_of
            record("limit", limit_of(request.node, most))
        @pytest.mark.limit(300)
        def check_long(request, record): told(request, record)
        def check_plain(request, record): told(request, record)
        @pytest.mark.limit(0.5)
        def check_short(request, record): told(request, record)
        """,
        *arguments,
    )
    assert {name: run[name]["details"]["limit"] for name in limits} == limits


def test_a_check_with_a_longer_limit_ends_at_the_command_lines(ask: Ask) -> None:
    run = ask("@pytest.mark.limit(300)\ndef check_hang(): time.sleep(1000)", "--timeout", "0.5")
    assert run["hang"]["reason"].startswith("no end within 0.5 s")
    assert run["hang"]["seconds"] < 5


def test_a_hang_in_a_forked_writer_is_timed_out_and_no_process_stays(ask: Ask) -> None:
    run = ask(
        """
        def check_writer():
            if os.fork() == 0:
                os.setsid()
                subprocess.run(["sleep", "4711.25"])
            os.wait()
        """,
        "--timeout",
        "0.7",
    )
    assert run.outcomes == {"writer": "timed-out"}
    assert gone("4711.25")


def test_a_process_left_behind_in_a_session_of_its_own_is_killed_and_named(ask: Ask) -> None:
    run = ask(
        """
        def check_leaves():
            subprocess.Popen(["sleep", "4712.25"], start_new_session=True)
        """
    )
    assert run.outcomes == {"leaves": "works"}
    assert run["leaves"]["details"]["left_behind"] == ["sleep 4712.25"]
    assert gone("4712.25")


@pytest.mark.parametrize(
    ("name", "death", "told"),
    [
        ("segfault", "ctypes.string_at(0)", "SIGSEGV"),
        ("kill", "os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
        ("abort", "os.abort()", "SIGABRT"),
        ("exit-0", "os._exit(0)", "code 0"),
        ("exit-7", "os._exit(7)", "code 7"),
    ],
)
def test_a_check_that_dies_is_crashed_and_the_next_one_runs(
    ask: Ask, name: str, death: str, told: str
) -> None:
    run = ask(
        f"""
        def check_dies(record):
            record("before", 1)
            {death}
        def check_next(): pass
        """
    )
    assert run.outcomes == {"dies": "crashed", "next": "works"}, name
    assert told in run["dies"]["reason"]
    assert run["dies"]["details"] == {"before": 1}


def test_a_segfault_says_in_which_function_it_was(ask: Ask) -> None:
    event = ask("def crash(): ctypes.string_at(0)\ndef check_it(): crash()")["it"]
    assert "crash" in [frame["function"] for frame in event["failure"]["frames"]]


def test_sys_exit_in_a_check_does_not_pass_for_success(ask: Ask) -> None:
    run = ask("def check_it(): sys.exit(0)")
    assert run.outcomes == {"it": "broken"}


def test_what_cannot_be_asked_says_so(ask: Ask) -> None:
    run = ask(
        """
        def check_gpu(): raise NeedsGpu("a kernel")
        def check_lacks(): raise Unsupported("no such module")
        """
    )
    assert run.outcomes == {"gpu": "needs-gpu", "lacks": "unsupported"}
    assert run["gpu"]["reason"] == "a kernel"
    assert run["lacks"]["reason"] == "no such module"


def test_what_holds_under_a_condition_says_which_and_how_it_fails_without(ask: Ask) -> None:
    run = ask(
        """
        def strict(): raise KeyError("bias")
        def check_lenient():
            try:
                strict()
            except KeyError as error:
                raise WorksWith("load(strict=False)", error) from error
        @pytest.mark.after("lenient")
        def check_next(): pass
        """
    )
    assert run.outcomes == {"lenient": "works-with", "next": "works"}
    assert run["lenient"]["condition"] == "load(strict=False)"
    assert run["lenient"]["failure"]["type"] == "KeyError"
    assert run["lenient"]["failure"]["frames"][-1]["function"] == "strict"
    assert run["next"]["condition"] is None


def test_a_refusal_that_comes_from_the_machine_is_no_condition(ask: Ask) -> None:
    run = ask("def check_it(): raise WorksWith('load(strict=False)', NeedsGpu('a kernel'))")
    assert run.outcomes == {"it": "needs-gpu"}
    assert run["it"]["condition"] is None


def test_a_check_carries_the_closest_feature(ask: Ask) -> None:
    run = ask(
        """
        pytestmark = pytest.mark.feature("restore")
        def check_there(): pass
        @pytest.mark.feature("restore-back")
        def check_back(): pass
        @pytest.mark.feature("quantize{suffix}")
        @pytest.mark.parametrize("suffix", ["-te"])
        @pytest.mark.kind("quantized{suffix}")
        def check_quantized(suffix): pass
        """
    )
    features = {name: run[name]["feature"] for name in run.outcomes}
    assert features == {"there": "restore", "back": "restore-back", "quantized-te": "quantize-te"}


@pytest.mark.parametrize("mark", ["[]", "pytest.mark.feature('restroe')"])
def test_a_check_without_a_known_feature_ends_the_run_as_an_error(ask: Ask, mark: str) -> None:
    run = ask(f"pytestmark = {mark}\ndef check_it(): pass")
    assert (run.code, run.outcomes) == (3, {})
    assert "it has no mark feature of install, interface" in run.output


def test_a_record_has_data_and_no_outcome(ask: Ask) -> None:
    run = ask(
        """
        pytestmark = []
        @pytest.mark.record_only
        def check_seen(record): record("seen", 1)
        @pytest.mark.record_only
        def check_lost(record):
            record("seen", 2)
            raise KeyError("home")
        """
    )
    assert (run.code, run.outcomes, run.events[0]["checks"]) == (0, {}, [])
    assert run.record("seen")["details"] == {"seen": 1}
    assert run.record("seen")["failure"] is None
    assert run.record("lost")["details"] == {"seen": 2}
    assert run.record("lost")["failure"]["type"] == "KeyError"


def test_a_check_is_asked_of_the_families_that_its_mark_names_alone(ask: Ask) -> None:
    run = ask(
        """
        @pytest.fixture
        def family(request): return request.param
        @pytest.mark.families("mla-moe", "llama4-moe")
        def check_experts(family): pass
        """
    )
    assert run.outcomes == {"experts[mla-moe]": "works", "experts[llama4-moe]": "works"}


def test_one_failing_import_is_one_broken_check(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "toy_fails.py").write_text("raise TypeError('half a package')")
    path = f"sys.path.insert(0, {str(tmp_path)!r})"
    run = ask(
        f"""
        def load():
            {path}
            import toy_fails
        def check_import_toy(): load()
        def check_use(): load()
        def check_other(): raise TypeError("half a package")
        """
    )
    assert run.outcomes == {"import-toy": "broken", "use": "blocked", "other": "broken"}
    assert run["use"]["reason"] == "import-toy is broken"
    assert run["use"]["failure"] is None


def test_a_skip_is_no_way_out(ask: Ask) -> None:
    assert ask("def check_it(): pytest.skip('no')").outcomes == {"it": "broken"}


def test_a_failed_prerequisite_blocks_and_is_named_down_the_line(ask: Ask) -> None:
    run = ask(
        """
        @pytest.mark.after("b")
        def check_c(): pass
        @pytest.mark.after("a")
        def check_b(): pass
        def check_a(): ctypes.string_at(0)
        """
    )
    assert run.outcomes == {"a": "crashed", "b": "blocked", "c": "blocked"}
    assert run["c"]["reason"] == "a is crashed"


def test_families_are_asked_and_blocked_each_for_itself(ask: Ask) -> None:
    run = ask(
        """
        @pytest.fixture
        def family(request):
            if request.param == "hybrid-mamba":
                raise Unsupported("no stack")
            return request.param
        def check_build(family): assert family != "gpt"
        @pytest.mark.after("build")
        def check_use(family): pass
        """
    )
    assert run.outcomes["build[gpt]"] == "broken"
    assert run.outcomes["use[gpt]"] == "blocked"
    assert run.outcomes["use[mla-moe]"] == "works"
    assert run.outcomes["use[hybrid-mamba]"] == "unsupported"
    assert run["use[hybrid-mamba]"]["reason"] == "no stack"


def test_parameters_make_kinds(ask: Ask) -> None:
    run = ask(
        """
        @pytest.mark.kind("state-{form}")
        @pytest.mark.parametrize("form", ["int8", "fp8"])
        def check_state(form): assert form == "fp8"
        """
    )
    assert run.outcomes == {"state-int8": "broken", "state-fp8": "works"}


def test_only_selects_and_refuses_what_matches_nothing(ask: Ask) -> None:
    source = "def check_one(): pass\ndef check_two(): pass"
    assert ask(source, "--only", "tw*").outcomes == {"two": "works"}
    wrong = ask(source, "--only", "three")
    assert wrong.code == 2
    assert "three" in wrong.output


def test_a_check_file_that_cannot_be_loaded_ends_the_run_as_an_error(ask: Ask) -> None:
    run = ask("import no_such_module_here")
    assert run.code == 3
    assert run.outcomes == {}
    assert "no_such_module_here" in run.output


def test_a_prerequisite_that_does_not_exist_ends_the_run_as_an_error(ask: Ask) -> None:
    run = ask("@pytest.mark.after('biuld')\ndef check_it(): pass")
    assert run.code == 3
    assert "biuld" in run.output


def test_events_are_whole_after_each_line(ask: Ask) -> None:
    run = ask(
        """
        def check_a(): pass
        def check_b():
            path = os.path.join(os.environ["SUITE_TEST"], "events.jsonl")
            import json
            kinds = [json.loads(line)["event"] for line in open(path).read().splitlines()]
            assert kinds == ["start", "begin", "check", "begin"]
        """
    )
    assert run.outcomes == {"a": "works", "b": "works"}
    start = run.events[0]
    assert start["checks"] == ["a", "b"]
    assert start["device_class"] in ("host", "gpu")
    assert start["platform"]["python"]
    assert "pytest" in start["installed"]
    assert run.events[-1]["event"] == "end"


def test_what_a_check_prints_is_kept_when_it_fails(ask: Ask) -> None:
    event = ask("def check_it():\n    print('last words', flush=True)\n    os._exit(1)")["it"]
    assert "last words" in event["output"]


def test_warnings_of_a_check_are_kept(ask: Ask) -> None:
    source = "def check_it():\n    import warnings\n    warnings.warn('Failed to import x')"
    assert ask(source)["it"]["warnings"][0]["message"] == "Failed to import x"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_end_half_way_leaves_valid_events_and_no_process(tmp_path: Path, number: int) -> None:
    seconds = f"473{int(number)}.25"
    write(
        tmp_path,
        f"""
        def check_a(): pass
        def check_b(): subprocess.run(["sleep", "{seconds}"], start_new_session=True)
        """,
    )
    run = subprocess.Popen(command(tmp_path), stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 20
    while not running(seconds) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(run.pid, number)
    code = run.wait(timeout=20)
    assert gone(seconds)
    assert code == (-number if number == signal.SIGKILL else 130)
    kinds = [event["event"] for event in read(tmp_path)]
    assert kinds == ["start", "begin", "check", "begin"]


def test_a_preload_that_dies_or_fails_does_not_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "preload_good.py").write_text("import warnings\nwarnings.warn('plugin is dead')")
    (modules / "preload_bad.py").write_text("raise TypeError('half a package')")
    (modules / "preload_dies.py").write_text("import ctypes\nctypes.string_at(0)")
    monkeypatch.setenv("PYTHONPATH", str(modules), prepend=os.pathsep)
    write(
        tmp_path,
        """
        from suite import preload
        def check_it(record): record("warnings", preload.WARNINGS)
        @pytest.mark.bare
        def check_bare(): assert "preload_after" not in sys.modules
        """,
    )
    named = "preload_good,preload_bad,preload_dies,preload_after"
    arguments = command(tmp_path, "--preload", named)
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    events = read(tmp_path)
    told = events[0]["preload"]
    assert told["preload_good"] == "ok"
    assert told["preload_bad"] == "TypeError: half a package"
    assert told["preload_dies"] == "died: SIGSEGV"
    assert "preload_after" not in told
    outcomes = {e["check"]: e for e in events if e["event"] == "check"}
    assert outcomes["it"]["details"]["warnings"][0]["message"] == "plugin is dead"
    assert outcomes["bare"]["outcome"] == "works"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--timeout", "0"), "time limit"),
        (("--timeout", "nan"), "time limit"),
        (("--tools", "/no/such/folder"), "/no/such/folder"),
        (("--gpu", "yes"), "yes"),
    ],
)
def test_a_wrong_command_line_is_one_clear_line(
    ask: Ask, arguments: tuple[str, ...], told: str
) -> None:
    run = ask("def check_it(): pass", *arguments)
    assert run.code == 2
    assert told in run.output.splitlines()[-1]
