"""Upstream as referee, its pure parts; and its plugin on a test file of our own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from referee import asserts, extraction, in_cell, mapping, repository
from referee.mapping import AGREE, DIFFER, NOT_COMPARED, NOT_MAPPED, Ours
from support import ROOT

from mcore_compat.base.errors import UsageError

GPT = "TestModelOptGPTModel.test_sharded_state_dict_restore"
HYBRID = "TestModelOptHybridModel.test_sharded_state_dict_restore"


def ended(test: str, outcome: str, reason: str = "") -> dict[str, str]:
    return {"test": test, "outcome": outcome, "reason": reason}


@pytest.mark.parametrize(
    ("upstream", "ours", "verdict"),
    [
        ("passed", "works", AGREE),
        ("failed", "broken", AGREE),
        ("failed", "works-with", AGREE),
        ("failed", "blocked", AGREE),
        ("stopped", "needs-gpu", AGREE),
        ("timed-out", "timed-out", AGREE),
        ("passed", "broken", DIFFER),
        ("passed", "works-with", DIFFER),
        ("passed", "unsupported", DIFFER),
        ("passed", "blocked", DIFFER),
        ("failed", "works", DIFFER),
        ("failed", "needs-gpu", DIFFER),
        ("failed", "unsupported", DIFFER),
        ("crashed", "works", DIFFER),
        ("timed-out", "works", DIFFER),
        ("passed", "needs-gpu", NOT_COMPARED),
        ("stopped", "works", NOT_COMPARED),
        ("stopped", "blocked", NOT_COMPARED),
        ("skipped", "works", NOT_COMPARED),
    ],
)
def test_two_outcomes_agree_only_where_they_say_the_same(
    upstream: str, ours: str, verdict: str
) -> None:
    assert mapping.verdict_of(upstream, ours) == verdict


def test_the_check_that_asks_the_same_comes_before_the_one_that_asks_nearly_the_same() -> None:
    results = {
        "restore[hybrid-mamba]": Ours("works"),
        "restore-layernorm[hybrid-mamba]": Ours("broken", "a bias is lost"),
    }
    [line] = mapping.compare([ended(HYBRID, "failed")], results)
    assert (line.check, line.verdict, line.note) == (
        "restore-layernorm[hybrid-mamba]",
        AGREE,
        "",
    )
    del results["restore-layernorm[hybrid-mamba]"]
    [line] = mapping.compare([ended(HYBRID, "passed")], results)
    assert (line.check, line.verdict) == ("restore[hybrid-mamba]", AGREE)
    assert line.note == "the result has no restore-layernorm[hybrid-mamba]"


def test_what_has_no_counterpart_is_said() -> None:
    lines = mapping.compare([ended("test_new", "passed"), ended(GPT, "passed")], {})
    assert [line.verdict for line in lines] == [NOT_MAPPED, NOT_COMPARED]
    assert lines[1].note == "not in our result"
    assert mapping.total(lines) == "not compared 1, not mapped 1"
    assert mapping.failed(lines)


def test_nothing_to_compare_is_no_agreement() -> None:
    assert mapping.failed(())
    assert mapping.total(()) == "no test"


def test_where_nothing_was_compared_the_referee_fails() -> None:
    inference = "TestModelOptGPTModel.test_inference"
    tests = [ended(GPT, "passed"), ended(inference, "passed")]
    ours = {"restore[gpt]": Ours("works"), "inference-shapes[gpt]": Ours("needs-gpu")}
    lines = mapping.compare(tests, ours)
    assert [line.verdict for line in lines] == [AGREE, NOT_COMPARED]
    assert not mapping.failed(lines)
    assert mapping.failed(lines[1:])
    assert mapping.failed(mapping.compare(tests, {}))


def test_a_difference_is_shown_with_both_reasons() -> None:
    results = {"restore[gpt]": Ours("broken", "a tensor is lost")}
    lines = mapping.compare([ended(GPT, "passed", "why")], results)
    assert mapping.failed(lines)
    text = mapping.as_text(lines)
    assert text.startswith(f"differ: {GPT} passed; restore[gpt] broken\n")
    assert "upstream: why" in text
    assert "ours: a tensor is lost" in text
    assert f"| `{GPT}` | passed | `restore[gpt]` | broken | differ |" in mapping.as_markdown(lines)


def test_a_cell_is_one_row_of_the_summary() -> None:
    tests = [ended(GPT, "passed"), ended("TestModelOptGPTModel.test_inference", "stopped")]
    results = {"restore[gpt]": Ours("works"), "inference-shapes[gpt]": Ours("needs-gpu")}
    row = mapping.as_row(("cell", "tag"), mapping.compare(tests, results))
    assert row == "| cell | tag | 1 passed, 1 stopped | agree 2 |"


def test_each_mapped_check_is_a_kind_that_a_fresh_run_asks() -> None:
    for checks in mapping.CHECKS.values():
        for check in checks:
            kind = check.partition("[")[0]
            assert any(fnmatchcase(kind, word) for word in mapping.KINDS), check


SOURCE = """
import pytest
from megatron.core.models import Model
from somewhere import other

