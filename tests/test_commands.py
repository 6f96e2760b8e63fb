"""The console command and the sessions: bad input is one line and exit code 2."""

import subprocess
import sys

import pytest
import snapshot
from support import event, stand_in_evidence

from mcore_compat import cli
from mcore_compat.base import files
from mcore_compat.core import combinations
from mcore_compat.results import evidence
from mcore_compat.run import pipeline
from mcore_compat.schedule import nox_sessions

pytestmark = pytest.mark.usefixtures("on_snapshot")

ROOT = files.ROOT


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
        (["explain", "x", "--dry-run"], 'explain: no such option "--dry-run"; valid: -h, --help\n'),
        (["recommend", "--form=x"], 'recommend: no such option "--form"'),
        (["matrix", "compat-0.16-modelopt0.41"], 'matrix: there is no use for "compat-0.16-'),
        (["upgrade", "a", "b", "--format", "xml"], "valid: terminal, markdown, json\n"),
        (["matrix", "--executor", "slrum"], 'did you mean "slurm"'),
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


def test_the_names_after_s_are_taken() -> None:
    argv = ["nox", "-r", "-s", "compat-1", "tests", "--", "-s", "compat-2"]
    assert nox_sessions.requested(argv) == ("compat-1",)
    assert nox_sessions.requested(["nox", "--session=compat-3"]) == ("compat-3",)


def test_a_wrong_session_ends_nox_with_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        nox_sessions.listed(["nox", "-s", "compat-0.16-modelopt9.9"])
    assert caught.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_listing_imports_nothing_heavy() -> None:
    code = (
        "import sys; from mcore_compat.schedule import nox_sessions\n"
        "nox_sessions.listed(['nox', '-l'])\n"
        "heavy = {'torch', 'numpy', 'rich', 'requests', 'pypi_simple', 'uv'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_explain_names_the_cell_that_would_tell_most(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both cells are of the default stacks, of which TE and torch change together."""
    names = "compat-0.16-modelopt0.41", "compat-0.19-modelopt0.41"
    cells = [combinations.named(name, snapshot.matrix(), snapshot.releases()) for name in names]
    outcomes = "broken", "works"
    found = tuple(
        stand_in_evidence(event("restore[gpt]", outcome), cell=cell)
        for cell, outcome in zip(cells, outcomes, strict=True)
    )
    monkeypatch.setattr(evidence, "load_all", lambda: found)
    monkeypatch.setattr(pipeline, "device_class", lambda: "host")
    assert cli.main(["explain", names[0]]) == 0
    out = capsys.readouterr().out
    assert f"torch=={cells[0].torch} (1 cells fail, 1 work" in out
    told = next(line for line in out.splitlines() if "what would tell most: nox -s " in line)
    other = combinations.named(told.split()[-1], snapshot.matrix(), snapshot.releases())
    assert other.name not in names
    assert sum(cells[0].pins[axis] != v for axis, v in other.pins.items()) == 1
