"""The console command and the sessions: bad input is one line and exit code 2."""

import ast
import importlib
import json
import pkgutil
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import snapshot
from support import ROOT, event, stand_in_result

from mcore_compat import cli
from mcore_compat.base import files
from mcore_compat.base.errors import ExitCode
from mcore_compat.cli import parsing, registry
from mcore_compat.core import combinations
from mcore_compat.core.workspace import VARIABLE, Workspace
from mcore_compat.resolve import resolvability
from mcore_compat.results import store, verdict
from mcore_compat.run import check_sets, machine, pipeline
from mcore_compat.schedule import nox_sessions


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["rn"], 'did you mean "run"'),
        (["run", "compat-0.99-modelopt0.21"], "0.99"),
        (["run", "nonsense"], "is not the name of a cell"),
        (["run", "compat-0.16-modelopt0.41", "--forec"], 'did you mean "--force"'),
        (["run", "compat-0.16-modelopt0.41", "--limit", "0"], "more than 0"),
        (["compat", "0.16", "9.9"], "9.9"),
        (["lock", "compat-0.16"], "is not the name of a cell"),
        ([], "required"),
        (
            ["explain", "x", "--dry-run"],
            'explain: no such option "--dry-run"; did you mean "--error"?\n',
        ),
        (["exchange", "--jbos", "2"], 'exchange: no such option "--jbos"; did you mean "--jobs"?'),
        (["bisect", "--good", "x", "--bad", "y"], "bisect: the following arguments are required"),
        (["matrix", "-j", "two"], "matrix: argument --jobs/-j: invalid number value: 'two'"),
        (["show", "0.99-modelopt0.21"], "0.99"),
        (["recommend", "--form=x"], 'recommend: no such option "--form"'),
        (["matrix", "compat-0.16-modelopt0.41"], 'matrix: unexpected argument "compat-0.16-'),
        (["upgrade", "a", "b", "--format", "xml"], "valid: terminal, markdown, json\n"),
        (["matrix", "--executor", "slrum"], 'did you mean "slurm"'),
        (["compat", "0.16", "0.41", "--python", "3.12.1"], 'did you mean "3.12"?'),
        (["compat", "0.16", "0.41", "--python", "3.12rc1"], 'did you mean "3.12"?'),
        (["compat", "0.16", "0.41", "--python", "12"], 'did you mean "3.12"?'),
        (["build", "0.16-modelopt0.41", "mamba-sms"], 'did you mean "mamba-ssm"?'),
        (
            ["build", "0.16-modelopt0.41", "nope"],
            'builds no package "nope"; valid: causal-conv1d, mamba-ssm, transformer-engine-torch\n',
        ),
        (["run", "0.16-modelopt0.41", "--only", ", ,"], '--only: ", ," names no check'),
        (["run", "0.16-modelopt0.41", "--base", ""], "run: --base is empty"),
        (
            ["run", "0.16-modelopt0.41", "--publish", "--only", "x"],
            "gives no verdict to publish",
        ),
        (["compat", "0.16", f"0.{'9' * 5000}"], "is not the name of a cell"),
        (["show", "\udcff\x1b[31m"], r"\udcff\x1b[31m"),
        (["matrix", "-j", "9" * 30], "at most 4096"),
        (["explore", "--budget", f"{'9' * 400}h"], "invalid time"),
        (
            ["bundle", "0.16-modelopt0.41", "--part-size", f"{'9' * 400}G"],
            "larger than any file can be",
        ),
        (["init", ""], "init: FOLDER is empty"),
        (["init", f"{__file__}/x"], f"{__file__} exists and is not a folder"),
        (
            ["upgrade", "0.16-modelopt0.41", "0.17-modelopt0.41", "--output", f"{__file__}/x"],
            f"--output: {__file__} is a file, not a folder",
        ),
    ],
)
def test_bad_input_is_one_line(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(argv) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.startswith("mcore-compat: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize("command", ["run", "explain", "lock", "bundle"])
def test_the_first_word_of_a_cells_name_may_be_left_out(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([command, "0.16-modelopt9.9"]) == 2
    assert "nvidia-modelopt has no release 9.9" in capsys.readouterr().err


@pytest.mark.parametrize("command", registry.COMMANDS, ids=lambda command: command.name)
def test_each_command_says_what_it_does_for_whom_with_an_example_that_it_takes(
    command: registry.Command, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([command.name, "--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert f"example: mcore-compat {command.name} {command.example}".rstrip() in told
    assert "exit codes: 0 " in told
    parsing.parse([command.name, *shlex.split(command.example)])


def test_each_command_is_the_file_of_its_name() -> None:
    """What is no command has no `call`."""
    modules = {info.name for info in pkgutil.iter_modules(cli.__path__)} - {"__main__"}
    with_call = {
        name
        for name in modules
        if hasattr(importlib.import_module(f"mcore_compat.cli.{name}"), "call")
    }
    assert with_call == set(registry.BY_NAME)


def test_no_command_calls_another() -> None:
    """Nor redirects its output: what two of them do is a function of a room below."""
    for name in registry.BY_NAME:
        path = Path(cli.__path__[0], f"{name}.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "mcore_compat.cli":
                assert not {alias.name for alias in node.names} & set(registry.BY_NAME), name
            if isinstance(node, ast.ImportFrom) and node.module:
                assert node.module.removeprefix("mcore_compat.cli.") not in registry.BY_NAME, name
            if isinstance(node, ast.ImportFrom) and node.module == "contextlib":
                assert not any(alias.name.startswith("redirect") for alias in node.names), name
            if isinstance(node, ast.Attribute):
                assert not node.attr.startswith("redirect_"), name


def test_the_program_says_what_it_is_for_with_its_commands_in_groups(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    told = capsys.readouterr().out
    for command in registry.COMMANDS:
        before, _, _ = told.partition(f"\n  {command.name:10} {command.summary}\n")
        heads = [line for line in before.splitlines() if line.endswith(":")]
        assert heads[-1] == f"{command.group}:"


def test_a_command_imports_no_other_and_the_list_nothing_heavy() -> None:
    names = ("list", "output", "parsing", "program", "registry")
    code = (
        "import sys; from mcore_compat import cli\n"
        "cli.main(['list'])\n"
        "heavy = {'rich', 'requests', 'pypi_simple', 'jinja2', 'filelock'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "files = {n for n in sys.modules if n.startswith('mcore_compat.cli.')}\n"
        f"assert files == {{f'mcore_compat.cli.{{n}}' for n in {names}}}, files"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)


def test_cells_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list"]) == 0
    assert "compat-0.9-modelopt0.21: " in capsys.readouterr().out


def test_the_names_after_s_are_taken() -> None:
    argv = ["nox", "-r", "-s", "compat-1", "tests", "--", "-s", "compat-2"]
    assert nox_sessions.requested(argv) == ("compat-1",)
    assert nox_sessions.requested(["nox", "--session=compat-3"]) == ("compat-3",)
    assert nox_sessions.requested(["nox", "-Rs", "compat-4", "compat-5"]) == (
        "compat-4",
        "compat-5",
    )


def test_a_wrong_session_ends_nox_with_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        nox_sessions.listed(["nox", "-s", "compat-0.16-modelopt9.9"])
    assert caught.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.fixture
def verdicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the cells of one megatron-core some are compatible, the newest is not; of another none is,
    and two get furthest."""
    place = snapshot.workspace_in(tmp_path, monkeypatch)
    ends = {
        "0.16-modelopt0.41": "compatible ● level 5: R 4/4",
        "0.16-modelopt0.42": "compatible ◑ level 3: R 4/4",
        "0.16-modelopt0.47": "partial ● level 5: R 4/4",
        "0.15-modelopt0.41": "partial ◑ level 3: R 4/4",
        "0.15-modelopt0.42": "partial ◑ level 3: R 4/4",
        "0.15-modelopt0.43": "incompatible ✗ level 0: R 0/4",
        "0.15-modelopt0.44": "unresolvable",
    }
    known = {f"compat-{name}": {"host": line} for name, line in ends.items()}
    files.write_text(place.verdicts, json.dumps({"verdicts": known}))


def names(*words: str) -> list[str]:
    return [session.name for session in nox_sessions.listed(["nox", *words]).sessions]


def test_a_list_has_of_each_megatron_core_the_newest_of_what_works_best(
    verdicts: None,
) -> None:
    listing = nox_sessions.listed(["nox", "-l"])
    series = snapshot.matrix().mcore_series
    assert len(listing.sessions) == len(series) < 25, "it fits a screen"
    assert [s.name.partition("-modelopt")[0] for s in listing.sessions] == [
        f"compat-{one}" for one in reversed(series)
    ]
    lines = {session.name: session.description for session in listing.sessions}
    assert lines["compat-0.16-modelopt0.42"].startswith("compatible ◑ level 3: R 4/4 (host): TE ")
    assert "compat-0.15-modelopt0.42" in lines
    assert "mcore-compat list" in listing.heading
    (newest,) = listing.default
    assert listing.sessions[0].name == newest


@pytest.mark.parametrize("words", [["-s", "compat-0.9-modelopt0.21"], ["--json", "-l"], []])
def test_all_cells_can_be_run_and_are_told_to_programs(words: list[str], verdicts: None) -> None:
    every = combinations.cells(snapshot.matrix(), snapshot.releases())
    assert {cell.name for cell in every} == set(names(*words))
    assert "compat-0.9-modelopt0.21" in names("-l", "-s", "compat-0.9-modelopt0.21")


def test_tags_narrow_a_list_and_the_newest_come_first(verdicts: None) -> None:
    listed = names("-l", "-t", "mcore-0.16")
    assert listed == names("-lt", "mcore-0.16")
    assert listed[0] == "compat-0.16-modelopt0.47"
    assert {name.partition("-modelopt")[0] for name in listed} == {"compat-0.16"}
    assert len(listed) == sum(name.startswith("compat-0.16-") for name in names())
    with pytest.raises(SystemExit):
        names("-l", "-t", "mcore-0.61")


class Session:
    """What a session is told as it ends."""

    def error(self, text: str) -> None:
        raise ValueError(text)


@pytest.mark.parametrize(
    ("code", "said"),
    [(ExitCode(1, "compat-a: no"), "compat-a: no"), (1, "upgrade: ended with exit code 1")],
)
def test_a_session_that_fails_ends_with_the_line_that_matters(code: int, said: str) -> None:
    session: Any = Session()
    with pytest.raises(ValueError, match=said):
        nox_sessions.exit_unless_ok(session, lambda _: code, ["upgrade"])


def test_a_session_ends_nox_with_the_code_of_an_error() -> None:
    session: Any = Session()
    nox_sessions.exit_unless_ok(session, lambda _: 0, ["run"])
    with pytest.raises(SystemExit) as ended:
        nox_sessions.exit_unless_ok(session, lambda _: 3, ["run"])
    assert ended.value.code == 3


def test_listing_imports_nothing_heavy() -> None:
    code = (
        "import sys; from mcore_compat.schedule import nox_sessions\n"
        "nox_sessions.listed(['nox', '-l'])\n"
        "heavy = {'torch', 'numpy', 'rich', 'requests', 'pypi_simple', 'uv'}\n"
        "heavy = {*heavy, 'mcore_compat.results.levels'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where results of a workspace lie, none yet; a run would be an error."""

    def run_cell(*_: object) -> None:
        raise AssertionError("nothing runs")

    monkeypatch.setattr(pipeline, "run_cell", run_cell)
    return snapshot.workspace_in(tmp_path, monkeypatch).results


def test_explain_names_the_cell_that_would_tell_most(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both cells are of the default stacks, of which TE and torch change together."""
    names = "compat-0.16-modelopt0.41", "compat-0.19-modelopt0.41"
    cells = [combinations.named(name, snapshot.matrix(), snapshot.releases()) for name in names]
    outcomes = "broken", "works"
    for cell, outcome in zip(cells, outcomes, strict=True):
        store.save(stand_in_result(event("restore[gpt]", outcome), cell=cell), results)
    monkeypatch.setattr(machine, "device_class", lambda: "gpu")  # who asks has none of his own
    assert cli.main(["explain", names[0]]) == 0
    out = capsys.readouterr().out
    assert out.count("(device class ") == 1
    assert f"torch=={cells[0].torch} (1 cells fail, 1 work" in out
    told = next(line for line in out.splitlines() if "to narrow this down: nox -s " in line)
    other = combinations.named(told.split()[-1], snapshot.matrix(), snapshot.releases())
    assert other.name not in names
    assert sum(cells[0].pins[axis] != v for axis, v in other.pins.items()) == 1


def test_explain_begins_with_the_verdict_of_each_device_class_and_ends_with_what_works(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    condition = "model.load_state_dict(state_dict, strict=False)"
    works_with = event("restore[mla-moe]", "works-with", condition=condition)
    cell = combinations.named("compat-0.16-modelopt0.41", snapshot.matrix(), snapshot.releases())
    for device, outcome in (("host", "works"), ("gpu", "broken")):
        shown = stand_in_result(works_with, event("restore[gpt]", outcome), cell=cell)
        store.save(replace(shown, device_class=device), results)
    assert cli.main(["explain", cell.name]) == 0
    out = capsys.readouterr().out.splitlines()
    heads = [f"{cell.name}: ◐ partial for default (device class gpu)"]
    heads.append(f"{cell.name}: ✓ compatible for default (device class host)")
    assert [line for line in out if line in heads] == heads
    ends = ["restore[mla-moe]: works with", f"  {condition}"]
    of_gpu, of_host = out[: out.index(heads[1])], out[out.index(heads[1]) : -1]
    assert of_gpu[1] == "restore[gpt]"
    assert of_gpu[-4:-2] == ends
    assert of_gpu[-1] == "works: restore 1/2 (mla-moe)"
    assert of_host[1:4] == ["nothing fails under these conditions:", *ends]
    assert of_host[-1] == "works: restore 2/2"
    cited = out[-1]
    assert cited.startswith(f"results: {cell.name} (gpu, ")
    assert f"; {cell.name} (host, " in cited


@pytest.mark.parametrize(("outcome", "code"), [("works", 0), ("broken", 1)])
def test_what_is_known_of_a_cell_is_shown_without_a_run(
    outcome: str, code: int, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = combinations.named("compat-0.16-modelopt0.41", snapshot.matrix(), snapshot.releases())
    shown = stand_in_result(event("restore[gpt]", outcome), cell=cell)
    for device in ("host", "gpu"):
        store.save(replace(shown, device_class=device), results)
    ranks = stand_in_result(event("ranks-tp2[gpt]", "broken"), cell=cell)
    store.save(replace(ranks, check_set=check_sets.RANKS.name), results)
    assert cli.main(["show", "0.16-modelopt0.41"]) == code
    told = capsys.readouterr().out
    ended = verdict.spelt(shown.outcome)
    for device in ("host", "gpu"):
        assert f"{cell.name}: {ended} for default (device class {device})" in told
    assert f"taken {shown.taken}" in told
    assert f"{cell.name}, ranks, device class host: ✗ broken 1" in told


def test_of_a_cell_without_a_result_it_says_why_or_how_to_get_one(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    verdicts: dict[str, SimpleNamespace] = {}
    monkeypatch.setattr(resolvability, "sweep", lambda *_, **__: SimpleNamespace(verdicts=verdicts))
    name = "compat-0.16-modelopt0.41"
    verdicts[name] = SimpleNamespace(installs=None)
    assert cli.main(["show", name]) == 2
    assert f"run it: nox -s {name}" in capsys.readouterr().err
    verdicts[name] = SimpleNamespace(installs=False, reason="two packages want two torches")
    assert cli.main(["show", name]) == 1
    assert "cannot be installed: two packages want two torches" in capsys.readouterr().out


def test_a_corrupt_matrix_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = Workspace(tmp_path)
    bad.constraints.mkdir()
    bad.matrix.write_text("[axes")
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert cli.main(["list"]) == 2
    assert "matrix.toml is not valid TOML" in capsys.readouterr().err


def test_a_file_that_is_no_text_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = Workspace(tmp_path)
    home.constraints.mkdir()
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    for name in ("matrix.toml", "releases.json"):
        for each in ("matrix.toml", "releases.json"):
            shutil.copy(ROOT / "constraints" / each, home.constraints / each)
        path = home.constraints / name
        path.write_bytes(path.read_bytes() + b"\xe9")
        assert cli.main(["list"]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"mcore-compat: {name} cannot be read: ")
        assert error.count("\n") == 1


def test_what_the_system_refuses_is_one_line_that_names_the_file(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = results / "compat-0.16-modelopt0.41" / "main.host.json"
    path.mkdir(parents=True)
    assert cli.main(["show", "0.16-modelopt0.41"]) == 3
    assert capsys.readouterr().err == f"mcore-compat: {path}: Is a directory\n"


def test_what_selects_nothing_says_so(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["matrix", "--stale", "--dry-run"]) == 0
    assert "no selected cell is out of date: nothing to run" in capsys.readouterr().err
    assert cli.main(["nightly", "--list"]) == 0
    assert "no cell to run" in capsys.readouterr().err


def test_without_a_lock_none_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Workspace(tmp_path)
    place.constraints.mkdir()
    for name in ("matrix.toml", "releases.json"):
        shutil.copy(snapshot.WORKSPACE.constraints / name, place.constraints / name)
    snapshot.use(monkeypatch, place)
    assert cli.main(["lock"]) == 2
    assert "no locks here" in capsys.readouterr().err
