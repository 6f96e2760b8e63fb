"""Which combinations fit what somebody has; and what stands in the way where none does."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_doctor import PINS, changed, record

from mcore_compat.analysis import recommend
from mcore_compat.analysis.published import CellRecord
from mcore_compat.analysis.recommend import advise, parse
from mcore_compat.base.errors import UsageError


def cell(
    name: str, fails: tuple[str, ...] = (), device: str = "host", cuda: int = 12, **pins: str
) -> CellRecord:
    named = {recommend.ALIASES[k]: v for k, v in pins.items()}
    checks = {"restore[gpt]": "works", **dict.fromkeys(fails, "broken")}
    return changed(
        record({**PINS, **named}),
        name=name,
        checks=checks,
        unexpected=fails,
        device_class=device,
        cuda=cuda,
    )


CELLS = (
    cell("old", mcore="0.12.3", modelopt="0.29.0", torch="2.6.0", te="2.4.0", python="3.11"),
    cell("mid", mcore="0.16.1", modelopt="0.41.0"),
    cell("new", mcore="0.19.2", modelopt="0.46.1", torch="2.13.0", te="2.17.1", cuda=13),
    cell("lossy", ("restore[gpt]",), mcore="0.19.2", modelopt="0.47.0"),
)


def names(text: str, cells: tuple[CellRecord, ...] = CELLS) -> list[str]:
    return [c.name for c in advise(parse(text) if text else (), cells).cells]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["new", "mid", "old"]),
        ("torch 2.9", ["mid"]),
        ("torch 2.9.1, python 3.12, TE any, modelopt >= 0.39", ["mid"]),
        ("modelopt >=0.29,<0.42", ["mid", "old"]),
        ("Transformer-Engine 2.17", ["new"]),
        ("cuda 13", ["new"]),
        ("cuda 12.8", ["mid", "old"]),
        ("python 3.11.9", ["old"]),
        ("torch 2.9.0", []),
        ("mcore ~=0.12", ["new", "mid", "old"]),
    ],
)
def test_what_fits_is_found_the_newest_first(text: str, expected: list[str]) -> None:
    assert names(text) == expected


def test_what_does_not_restore_is_never_recommended() -> None:
    assert names("modelopt 0.47") == []
    assert not recommend.works(changed(CELLS[0], checks={"restore[gpt]": "needs-gpu"}))
    assert not recommend.works(changed(CELLS[0], checks={}))


def test_evidence_counts_before_age() -> None:
    failing = cell("failing", ("state[gpt]",), mcore="0.20.0", modelopt="0.48.0")
    on_gpu = cell("on-gpu", device="gpu", mcore="0.12.3", modelopt="0.29.0")
    assert names("", (*CELLS, failing, on_gpu)) == ["on-gpu", "new", "mid", "old", "failing"]


def test_where_none_fits_the_constraint_in_the_way_is_named() -> None:
    advice = advise(parse("torch 2.9, python 3.12, modelopt >=0.45"), CELLS)
    assert advice.cells == ()
    told = {" and ".join(c.text for c in dropped): best.name for dropped, best in advice.in_the_way}
    assert told == {"torch 2.9": "new", "modelopt >=0.45": "mid"}
    text = "\n".join(recommend.lines(advice, "x", 5))
    assert 'without "torch 2.9":' in text


def test_two_that_stand_in_the_way_together_are_named_together() -> None:
    advice = advise(parse("torch 1.0, te 1.0, modelopt 0.41"), CELLS)
    ((dropped, best),) = advice.in_the_way
    assert {c.text for c in dropped} == {"torch 1.0", "te 1.0"}
    assert best.name == "mid"


def test_a_version_of_which_cells_know_less_is_said_to_be_taken_otherwise() -> None:
    advice = advise(parse("cuda 12.8, python 3.12.3, torch 2.9.1"), CELLS)
    assert [c.name for c in advice.cells] == ["mid"]
    assert recommend.lines(advice, Path("x"), 1)[:2] == [
        '"cuda 12.8" is taken as cuda 12: cells are told apart by CUDA\'s major version',
        '"python 3.12.3" is taken as python 3.12: cells are told apart by Python\'s series',
    ]
    assert advise(parse("cuda 12, python 3.12"), CELLS).notes == ()
    assert advise(parse("python >=3.12.3"), CELLS).notes == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("troch 2.9", 'no such axis "troch"; did you mean "torch"'),
        ("torch newest", "neither a version nor a specifier"),
        ("2.9", "names no package"),
        ("te 2.9, transformer-engine 2.10", "is constrained already"),
    ],
)
def test_what_cannot_be_understood_is_told(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse(text)


@given(st.text(max_size=40))
def test_no_text_is_more_than_a_usage_error(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert all(c.axis in recommend.ALIASES.values() for c in parse(text))


def test_each_line_has_its_constraints_file(tmp_path: Path) -> None:
    (tmp_path / "new.txt").write_text("# Use: pip install -c THIS-FILE a b\na==1\n")
    said = recommend.lines(advise((), CELLS), tmp_path, 1)
    assert said[0].startswith("new (host, 2026-11-23): megatron-core 0.19.2")
    assert said[1] == f"  pip install -c {tmp_path}/new.txt a b"
    assert said[2] == "and 2 more"
    gone = recommend.lines(advise((), CELLS), Path("nowhere"), 1)
    assert gone[1] == "  nowhere/new.txt is not there; make it: nox -s report"
