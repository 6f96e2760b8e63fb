"""TE and torch that move together: the line of stacks, and which of the two decides. The results
here are made up."""

from __future__ import annotations

import pytest
from support import CONDITION, event, stand_in_result
from test_bisecting import CHECK, World, said_of, world
from test_line import cell, facts, names

from mcore_compat import cli
from mcore_compat.analysis.bisect import stack_line
from mcore_compat.analysis.bisect.halving import CheckState
from mcore_compat.analysis.bisect.release_line import ReleaseLine
from mcore_compat.analysis.bisect.search import PointState
from mcore_compat.base.errors import UsageError
from mcore_compat.core.cells import Cell
from mcore_compat.results.result import Result
from mcore_compat.run import pipeline
from mcore_compat.run.context import Context, Options
from mcore_compat.run.pipeline import Outcome

__all__ = ["world"]

GOOD, BAD = "0.16-modelopt0.41-te2.7-torch2.8", "0.16-modelopt0.41"
MIDDLE = "compat-0.16-modelopt0.41-te2.9"
TE_ALONE, TORCH_ALONE = "compat-0.16-modelopt0.41-te2.11-torch2.8", f"{MIDDLE}-torch2.8"


def between(good: str, bad: str) -> ReleaseLine:
    return stack_line.between(cell(good), cell(bad), facts())


def test_the_points_are_the_stacks_of_the_matrix() -> None:
    made = between(GOOD, BAD)
    assert [point.version for point in made.points] == [
        "TE 2.7.0, torch 2.8.0",
        "TE 2.9.0, torch 2.9.1",
        "TE 2.11.0, torch 2.9.1",
    ]
    assert names(made) == [f"compat-{GOOD}", MIDDLE, f"compat-{BAD}"]
    assert set(made.held) == {"megatron-core", "nvidia-modelopt", "python"}
    assert not made.fixed
    assert between(BAD, GOOD).ends == (2, 0)


def test_python_moves_only_where_the_ends_have_another() -> None:
    made = between("0.12-modelopt0.41-te2.2-torch2.6", "0.12-modelopt0.41-te2.9-torch2.9-py3.12")
    assert "python" not in made.held
    assert {point.cell.python for point in made.points} == {"3.11", "3.12"}


def test_another_megatron_core_is_as_in_the_good_one() -> None:
    made = between(GOOD, "0.15-modelopt0.41")
    assert {point.cell.mcore for point in made.points} == {"0.16.1"}
    assert "instead of --bad compat-0.15-modelopt0.41" in made.notes[0]


@pytest.mark.parametrize(
    ("good", "bad", "said"),
    [
        (BAD, "0.16-modelopt0.41-torch2.8", "have the same transformer-engine"),
        ("0.16-modelopt0.41-te2.7", BAD, "have the same torch"),
        ("0.16-modelopt0.41-te2.14-torch2.8", "0.16-modelopt0.41", "newer transformer-engine and"),
    ],
)
def test_what_is_no_line_of_stacks_is_refused(good: str, bad: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        between(good, bad)


G, B, S = CheckState.GOOD, CheckState.BAD, CheckState.SILENT


@pytest.mark.parametrize(
    ("te", "torch", "said"),
    [
        (B, G, "transformer-engine decides"),
        (G, B, "torch decides"),
        (B, B, "so does torch alone"),
        (G, G, "decide together"),
        (B, S, "the effect of torch alone is not known"),
        (S, B, "the effect of transformer-engine alone is not known"),
        (G, S, "torch decides, or both together"),
        (S, G, "transformer-engine decides, or both together"),
        (S, S, "neither alone has a result"),
    ],
)
def test_which_decides_is_said_no_further_than_is_seen(
    te: CheckState, torch: CheckState, said: str
) -> None:
    states = [PointState(state=state, outcome="", source="") for state in (te, torch)]
    assert said in stack_line.decision(states)


# The command


@pytest.fixture
def outcomes(world: World, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """By cell's name: how the check ends; what is not named works."""
    found: dict[str, str] = {}

    def result(of: Cell) -> Result:
        return stand_in_result(event(CHECK, found.get(of.name, "works")), cell=of)

    def run_cell(name: str, options: Options, context: Context) -> Outcome:
        world.ran.append(name)
        return Outcome(result=result(pipeline.chosen(name, context)))

    monkeypatch.setattr(pipeline, "run_cell", run_cell)
    return found


def bisect(*options: str) -> int:
    return cli.main(["bisect", "--good", GOOD, "--bad", BAD, "--check", CHECK, *options])


def test_both_move_and_the_one_that_decides_is_found(
    world: World, outcomes: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """torch 2.9 breaks it: at the middle stack, where both moved, and alone."""
    outcomes |= dict.fromkeys((MIDDLE, f"compat-{BAD}", "compat-0.16-modelopt0.41-te2.7"), "broken")
    assert bisect() == 0
    said = capsys.readouterr().out
    assert said.startswith(
        "restore[gpt] changes at stack TE 2.9.0, torch 2.9.1: works at TE 2.7.0, torch 2.8.0, "
    )
    assert (
        "torch decides: it alone changes the check, and transformer-engine alone does not" in said
    )
    assert f"  only transformer-engine 2.9.0: works, {TORCH_ALONE}  run now" in said
    assert "  only torch 2.9.1: broken, compat-0.16-modelopt0.41-te2.7  run now" in said
    assert "any of them may be the cause" not in said
    assert len(world.ran) == 5


def test_where_one_alone_moves_at_the_change_nothing_more_is_run(
    world: World, outcomes: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes[f"compat-{BAD}"] = "broken"
    assert bisect("--axis", "stack", "--format", "json") == 0
    said = said_of(capsys)
    assert said["decides"] is None
    assert said["moves_too"] == {"transformer-engine": ["2.9.0", "2.11.0"]}
    assert len(world.ran) == 3


def test_a_condition_counts_as_a_failure_where_that_is_asked(
    outcomes: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes |= dict.fromkeys((MIDDLE, f"compat-{BAD}"), "works-with")
    assert bisect() == 2
    assert "works there under a condition, which --defaults counts" in capsys.readouterr().err
    assert bisect("--defaults") == 0
    said = capsys.readouterr().out
    assert "changes at stack TE 2.9.0, torch 2.9.1: works at " in said
    assert "works only under a condition at TE 2.9.0" in said
    assert f"  works with: {CONDITION}" in said


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--good", GOOD], "--bad is missing"),
        (
            ["--good", GOOD, "--from-container", "pytorch:25.06"],
            "--good: not with --from-container",
        ),
        (["--from-container", "pytorch:25.06"], "name both"),
        (["--good", GOOD, "--bad", BAD, "--installed", "mcore 0.16"], "goes with --from-container"),
        (
            ["--good", GOOD, "--bad", BAD, "--axis", "stack", "--hold", "te"],
            "not with --axis stack",
        ),
    ],
)
def test_bad_input_is_one_line(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["bisect", *argv, "--check", CHECK]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
