"""Outcomes that are drawn to be repeated by hand."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from referee import draw

ROWS = [(f"compat-{c}", f"{kind}[{c}]", "works") for c in range(5) for kind in ("a", "b", "c")]


@given(seed=st.integers(), count=st.integers(0, 20))
def test_a_draw_is_that_of_its_seed_and_takes_each_kind_in_turn(seed: int, count: int) -> None:
    taken = draw.drawn(ROWS, seed, count)
    assert taken == draw.drawn(reversed(ROWS), seed, count)
    assert len(set(taken)) == len(taken) == min(count, len(ROWS))
    of_kind = [sum(row[1].startswith(kind) for row in taken) for kind in "abc"]
    assert max(of_kind) - min(of_kind) <= 1


def test_what_the_newest_suite_asked_is_drawn_from(tmp_path: Path) -> None:
    for cell, suite, taken in (
        ("compat-1", "old", "2026-01-01"),
        ("compat-2", "new", "2026-02-02"),
    ):
        (tmp_path / cell).mkdir()
        checks = [{"check": f"k[{o}]", "outcome": o} for o in ("works", "blocked", "needs-gpu")]
        result = {"cell": cell, "suite": suite, "taken": taken, "checks": checks}
        (tmp_path / cell / "main.host.json").write_text(json.dumps(result))
    assert draw.newest(tmp_path) == "new"
    assert list(draw.published(tmp_path, "new")) == [("compat-2", "k[works]", "works")]
