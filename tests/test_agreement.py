"""A result is believed only as far as it agrees with itself, whatever a file says."""

import contextlib
import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import event, record_event

from mcore_compat.base import foreign
from mcore_compat.base.errors import ResultError
from mcore_compat.results import store
from mcore_compat.results.result import Result

Made = Callable[..., Result]
Data = dict[str, Any]


@pytest.fixture
def path(made: Made, tmp_path: Path) -> Path:
    """Of a good result."""
    events = [event("restore[gpt]"), event("build", "broken"), record_event("signatures", a=1)]
    return store.save(made(*events), tmp_path)


def refused(path: Path, text: str | bytes) -> str:
    """The one line that a file with this text is refused with; it stays as it is."""
    data = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(data)
    with pytest.raises(ResultError) as caught:
        store.load(path)
    assert path.read_bytes() == data
    assert caught.value.exit_code == 2
    message = str(caught.value)
    assert message.isprintable(), message
    assert f"{path.parent.name}/{path.name}" in message
    assert "--force" in message
    assert len(message) < 500
    return message


def set_to(*place: str | int, to: object) -> Callable[[Data], None]:
    def change(data: Any) -> None:
        for step in place[:-1]:
            data = data[step]
        data[place[-1]] = to

    return change


def broken_without_failure(data: Data) -> None:
    data["checks"][0]["failure"] = None


def twice(data: Data) -> None:
    data["checks"].append(data["checks"][-1])


def record_twice(data: Data) -> None:
    row = dict(data["checks"][-1], check="signatures", kind="signatures", family=None)
    data["checks"].append(row)


CONTRADICTIONS: dict[str, Callable[[Data], None]] = {
    "it is unbuildable, with 2 checks": set_to("outcome", to="unbuildable"),
    "it is error, with 2 checks": set_to("outcome", to="error"),
    r"it is partial, with 2 checks of an interrupted run": set_to("complete", to=False),
    r"has the check restore\[gpt\] twice": twice,
    "has the record signatures twice": record_twice,
    "build is broken, but has no failure": broken_without_failure,
    r"restore\[gpt\] does not match its kind restore of moe": set_to(
        "checks", 1, "family", to="moe"
    ),
    r"restore\[gpt\] does not match its kind other of gpt": set_to("checks", 1, "kind", to="other"),
    r"its pin nvidia-modelopt 0\.40\.0 is": set_to("pins", "nvidia-modelopt", to="0.40.0"),
    "is not a version": set_to("pins", "torch", to="nonsense"),
    "its pins are not of": set_to("pins", to={"torch": "2.9.1"}),
    "is that of compat-0.17-modelopt0.41": set_to("cell", to="compat-0.17-modelopt0.41"),
    "invalid timestamp 2026-99-99T00:00:00Z": set_to("taken", to="2026-99-99T00:00:00Z"),
    r"at `\$\.taken`": set_to("taken", to="2026-01-01T00:00:00Z\n"),
    r"seconds`": set_to("checks", 0, "seconds", to=-1),
    r"at `\$\.checks\[0\]\.outcome`": set_to("checks", 0, "outcome", to="fine"),
    "is corrupt": set_to("checks", to=None),
    r"more than 30 levels deep": set_to("platform", to=json.loads('{"a":' * 50 + "1" + "}" * 50)),
}


@pytest.mark.parametrize("why", CONTRADICTIONS)
def test_what_contradicts_itself_is_refused(path: Path, why: str) -> None:
    data = json.loads(path.read_text())
    CONTRADICTIONS[why](data)
    assert re.search(why, refused(path, json.dumps(data)))


@pytest.mark.parametrize(
    "change",
    [
        ('"outcome": "partial"', '"outcome": "compatible",\n "outcome": "partial"'),
        ('"kind":"build"', '"kind":"other","kind":"build"'),
        ('"kind":"build"', '"kind":"build","k\\u0069nd":"build"'),
        ('"torch": "2.9.1"', '"torch": "1.0", "torch": "2.9.1"'),
    ],
)
def test_a_key_that_comes_twice_is_refused(path: Path, change: tuple[str, str]) -> None:
    text = path.read_text()
    assert change[0] in text
    assert "duplicate key" in refused(path, text.replace(*change, 1))


HOSTILE: dict[str, str | bytes] = {
    "empty": "",
    "null": "null",
    "list": "[]",
    "deep lists": "[" * 100_000,
    "deep, closed": "[" * 100_000 + "]" * 100_000,
    "deep mappings": '{"a":' * 100_000,
    "not utf-8": b"\xff\xfe{}",
    "half a pair": '{"format": 2, "cell": "\\ud800"}',
    "nan": '{"format": NaN}',
    "huge integer": '{"format": ' + "9" * 100_000 + "}",
    "huge": b" " * (foreign.MOST_BYTES + 1),
    "nul": "\0" * 100,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_one_line(path: Path, name: str) -> None:
    refused(path, HOSTILE[name])


@pytest.mark.parametrize("number", ["1e999", "-1e999", "-0.1", "1e99", "NaN", "9" * 5000])
def test_seconds_are_finite_and_not_negative(path: Path, number: str) -> None:
    text = path.read_text()
    assert '"seconds": 0.5' in text
    refused(path, text.replace('"seconds": 0.5', f'"seconds": {number}', 1))


def test_what_contradicts_itself_is_not_saved(made: Made, tmp_path: Path) -> None:
    good = made(event("restore[gpt]"))
    bad = [
        replace(good, checks=good.checks * 2),
        replace(good, pins={**good.pins, "megatron-core": "0.15.0"}),
        replace(good, taken="2026-99-99T00:00:00Z"),
    ]
    for one in bad:
        with pytest.raises(ResultError):
            store.save(one, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_a_folder_is_the_systems_fault(path: Path) -> None:
    path.unlink()
    path.mkdir()
    with pytest.raises(IsADirectoryError):  # the command line says it in one line, and ends with 3
        store.load(path)


def test_text_that_is_not_seen_does_not_come_in(path: Path) -> None:
    data = json.loads(path.read_text())
    data["checks"][0]["reason"] = "a\u202eb\x1b[31m"
    path.write_text(json.dumps(data, ensure_ascii=len(path.parts) % 2 == 0))
    reasons = [check.reason for check in store.load(path).checks if check.reason]
    assert reasons == ["a\ufffdb\ufffd[31m"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text() | st.floats(width=32),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=30,
)


@given(json_values)
def test_json_is_read_as_it_is_but_for_what_is_not_seen(value: Any) -> None:
    with contextlib.suppress(ValueError):  # no number that JSON has, or two keys alike
        text = json.dumps(value, allow_nan=False)
        expected = foreign.cleaned(json.loads(text))
        assert foreign.decode(text) == expected


@given(st.text(alphabet='{}[]":,\\ud8019eE.-tfn \x1b', max_size=60))
def test_any_text_is_data_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        foreign.decode(text)


def test_many_keys_are_read_in_a_moment() -> None:
    text = json.dumps({str(number): number for number in range(200_000)})
    began = time.process_time()
    foreign.decode(text)
    assert time.process_time() - began < 2


def test_a_file_in_the_place_of_all_results_is_no_empty_publication(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("")
    with pytest.raises(ResultError, match="is not a folder of results"):
        store.load_all(tmp_path / "results")
    assert store.load_all(tmp_path / "none") == ()


def test_a_pipe_in_a_results_place_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "compat-0.16-modelopt0.41" / "main.host.json"
    path.parent.mkdir()
    os.mkfifo(path)
    with pytest.raises(ResultError, match="is not a regular file"):
        store.load(path)
