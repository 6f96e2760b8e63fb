"""A heartbeat says how far something long is, and stops with it."""

import threading
import time

import pytest

from mcore_compat.base.progress import Heartbeat


def test_it_beats_with_the_last_step_and_stops() -> None:
    said: list[str] = []
    two = threading.Event()

    def say(line: str) -> None:
        said.append(line)
        if len(said) >= 2:
            two.set()

    with Heartbeat(say, "building x", every=0.01) as beat:
        beat.step("  [3/30] c++ -c a.cpp")
        beat.step("a line that is no step")
        assert two.wait(5)
    count = len(said)
    time.sleep(0.05)
    assert len(said) == count
    assert said[-1].startswith("  building x: 3 of 30 steps, ")


def test_what_is_quick_says_nothing() -> None:
    said: list[str] = []
    with Heartbeat(said.append, "quick"):
        pass
    assert said == []


def test_an_error_passes_through_and_ends_it() -> None:
    before = threading.active_count()
    with pytest.raises(ValueError, match="why"), Heartbeat(print, "x", every=60):
        raise ValueError("why")
    assert threading.active_count() == before
