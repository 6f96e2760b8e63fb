"""What an upgrade breaks in the user's own code, within its answer. Cells and releases are made
up."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import upgrade_support
from api_support import workspace
from test_upgrade_command import ARGV, Place, place
from upgrade_support import FROM, GOOD, LOADS, TO, cell, known, shows

from mcore_compat import cli
from mcore_compat.api import checking, interface_index, packages, refresh
from mcore_compat.api.scan import ScanReport
from mcore_compat.core import releases
from mcore_compat.core.cells import Cell
from mcore_compat.core.workspace import find as find_workspace
from mcore_compat.upgrade import data, document
from mcore_compat.upgrade.answer import UpgradeAnswer, answer
from mcore_compat.upgrade.reasons import CODE, Word

__all__ = ["place"]

OLD = cell("compat-0.15-modelopt0.41", mcore="0.15.0")
NEW = cell("compat-0.16.0-modelopt0.41", mcore="0.16.0")
"""Of the releases of `api_support` the one before a change, and the one after."""

BREAKS = "from megatron.core import helpers\nhelpers.split(1, 2, 3)\n"
FITS = "import megatron.core.models\n"
NEVER = "import megatron.core.nowhere\n"


def read(folder: Path, code: str, cells: Sequence[Cell] = (OLD, NEW)) -> ScanReport:
    """What moving from one cell to another breaks in a file."""
    made = workspace(folder / "workspace")
    path = folder / "mine.py"
    path.write_text(code)
    before, after = (of.pins for of in cells)
    return checking.check_upgrade(path, before, after, made, releases.load(made.releases))


def answered(report: ScanReport) -> UpgradeAnswer:
    """The answer where nothing but the code speaks against it."""
    loads = [upgrade_support.exchanged(NEW, OLD, upgrade_support.ALL_LOAD)]
    lock = [upgrade_support.lock(of) for of in (OLD, NEW)]
    of = known([shows(OLD, *GOOD), shows(NEW, *GOOD)], loads, lock)
    return answer(of.side(OLD), of.side(NEW), of, code=report)


def test_code_that_breaks_is_to_be_done_first_and_is_counted_in_the_first_lines(
    tmp_path: Path,
) -> None:
    found = answered(read(tmp_path, BREAKS))
    assert found.word is Word.CHANGES
    (reason,) = [r for r in found.reasons if r.subject == CODE]
    assert reason.text == "your code: 1 of 4 uses of megatron-core fit FROM and not TO, see below"
    text = document.markdown(found)
    assert text.splitlines()[2] == f"- **{reason.text}**"
    assert text.count(reason.text) == 1


def test_the_section_says_where_and_since_when(tmp_path: Path) -> None:
    text = document.markdown(answered(read(tmp_path, BREAKS)))
    section = text.partition("## Your code")[2].partition("\n## ")[0]
    assert "megatron-core 0.15.0 → 0.16.0: 1 of 4 uses break" in section
    assert "newest release that all of them fit: 0.15.0" in section
    assert f"{tmp_path}/mine.py:1: megatron.core.helpers does not exist" in section.replace(
        "\\", ""
    )
    assert "0.15.0 was the last to fit" in section


def test_code_that_fits_is_said_and_what_it_does_not_call_does_not_count(tmp_path: Path) -> None:
    report = read(tmp_path, FITS)
    of = answered(report)
    assert of.word is Word.GO
    assert "none of the 1 uses in your code breaks" in document.markdown(of)
    bare = replace(of, code=None)
    assert "Your code" not in document.markdown(bare)


def test_what_failed_in_from_already_is_not_the_upgrades(tmp_path: Path) -> None:
    report = read(tmp_path, NEVER)
    assert report.failures == ()
    assert answered(report).word is Word.GO


def test_a_file_that_cannot_be_read_keeps_it_from_being_go(tmp_path: Path) -> None:
    found = answered(read(tmp_path, FITS + "def f(:\n"))
    assert found.word is Word.CHANGES
    assert "your code: 1 file could not be read:" in document.markdown(found)


def test_json_has_what_scan_has(tmp_path: Path) -> None:
    written = json.loads(data.text(answered(read(tmp_path, BREAKS))))
    assert written["schema"] == "1.5.0"
    assert [row["line"] for row in written["code"]["findings"]] == [1]
    assert written["code"]["findings"][0]["message"].startswith(
        "megatron.core.helpers does not exist"
    )
    assert json.loads(data.text(answered_without()))["code"] is None


def answered_without() -> UpgradeAnswer:
    of = known([shows(FROM, *GOOD), shows(TO, *GOOD)], LOADS)
    return answer(of.side(FROM), of.side(TO), of)


@pytest.mark.parametrize(("code", "ends"), [("opt", 0), ("quantization", 1)])
@pytest.mark.usefixtures("place")
def test_the_exit_code_follows(
    code: str, ends: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package = packages.BY_NAME[packages.MODELOPT]
    kept = {"modelopt": {"": "module"}, "modelopt.opt": {"": "module"}}
    names = {"0.41.0": {**kept, "modelopt.quantization": {"": "module"}}, "0.42.0": kept}
    index = interface_index.of_releases(package, names)
    refresh.write(index, find_workspace().interfaces)
    path = tmp_path / "code.py"
    path.write_text(f"import modelopt.{code}\n")
    argv = [*ARGV, "--no-run", "--code", str(path)]
    assert cli.main(argv) == ends
    assert "Your code" in capsys.readouterr().out
    assert cli.main([*argv, "--changes-ok"]) == 0


def test_a_path_that_is_wrong_is_said_before_anything_runs(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*ARGV, "--code", "nowhere"]) == 2
    assert "nowhere does not exist" in capsys.readouterr().err
    assert place.ran == []
