"""A run in parts: together they are the whole, and no cell is run twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcore_compat.base.errors import UsageError
from mcore_compat.schedule.survey import WHOLE, Shard, parse_shard


@given(st.sets(st.text(min_size=1)), st.integers(1, 40))
def test_the_parts_are_a_partition(names: set[str], of: int) -> None:
    parts = [Shard(number=number, of=of).part(sorted(names)) for number in range(1, of + 1)]
    assert sorted(name for part in parts for name in part) == sorted(names)


@given(st.sets(st.text(min_size=1)), st.sets(st.text(min_size=1)), st.integers(1, 40))
def test_a_cell_is_in_the_same_part_whatever_else_there_is(
    names: set[str], others: set[str], of: int
) -> None:
    shard = Shard(number=1, of=of)
    assert set(shard.part(names)) == set(shard.part(names | others)) & names


def test_a_part_is_the_same_on_every_machine() -> None:
    assert Shard(number=6, of=8).holds("compat-0.16-modelopt0.41")


def test_the_whole_holds_everything() -> None:
    assert parse_shard("1/1") == WHOLE
    assert WHOLE.holds("anything")


@pytest.mark.parametrize("text", ["", "2", "0/3", "4/3", "1/0", "-1/3", "1/3/5", "a/b", "1.5/3"])
def test_a_part_that_there_is_not_is_bad_input(text: str) -> None:
    with pytest.raises(UsageError, match="--shard"):
        parse_shard(text)
