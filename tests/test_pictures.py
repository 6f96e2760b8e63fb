"""Pictures and badges say what the results say, and nothing that a text slips in. All results
here are made up."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
import snapshot
from hypothesis import given
from hypothesis import strategies as st
from support import HOSTILE, event, stand_in_cell, stand_in_result

from mcore_compat.publish import pictures
from mcore_compat.publish.collation import Collated, collate
from mcore_compat.results.levels import Level
from mcore_compat.results.result import Result

SVG = "{http://www.w3.org/2000/svg}"


def made(*found: Result) -> Collated:
    return collate(found, [stand_in_cell()], snapshot.matrix(), snapshot.releases())


def restoring(works: int, broken: int = 0) -> Result:
    families = ["gpt", "mla-moe", "llama4-moe", "hybrid-mamba"]
    outcomes = ["works"] * works + ["broken"] * broken
    rows = [event(f"restore[{f}]", o) for f, o in zip(families, outcomes, strict=False)]
    rows += [event(f"restore[{f}]", "unsupported") for f in families[len(outcomes) :]]
    return stand_in_result(*rows)


def parsed(text: str) -> tuple[ET.Element, list[str]]:
    root = ET.fromstring(text)
    return root, [t.text or "" for t in root.iter(f"{SVG}text")]


def picture(*found: Result) -> str:
    return pictures.texts(made(*found))["pictures/matrix-host.svg"]


def test_each_square_shows_its_outcome_and_what_restores() -> None:
    found = restoring(2, 1)
    root, texts = parsed(picture(found))
    assert {"○ 1", "R 2/3", "Q none"} <= set(texts)
    squares = [r for r in root.iter(f"{SVG}rect") if r.get("width") == "60"]
    declared = snapshot.matrix()
    assert len(squares) == len(declared.mcore_series) * len(declared.modelopt_series)
    classes = [r.get("class") for r in squares]
    assert classes.count("untested") == len(squares) - 1
    assert classes.count("restores") == 1


def test_what_is_untested_is_named_in_the_legend_and_in_words() -> None:
    root, texts = parsed(picture(restoring(4)))
    assert "not tested" in texts
    said = root.findtext(f"{SVG}desc") or ""
    assert "0.16: not tested with ModelOpt 0.47 to 0.42, 1: checkpoints restore" in said


def test_an_off_stack_cell_never_stands_for_its_pair() -> None:
    off = replace(restoring(4), cell="compat-0.16-modelopt0.41-te2.9")
    assert "checkpoints restore" not in picture(off)


def test_badges_count_the_series_with_which_quantized_state_comes_back() -> None:
    texts = pictures.texts(made(restoring(4)))
    shown = json.loads(texts["badges/host/mcore-0.16.json"])
    of = len(snapshot.matrix().modelopt_series)
    assert shown == {
        "schemaVersion": 1,
        "label": "megatron-core 0.16 (host)",
        "message": f"quantizes with 0 of {of} ModelOpt series, {of - 1} untested",
        "color": "red",
    }
    lame = json.loads(pictures.texts(made(restoring(3, 1)))["badges/host/mcore-0.16.json"])
    assert (lame["message"].split(",")[0], lame["color"]) == (
        f"quantizes with 0 of {of} ModelOpt series",
        "red",
    )
    other = json.loads(texts["badges/host/mcore-0.17.json"])
    assert (other["message"], other["color"]) == ("untested", "grey")
    newest = json.loads(texts["badges/host/newest.json"])
    assert newest["message"] == "checkpoints restore, but no quantized state"


def test_hostile_text_is_text_in_a_badge() -> None:
    root, texts = parsed(pictures.badge(HOSTILE, HOSTILE, "red"))
    assert {child.tag for child in root} == {
        f"{SVG}{n}" for n in ("title", "style", "rect", "path", "text")
    }
    assert "<script" in texts[0]
    json.loads(pictures.endpoint(HOSTILE, HOSTILE, "red"))


@given(st.text())
def test_any_text_gives_a_badge_that_can_be_read(text: str) -> None:
    parsed(pictures.badge(text, text, "green"))


def _luminance(color: str) -> float:
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    lin = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * lin[0] + 0.7152 * lin[1] + 0.0722 * lin[2]


@pytest.mark.parametrize("level", Level)
def test_text_can_be_read_on_its_square(level: Level) -> None:
    """By the contrast ratio of WCAG 2.2, success criterion 1.4.3."""
    light, ink, dark, dark_ink = pictures.FILLS[level]
    for square, text in ((light, ink), (dark, dark_ink)):
        one, other = sorted((_luminance(square), _luminance(text)))
        assert (other + 0.05) / (one + 0.05) >= 4.5


def test_same_results_same_bytes() -> None:
    one, two = restoring(4), replace(restoring(2, 1), cell="compat-0.15-modelopt0.41")
    assert pictures.texts(made(one, two)) == pictures.texts(made(two, one))


def test_a_picture_asks_for_nothing_from_elsewhere() -> None:
    text = picture(restoring(4)).replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.search(r"https?:|href|url\(|@import", text)