def forward_of(model):
    shape = model.forward(input_ids=1)
    for one in shape:
        assert one == 2, "text of the message"

class TestModel:
    def setup_method(self):
        self.config = SomeConfig(layers=2)
        self.model = GPTModel(self.config, get_a_spec(remap=True))

    def test_load(self):
        if True:
            self.model.load_state_dict(self.model.sharded_state_dict())
        helper(3)

def test_signature():
    expected_params = {"config": 1, "other": 2}
    with pytest.raises(ValueError, match="no"):
        Linear(4)
"""


def test_extraction_finds_every_kind_where_it_stands() -> None:
    found = [(one.where, one.kind, one.text) for one in extraction.assertions(SOURCE)]
    assert sorted(found) == sorted(
        [
            ("", "import", "megatron.core.models.Model"),
            ("forward_of", "call", "model.forward(input_ids=1)"),
            ("forward_of", "assert", "one == 2"),
            ("TestModel.setup_method", "build", "SomeConfig(layers=2)"),
            ("TestModel.setup_method", "build", "get_a_spec(remap=True)"),
            (
                "TestModel.setup_method",
                "build",
                "GPTModel(self.config, get_a_spec(remap=True))",
            ),
            (
                "TestModel.test_load",
                "call",
                "self.model.load_state_dict(self.model.sharded_state_dict())",
            ),
            ("TestModel.test_load", "call", "self.model.sharded_state_dict()"),
            ("test_signature", "expected", "expected_params: 'config': 1"),
            ("test_signature", "expected", "expected_params: 'other': 2"),
            (
                "test_signature",
                "raises",
                "with pytest.raises(ValueError, match='no'):\n    Linear(4)",
            ),
            ("test_signature", "build", "Linear(4)"),
        ]
    )


def test_layout_does_not_change_a_digest_and_a_value_does() -> None:
    first, spread, other = (
        extraction.assertions(f"def test():\n    assert one({text})")[0]
        for text in ("1, two=3", "1,\n        two=3,\n    ", "1, two=4")
    )
    assert first.id == spread.id != other.id


def test_inherited_tests_are_found_too() -> None:
    source = """
class TestOne:
    def test_a(self): ...
    def helper(self): ...

class TestTwo(TestOne):
    def test_b(self): ...

class Base:
    def test_c(self): ...

