"""A lock is read back whole or refused in one line that says how to remake it."""

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from resolver_support import (
    BODY,
    NAME,
    PINS,
    SOURCES,
    WHERE,
    entry,
)
from support import stand_in_cell

from mcore_compat.base.errors import InfrastructureError, LockError
from mcore_compat.resolve import locks
from mcore_compat.resolve.locks import Lock, Pin


def written(body: str, sources: Sequence[str] = ("mamba-ssm", "transformer-engine-torch")) -> str:
    """A lock whose head fits its body, whatever that is."""
    return (
        locks.head(stand_in_cell(), "2026-01-22", sources, told=("none", "kept to"), body=body)
        + body
    )


def refused(text: str) -> str:
    """The error for a text; it is one line with the file's name and the way out."""
    with pytest.raises(LockError) as caught:
        locks.parse(text, WHERE)
    assert WHERE in str(caught.value)
    assert f"nox -s lock -- {NAME}" in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def without(line: str) -> str:
    """A lock that lacks the line of its head that starts so."""
    return re.sub(rf"^# {line}.*\n", "", written(BODY), flags=re.MULTILINE)


FIRST = written("").count("\n") + 1
NEXT = written(BODY).count("\n") + 1
"""The numbers of the lines after the head, and after the body."""


def test_a_lock_whose_head_fits_is_read() -> None:
    found = locks.parse(written(BODY), WHERE)
    assert (found.pins, found.source_only) == (PINS, SOURCES)
    assert found.exclude_newer == "2026-01-22"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not a lock file of mcore-compat"),
        ("\n", "not a lock file of mcore-compat"),
        (BODY, "not a lock file of mcore-compat"),
        ("# a comment\n" + written(BODY), "not a lock file of mcore-compat"),
        ("\x00\x01\x7f\ufffd\ufffd", "not a lock file of mcore-compat"),
        (without("Lock of"), "not a lock file of mcore-compat"),
        (without("pins"), "not a lock file of mcore-compat"),
        (without("exclude-newer"), "not a lock file of mcore-compat"),
        (without("source-only"), "not a lock file of mcore-compat"),
        (without("sha256 of what follows"), "truncated or was edited by hand"),
        (written(BODY).replace("einops==0.8.1", "einops==0.8.0"), "edited by hand"),
        (written(BODY) + entry("numpy", "2.0", "1"), "edited by hand"),
        (written(BODY).replace("megatron-core==", "megatron-core==one.two"), "edited by hand"),
        (written(BODY)[:-30], "truncated"),
        (written(BODY + "numpy==2.0\n"), f":{NEXT}: not a pin with a hash: 'numpy==2.0'"),
        (written("numpy==2.0 \\\n    --hash=md5:ab\n"), f":{FIRST}: not a pin with a hash"),
        (written(entry("numpy", "2.0", "1").replace("==", ">=")), f":{FIRST}: not a pin"),
        (written(BODY + "numpy==2.0 \\\n"), f":{NEXT}: truncated"),
        (written(BODY + entry("numpy", "2", "1", "2")[:90] + " \\\n"), f":{NEXT}: truncated"),
        (written("\x00\x01\ufffd\n"), f":{FIRST}: not a pin with a hash"),
    ],
)
def test_a_corrupt_lock_is_one_line_with_the_way_out(text: str, said: str) -> None:
    assert said in refused(text)


@pytest.mark.parametrize("content", [b"", b"\x00\xff\xfe\x80" * 50, b"\x1f\x8b\x08\x00", b"# \xff"])
def test_a_file_of_garbage_is_no_lock(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / WHERE
    path.write_bytes(content)
    with pytest.raises(LockError, match=rf"^{re.escape(WHERE)} is not a lock"):
        locks.read(path)


def test_a_lock_that_is_not_there_is_not_corrupt(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        locks.read(tmp_path / WHERE)


def every_pin(lock: Lock) -> tuple[Pin, ...]:
    return tuple(sorted((*lock.pins, *lock.source_only), key=lambda p: p.name))


def parsed(text: str) -> Lock | str:
    """The lock, or what the error says; no other exception is let through as either."""
    try:
        return locks.parse(text, WHERE)
    except LockError as error:
        return str(error)


WHOLE = written(BODY)


@settings(deadline=None)
@given(st.integers(0, len(WHOLE)))
def test_a_lock_that_is_cut_anywhere_is_refused_or_a_prefix(length: int) -> None:
    found = parsed(WHOLE[:length])
    assert isinstance(found, Lock) == (length == len(WHOLE))
    if isinstance(found, Lock):
        pins = every_pin(found)
        assert pins == every_pin(locks.parse(WHOLE, WHERE))[: len(pins)]
    else:
        assert WHERE in found


@settings(deadline=None)
@given(
    st.integers(len(WHOLE) - len(BODY), len(WHOLE) - 1), st.characters(exclude_categories=["Cs"])
)
def test_no_character_of_what_follows_the_head_can_change_unseen(place: int, other: str) -> None:
    changed = WHOLE[:place] + other + WHOLE[place + 1 :]
    if changed != WHOLE:
        refused(changed)


@settings(deadline=None)
@given(st.text() | st.text(alphabet="ab=1 \\\n\r#-:\x00\u2028") | st.binary())
def test_no_text_breaks_the_reading_of_a_lock(found: str | bytes) -> None:
    text = found if isinstance(found, str) else found.decode("utf-8", "replace")
    refused(text)
    for body in (text, BODY + text):
        lock = parsed(written(body))
        if isinstance(lock, Lock):
            assert all(p.name and p.version and p.hashes for p in every_pin(lock))
        else:
            assert WHERE in lock
            assert "\n" not in lock


def test_what_comes_from_the_index_leaves_out_what_is_built() -> None:
    lock = locks.parse(written(BODY), WHERE)
    text = locks.binary_part(lock)
    assert locks.parse(written(text), WHERE).pins == PINS
    assert "mamba-ssm" not in text
    assert text.count("\n") == len(PINS)


def test_what_is_source_only_is_what_the_head_says() -> None:
    found = locks.parse(written(BODY, ["torch"]), WHERE)
    assert [p.name for p in found.source_only] == ["torch"]
    assert locks.parse(written(BODY, []), WHERE).source_only == ()


def test_the_digest_of_a_lock_is_told_of_a_whole_one_only(tmp_path: Path) -> None:
    path = tmp_path / WHERE
    path.write_text(written(BODY))
    assert locks.digest_at(path) == locks.read(path).digest
    path.write_text(written(BODY)[:-30])
    with pytest.raises(LockError, match="truncated"):
        locks.digest_at(path)


def test_a_release_never_has_other_files() -> None:
    """Files may be added to a release or taken away; all others are of a liar."""
    former = locks.parse(
        written(entry("numpy", "2.0", "1", "2") + entry("einops", "1", "5")), WHERE
    )
    for body in (
        entry("numpy", "2.0", "2", "3"),
        entry("numpy", "2.1", "9"),
        entry("tqdm", "2.0", "9"),
    ):
        locks.refuse_other_files(locks.parse(written(body), WHERE), former)
    lie = locks.parse(written(entry("numpy", "2.0", "3")), WHERE)
    with pytest.raises(InfrastructureError, match=r"other files of numpy 2\.0 than the lock"):
        locks.refuse_other_files(lie, former)
