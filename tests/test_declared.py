"""What is declared beside what is seen, and the texts that are made of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import snapshot
from hypothesis import given
from hypothesis import strategies as st

from mcore_compat.analysis import declarations, explanation
from mcore_compat.analysis.declarations import FINE, KEPT, NOT, OUT, Finding
from mcore_compat.core.cells import Cell, series_of
from mcore_compat.core.outcomes import CellOutcome, CheckOutcome
from mcore_compat.core.releases import Release, Releases
from mcore_compat.publish import compatibility_page, issue_drafts, report
from mcore_compat.publish.collation import collate
from mcore_compat.results.result import CheckResult, Failure, Record, Result, empty_result


def cell(mcore: str = "0.16.1", modelopt: str = "0.41.0", te: str = "2.11.0") -> Cell:
    return Cell(
        name=f"compat-{series_of(mcore)}-modelopt{series_of(modelopt)}-te{series_of(te)}",
        mcore=mcore,
        modelopt=modelopt,
        te=te,
        torch="2.9.1",
        python="3.12",
        cuda=12,
    )


def check(name: str = "restore", *, works: bool = True, message: str = "no") -> CheckResult:
    failure = Failure(
        type="TypeError",
        message=message,
        frame="modelopt.torch:f",
        fingerprint="0123456789ab",
        traceback=f"Traceback\nTypeError: {message}",
        gpu_independent="Python code",
    )
    return CheckResult(
        check=name,
        kind=name,
        family=None,
        outcome=CheckOutcome.WORKS if works else CheckOutcome.BROKEN,
        seconds=1.0,
        reason=None,
        failure=None if works else failure,
        details={},
    )


def seen(of: Cell, *checks: CheckResult) -> Result:
    base = empty_result(of, device_class="host")
    return replace(base, outcome=CellOutcome.PARTIAL, checks=checks)


def releases(*requires: str, python: str = "", modelopt: tuple[str, ...] = ()) -> Releases:
    return Releases(
        {
            "megatron-core": (
                Release(
                    package="megatron-core",
                    version="0.16.1",
                    requires=requires,
                    requires_python=python,
                ),
            ),
            "nvidia-modelopt": tuple(
                Release(package="nvidia-modelopt", version=v, requires=modelopt)
                for v in ("0.40.0", "0.41.0")
            ),
        }
    )


def findings(found: list[Result], known: Releases) -> tuple[Finding, ...]:
    return declarations.findings(found, explanation.explain(found), known)


def broken_and_working() -> list[Result]:
    """A failure that the version of ModelOpt decides."""
    return [
        seen(cell(modelopt="0.41.0"), check("state", works=False)),
        seen(cell(modelopt="0.40.0"), check("state")),
    ]


def test_a_failure_within_what_is_declared_is_so() -> None:
    (one,) = findings(broken_and_working(), releases("nvidia-modelopt>=0.40"))
    assert one.kind == FINE
    assert one.package == "nvidia-modelopt"
    assert one.relations[0].text() == "megatron-core 0.16.1 declares nvidia-modelopt>=0.40"


def test_a_failure_of_which_nothing_is_declared_is_not_declared() -> None:
    (one,) = findings(broken_and_working(), releases())
    assert one.kind == NOT


def test_a_failure_outside_of_what_is_declared_is_nothing_to_send_upstream() -> None:
    found = broken_and_working()
    (one,) = findings(found, releases('nvidia-modelopt<0.41; extra == "dev"'))
    assert one.kind == KEPT
    assert one.relations[0].extra == "dev"
    assert issue_drafts.texts([one], {e.cell: e for e in found}) == {}
    known = releases('nvidia-modelopt<0.41; extra == "dev"')
    text = compatibility_page.markdown(collate(found, [], snapshot.matrix(), known))
    assert f"| {KEPT}" in text
    assert "](upstream/" not in text


def test_of_cells_that_fail_one_within_what_is_declared_is_shown() -> None:
    found = [
        seen(cell(modelopt="0.41.0"), check("state", works=False)),
        seen(cell(modelopt="0.40.0"), check("state", works=False)),
        seen(cell(modelopt="0.39.0"), check("state")),
    ]
    (one,) = findings(found, releases('nvidia-modelopt<0.41; extra == "dev"'))
    assert (one.kind, one.cells[0]) == (FINE, found[1].cell)
    text = issue_drafts.text(one, {e.cell: e for e in found})
    assert "- nvidia-modelopt 0.40.0\n" in text
    assert (
        "These versions are within the declared ranges:\n\n"
        "- megatron-core 0.16.1 declares nvidia-modelopt<0.41" in text
    )
    assert "outside" not in text


def test_a_cell_of_which_nothing_is_declared_says_so_and_lists_nothing() -> None:
    found = broken_and_working()
    (one,) = findings(found, releases())
    assert issue_drafts.text(one, {e.cell: e for e in found}).endswith(
        "## Declared requirements\n\n"
        "The releases that decide declare no requirement on each other.\n"
    )


def test_what_admits_and_what_excludes_stand_under_two_headings() -> None:
    found = broken_and_working()
    says = ("nvidia-modelopt>=0.40", 'nvidia-modelopt<0.41; extra == "dev"')
    (one,) = findings(found, releases(*says))
    assert one.kind == FINE
    _, _, said = issue_drafts.text(one, {e.cell: e for e in found}).partition(
        "## Declared requirements"
    )
    inside, _, outside = said.partition("They are outside of the declared ranges:")
    assert "nvidia-modelopt>=0.40; here: 0.41.0" in inside
    assert "nvidia-modelopt<0.41 (extra dev); here: 0.41.0" in outside
    assert "<0.41" not in inside


def guarded(**guards: list[str]) -> list[Result]:
    """A failure at line 50 of a file of megatron-core, which TE's version decides."""
    frames = 'File "suite/x.py", line 50, in f\n  File "megatron/core/ext/te.py", line 50, in g'
    failed = check("build", works=False)
    assert failed.failure is not None
    failed = replace(failed, failure=replace(failed.failure, traceback=frames))
    details = {"megatron-core": {k.replace("_", "-"): v for k, v in guards.items()}}
    record = Record(seconds=1.0, failure=None, details=details)
    return [
        replace(of, records={"version-guards": record})
        for of in (seen(cell(te="2.7.0"), failed), seen(cell(te="2.11.0"), check("build")))
    ]