def test_d(): ...
def helper(): ...
"""
    assert extraction.tests(source) == (
        "test_d",
        "TestOne.test_a",
        "TestTwo.test_b",
        "TestTwo.test_a",
    )


def test_each_test_of_upstream_has_a_check_of_ours() -> None:
    known = {"core_v0.9.0": list(mapping.CHECKS)}
    assert asserts.problems_of_tests(known) == []
    known["core_v0.10.0"] = ["test_new"]
    assert asserts.problems_of_tests(known) == ["core_v0.10.0: test_new has no check in mapping.py"]
    known = {"core_v0.9.0": [test for test in mapping.CHECKS if test != GPT]}
    assert asserts.problems_of_tests(known) == [f"no tag has {GPT}"]


TAGS = ["core_v0.9.0", "core_v0.10.0", "core_v0.11.0", "core_v0.12.3"]


def test_tags_are_told_in_runs() -> None:
    assert asserts.ranges(TAGS, TAGS) == "0.9–0.12"
    assert asserts.ranges([TAGS[0], TAGS[2], TAGS[3]], TAGS) == "0.9, 0.11–0.12"
    assert asserts.ranges([], TAGS) == ""


def table_of(*rows: dict[str, object], count: int = 1) -> asserts.Table:
    tags = [{"name": "core_v0.9.0", "assertions": count}]
    return {"tag": tags, "group": [{"name": "Group", "row": list(rows)}], "file": []}


def row(*ids: str, **said: object) -> dict[str, object]:
    return {"what": "what", "tags": "0.9", "check": "restore[gpt]", "ids": list(ids), **said}


def test_the_table_is_held_against_what_the_tags_ask() -> None:
    found = {"core_v0.9.0": extraction.assertions("def test():\n    assert one")}
    digest = found["core_v0.9.0"][0].id
    assert asserts.problems(table_of(row(digest)), found) == []
    assert asserts.problems(table_of(count=1), found) == [
        f"core_v0.9.0: not in the table: {digest} test assert one"
    ]
    [gone] = asserts.problems(table_of(row(digest, "0123456789ab")), found)
    assert gone == "0123456789ab is in no tag: Group: what"
    [more] = asserts.problems(table_of(row(digest), count=2), found)
    assert more == "core_v0.9.0: 1 assertions, the table says 2"
    [tags] = asserts.problems(table_of(row(digest, tags="0.10")), found)
    assert tags == "Group: what: in 0.9, the table says 0.10"
    [twice] = asserts.problems(table_of(row(digest), row(digest)), found)
    assert twice.startswith(f"{digest} is in two rows")


@pytest.mark.parametrize(
    "said",
    [{"how": "not"}, {"how": "partly"}, {"how": "mostly", "ours": "why"}, {"check": ""}],
)
def test_a_row_says_who_asks_it_or_why_nobody_does(said: dict[str, object]) -> None:
    found = {"core_v0.9.0": extraction.assertions("def test():\n    assert one")}
    digest = found["core_v0.9.0"][0].id
    assert asserts.problems(table_of(row(digest, **said)), found)


def test_each_file_that_names_modelopt_is_in_the_table() -> None:
    known = {"paths": ["tests/unit_tests/a/test_known.py"], "tags": "0.9"}
    table = {**table_of(), "file": [known]}
    there = {"core_v0.9.0": [*known["paths"], f"tests/unit_tests/{mapping.FILES[0]}"]}
    assert asserts.problems_of_files(table, there) == []
    there["core_v0.9.0"].append("tests/unit_tests/test_new.py")
    [problem] = asserts.problems_of_files(table, there)
    assert problem == "core_v0.9.0: tests/unit_tests/test_new.py is not in the table"
    [gone] = asserts.problems_of_files(table, {"core_v0.9.0": []})
    assert gone == "tests/unit_tests/a/test_known.py: in , the table says 0.9"


def test_the_page_is_what_the_table_says() -> None:
    page = (ROOT / "docs/upstream-asserts.md").read_text(encoding="utf-8")
    assert page.endswith(asserts.as_markdown(asserts.load()))


def test_the_table_is_well_formed_without_a_checkout() -> None:
    table = asserts.load()
    digests = [digest for _, row in asserts.rows_of(table) for digest in row["ids"]]
    assert len(digests) == len(set(digests))
    for _, one in asserts.rows_of(table):
        assert (one.get("how") == "not") != bool(one.get("check")), one["what"]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with a test file where upstream has its own, at one tag."""
    folder = tmp_path / "checkout"
    place = folder / "tests/unit_tests/post_training"
    place.mkdir(parents=True)
    (place / "test_modelopt_module_spec.py").write_text("def test():\n    assert True\n")
    (place / "test_other.py").write_text("# ModelOpt\n")
    git = ["git", "-C", str(folder), "-c", "user.name=n", "-c", "user.email=e"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "m"], ["tag", "core_v0.9.0"]):
        subprocess.run([*git, *words], check=True, timeout=60)
    return folder


