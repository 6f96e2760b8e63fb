"""Break something between two real ranks on purpose, and see the checks say so. Slow; selected by
`nox -s real`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from real_support import asked

pytestmark = pytest.mark.real

TENSORS = "restore-tp1-to-tp2[gpt]"
STAGES = "restore-pp1-to-pp2[gpt]"


def one(check: str, tmp_path: Path, **variables: str) -> dict[str, Any]:
    found: dict[str, Any] = asked("ranks", check, tmp_path, variables)[check]
    return found


@pytest.mark.parametrize("check", [TENSORS, STAGES])
def test_unharmed_the_ranks_hold_what_was_saved(check: str, tmp_path: Path) -> None:
    found = one(check, tmp_path)
    assert found["outcome"] == "works", found
    assert found["details"]["spread over the ranks"] > 0


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("swap-shards", "rank 0: 1 of other values"),
        ("change-element", "rank 1: 1 of other values"),
        ("skip-load", "rank 1: 29 not loaded, still the sentinel"),
    ],
)
def test_a_rank_that_holds_something_else_is_broken(kind: str, told: str, tmp_path: Path) -> None:
    found = one(TENSORS, tmp_path, MCORE_COMPAT_SABOTAGE_RANKS=kind)
    assert found["outcome"] == "broken"
    assert told in found["failure"]["message"]
    assert found["details"]["sabotage"] == kind


def test_a_rank_that_raises_is_told_with_its_own_frames(tmp_path: Path) -> None:
    found = one(TENSORS, tmp_path, MCORE_COMPAT_SABOTAGE_RANKS="raise")
    assert found["outcome"] == "broken"
    assert found["reason"].startswith("rank 1: KeyError: 'raised on purpose'")
    assert found["failure"]["frames"][-1]["function"] == "before_load"


def test_a_rank_that_is_killed_is_a_crash(tmp_path: Path) -> None:
    found = one(TENSORS, tmp_path, MCORE_COMPAT_SABOTAGE_RANKS="die")
    assert (found["outcome"], found["reason"]) == ("crashed", "killed by SIGKILL")


def test_a_spec_that_lost_a_key_is_broken_over_ranks_too(tmp_path: Path) -> None:
    # The engine's own sabotage reaches the ranks: they inherit its variable.
    found = one(TENSORS, tmp_path, MCORE_COMPAT_SABOTAGE="drop-key-map")
    assert found["outcome"] == "broken"