@pytest.mark.parametrize(
    ("guards", "told"),
    [
        ({"transformer-engine>=2.5.0": ["ext/te.py:48", "ext/te.py:900"]}, ["ext/te.py:48"]),
        ({"transformer-engine>=2.5": ["ext/te.py:48"], "transformer-engine>=2": ["ext/te.py:40"]},
         ["ext/te.py:48"]),
        ({"transformer-engine>=2.9": ["ext/te.py:48"]}, []),
        ({"transformer-engine>=2.5": ["ext/te.py:10", "x.py:49", "ext/te.py:51"]}, []),
        ({"flash-attn>=2.5": ["ext/te.py:48"]}, []),
    ],
)  # fmt: skip
def test_a_guard_that_lets_a_version_pass_on_the_way_to_a_failure_is_told(
    guards: dict[str, list[str]], told: list[str]
) -> None:
    found = guarded(**guards)
    (one,) = findings(found, releases())
    assert [r.asked_in for r in one.relations] == told
    assert one.kind == (FINE if told else NOT)
    if told:
        text = issue_drafts.text(one, {e.cell: e for e in found})
        assert "- megatron-core 0.16.1 in ext/te.py:48 checks for transformer-engine>=2.5" in text


def test_a_range_of_an_extra_that_leaves_out_what_works_is_told() -> None:
    found = [seen(cell(te="2.13.0"), check())]
    (one,) = findings(found, releases('transformer-engine<2.12; extra == "dev"'))
    assert one.kind == OUT
    assert one.cells == (found[0].cell,)
    text = issue_drafts.text(one, {e.cell: e for e in found})
    assert text.startswith(
        "# megatron-core 0.16.1 excludes transformer-engine 2.13.0, which works\n"
    )


@pytest.mark.parametrize("checks", [(), (check(works=False),)])
def test_what_was_not_seen_to_restore_is_not_called_working(checks: Any) -> None:
    found = [seen(cell(te="2.13.0"), *checks)]
    known = releases('transformer-engine<2.12; extra == "dev"')
    assert not [f for f in findings(found, known) if f.kind == OUT]


@pytest.mark.parametrize("outcome", [CheckOutcome.BROKEN, CheckOutcome.BLOCKED])
def test_what_cannot_be_imported_is_not_called_working(outcome: CheckOutcome) -> None:
    missing = replace(check("import-x", works=False), outcome=outcome)
    found = [seen(cell(te="2.13.0"), check(), missing), seen(cell(te="2.13.0", mcore="0.15.0"))]
    known = releases('transformer-engine<2.12; extra == "dev"')
    assert not [f for f in findings(found, known) if f.kind == OUT]


