"""What an upgrade's document says first: CUDA, causes, what to do next, what to take instead; and
what it labels and folds. All results here are made up."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from loads_support import answer, failure
from rich.console import Console
from upgrade_support import (
    BOTH_LOAD,
    BROKEN,
    EVERY,
    FROM,
    LOADS,
    NAMES,
    TO,
    answered,
    check,
    exchanged,
    far,
    known,
    lock,
    other_cuda,
    shows,
    upgrade,
    without,
)

from mcore_compat.core.cells import Cell
from mcore_compat.core.outcomes import CheckOutcome
from mcore_compat.upgrade import data, document
from mcore_compat.upgrade.answer import UpgradeAnswer
from mcore_compat.upgrade.reasons import Word

# CUDA


@pytest.mark.parametrize("broken", [(), ("restore[gpt]",)])
def test_a_change_of_cuda_is_named_before_all_else(broken: tuple[str, ...]) -> None:
    after = other_cuda(TO, 13)
    found = [shows(FROM, *EVERY), shows(after, *without(*broken))]
    loads = [exchanged(after, FROM, BOTH_LOAD)]
    made = answered(known(found, loads), target=after)
    assert made.word is (Word.NO if broken else Word.CHANGES)
    lines = document.markdown(made).splitlines()
    assert lines[2].startswith("- **CUDA 12 → 13: ")
    assert "| CUDA, of torch | 12 | 13 |" in lines
    assert '"cuda": 13' in data.text(made)
    same = answered(known([shows(FROM, *EVERY), shows(TO, *EVERY)], LOADS))
    assert "CUDA" not in document.markdown(same)


# Neighbours


NEAR = far("0.16.1", "0.43.0"), far("0.16.1", "0.45.0")
OTHER = far("0.17.1", "0.41.0"), far("0.17.1", "0.42.0")


def beside(*pairs: tuple[Cell, Cell], **fields: Any) -> UpgradeAnswer:
    """FROM and TO, of which nothing was exchanged, and what other cells loaded of others."""
    cells = {c.name: c for c in (FROM, TO, *(c for pair in pairs for c in pair))}
    found = [shows(c, *EVERY) for c in cells.values()]
    loads = [exchanged(target, origin, BOTH_LOAD, **fields) for origin, target in pairs]
    return answered(known(found, loads, [lock(c) for c in cells.values()]))


def test_neighbours_are_told_and_labelled_where_nothing_was_exchanged() -> None:
    made = beside(OTHER, NEAR)
    (pair,) = made.neighbours
    assert (pair.origin, pair.target) == (NEAR[0].name, NEAR[1].name)
    assert pair.origin_pins == {"nvidia-modelopt": "0.43.0"}
    assert pair.target_pins == {"nvidia-modelopt": "0.45.0"}
    assert made.word is Word.CHANGES
    text = document.markdown(made)
    label = "**between similar cells**, which does not decide the answer"
    assert f"{label}: `{NEAR[0].name}` → `{NEAR[1].name}`" in text
    assert (
        f"(between similar cells: {NEAR[0].name} → {NEAR[1].name}: load)"
        in text.partition("\n\n## ")[0]
    )
    assert "  - default spec → default spec\n    - load: `gpt`, `mla-moe`\n" in text


def test_what_a_cell_loads_of_itself_is_no_neighbour() -> None:
    assert beside((NEAR[0], NEAR[0])).neighbours == ()


def test_neighbours_whose_checkpoints_do_not_load_are_told_to_fail() -> None:
    cells = (FROM, TO, *NEAR)
    refused = answer(BROKEN, failure=failure())
    lacks = answer(CheckOutcome.UNSUPPORTED, reason="not saved: because")
    answers = {**BOTH_LOAD, "mla-moe:quantized": refused, "gpt:modelopt": lacks}
    loads = [exchanged(NEAR[1], NEAR[0], answers), exchanged(NEAR[0], NEAR[0], BOTH_LOAD)]
    made = answered(known([shows(c, *EVERY) for c in cells], loads, [lock(c) for c in cells]))
    (reason,) = (r for r in made.reasons if r.subject == "checkpoints")
    assert reason.why.endswith("do not load: quantized fp8 of mla-moe")
    assert f"`gpt`: {NEAR[0].name} cannot save it; not saved" in document.markdown(made)
    assert made.word is Word.CHANGES


def test_where_these_two_were_exchanged_no_neighbours_are_told() -> None:
    made = beside(NEAR, (FROM, TO))
    assert made.neighbours == ()
    assert "neighbours" not in document.markdown(made)


# Out of date


def test_what_is_out_of_date_is_said_once() -> None:
    old = [replace(shows(c, *EVERY), suite="old") for c in (FROM, TO)]
    loads = exchanged(TO, FROM, BOTH_LOAD, suite="older")
    made = answered(known(old, [loads]))
    assert made.word is Word.CHANGES
    text = document.markdown(made)
    assert text.count("the suite changed") == text.count("the checks changed") == 1
    assert "FROM and TO (the suite changed), checkpoints (the checks changed)" in text
    assert (
        "kept: everything in the profile that works in FROM works in TO; FROM's checkpoints load"
        in text
    )
    assert made.next.command == "nox -s upgrade -- 0.16-modelopt0.41 0.16-modelopt0.42"


# What to take instead, and the first lines


def test_where_nothing_keeps_all_the_nearest_and_what_is_lost_there_are_named() -> None:
    near, worse = far("0.16.1", "0.43.0"), far("0.16.1", "0.44.0")
    lost = "modelopt-state-fp8[gpt]", "modelopt-state-int8[gpt]", "restore[gpt]"
    shown = {TO: lost[:2], near: lost[:1], worse: lost}
    found = [shows(FROM, *EVERY), *(shows(c, *without(*broken)) for c, broken in shown.items())]
    made = answered(known(found, [exchanged(TO, FROM, BOTH_LOAD)]))
    assert made.nearest is not None
    assert made.nearest.cell == near.name
    assert made.nearest.lost == ("quantize fp8 of gpt: KeyError: 'decoder.weight'",)
    head = document.markdown(made).partition("\n\n## ")[0]
    assert (
        f"instead of TO: no cell keeps everything; `{near.name}` (nvidia-modelopt 0.43.0) loses"
        in head
    )
    stay = answered(known([found[0], found[1], found[3]], [exchanged(TO, FROM, BOTH_LOAD)]))
    assert stay.alternatives == ()
    assert "instead of TO: stay on FROM" in document.markdown(stay)


def test_checkpoints_that_were_not_loaded_make_no_cell_better_than_to() -> None:
    near = far("0.16.1", "0.43.0")
    lost = "modelopt-state-int8[gpt]"
    found = [shows(FROM, *EVERY), shows(TO, *without(lost)), shows(near, *without(lost))]
    refused = {**BOTH_LOAD, "gpt:quantized": answer(BROKEN, failure=failure())}
    loads = [exchanged(TO, FROM, refused), exchanged(FROM, FROM, BOTH_LOAD)]
    assert answered(known(found, loads)).alternatives == ()
    (one,) = answered(known(found, [*loads, exchanged(near, FROM, BOTH_LOAD)])).alternatives
    assert (one.cell, one.checkpoints) == (near.name, "load")


def test_where_another_megatron_core_keeps_all_the_nearest_with_that_of_to_is_named_too() -> None:
    to = far("0.19.2", "0.42.0")
    older, near = far("0.18.2", "0.42.0"), far("0.19.2", "0.43.0")
    lost = "modelopt-state-fp8[gpt]", "modelopt-state-int8[gpt]"
    found = [shows(FROM, *EVERY), shows(older, *EVERY)]
    found += [shows(to, *without(*lost)), shows(near, *without(lost[0]))]
    made = answered(known(found, locks=[lock(FROM), lock(to)]), target=to)
    assert [a.cell for a in made.alternatives] == [older.name, near.name]
    assert made.nearest is None
    head = document.markdown(made).partition("\n\n## ")[0]
    assert f"instead of TO: `{older.name}` (megatron-core 0.18.2)" in head
    assert f"with the megatron-core of TO: `{near.name}`, see below" in head
    assert made.next.command.startswith("nox -s upgrade -- 0.16-modelopt0.41 0.18-modelopt0.42")


LONG = "a failure that says very much and then goes on to say still more of it, " * 20

HEAD = (
    ": no, for default",
    "- CUDA 12 → 13",
    "- why not: ",
    "more reasons, see below",
    "- do next: nox -s upgrade -- ",
)


@pytest.mark.parametrize("width", [80, 100])
def test_all_that_decides_stands_in_the_first_twelve_lines(width: int) -> None:
    events = list(EVERY)
    for place, name in enumerate(NAMES[:4]):
        made = check(name, "broken")
        made["failure"] = {**made["failure"], "message": f"{place} {LONG}"}
        events[place] = made
    after = other_cuda(TO, 13)
    near = far("0.16.1", "0.43.0")
    found = [shows(FROM, *EVERY), shows(after, *events), shows(near, *without("te-quantizers"))]
    of = known(found, [exchanged(after, FROM, BOTH_LOAD)])
    whole = answered(of, target=after)
    out = io.StringIO()
    document.show(whole, Console(file=out, width=width, highlight=False))
    head = out.getvalue().splitlines()[:12]
    text = " ".join(" ".join(line.split()) for line in head)
    for part in HEAD:
        assert part in text
    assert (
        f"- instead of TO: {near.name} (nvidia-modelopt 0.43.0, CUDA 12): everything in the" in text
    )
    lines = document.markdown(whole).splitlines()[:12]
    assert sum(line.startswith("- why not: ") for line in lines) == document.CAUSES
    assert any(line.startswith("- instead of TO: ") for line in lines)


def test_a_go_says_how_to_install_to() -> None:
    made = upgrade(*EVERY)
    assert (made.word, made.next.what) == (Word.GO, "installs TO")
    assert made.next.command.startswith("pip install ")


def test_long_lists_are_folded_in_markdown_and_shown_on_the_terminal() -> None:
    packages = {f"package{n}": "1" for n in range(20)}
    locks = [lock(FROM), lock(TO, **packages)]
    found = [shows(FROM, *EVERY), replace(shows(TO, *EVERY), lock=locks[1].digest)]
    made = answered(known(found, locks=locks))
    text = document.markdown(made)
    summary = "Other packages: 20 added, 0 removed, 0 changed"
    assert f"<details>\n<summary>{summary}</summary>\n\n- added 20: `package0 1`" in text
    assert text.count("<details>") == text.count("\n\n</details>\n")
    assert "`package19 1`" in text
    out = io.StringIO()
    document.show(made, Console(file=out, width=80, highlight=False))
    assert f"  - {summary}" in out.getvalue()
    assert "and 12 more" in out.getvalue()
    assert "<" not in out.getvalue()
