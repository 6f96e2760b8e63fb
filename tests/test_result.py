"""A result is kept, validated, and never replaced by less."""

import dataclasses
import functools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import START, event, record_event, stand_in_cell

from mcore_compat.base.errors import InfrastructureError, ResultError
from mcore_compat.core.outcomes import CellOutcome
from mcore_compat.results import store
from mcore_compat.results.from_events import Builder
from mcore_compat.results.result import FORMAT, Result, empty_result, out_of_date

Made = Callable[..., Result]


def test_what_is_saved_is_what_is_loaded(made: Made, tmp_path: Path) -> None:
    found = made(event("restore[gpt]"), event("build", "broken"))
    path = store.save(found, tmp_path)
    assert path == tmp_path / found.cell / "main.host.json"
    assert store.load(path) == found
    assert store.load_all(tmp_path) == (found,)


def test_same_results_same_bytes(made: Made) -> None:
    a, b = event("restore[gpt]"), event("build[gpt]")
    one = dataclasses.replace(made(a, b), taken="2026-01-01T00:00:00Z")
    two = dataclasses.replace(made(b, a), taken="2026-01-01T00:00:00Z")
    assert store.dumps(one) == store.dumps(two)


def test_an_interrupted_run_keeps_what_was_learnt(made: Made, tmp_path: Path) -> None:
    found = made(event("restore[gpt]"), end=False)
    loaded = store.load(store.save(found, tmp_path))
    assert not loaded.complete
    assert [c.check for c in loaded.checks] == ["restore[gpt]"]


def test_an_interrupted_run_never_replaces_a_complete_one(made: Made, tmp_path: Path) -> None:
    whole = made(event("restore[gpt]"))
    path = store.save(whole, tmp_path)
    store.save(made(end=False), tmp_path)
    assert store.load(path) == whole


def test_what_two_interrupted_runs_asked_is_added_up(made: Made, tmp_path: Path) -> None:
    asked = (event("a[gpt]", "broken"), event("b[gpt]")), (event("a[gpt]"),)
    for events in asked:
        path = store.save(made(*events, end=False), tmp_path)
    found = store.load(path)
    assert [(c.check, c.outcome.value) for c in found.checks] == [
        ("a[gpt]", "works"),
        ("b[gpt]", "works"),
    ]
    assert found.outcome is CellOutcome.ERROR
    assert not found.complete
    alone = dataclasses.replace(made(event("c[gpt]"), end=False), suite="other")
    store.save(alone, tmp_path)
    assert store.load(path) == alone


def test_a_result_in_the_place_of_another_is_refused(made: Made, tmp_path: Path) -> None:
    path = store.save(made(event("restore[gpt]")), tmp_path)
    for name in ("main.gpu.json", "ranks.host.json"):
        other = path.with_name(name)
        other.write_bytes(path.read_bytes())
        with pytest.raises(ResultError, match=rf"{name} is that of {path.parent.name}/main"):
            store.load(other)


def test_check_sets_of_a_cell_lie_side_by_side(made: Made, tmp_path: Path) -> None:
    main = made(event("restore[gpt]"))
    ranks = dataclasses.replace(main, check_set="ranks", outcome=CellOutcome.UNTESTED)
    paths = [store.save(one, tmp_path) for one in (main, ranks)]
    assert [p.name for p in paths] == ["main.host.json", "ranks.host.json"]
    assert store.load_all(tmp_path) == (main,)
    assert store.load_all(tmp_path, "ranks") == (ranks,)


def test_an_error_never_replaces_a_verdict(made: Made, tmp_path: Path) -> None:
    whole = made(event("restore[gpt]"))
    path = store.save(whole, tmp_path)
    store.save(dataclasses.replace(whole, outcome=CellOutcome.ERROR, checks=()), tmp_path)
    assert store.load(path) == whole


