"""What is published: of its schema, read back as it was, harmless in a spreadsheet."""

from __future__ import annotations

import csv
import inspect
import io
import json
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import snapshot
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from packaging.requirements import Requirement
from test_declared import cell, check, seen
from test_doctor import published_of

import mcore_compat
from mcore_compat.analysis import published
from mcore_compat.base.errors import ResultError, UsageError
from mcore_compat.core.outcomes import CellOutcome, CheckOutcome
from mcore_compat.publish import compatibility_json, csv_table
from mcore_compat.publish.collation import collate
from mcore_compat.results import verdict
from mcore_compat.results.result import Reason, Result

HOSTILE = "=cmd|'/C calc'!A1 <script>alert(1)</script> \x1b[31m‮"


NEWER = (
    '{"schema": "3.9.0", "made_by": "", "axes": {}, "cells": [], "causes": [], "findings": [], '
    '"intervals": [], "drift": [], "new": 1}'
)
"""A file of a later minor version, which has a key that is not known yet."""


def family(name: str, works: bool = True) -> Any:
    made = check(f"restore[{name}]", works=works, message=HOSTILE)
    return replace(made, kind="restore", family=name)


@pytest.fixture
def found() -> list[Result]:
    """One cell that restores, one that does not, and one that came to no checks."""
    installed = {"megatron-core": "0.16.1", "nvidia-modelopt": "0.41.0", "torch": "2.9.1"}
    reason = Reason(kind="unresolvable", message=HOSTILE, help="")
    return [
        replace(seen(cell(), family("gpt"), family("mla-moe")), installed=installed),
        seen(cell(modelopt="0.40.0"), family("gpt"), family("mla-moe", works=False)),
        replace(seen(cell(modelopt="0.42.0")), outcome=CellOutcome.UNRESOLVABLE, reason=reason),
    ]


def written(found: Iterable[Result]) -> str:
    all_ = collate(found, [], snapshot.matrix(), snapshot.releases())
    return "".join(compatibility_json.text(all_))


def made(found: list[Result]) -> dict[str, Any]:
    text = written(found)
    assert text == written(reversed(found))
    loaded: dict[str, Any] = json.loads(text)
    return loaded


@pytest.fixture
def validator() -> Draft202012Validator:
    """Of the schema that is published: that which the model gives."""
    schema = published.json_schema()
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def test_the_schema_is_the_same_with_every_msgspec() -> None:
    """Before 0.23 it leaves a docstring's indentation in a description."""
    for part in published.json_schema()["$defs"].values():
        text = part.get("description", "")
        assert text == inspect.cleandoc(text)


def test_what_is_made_is_of_the_schema(
    found: list[Result], validator: Draft202012Validator
) -> None:
    assert list(validator.iter_errors(made(found))) == []
    assert list(validator.iter_errors(made([]))) == []


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (["schema"], "4.0.0"),
        (["drift"], None),
        (["axes", "nvidia-modelopt"], None),
        (["cells", 0, "outcome"], "fine"),
        (["cells", 0, "device_class"], "tpu"),
        (["cells", 0, "cell"], "0.16"),
        (["cells", 0, "pins", "torch"], None),
        (["cells", 0, "digests", "suite"], None),
        (["cells", 0, "unexpected"], None),
        (["outcomes", 1, "checks"], {"fails": []}),
        (["outcomes", 1, "causes"], {"restore[mla-moe]": "0"}),
        (["causes", 0, "cells"], None),
        (["causes", 0, "fingerprint"], "0"),
        (["causes", 0, "rules", 0, "bounds", 0, "low"], None),
        (["causes", 0, "rules", 0, "others_within"], {"fine": []}),
        (["intervals", 0, "version_added"], None),
    ],
)
def test_what_is_damaged_is_not_of_the_schema(
    keys: list[str | int], value: Any, found: list[Result], validator: Draft202012Validator
) -> None:
    whole = made(found)
    *path, last = keys
    place: Any = whole
    for key in path:
        place = place[[*place][key] if isinstance(place, dict) and isinstance(key, int) else key]
    if value is None:
        del place[last]
    else:
        place[last] = value
    assert list(validator.iter_errors(whole))


