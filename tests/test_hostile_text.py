"""Whatever a package says, it does nothing: in constraints, tables for spreadsheets, on a terminal,
in results. Markdown and pictures: see `test_rendering`."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import snapshot
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.requirements import Requirement
from rich.console import Console
from support import START, event, hostile_event, stand_in_cell, stand_in_result

from mcore_compat.base import foreign
from mcore_compat.publish import csv_table
from mcore_compat.publish.rendering import script_json
from mcore_compat.results import store, terminal_verdict
from mcore_compat.results.from_events import Builder
from mcore_compat.results.result import Reason, Result, empty_result

PIECES = (
    *"\n\r\t\0\x1b\x7f\x9b\u061c\u200b\u200e\u200f",
    *"\u2028\u202e\u2066\u2069\ufeff\U000e0041",
    *("[bold red]", "[/]", "[link=x]", "=cmd()", "@SUM", "\x1b[2J", "</script>", "|", "`", ";"),
    *("-r /etc/passwd", "--index-url x", "==1", " @ file:///x", "torch", "1.0", "\n-e .", "#"),
)
TEXTS = st.text() | st.lists(st.sampled_from(PIECES)).map("".join)
"""Any text, and texts of what means something somewhere."""

UNSEEN = foreign.UNSEEN


def seen(text: str) -> None:
    """Hold that nothing in it is hidden, turns it, or moves a terminal's cursor."""
    assert UNSEEN.search(text) is None


def built(**start: Any) -> Result:
    builder = Builder(empty_result(stand_in_cell(), device_class="host"))
    for one in ({**START, **start}, event("restore[gpt]"), {"event": "end"}):
        builder.take(one)
    return builder.result()


@settings(deadline=None)
@given(st.dictionaries(TEXTS, TEXTS, max_size=6))
def test_constraints_hold_valid_names_and_versions_alone(installed: Mapping[str, str]) -> None:
    found = replace(stand_in_result(event("restore[gpt]")), installed=dict(installed))
    (text,) = snapshot.constraints(found).values()
    for line in text.splitlines():
        if not line.startswith("#"):
            requirement = Requirement(line)
            assert requirement.url is None
            assert requirement.name in installed
            assert str(requirement.specifier).startswith("==")
    seen(text)


@settings(deadline=None)
@given(TEXTS)
def test_conditions_stay_comments(text: str) -> None:
    one = event("restore[gpt]", "works-with", condition=f"x{text}")
    (lines,) = snapshot.constraints(stand_in_result(one)).values()
    pins = [line for line in lines.splitlines() if not line.startswith("#")]
    assert pins == ["torch==2.9.1"]
    seen(lines)


@settings(deadline=None)
@given(TEXTS)
def test_no_row_of_a_table_is_a_formula(text: str) -> None:
    one = event("restore[gpt]", "works-with", condition=f"x{text}")
    table = csv_table.csv_text([stand_in_result(one)])
    seen(table)
    _, row = csv.reader(io.StringIO(table))
    assert not any(value.startswith(("=", "+", "-", "@", "\t")) for value in row)


@settings(deadline=None)
@given(TEXTS)
def test_a_terminal_shows_it_and_does_nothing(text: str) -> None:
    failed = hostile_event("restore[gpt]")
    failed["failure"] |= {"type": f"E{text}", "message": f"[bold]{text}", "gpu_independent": text}
    found = stand_in_result(failed)
    for one in (found, replace(found, reason=Reason(kind="x", message=text, help=text))):
        out = io.StringIO()
        terminal_verdict.show(one, (), Console(file=out, width=10_000, force_terminal=False))
        seen(out.getvalue())
        assert "[bold]" in out.getvalue()


@settings(deadline=None)
@given(TEXTS)
def test_nothing_hidden_is_stored_or_comes_back(text: str) -> None:
    failed = hostile_event("restore[gpt]")
    failed["failure"] |= {"type": text, "message": text, "traceback": text}
    failed["details"] = {"text": text, "list": [{"deep": text}]}
    stored = store.dumps(stand_in_result({**failed, "reason": text}))
    seen(stored)
    found = store.parse(stored, "x")
    assert store.dumps(found) == stored
    (check,) = found.checks
    assert check.failure is not None
    assert "\n" not in check.failure.type
    assert len(check.failure.type) <= 200


@given(st.dictionaries(TEXTS, TEXTS, max_size=4))
def test_names_of_what_is_installed_are_one_line(installed: dict[str, str]) -> None:
    found = built(installed=installed)
    for text in (*found.installed, *found.installed.values()):
        seen(text)
        assert len(text.splitlines()) <= 1
        assert len(text) <= 200


@given(TEXTS)
def test_data_in_a_page_ends_no_script(text: str) -> None:
    made = str(script_json({text: [text]}))
    assert "<" not in made
    assert json.loads(made) == {foreign.plain(text): [foreign.plain(text)]}
    seen(made)


@pytest.mark.parametrize(
    "character", "\x1b\x07\x9b\u061c\u200e\u200f\u202a\u202e\u2066\u2069\u200b\ufeff"
)
def test_each_is_unseen(character: str) -> None:
    assert foreign.plain(f"a{character}b") == "a\ufffdb"