@pytest.mark.parametrize("text", ["", "{", '{"format": 2}', "[]", '{"format": 1}', '{"schema": 1}'])
def test_a_corrupt_file_is_one_line_that_names_it(text: str, tmp_path: Path) -> None:
    path = tmp_path / "compat-0.16-modelopt0.41" / "main.host.json"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(ResultError) as caught:
        store.load(path)
    assert "compat-0.16-modelopt0.41/main.host.json" in str(caught.value)
    assert "--force" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_breaks_its_own_schema_is_not_written(made: Made, tmp_path: Path) -> None:
    bad = dataclasses.replace(made(event("restore[gpt]")), cell="nonsense")
    with pytest.raises(ResultError):
        store.save(bad, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_broken_check_without_a_failure_is_refused(made: Made, tmp_path: Path) -> None:
    with pytest.raises(ResultError):
        store.save(made(event("restore[gpt]", "broken", failure=None)), tmp_path)


def test_a_suite_that_was_broken_on_purpose_gives_no_result() -> None:
    builder = Builder(empty_result(stand_in_cell(), device_class="host"))
    with pytest.raises(ResultError, match="on purpose"):
        builder.take({**START, "sabotage": "change-tensor"})


def test_foreign_text_is_harmless_and_names_no_machine(made: Made) -> None:
    hostile = "\x1b[31m<script>\x00 /home/u/x/lib/python3.12/site-packages/torch/a.py"
    found = made(event("build", "broken", reason=hostile))
    assert found.checks[0].reason is not None
    assert "\x1b" not in found.checks[0].reason
    assert "/home/u" not in found.checks[0].reason


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"lock": "other"}, "lock"),
        ({"suite": "other"}, "suite"),
        ({"python": "3.11"}, "python"),
    ],
)
def test_a_result_is_out_of_date_once_anything_it_names_changes(
    made: Made, change: dict[str, object], why: str
) -> None:
    now = {"lock": "l", "suite": "s", "python": "3.12"}
    found = made(event("restore[gpt]"))
    assert out_of_date(found, **now) == ""  # type: ignore[arg-type]
    assert why in out_of_date(found, **{**now, **change})  # type: ignore[arg-type]


def test_an_interrupted_run_is_never_fresh(made: Made) -> None:
    found = made(event("restore[gpt]"), end=False)
    assert out_of_date(found, lock="l", suite="s", python="3.12")


ODD: dict[str, Any] = {
    "protocol 2": {**START, "suite": 2},
    "protocol x": {**START, "suite": "x\u202e"},
    "missing required field `installed`": {"event": "start", "suite": 1, "device_class": "host",
                                           "platform": {}, "checks": []},
    "missing required field `event`": {},
    "Invalid value 'other'": {"event": "other"},
    "Expected `object`": [],
    "Invalid enum value 'odd'": event("restore[gpt]", "odd"),
    r"seconds": event("restore[gpt]", seconds=math.nan),
    r"at `\$.seconds`": event("restore[gpt]", seconds=math.inf),
    r"at `\$.details`": event("restore[gpt]", details=[]),
    r"at `\$.failure`": event("restore[gpt]", failure="no"),
    r"at `\$.check`": event("restore[gpt]\n"),
    r"at `\$.kind`": event("restore[gpt]", kind="\x1b[31m"),
    "nested more than": event("restore[gpt]", details={"deep": functools.reduce(
        lambda inner, _: [inner], range(5000), 0)}),
    "equal after cleaning": event("restore[gpt]", details={"a\0": 1, "a\x01": 2}),
}  # fmt: skip


@pytest.mark.parametrize("why", ODD)
def test_odd_events_are_a_fault_of_the_surroundings(why: str) -> None:
    builder = Builder(empty_result(stand_in_cell(), device_class="host"))
    with pytest.raises(InfrastructureError, match=why) as caught:
        builder.take(ODD[why])
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "events",
    [
        [START, START],
        [START, event("restore[gpt]"), event("restore[gpt]")],
        [START, record_event("signatures"), record_event("signatures")],
        [START, {"event": "end"}, event("restore[gpt]")],
        [START, {"event": "end"}, {"event": "end"}],
    ],
)
def test_events_of_two_runs_are_no_result(events: list[dict[str, Any]]) -> None:
    builder = Builder(empty_result(stand_in_cell(), device_class="host"))
    *first, last = events
    for one in first:
        builder.take(one)
    with pytest.raises(InfrastructureError, match="two runs"):
        builder.take(last)


def test_the_file_is_plain_sorted_json(made: Made) -> None:
    found = made(event("restore[gpt]"), event("build[gpt]"))
    text = store.dumps(found)
    data = json.loads(text)
    assert data["format"] == FORMAT
    *others, last = data
    assert (others, last) == (sorted(others), "checks"), "the checks last"
    rows = [line.strip(" ,") for line in text.splitlines() if '"kind"' in line]
    assert [json.loads(row) for row in rows] == data["checks"], "each a line"
    assert all(list(check) == sorted(check) for check in data["checks"])


def test_a_part_of_the_checks_is_no_verdict(made: Made) -> None:
    failed = event("restore[gpt]", "broken")
    assert made(failed, end=False).outcome is CellOutcome.ERROR
    assert made(failed).outcome is CellOutcome.INCOMPATIBLE
