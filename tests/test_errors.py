"""What is nearest to what somebody typed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcore_compat.base.errors import edits, nearest

FAMILIES = ["gpt", "mla-moe", "llama4-moe", "hybrid-mamba"]

WORDS = st.text(alphabet="ab01.", max_size=8)


@pytest.mark.parametrize(
    ("typed", "meant", "expected"),
    [
        ("0.61", "0.16", 1),
        ("0.61", "0.19", 2),
        ("ab", "ab", 0),
        ("", "abc", 3),
        ("abc", "ac", 1),
        ("ca", "abc", 3),
    ],
)
def test_letters_that_changed_places_are_one_edit(typed: str, meant: str, expected: int) -> None:
    assert edits(typed, meant) == expected


@given(WORDS, WORDS)
def test_edits_are_the_same_both_ways_and_bounded(one: str, other: str) -> None:
    assert edits(one, other) == edits(other, one) <= max(len(one), len(other))
    assert (edits(one, other) == 0) == (one == other)
    assert edits(one, other) >= abs(len(one) - len(other))


@pytest.mark.parametrize(
    ("typed", "choices", "said"),
    [
        ("0.61", ["0.19", "0.16", "0.6"], '; did you mean "0.16"?'),
        ("0.91", ["0.11", "0.9", "0.19"], '; did you mean "0.19"?'),
        ("moe", FAMILIES, '; did you mean "mla-moe" or "llama4-moe"?'),
        ("lama4", FAMILIES, '; did you mean "llama4-moe"?'),
        ("hybrid", FAMILIES, '; did you mean "hybrid-mamba"?'),
        ("toch", ["newer-torch", "torch"], '; did you mean "torch"?'),
        ("--container", ["--from-container", "--for"], '; did you mean "--from-container"?'),
        ("a", ["a-b", "a-c", "a_d"], '; did you mean "a-b", "a-c" or "a_d"?'),
        ("moe", [*(f"moe-{n}" for n in range(5)), "mole"], '; did you mean "mole"?'),
        ("xyz", ["aaa", "bbb"], "; valid: aaa, bbb"),
        ("xyz", [], ""),
        ("xyz", [f"a{n}" for n in range(30)], ""),
    ],
)
def test_the_nearest_choice_is_named(typed: str, choices: list[str], said: str) -> None:
    assert nearest(typed, choices) == said