def test_what_fails_by_the_two_releases_together_is_not_called_working() -> None:
    found = [
        seen(cell(te="2.13.0"), check(), check("state", works=False)),
        seen(cell(te="2.11.0"), check(), check("state")),
        seen(cell(te="2.13.0", mcore="0.15.0"), check(), check("state")),
    ]
    known = releases('transformer-engine<2.12; extra == "dev"')
    assert not [f for f in findings(found, known) if f.kind == OUT]


def test_what_else_fails_beside_what_is_ruled_out_is_told() -> None:
    found = [
        seen(cell(te="2.13.0"), check(), check("state", works=False)),
        seen(cell(te="2.13.0", modelopt="0.40.0"), check("state")),
    ]
    known = releases('transformer-engine<2.12; extra == "dev"')
    (one,) = [f for f in findings(found, known) if f.kind == OUT]
    text = issue_drafts.text(one, {e.cell: e for e in found})
    assert "transformer-engine 2.13.0, with which every default-spec checkpoint restores\n" in text
    assert "which works" not in text
    assert "These checks fail" in text
    assert "- `state`\n" in text


def test_requires_python_is_a_relation() -> None:
    found = [seen(cell(), check())]
    (one,) = findings(found, releases(python=">=3.13"))
    assert (one.kind, one.relations[0].on) == (OUT, "python")


def test_an_import_that_nothing_asks_for_is_told() -> None:
    row = {
        "package": "nvidia-modelopt",
        "module": "requests",
        "imported_by": "modelopt.x",
        "guarded": False,
        "installed": True,
    }
    found = [seen(cell(), replace(check("import-undeclared"), details={"undeclared": [row]}))]
    (one,) = findings(found, releases())
    assert (one.kind, one.subject) == (NOT, "nvidia-modelopt imports requests")
    text = issue_drafts.text(one, {e.cell: e for e in found})
    assert "modelopt.x of nvidia-modelopt 0.41.0" in text


def test_the_text_has_versions_command_traceback_and_rule() -> None:
    found = broken_and_working()
    (one,) = findings(found, releases("nvidia-modelopt"))
    text = issue_drafts.text(one, {e.cell: e for e in found})
    assert text.startswith("# state: TypeError: no\n")
    for wanted in (
        "- nvidia-modelopt 0.41.0",
        f"nox -s {found[0].cell} -- --force --only 'state'",
        "Traceback\nTypeError: no",
        "`nvidia-modelopt==0.41.0`",
        "The same with a GPU: Python code.",
    ):
        assert wanted in text


def test_the_text_quotes_the_failure_that_it_is_about() -> None:
    other = check("a", works=False, message="something else")
    assert other.failure is not None
    other = replace(other, failure=replace(other.failure, fingerprint="ba9876543210"))
    found = [
        seen(cell(modelopt="0.41.0"), other, check("b", works=False)),
        seen(cell(modelopt="0.40.0"), check("a", works=False), check("b", works=False)),
        seen(cell(modelopt="0.39.0"), check("a"), check("b")),
    ]
    (one,) = [f for f in findings(found, releases()) if f.fingerprint == "0123456789ab"]
    text = issue_drafts.text(one, {e.cell: e for e in found})
    assert "something else" not in text
    assert f"nox -s {found[0].cell} -- --force --only 'b'" in text


@given(message=st.text(max_size=200))
def test_no_message_ends_a_code_block_early_or_adds_a_heading(message: str) -> None:
    found = [
        seen(cell(), check("state", works=False, message=message + "\n```\n# Owned\n<b>")),
        seen(cell(modelopt="0.40.0"), check("state")),
    ]
    (one,) = findings(found, releases())
    text = issue_drafts.text(one, {e.cell: e for e in found})
    fence = ""
    for line in text.splitlines():
        if fence:
            fence = "" if line == fence else fence
        elif line.startswith("```"):
            fence = line
        else:
            assert "# Owned" not in line[1:] or line.startswith("# state: ")
            assert not line.startswith("# Owned")
    assert not fence


def test_texts_of_findings_that_are_none_any_more_go_away(tmp_path: Path) -> None:
    old = tmp_path / issue_drafts.FOLDER / "old.md"
    old.parent.mkdir()
    old.write_text("old")
    made: Any = {tmp_path / compatibility_page.NAME: lambda: "table"}
    assert report.drift(made) == [tmp_path / compatibility_page.NAME, old]
    report.write(made)
    assert report.drift(made) == []
    assert not old.exists()
