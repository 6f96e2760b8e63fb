"""Packages off the axes as hidden causes: what a failure points at, and what rules make of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
from support import CONDITION, event, stand_in_cell, stand_in_result

from mcore_compat.analysis import declarations, explanation, suspects
from mcore_compat.analysis.bisect.halving import CheckState
from mcore_compat.analysis.explanation import Explained
from mcore_compat.base.errors import UsageError
from mcore_compat.core import pins
from mcore_compat.core.cells import Request, format_name, parse_name, plain_name
from mcore_compat.core.releases import Releases
from mcore_compat.publish import issue_drafts
from mcore_compat.results.repairs import Tried
from mcore_compat.results.result import Failure, Record, Result
from mcore_compat.schedule import repairing
from mcore_compat.schedule.repairing import Trials

INSTALLED = ("transformers", "typing-extensions", "torch", "nvidia-resiliency-ext", "mamba-ssm")


def failure(message: str, *files: str) -> Failure:
    lines = [f'  File "{file}", line 3, in load' for file in files]
    return Failure(
        type="AttributeError",
        message=message,
        frame="",
        fingerprint="0" * 12,
        traceback="\n".join(["Traceback (most recent call last):", *lines, message]),
        gpu_independent=None,
    )


@pytest.mark.parametrize(
    ("message", "files", "named"),
    [
        ("module 'transformers.modeling_utils' has no attribute 'Conv1D'", ["modelopt/x.py"], 1),
        ("cannot import name 'a' from 'transformers' (transformers/__init__.py)", [], 1),
        ("cannot import name 'a' from partially initialized module 'transformers'", [], 1),
        ("No module named 'transformers.deepspeed'", [], 1),
        ("anything", ["modelopt/x.py", "transformers/x.py"], 1),
        ("anything", ["transformers/x.py", "modelopt/x.py"], 0),
        ("No module named 'torch.onnx._globals'", ["modelopt/x.py"], 0),
        ("cannot import name 'a' from 'mamba_ssm'", [], 0),
        ("No module named 'nobody_has_it'", [], 0),
        ("it says that transformers is not to blame", ["modelopt/x.py"], 0),
    ],
)
def test_a_failure_points_at_whose_name_or_innermost_frame_it_is(
    message: str, files: list[str], named: int
) -> None:
    found = suspects.InstalledPackages(there()).suspects(failure(message, *files))
    assert found == ("transformers",) * named


def there(**modules: list[str]) -> Result:
    record = Record(seconds=0.1, failure=None, details=modules)
    installed = dict.fromkeys(INSTALLED, "1.0")
    return replace(stand_in_result(), installed=installed, records={"modules": record})


def test_a_module_is_of_the_package_whatever_it_is_spelt_with() -> None:
    missing = failure("No module named 'nvidia_resiliency_ext.x'")
    found = suspects.InstalledPackages(there()).suspects(missing)
    assert found == ("nvidia-resiliency-ext",)


def test_a_module_of_another_name_is_of_the_package_that_has_it() -> None:
    missing = failure("No module named 'yaml.reader'")
    assert suspects.InstalledPackages(there()).suspects(missing) == ()
    # As the suite records it of each environment.
    record = there(**{"typing-extensions": ["yaml"], "mamba-ssm": ["mamba_x"]})
    assert suspects.InstalledPackages(record).suspects(missing) == ("typing-extensions",)


def test_a_module_that_a_package_gave_up_is_still_its() -> None:
    result = replace(there(), installed={"setuptools": "82.0.1"})
    found = suspects.InstalledPackages(result).suspects(failure("No module named 'pkg_resources'"))
    assert found == ("setuptools",)


@pytest.fixture
def cell(made: Callable[..., Result]) -> Callable[..., Result]:
    """A cell with a transformers: fails for it, or works."""

    def make(modelopt: str, transformers: str, outcome: str, name: str = "") -> Result:
        told = {
            "type": "AttributeError",
            "message": "module 'transformers.modeling_utils' has no attribute 'Conv1D'",
            "frames": [],
            "traceback": 'Traceback\n  File "modelopt/x.py", line 1, in x',
            "gpu_independent": "a stand-in says so",
        }
        failed = {"failure": told} if outcome == "broken" else {}
        request = Request(mcore="0.16", modelopt=modelopt.rpartition(".")[0])
        of = replace(stand_in_cell(), name=name or format_name(request), modelopt=modelopt)
        result = made(event("import", outcome, **failed), cell=of)
        return replace(result, installed={**of.pins, "transformers": transformers, "rich": "1.0"})

    return make


def only(results: list[Result]) -> Explained:
    (one,) = explanation.explain(results)
    return one


def drafts(results: list[Result]) -> Mapping[str, str]:
    found = declarations.findings(results, explanation.explain(results), Releases({}))
    return issue_drafts.texts(found, {e.cell: e for e in results})


def test_a_pin_and_an_axis_that_move_together_are_rivals_until_a_cell_decides(
    cell: Callable[..., Result],
) -> None:
    found = [
        cell("0.31.0", "4.57.1", "broken"),
        cell("0.29.0", "4.56.0", "broken"),
        cell("0.33.0", "4.53.3", "works"),
    ]
    one = only(found)
    assert {rule.axes for rule in one.rules} == {("transformers",), ("nvidia-modelopt",)}
    assert one.undecided
    assert one.next_cell == "compat-0.16-modelopt0.31-with-transformers@4.53.3"
    assert one.doubt() in explanation.lines(one)
    assert drafts(found) == {}
    # That cell is run: the pin decides, and there is something to send.
    decided = [*found, cell("0.31.0", "4.53.3", "works", str(one.next_cell))]
    one = only(decided)
    assert [rule.axes for rule in one.rules] == [("transformers",)]
    assert not one.undecided
    assert one.attributed() == ("transformers",)
    assert one.rules[0].bounds[0].edge_below() == "works at 4.53.3"
    assert one.next_cell is None
    (text,) = drafts(decided).values()
    assert "- transformers 4.57.1" in text


def test_where_the_pin_decides_with_an_axis_the_rule_names_both(
    cell: Callable[..., Result],
) -> None:
    one = only(
        [
            cell("0.31.0", "4.57.1", "broken"),
            cell("0.31.0", "4.53.3", "works", "compat-0.16-modelopt0.31-with-transformers@4.53.3"),
            cell("0.37.0", "4.57.1", "works"),
        ]
    )
    assert [rule.axes for rule in one.rules] == [("transformers", "nvidia-modelopt")]
    assert not one.undecided


def test_the_axis_stays_where_the_pin_is_cleared(cell: Callable[..., Result]) -> None:
    found = [
        cell("0.31.0", "4.57.1", "broken"),
        cell("0.31.0", "4.53.3", "broken", "compat-0.16-modelopt0.31-with-transformers@4.53.3"),
        cell("0.33.0", "4.55.4", "works"),
    ]
    one = only(found)
    assert ("nvidia-modelopt",) in {rule.axes for rule in one.rules}


def test_a_pin_that_nothing_points_at_is_only_named(made: Callable[..., Result]) -> None:
    results = []
    for modelopt, rich, outcome in (("0.31.0", "2.0", "broken"), ("0.33.0", "1.0", "works")):
        of = replace(stand_in_cell(), name=f"compat-0.16-modelopt{modelopt[:4]}", modelopt=modelopt)
        result = made(event("import", outcome), cell=of)
        results.append(replace(result, installed={**of.pins, "rich": rich, "odd": "no version"}))
    one = only(results)
    assert (one.suspects, one.alike, one.undecided) == ((), ("rich",), False)
    assert any("rich" in line for line in explanation.lines(one))


LINE = tuple(f"1.{minor}" for minor in range(39, -1, -1))
"""Older releases, the nearest first."""


def trials(works_up_to: int, silent: tuple[str, ...] = ()) -> Trials:
    def ask(version: str) -> Tried:
        works = int(version.partition(".")[2]) <= works_up_to
        outcome = "unresolvable" if version in silent else "works" if works else "broken"
        return Tried(version=version, outcome=outcome)

    return Trials(ask)


@pytest.mark.parametrize("works_up_to", range(40))
def test_the_newest_release_that_works_is_found_in_few_steps(works_up_to: int) -> None:
    tried = trials(works_up_to)
    found = repairing.beside(LINE, "1.40", tried)
    assert found == (f"1.{works_up_to}", f"1.{works_up_to + 1}")
    assert len(tried.seen) <= 11


def test_where_none_works_each_step_is_tried_once() -> None:
    tried = trials(-1)
    assert repairing.beside(LINE, "1.40", tried) is None
    assert tried.state("1.39") is CheckState.BAD
    assert len(tried.seen) == 7


def test_what_cannot_be_asked_between_narrows_what_is_asked_for() -> None:
    found = repairing.beside(LINE, "1.40", trials(37, silent=("1.38",)))
    assert found == ("1.37", "1.39")
    assert repairing.requirement("a", "1.37", "1.39", ["1.38"]) == "a<=1.37"
    assert repairing.requirement("a", "1.37", "1.38", []) == "a<1.38"
    assert repairing.requirement("a", "2.1", "2.0", []) == "a>=2.1"


@pytest.mark.parametrize(
    ("before", "after", "lost"),
    [
        ("works", "works-with", False),
        ("works", "broken", True),
        ("works", "needs-gpu", True),
        ("broken", "works", False),
        ("broken", "broken", False),
        ("broken", "needs-gpu", False),
        ("broken", "unsupported", True),
        ("blocked", "unsupported", False),
    ],
)
def test_what_is_not_there_any_more_is_not_mended(before: str, after: str, lost: bool) -> None:
    told = {"works-with": CONDITION}
    one, other = (
        stand_in_result(event("restore[gpt]", word, condition=told.get(word))).checks
        for word in (before, after)
    )
    found = repairing.lost(one, {check.check: check for check in other})
    assert found == ["restore[gpt]"] * lost


class TestFurtherPins:
    """A cell's name spells the pins that it asks for beside the axes."""

    @pytest.mark.parametrize(
        ("asked", "word"),
        [
            (("transformers==4.57.*",), "transformers@4.57.x"),
            (("flash-attn==2.8.3", "numpy==2.1.0"), "flash_attn@2.8.3-numpy@2.1.0"),
            (("nvidia-cublas-cu12==12.8.4.1",), "nvidia_cublas_cu12@12.8.4.1"),
            (("onnx==1.17.0", "onnx-ir==0.1.1"), "onnx@1.17.0-onnx_ir@0.1.1"),
        ],
    )
    def test_there_and_back(self, asked: tuple[str, ...], word: str) -> None:
        request = Request(mcore="0.16", modelopt="0.41", torch="2.9", further=asked)
        name = format_name(request)
        assert name == f"compat-0.16-modelopt0.41-torch2.9-with-{word}"
        assert parse_name(name) == request
        assert plain_name(name) == "compat-0.16-modelopt0.41-torch2.9"

    @pytest.mark.parametrize(
        "word",
        [
            *("", "numpy", "numpy@", "numpy@2.1.0-flash_attn@2.8.3", "a@1-a@1", "a@1-a@2"),
            *("../x@1", "a@1*", "torch@2.5.1", "transformer_engine_torch@2.9.0"),
        ],
    )
    def test_what_spells_none_is_no_name(self, word: str) -> None:
        assert parse_name(f"compat-0.16-modelopt0.41-with-{word}") is None

    @pytest.mark.parametrize(
        ("text", "word"),
        [
            ("transformers", "does not pin"),
            ("transformers<5", "does not pin"),
            ("transformers==4.57,<5", "does not pin"),
            ("transformers[x]==4.57", "does not pin"),
            ("a b", "not a valid requirement"),
            ("torch==2.9", "use --torch VERSION"),
            ("Transformer_Engine_Torch==2.9", "use --te VERSION"),
            ("megatron-core==0.16", "already gives its version"),
        ],
    )
    def test_what_is_no_pin_is_refused(self, text: str, word: str) -> None:
        with pytest.raises(UsageError, match=word):
            pins.further(text)

    def test_pins_that_contradict_each_other_are_refused(self) -> None:
        assert pins.together(["b==1", "a==2", "b==1"]) == ("a==2", "b==1")
        with pytest.raises(UsageError, match="contradict"):
            pins.together(["a==1", "a==2"])