def test_a_record_is_what_the_result_says(found: list[Result], tmp_path: Path) -> None:
    path = tmp_path / "compatibility.json"
    path.write_text(written(found), encoding="utf-8")
    known = mcore_compat.load(path)
    one = known.cell(found[1].cell)
    assert one.outcome == "partial"
    assert one.outcome_of("restore[mla-moe]") == "broken"
    assert one.restores == ("gpt",)
    cause = known.cause(one.causes["restore[mla-moe]"])
    assert cause.cells == (found[1].cell,)
    assert cause.rules == ("nvidia-modelopt==0.40.0",)
    assert cause.rivals == (cause.rules,)
    assert known.cell(found[2].cell).reason == HOSTILE
    names = [c.name for c in known.where(modelopt="<0.41", outcome="partial")]
    assert names == [found[1].cell]
    assert known.where(torch=">=3") == ()


def test_what_does_not_exist_is_told_with_the_nearest(found: list[Result], tmp_path: Path) -> None:
    path = tmp_path / "compatibility.json"
    path.write_text(written(found), encoding="utf-8")
    known = published.load(path)
    with pytest.raises(UsageError, match="did you mean"):
        known.cell(found[0].cell.replace("0.16", "0.61"))
    with pytest.raises(UsageError, match="did you mean"):
        known.cell(found[0].cell).outcome_of("restore[gtp]")
    with pytest.raises(UsageError, match="write e"):
        known.where(mcore="newest")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "does not exist"),
        ("{", "is not valid"),
        ("[]", "is not valid"),
        ('{"schema": "4.0.0", "cells": [], "causes": []}', "has schema 4.0.0"),
        (NEWER.replace('"cells": []', '"cells": [{}]'), "is not valid"),
        (NEWER.replace('"drift": []', '"drift": 1'), "is not valid"),
        (b"\xff", "is not valid"),
    ],
)
def test_what_cannot_be_read_is_one_clear_error(
    text: str | bytes | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "compatibility.json"
    if text is not None:
        path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ResultError, match=message):
        published.load(path)


def test_a_newer_minor_version_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "compatibility.json"
    path.write_text(NEWER)
    assert published.load(path).cells == ()


def test_a_frame_has_a_row_for_each_check(found: list[Result], tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="a frame needs pandas, which is optional")
    path = tmp_path / "compatibility.json"
    path.write_text(written(found), encoding="utf-8")
    frame = published.load(path).frame()
    assert isinstance(frame, pandas.DataFrame)
    assert len(frame) == 4
    assert set(frame["family"]) == {"gpt", "mla-moe"}


def test_without_pandas_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UsageError, match="pip install pandas"):
        published_of().frame()


def test_the_table_has_a_row_for_each_family(found: list[Result]) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_table.csv_text(found))))
    assert [(r["cell"], r["family"], r["restore"]) for r in rows] == [
        (found[1].cell, "gpt", "works"),
        (found[1].cell, "mla-moe", "broken"),
        (found[0].cell, "gpt", "works"),
        (found[0].cell, "mla-moe", "works"),
        (found[2].cell, "", ""),
    ]


@given(st.text())
def test_no_value_is_a_formula_or_breaks_a_row(text: str) -> None:
    value = csv_table.cell(text)
    assert value[:1] not in set("=+-@")
    assert not set(value) & set("\r\n\t\x00\x1b")


def test_constraints_are_of_cells_that_restore_and_name_what_fails(found: list[Result]) -> None:
    broken = replace(check("state[gpt]", works=False), kind="state")
    found[0] = replace(found[0], checks=(*found[0].checks, broken))
    texts = snapshot.constraints(*found)
    assert list(texts) == [found[0].cell]
    lines = texts[found[0].cell].splitlines()
    assert "# Fails: state[gpt]" in lines
    pins = [Requirement(line) for line in lines if not line.startswith("#")]
    assert {p.name: str(p.specifier) for p in pins}["torch"] == "==2.9.1"
    assert all(str(p.specifier).startswith("==") and not p.extras for p in pins)


@pytest.mark.parametrize("outcome", [CheckOutcome.NEEDS_GPU, CheckOutcome.BLOCKED])
def test_what_was_not_seen_to_restore_is_not_recommended(outcome: CheckOutcome) -> None:
    e = seen(cell(), family("gpt"), replace(family("mla-moe"), outcome=outcome))
    assert not verdict.restores_all(e)
    assert not verdict.restores_all(seen(cell()))
