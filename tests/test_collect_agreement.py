"""What comes back is of the suite that is here: its checks, each as the suite has it, and no other.
All or none of it is stored."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from collect_support import (
    NAME,
    Carried,
    Write,
    ask,
    carried_,
    cell_,
    known_,
    lock_,
    of_a_part,
    stored,
    write_,
)
from support import HOSTILE, ROOT, event, hostile_event

from mcore_compat.base.errors import InfrastructureError, ResultError
from mcore_compat.core.workspace import Workspace
from mcore_compat.offline import collection
from mcore_compat.offline.verification import Reference
from mcore_compat.results import store, suite_checks
from mcore_compat.results.suite_checks import Declared

FIXTURES_HERE = (cell_, lock_, known_, carried_, write_)
"""Fixtures are found where they are imported."""

DECLARED = {
    "restore[gpt]": Declared("restore", "gpt", None, None),
    "import-packages": Declared("import-packages", None, "install", None),
}
SUITE = ROOT / "suite"


@pytest.fixture(name="strict")
def strict_(known: Reference) -> Reference:
    """What also knows the checks of the suite."""
    return replace(known, checks={"main": DECLARED})


def whole(data: Carried) -> None:
    ask(data, event("import-packages", feature="install"))


def made_up(data: Carried) -> None:
    whole(data)
    ask(data, event("restore[gtp]"))


def one_check(data: Carried) -> None:
    pass


def other_family(data: Carried) -> None:
    ask(data, event("import-packages", feature="install", family="mamba"))


def other_feature(data: Carried) -> None:
    ask(data, event("import-packages", feature="restore"))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (made_up, r'the suite has no check restore\[gtp\]; did you mean "restore\[gpt\]"'),
        (one_check, "it is marked complete but did not run import-packages"),
        (other_family, "import-packages has .* family mamba"),
        (other_feature, "import-packages has .* feature restore"),
    ],
)
def test_other_checks_than_the_suites_are_refused(
    carried: Carried,
    strict: Reference,
    write: Write,
    change: Callable[[Carried], None],
    why: str,
) -> None:
    change(carried)
    with pytest.raises(ResultError, match=why):
        collection.collect([write(carried)], strict)
    assert not stored(strict)


def test_the_suites_own_checks_are_taken(carried: Carried, strict: Reference, write: Write) -> None:
    whole(carried)
    ((_, result, asked, stays),) = collection.collect([write(carried)], strict)
    assert (asked, stays) == (2, None)
    assert {check.check for check in result.checks} == {*DECLARED}


def test_some_of_the_checks_are_taken_of_a_run_that_was_cut_short(
    carried: Carried, strict: Reference, write: Write
) -> None:
    carried["complete"] = False
    ((_, result, _, _),) = collection.collect([write(carried)], strict)
    assert not result.complete


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "-1"])
def test_seconds_that_are_none_are_refused(
    carried: Carried, known: Reference, write: Write, number: str
) -> None:
    path = write(carried)
    path.write_text(path.read_text().replace('"seconds": 0.5', f'"seconds": {number}', 1))
    with pytest.raises(ResultError):
        collection.collect([path], known)
    assert not stored(known)


def test_a_key_that_comes_twice_is_refused(
    carried: Carried, known: Reference, write: Write
) -> None:
    path = write(carried)
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 1, "schema": 1', 1))
    with pytest.raises(ResultError, match="duplicate key"):
        collection.collect([path], known)


def test_no_foreign_text_stays_as_it_was(carried: Carried, known: Reference, write: Write) -> None:
    ask(carried, {**hostile_event("restore-back[gpt]"), "reason": HOSTILE})
    carried["events"][0]["platform"]["os"] = HOSTILE
    ((path, _, _, _),) = collection.collect([write(carried)], known)
    text = path.read_text() + "".join(
        value.read_text() for value in path.parent.parent.glob("shared/*.json")
    )
    for character in "\x1b\u202e\u2066\u061c\ufeff\u2028":
        assert character not in text
        assert json.dumps(character)[1:-1] not in text


def two(data: Carried, write: Write) -> list[Path]:
    """Of two check sets of a cell."""
    return [write(data), write(of_a_part(data), "gpu.host")]


def below(known: Reference) -> dict[str, bytes]:
    reports = known.workspace.reports
    return {str(p): p.read_bytes() for p in sorted(reports.rglob("*")) if p.is_file()}


def written(
    paths: list[Path], known: Reference, monkeypatch: pytest.MonkeyPatch, *, failing: int
) -> bool:
    """Whether results are taken where the disk is full at so many files."""
    real, calls = os.replace, iter(range(1000))

    def full(old: Path, new: Path) -> None:
        if next(calls) == failing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(old, new)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        try:
            collection.collect(paths, known)
        except InfrastructureError:
            return False
    return True


@pytest.mark.parametrize("there", [False, True])
def test_a_disk_that_fills_in_the_middle_leaves_all_as_it_was(
    carried: Carried, known: Reference, write: Write, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    if there:
        collection.collect(two(carried, write), known)
    before = below(known)
    carried["taken"] = "2021-09-09T00:00:00Z"
    carried["events"][1]["details"] = {"large": "x" * 1000}
    paths, failed = two(carried, write), 0
    while not written(paths, known, monkeypatch, failing=failed):
        assert below(known) == before
        failed += 1
    assert failed >= 4, "two results, a value and the verdicts"
    assert below(known) != before
    assert len(store.load_all(known.workspace.results)) == 1


def test_the_suites_checks_are_read_as_its_newest_result_has_them() -> None:
    declared = suite_checks.of(SUITE, SUITE)
    results = [r for r in store.load_all(ROOT / "reports" / "results") if r.checks and r.complete]
    newest = max(results, key=lambda result: result.taken)
    said = {c.check: Declared(c.kind, c.family, c.feature, c.format) for c in newest.checks}
    assert said == declared


@pytest.mark.parametrize(("part", "count"), [("gpu", 60), ("ranks", 20)])
def test_the_checks_of_the_suites_parts_are_read(part: str, count: int) -> None:
    declared = suite_checks.of(SUITE, SUITE / part)
    assert len(declared) == count
    assert all(check.feature for check in declared.values())


def test_checks_that_cannot_be_told_are_named_with_their_line(tmp_path: Path) -> None:
    text = 'import pytest\n\n\n@pytest.mark.parametrize("x", made())\ndef check_a(x):\n    pass\n'
    (tmp_path / "check_a.py").write_text(text)
    with pytest.raises(ResultError, match=r"check_a\.py:4: "):
        suite_checks.of(tmp_path, tmp_path)


def test_a_workspace_knows_the_checks_of_its_suite() -> None:
    known = collection.reference(Workspace(ROOT))
    assert set(known.checks) == {"main", "gpu", "ranks"}
    assert all(known.checks.values())
    assert known.workspace.lock(NAME).exists()
