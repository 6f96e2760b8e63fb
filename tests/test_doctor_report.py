"""`doctor --format` and `doctor --requirements`, the hook and the action that are made of them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT
from test_doctor import KNOWN_CELL, PINS, record

from mcore_compat import cli
from mcore_compat.analysis import published
from mcore_compat.analysis.doctor_report import DoctorReport
from mcore_compat.analysis.remarks import KNOWN, NOTE, Remark, fault

REMARKS = (
    fault("a,b: 100%\nwrong", "pip install 'x'"),
    Remark(kind=NOTE, text="by the way", file="a,b.txt", line=3),
)


def report(*remarks: Remark) -> DoctorReport:
    return DoctorReport(what="w", remarks=remarks, versions={"torch": "2.9.1"})


def test_an_annotation_is_one_line_of_the_workflow() -> None:
    assert [*report(*REMARKS).lines("github")] == [
        "::error title=mcore-compat doctor::a,b: 100%25 wrong%0Apip install 'x'",
        "::warning file=a%2Cb.txt,line=3,title=mcore-compat doctor::by the way",
    ]


def test_what_is_known_to_fail_is_an_error() -> None:
    (line,) = report(Remark(kind=KNOWN, text="x")).lines("github")
    assert line.startswith("::error ")


def test_json_has_all_of_it() -> None:
    (text,) = report(*REMARKS).lines("json")
    data = json.loads(text)
    assert data["wrong"] is True
    assert data["versions"] == {"torch": "2.9.1"}
    assert data["remarks"][1] == {
        "kind": "note",
        "text": "by the way",
        "file": "a,b.txt",
        "line": 3,
    }
    assert json.loads(next(report().lines("json")))["wrong"] is False


CELL = "compat-0.16-modelopt0.41"


@pytest.mark.usefixtures("on_snapshot")
class TestFiles:
    @pytest.fixture(autouse=True)
    def known(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(published, "load", lambda _: KNOWN_CELL)

    def doctor(
        self, capsys: pytest.CaptureFixture[str], *options: str | Path
    ) -> tuple[int, list[str]]:
        code = cli.main(["doctor", *map(str, options)])
        return code, capsys.readouterr().out.splitlines()

    def test_pins_that_were_tested_are_fine(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = tmp_path / "requirements.txt"
        pins = [f"{axis}=={PINS[axis]}" for axis in PINS if axis != "python"]
        file.write_text("\n".join(pins))
        assert self.doctor(capsys, "--requirements", file) == (0, [])

    def test_a_combination_that_fails_is_told_at_its_line(
        self,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        from test_doctor import published_of

        known = published_of(record(unexpected=("restore[gpt]",)))
        monkeypatch.setattr(published, "load", lambda _: known)
        file = tmp_path / "requirements.txt"
        file.write_text("# pins\n\nmegatron-core==0.16.1\nnvidia-modelopt==0.41.0\n")
        code, lines = self.doctor(capsys, "--requirements", file)
        assert code == 1
        assert lines[0].startswith(f"known to fail: {file}:3: {CELL} is partial")

    def test_a_pin_that_moved_away_from_a_lock(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = tmp_path / "requirements.txt"
        file.write_text("torch>=2.9 # a range that has it\nnumpy==1.0\nunknown==1\n")
        options = ("--requirements", file, "--against", CELL, "--format", "github")
        code, lines = self.doctor(capsys, *options)
        assert code == 1
        (line,) = lines
        assert line.startswith(f"::error file={file},line=2,")
        assert f"numpy==1.0, but {CELL} was run with " in line

    def test_a_file_of_something_else_passes(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = tmp_path / "requirements.txt"
        file.write_text("sphinx==8\n-r other.txt\n")
        assert self.doctor(capsys, "--requirements", file) == (0, [])

    @pytest.mark.parametrize(
        ("options", "why"),
        [
            (("--requirements", "none.txt"), "cannot be read"),
            (("--against", CELL), "--against goes with --requirements"),
            (("--requirements", "none.txt", "--run"), "leave out --run and --python"),
            (("--run", "--format", "json"), "--format"),
        ],
    )
    def test_what_cannot_be(
        self, options: tuple[str, ...], why: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert cli.main(["doctor", *options]) == 2
        assert why in capsys.readouterr().err


def test_the_hook_calls_doctor_as_it_is_called(tmp_path: Path) -> None:
    text = (ROOT / ".pre-commit-hooks.yaml").read_text()
    fields = dict(re.findall(r"^(?:- |  )(\w+): (.*)$", text, re.M))
    program, *words = fields["entry"].split()
    assert program == "mcore-compat"
    words += re.findall(r"[-\w]+", fields["args"].partition("#")[0])
    file = tmp_path / "requirements.txt"
    file.write_text("sphinx==8\n")
    assert re.search(fields["files"], "docs/requirements-dev.txt")
    assert not re.search(fields["files"], "docs/readme.txt")
    assert cli.main([*words, str(file)]) == 0


class TestAction:
    """The script of the action, in a repository whose pins change; what it needs is on PATH."""

    @pytest.fixture
    def repository(self, tmp_path: Path) -> Path:
        folder = tmp_path / "repository"
        folder.mkdir()
        programs = tmp_path / "bin"
        programs.mkdir()
        program = programs / "mcore-compat"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m mcore_compat.cli "$@"\n')
        program.chmod(0o755)
        (programs / "python").symlink_to(sys.executable)
        self.git(folder, "init", "-q")
        return folder

    def git(self, folder: Path, *words: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *who, *words], cwd=folder, check=True, timeout=60)

    def commit(self, folder: Path, pins: str) -> None:
        (folder / "pins.txt").write_text(pins)
        self.git(folder, "add", "-A")
        self.git(folder, "commit", "-q", "--allow-empty", "-m", "pins")

    def run(self, folder: Path, **inputs: str) -> tuple[int, str, str]:
        """The exit code, the summary of the job, and what was printed."""
        text = (ROOT / ".github/actions/upgrade/action.yml").read_text()
        script = text.partition("      run: |\n")[2]
        script = re.sub(r"^ {8}", "", script, flags=re.M)
        names = re.findall(r"^        ([A-Z_]+): \$\{\{", text, re.M)
        env = {
            **os.environ,
            **dict.fromkeys(names, ""),
            "PATH": f"{folder.parent / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "MCORE_COMPAT_WORKSPACE": str(ROOT),
            "GITHUB_OUTPUT": str(folder.parent / "output"),
            "GITHUB_STEP_SUMMARY": str(folder.parent / "summary"),
            **inputs,
        }
        done = subprocess.run(
            ["bash", "-c", script],
            check=False,
            cwd=folder,
            env=env,
            capture_output=True,
            text=True,
            timeout=300,
        )
        summary = folder.parent / "summary"
        return (
            done.returncode,
            summary.read_text() if summary.exists() else "",
            done.stdout + done.stderr,
        )

    def test_a_change_of_pins_is_validated(self, repository: Path) -> None:
        self.commit(repository, "megatron-core==0.18.2\nnvidia-modelopt==0.46.1\n")
        self.commit(repository, "megatron-core==0.19.2\nnvidia-modelopt==0.46.1\n")
        code, summary, printed = self.run(repository, REQUIREMENTS="pins.txt")
        assert code in (0, 1), printed
        output = (repository.parent / "output").read_text()
        assert re.search(r"^from=compat-0\.18-modelopt0\.46", output, re.M)
        assert re.search(r"^to=compat-0\.19-modelopt0\.46", output, re.M)
        assert summary.startswith("#")

    def test_pins_that_did_not_change_need_no_answer(self, repository: Path) -> None:
        for _ in range(2):
            self.commit(repository, "megatron-core==0.19.2\nnvidia-modelopt==0.46.1\n")
        code, summary, printed = self.run(repository, REQUIREMENTS="pins.txt")
        assert code == 0, printed
        assert summary.startswith("The pins stand for compat-0.19-modelopt0.46")

    def test_without_pins_it_says_what_it_needs(self, repository: Path) -> None:
        code, _, printed = self.run(repository)
        assert code == 2
        assert "::error::no pins of the packages" in printed
