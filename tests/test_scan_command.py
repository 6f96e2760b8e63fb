"""scan and api as commands, what an upgrade breaks in code, and the life of a name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from api_support import index, workspace

from mcore_compat import cli
from mcore_compat.api import checking, codebase, lives
from mcore_compat.base.errors import UsageError
from mcore_compat.core import releases
from mcore_compat.core.workspace import VARIABLE

# The command.


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of code, beside a workspace."""
    monkeypatch.setenv(VARIABLE, str(workspace(tmp_path / "workspace").root))
    folder = tmp_path / "code"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "a.py").write_text("import megatron.core.helpers\nimport megatron.core.models\n")
    return folder


def test_the_exit_code_says_whether_it_fits(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["scan", ".", "--against", "mcore 0.15.0"]) == 0
    assert "megatron-core 0.15.0: all 2 uses fit" in capsys.readouterr().out
    assert cli.main(["scan", "a.py", "--against", "megatron_core==0.16.0, torch 2.9"]) == 1
    out = capsys.readouterr().out
    assert out.startswith(
        "a.py:1: module megatron.core.helpers does not exist in megatron-core 0.16.0"
    )
    assert "1 of 2 uses do not fit; the newest release that all of them fit is 0.15.0" in out


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (["nowhere", "--against", "mcore 0.16.0"], "does not exist"),
        (["../workspace", "--against", "mcore 0.16.0"], "has no Python files"),
        ([".", "--against", "mcor 0.16.0"], 'did you mean "mcore"?'),
        ([".", "--against", "mcore 0.61"], "megatron-core has no release 0.61; did you mean"),
        ([".", "--against", "numpy 2"], 'there are no interfaces of "numpy"'),
        ([".", "--against", "torch 2.9"], "names none of megatron-core"),
        ([".", "--against", "compat-0.16-modelopt9.99"], "nvidia-modelopt has no release 9.99"),
        ([".", "--against", "mcore 0.16, mcore 0.15"], "is given twice"),
        ([".", "--against", "mcore"], '"mcore" is not a version'),
        ([".", "--against", "mcore 0.14.0", "--format", "xml"], 'no such choice "xml"'),
    ],
)
def test_bad_input_is_one_line_and_2(
    place: Path, capsys: pytest.CaptureFixture[str], argv: list[str], why: str
) -> None:
    assert cli.main(["scan", *argv]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert why in captured.err


def _data(capsys: pytest.CaptureFixture[str], *argv: str) -> Any:
    assert cli.main(["scan", ".", "--against", "mcore 0.16.0", *argv]) == 1
    return json.loads(capsys.readouterr().out)


def test_as_json(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = _data(capsys, "--format", "json")
    assert data["packages"] == [
        {
            "package": "megatron-core",
            "release": "0.16.0",
            "uses": 2,
            "failures": 1,
            "newest": "0.15.0",
        }
    ]
    (finding,) = data["findings"]
    assert (finding["file"], finding["line"], finding["kind"]) == ("a.py", 1, "module missing")


def test_as_sarif(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "b.py").write_text("import megatron.core\n(")
    data = _data(capsys, "--format", "sarif")
    assert data["version"] == "2.1.0"
    (run,) = data["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    (result,) = run["results"]
    assert (result["ruleId"], result["level"]) == ("mcore-compat/module-missing", "error")
    assert rules == [result["ruleId"]]
    where = result["locations"][0]["physicalLocation"]
    assert where["artifactLocation"]["uri"] == "a.py"
    assert where["region"] == {"startLine": 1, "startColumn": 8}
    (unread,) = run["invocations"][0]["toolExecutionNotifications"]
    assert unread["level"] == "warning"


def test_into_a_file(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["scan", ".", "--against", "mcore 0.15.0", "--format", "json", "--output", "to.json"]
    assert cli.main(argv) == 0
    assert capsys.readouterr().out == ""
    assert json.loads((place / "to.json").read_text())["schema"] == 1


# Of an upgrade.


def test_an_upgrade_is_told_what_it_breaks_and_nothing_that_was_broken(
    tmp_path: Path,
) -> None:
    place = workspace(tmp_path / "workspace")
    code = tmp_path / "a.py"
    code.write_text(
        "import megatron.core.helpers\nimport megatron.core.never\n"
        "from megatron.core.transformer import Config\nConfig(1)\n"
    )
    before = {"megatron-core": "0.15.0", "nvidia-modelopt": "0.41.0", "torch": "2.9.1"}
    after = {**before, "megatron-core": "0.16.0", "torch": "2.10.0"}
    known = releases.load(place.releases)
    report = checking.check_upgrade(code, before, after, place, known)
    assert [(f.level, f.line) for f in report.findings] == [("failure", 1), ("note", 4)]
    assert [(fit.package, fit.failures) for fit in report.fits] == [("megatron-core", 1)]
    assert checking.check_upgrade(code, before, before, place, known).findings == ()


# The life of a name.


def test_the_life_of_a_name(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["api", "Config.__init__"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "megatron.core.transformer.config.Config.__init__ (megatron-core)",
        "  0.14.0  there: def(self, layers, heads=8, *, dropout=0.1)",
        "  0.16.0  + attention_heads=8; - heads=8; dropout: 0.1 → 0.2",
        "  0.16.0  the newest: def(self, layers, attention_heads=8, *, dropout=0.2)",
    ]
    assert cli.main(["api", "megatron.core.helpers.split"]) == 0
    assert "0.16.0  gone, now megatron.core.utils.helpers.split" in capsys.readouterr().out


def test_a_name_that_there_is_none_of_comes_with_the_nearest(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["api", "get_embeding_group"]) == 2
    assert (
        "did you mean megatron.core.parallel_state.get_embedding_group?" in capsys.readouterr().err
    )


def test_a_name_is_found_by_its_end_and_where_it_is_defined() -> None:
    assert lives.find(index(), "Config") == [("megatron.core.transformer.config", "Config")]
    assert lives.find(index(), "transformer.Config") == [("megatron.core.transformer", "Config")]
    assert lives.find(index(), "core.helpers") == [("megatron.core.helpers", "")]
    assert lives.find(index(), "onfig") == []


def test_a_file_of_code_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        codebase.read(tmp_path / "nothing")
