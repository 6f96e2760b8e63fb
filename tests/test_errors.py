"""What is nearest to what somebody typed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcore_compat.base.errors import edits, nearest

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
        ("xyz", ["aaa", "bbb"], "; valid: aaa, bbb"),
        ("xyz", [], ""),
        ("xyz", [f"a{n}" for n in range(30)], ""),
    ],
)
def test_the_nearest_choice_is_named(typed: str, choices: list[str], said: str) -> None:
    assert nearest(typed, choices) == said
