"""How sure it is that a known failure happens with releases that were not run together."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import pytest
from grades_support import CHECK, FAILS, WORKS, cell_of, digests_of, known_of, pins_of
from hypothesis import given
from hypothesis import strategies as st

from mcore_compat.analysis.grades import Grade, Grades, Place, place
from mcore_compat.core.cells import parsed
from mcore_compat.core.source_digests import NO_DIGESTS

NEITHER = [cell_of("0.15.3", WORKS), cell_of("0.16.1", FAILS), cell_of("0.18.2", WORKS)]
"""One series fails, those beside it work."""

OPEN = [cell_of("0.15.3", WORKS), cell_of("0.16.1", FAILS), cell_of("0.18.2", FAILS)]
"""It fails as of a series."""


def grade(grades: Grades, mcore: str, **others: str) -> Grade | None:
    graded = grades.of(pins_of(mcore, **others))
    assert len(graded) < 2
    return graded[0].grade if graded else None


def test_releases_that_were_run_are_tested() -> None:
    grades = Grades(known_of(OPEN), NO_DIGESTS)
    assert [grade(grades, version) for version in ("0.15.3", "0.16.1")] == [None, Grade.TESTED]


def test_with_the_same_files_it_is_inferred_and_the_digest_said() -> None:
    digests = digests_of({"0.16.0": "a", "0.16.1": "a", "0.18.2": "b"})
    (graded,) = Grades(known_of(NEITHER), digests).of(pins_of("0.16.0"))
    assert graded.grade is Grade.INFERRED
    assert graded.checks[CHECK].pins["megatron-core"] == "0.16.1"
    said = "megatron/core/utils.py is the same, byte for byte, as in megatron-core 0.16.1"
    assert graded.why == f"{said} (sha256 {'a' * 12})"


@pytest.mark.parametrize("other", ["b", ""])
def test_between_one_that_fails_and_one_that_works_other_files_tell_nothing(other: str) -> None:
    digests = digests_of({"0.16.0": other, "0.16.1": "a", "0.17.1": other, "0.18.2": "c"})
    grades = Grades(known_of(NEITHER), digests)
    assert [grade(grades, version) for version in ("0.16.0", "0.17.1")] == [None, None]


def test_files_that_nobody_read_tell_nothing() -> None:
    assert grade(Grades(known_of(NEITHER), NO_DIGESTS), "0.16.0") is None


def test_the_same_files_tell_nothing_where_it_works_with_them() -> None:
    digests = digests_of({"0.16.0": "a", "0.16.1": "a", "0.18.2": "a"})
    assert grade(Grades(known_of(NEITHER), digests), "0.16.0") is None


def test_what_a_check_of_the_suite_found_is_never_inferred() -> None:
    digests = digests_of({"0.16.0": "a", "0.16.1": "a", "0.18.2": "b"})
    known = known_of(NEITHER, frame="suite.check_restore:attempted")
    assert grade(Grades(known, digests), "0.16.0") is None


def test_of_somebodys_own_build_nothing_is_inferred() -> None:
    digests = digests_of({"0.16.0": "a", "0.16.1": "a", "0.18.2": "b"})
    assert grade(Grades(known_of(NEITHER), digests, ["megatron-core"]), "0.16.0") is None


def test_a_package_that_decides_without_a_file_must_be_of_the_same_release() -> None:
    digests = digests_of({"0.16.1": "a", "0.18.2": "b"})
    known = known_of(NEITHER, message="_write_item() missing 1 required positional argument: 'x'")
    grades = Grades(known, digests)
    same, moved = {"python": "3.11"}, {"torch": "2.8.0"}
    assert grade(grades, "0.16.1", **same) is Grade.INFERRED
    assert grade(grades, "0.16.1", **moved) is Grade.LIKELY


def test_files_that_define_a_name_that_it_is_about_count() -> None:
    message = "get() got an unexpected keyword argument 'x'"
    digests = digests_of(
        {"0.16.0": "a", "0.16.1": "a", "0.18.2": "b"},
        {"get": ("megatron/core/other.py",)},  # which was not read
    )
    assert grade(Grades(known_of(NEITHER, message=message), digests), "0.16.0") is None


@pytest.mark.parametrize("version", ["0.17.1", "0.19.0"])
def test_among_those_that_fail_and_beyond_the_newest_it_is_likely(version: str) -> None:
    (graded,) = Grades(known_of(OPEN), NO_DIGESTS).of(pins_of(version))
    assert graded.grade is Grade.LIKELY
    assert graded.why.startswith("known with megatron-core>=0.16.1,<=0.18.2")


@pytest.mark.parametrize("state", ["otherwise", "blocked", "unsupported", "needs-gpu"])
def test_beyond_a_release_that_says_something_else_nothing_is_known(state: str) -> None:
    grades = Grades(known_of([*OPEN, cell_of("0.19.0", state)]), NO_DIGESTS)
    assert grade(grades, "0.19.1") is None


def test_the_nearest_that_fails_decides_for_which_cause() -> None:
    cells = [*OPEN, cell_of("0.17.1", "otherwise")]
    assert grade(Grades(known_of(cells), NO_DIGESTS), "0.17.0") is None


def test_with_no_rule_nothing_is_likely() -> None:
    known = known_of([cell_of("0.16.1", FAILS)], bounded_rules=())
    assert grade(Grades(known, NO_DIGESTS), "0.17.0") is None


RELEASES = [f"0.{minor}.0" for minor in range(12)]


@given(
    st.dictionaries(st.sampled_from(RELEASES), st.sampled_from([FAILS, WORKS, "otherwise"])),
    st.dictionaries(st.sampled_from(RELEASES), st.sampled_from("ab")),
    st.sampled_from(RELEASES),
)
def test_nothing_is_said_against_what_was_run(
    outcomes: Mapping[str, str], files: Mapping[str, str], version: str
) -> None:
    failing = {v for v, outcome in outcomes.items() if outcome == FAILS}
    if not failing:
        return
    cells = [cell_of(v, outcome) for v, outcome in outcomes.items()]
    said = grade(Grades(known_of(cells), digests_of(files)), version)
    if version in outcomes:
        assert said is (Grade.TESTED if outcomes[version] == FAILS else None)
    if said is Grade.INFERRED:
        assert files[version] in {files.get(v) for v in failing}
        assert files[version] not in {files.get(v) for v, o in outcomes.items() if o == WORKS}
    if said is Grade.LIKELY and version not in files:
        low, high = min(failing, key=parsed), max(failing, key=parsed)
        works = [parsed(v) for v, outcome in outcomes.items() if outcome == WORKS]
        assert not any(parsed(low) <= v <= parsed(high) for v in works)
        assert not (parsed(version) > parsed(high) and any(v > parsed(high) for v in works))
        assert not (parsed(version) < parsed(low) and any(v < parsed(low) for v in works))


@given(*[st.sampled_from(RELEASES)] * 4)
def test_a_place_is_on_one_side(version: str, one: str, other: str, at: str) -> None:
    low, high = sorted((one, other), key=parsed)
    where = place(version, low, high, at)
    inside = parsed(low) <= parsed(version) <= parsed(high)
    assert (where is Place.WITHIN) == inside
    if where is Place.BETWEEN:
        assert min(parsed(at), parsed(low)) <= parsed(version) <= max(parsed(at), parsed(high))
    if parsed(low) <= parsed(at) <= parsed(high):
        assert where in (Place.WITHIN, Place.OUTSIDE)


def test_the_digest_of_several_files_is_what_sha256sum_prints() -> None:
    from mcore_compat.core import source_digests

    digests = {"b.py": "2" * 64, "a.py": "1" * 64, "gone.py": ""}
    printed = f"{'1' * 64}  a.py\n{'2' * 64}  b.py\n"
    assert source_digests.together(digests) == hashlib.sha256(printed.encode()).hexdigest()
