"""What a refused load is tried under, and what follows."""

from __future__ import annotations

from typing import Any

import pytest

from suite import check_restore, checkpoints, compare
from suite.checkpoints import CONDITIONS, Condition
from suite.outcomes import WorksWith

REFUSED = RuntimeError("first line\n\nthe cause")
KEYS, BOTH = CONDITIONS


class Load:
    """Stands for a load: by condition what is wrong afterwards, or how it is refused."""

    def __init__(self, ends: dict[Condition | None, list[str] | Exception]) -> None:
        self.ends = ends
        self.calls: list[Condition | None] = []

    def __call__(self, condition: Condition | None) -> list[str]:
        self.calls.append(condition)
        end = self.ends[condition]
        if isinstance(end, Exception):
            raise end
        return end


@pytest.fixture(autouse=True)
def exceptions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "failures", lambda: (Exception,))


def attempted(load: Load) -> tuple[list[str], dict[str, Any]]:
    said: dict[str, Any] = {}
    return checkpoints.attempted(load, CONDITIONS, said.__setitem__), said


def test_a_load_with_defaults_that_is_not_refused_is_judged_alone() -> None:
    for problems in ([], ["1 not restored"]):
        load = Load({None: problems})
        assert attempted(load) == (problems, {})
        assert load.calls == [None]


def test_the_first_condition_that_loses_nothing_is_told() -> None:
    load = Load({None: REFUSED, KEYS: KeyError("more"), BOTH: []})
    with pytest.raises(WorksWith) as ended:
        attempted(load)
    assert ended.value.condition == BOTH.text
    assert ended.value.refused is REFUSED
    load = Load({None: REFUSED, KEYS: [], BOTH: []})
    with pytest.raises(WorksWith) as ended:
        attempted(load)
    assert ended.value.condition == KEYS.text
    assert load.calls == [None, KEYS, None]


def test_a_refusal_of_the_moment_is_raised_as_it_was() -> None:
    def under(condition: Condition | None, calls: list[Condition | None] = []) -> list[str]:  # noqa: B006
        calls.append(condition)
        if len(calls) == 1:
            raise REFUSED
        return []

    with pytest.raises(RuntimeError) as ended:
        checkpoints.attempted(under, CONDITIONS, lambda *_: None)
    assert ended.value is REFUSED


def test_a_condition_under_which_something_is_lost_is_none() -> None:
    load = Load({None: REFUSED, KEYS: ["1 not loaded, still the sentinel: w"], BOTH: ["2"]})
    with pytest.raises(AssertionError, match=r"raises RuntimeError: the cause; under .*: w"):
        attempted(load)


def test_what_is_refused_under_every_condition_is_raised_as_it_was() -> None:
    load = Load({None: REFUSED, KEYS: KeyError("a"), BOTH: KeyError("b")})
    with pytest.raises(RuntimeError) as ended:
        attempted(load)
    assert ended.value is REFUSED


def test_the_conditions_are_python_that_names_public_things_only() -> None:
    for text in [*(one.text for one in CONDITIONS), check_restore.LENIENT.text]:
        compile(text, "condition", "eval")
        assert "._" not in text


STATE = dict.fromkeys(
    [
        "decoder.layers.0.mixer.in_proj.layer_norm_weight",
        "decoder.layers.0.mixer.in_proj.layer_norm_bias",
        "decoder.layers.1.mlp.linear_fc1.layer_norm_weight",
        "decoder.layers.1.mlp.linear_fc1.weight",
    ]
)


def hook(*renamed: str) -> Any:
    """A pre-hook that renames the tensors that end so."""

    def rename(state: dict[str, Any], *_: Any) -> None:
        for name in [name for name in state if name.endswith(renamed)]:
            state[compare.unfused(name)] = state.pop(name)

    return rename


def test_a_hook_that_knows_half_of_a_norm_knows_that_norm() -> None:
    fc1, mixer = "linear_fc1.layer_norm_weight", "in_proj.layer_norm_weight"
    assert check_restore.not_renamed(hook(fc1, mixer), STATE) == []
    assert check_restore.not_renamed(hook(fc1), STATE) == [
        "decoder.layers.0.mixer.in_proj.layer_norm_"
    ]
    assert len(check_restore.not_renamed(hook("nothing"), STATE)) == 2