def test_the_test_file_is_read_at_its_tag(checkout: Path) -> None:
    (checkout / "tests/unit_tests/post_training/test_modelopt_module_spec.py").write_text("# later")
    assert "assert True" in repository.source(checkout, "core_v0.9.0")
    assert [Path(path).name for path in repository.naming_modelopt(checkout, "core_v0.9.0")] == [
        "test_other.py"
    ]
    with pytest.raises(UsageError, match=r"core_v0\.8"):
        repository.source(checkout, "core_v0.8.0")


HANGS = """
import os, signal, time
import pytest
from tests.unit_tests.dist_checkpointing import TempNamedDir
from tests.unit_tests.test_utilities import Utils

class TestModel:
    def test_passes(self, tmp_path_dist_ckpt):
        with TempNamedDir(tmp_path_dist_ckpt / "name", sync=True) as folder:
            assert folder.is_dir() and Utils.rank == 0

def test_fails():
    assert 1 == 2

def test_stops():
    raise RuntimeError("CUDA error: no kernel image")

FORWARD = "def forward():\\n    raise RuntimeError('odd device')"

def test_stops_in_a_forward_pass():
    space = {}
    exec(compile(FORWARD, "/site/megatron/core/models/gpt_model.py", "exec"), space)
    space["forward"]()

def test_fails_for_a_reason_that_nobody_knows():
    raise RuntimeError("odd device")

def test_is_skipped():
    pytest.skip("not here")

def test_hangs():
    time.sleep(600)

def test_dies():
    os.kill(os.getpid(), signal.SIGSEGV)

@pytest.fixture
def broken_after():
    yield
    raise KeyError("after")

def test_fails_after(broken_after):
    pass
"""

DRIVER = """
import json, sys
from pathlib import Path
sys.path[:0] = [ROOT, ROOT + "/tests"]
from referee import in_cell
in_cell.put_helpers()
plugin = in_cell.collected(Path(FILE), Path(FOLDER), 3.0)
print("REPORT" + json.dumps([plugin.not_collected, plugin.tests]))
"""


def reported(file: Path, folder: Path) -> tuple[str | None, dict[str, str]]:
    places = {"ROOT": str(ROOT), "FILE": str(file), "FOLDER": str(folder)}
    text = "\n".join(f"{name} = {value!r}" for name, value in places.items()) + DRIVER
    argv = [sys.executable, "-c", text]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=True)
    not_collected, tests = json.loads(done.stdout.rpartition("REPORT")[2])
    return not_collected, {one["test"]: one["outcome"] for one in tests}


def test_every_way_in_which_a_test_can_end_is_told_apart(tmp_path: Path) -> None:
    file = tmp_path / "test_file.py"
    file.write_text(HANGS)
    not_collected, outcomes = reported(file, tmp_path / "run")
    assert not_collected is None
    assert outcomes == {
        "TestModel.test_passes": "passed",
        "test_fails": "failed",
        "test_stops": "stopped",
        "test_stops_in_a_forward_pass": "stopped",
        "test_fails_for_a_reason_that_nobody_knows": "failed",
        "test_is_skipped": "skipped",
        "test_hangs": "timed-out",
        "test_dies": "crashed",
        "test_fails_after": "failed",
    }


def test_what_a_cell_writes_is_below_the_folder_of_its_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path] = []

    def asked(file: Path, folder: Path, limit: float) -> dict[str, object]:
        seen.append(folder)
        assert folder.is_dir()
        return {}

    report = tmp_path / "report.json"
    argv = ["--suite", "suite", "--tools", "tools", "--file", "file", "--report", str(report)]
    monkeypatch.setattr(in_cell, "asked", asked)
    monkeypatch.setattr(sys, "argv", ["in_cell.py", *argv])
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(os, "environ", {**os.environ})
    assert in_cell.main() == 0
    assert [folder.parent for folder in seen] == [tmp_path]
    assert list(tmp_path.iterdir()) == [report]


def test_a_file_that_cannot_be_loaded_is_told(tmp_path: Path) -> None:
    file = tmp_path / "test_file.py"
    file.write_text("import no_such_package\n\ndef test():\n    pass\n")
    not_collected, outcomes = reported(file, tmp_path / "run")
    assert "no_such_package" in (not_collected or "")
    assert outcomes == {}
