"""The interfaces that callers use, as an upgrade tells them. All results here are made up."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support import event, record_event
from upgrade_support import (
    ALL_LOAD,
    FROM,
    GOOD,
    LOADS,
    TO,
    answered,
    cell,
    exchanged,
    known,
    lock,
    shows,
)

from mcore_compat.core.cells import Cell
from mcore_compat.upgrade import data, document
from mcore_compat.upgrade.reasons import Word


def signs(text: str | None, name: str = "modelopt.torch.opt:f") -> dict[str, Any]:
    return record_event("signatures", **{name: text})


SEEN = event("import-packages", details={"modules": {"modelopt.torch": "ok"}})


@pytest.mark.parametrize(
    ("name", "after", "word"),
    [
        ("modelopt.torch.opt:f", "(b)", Word.CHANGES),
        ("modelopt.torch.opt:f", "(a, b=1)", Word.GO),
        ("modelopt.torch.opt:_f", "(b)", Word.GO),
        ("modelopt.torch._internal:f", "(b)", Word.GO),
        ("modelopt.torch.opt:C.__init__", "(b)", Word.CHANGES),
    ],
)
def test_calls_that_break_are_a_change_where_they_are_users_own(
    name: str, after: str, word: Word
) -> None:
    old = shows(FROM, *GOOD, SEEN, signs("(a)", name))
    new = shows(TO, *GOOD, SEEN, signs(after, name))
    made = answered(known([old, new], LOADS))
    assert made.word is word
    (package,) = made.interfaces
    assert (package.package, package.before, package.after) == (
        "nvidia-modelopt",
        "0.41.0",
        "0.42.0",
    )
    assert [c.name for c in package.changed] == [name]


def test_what_came_and_went_in_between_touches_nobody() -> None:
    between = cell("compat-0.16-modelopt0.41.5", modelopt="0.41.5")
    texts = {FROM: "(a)", between: "(b)", TO: "(a)"}
    found = [shows(c, *GOOD, SEEN, signs(t)) for c, t in texts.items()]
    (package,) = answered(known(found, LOADS)).interfaces
    assert package.changed == ()


@pytest.mark.parametrize("bare", [FROM, TO])
def test_a_release_of_which_nothing_was_recorded_is_not_called_unchanged(bare: Cell) -> None:
    other = record_event("signatures", **{"megatron.x:f": "()"})
    found = [shows(c, *GOOD, *([other] if c is bare else [])) for c in (FROM, TO)]
    made = answered(known(found, LOADS))
    assert made.word is Word.CHANGES
    version = bare.pins["nvidia-modelopt"]
    assert [r.names for r in made.reasons] == [(f"nvidia-modelopt {version}",)]
    shown = document.markdown(made)
    assert f"no interface was recorded for `{version}`" in shown
    assert "nothing recorded changed" not in shown
    interfaces = json.loads(data.text(made))["interfaces"]
    assert interfaces["nvidia-modelopt"]["not_recorded"] == [version]


def test_of_a_package_that_goes_back_nothing_is_said_to_break() -> None:
    down = cell("compat-0.16-modelopt0.40", modelopt="0.40.0")
    found = [shows(FROM, *GOOD, SEEN, signs("(a, b)")), shows(down, *GOOD, SEEN, signs("(a)"))]
    loads = [exchanged(down, FROM, ALL_LOAD)]
    of = known(found, loads, [lock(FROM), lock(down)])
    made = answered(of, target=down)
    assert [(one.back, one.changed) for one in made.interfaces] == [(True, ())]
