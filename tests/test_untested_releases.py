"""Which cell tells of releases that were not run, and how commands say what is known of them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import snapshot
from grades_support import (
    FAILS,
    FINGERPRINT,
    WORKS,
    cause_of,
    cell_of,
    digests_of,
    known_of,
    pins_of,
)
from msgspec import to_builtins
from support import event, stand_in_cell, stand_in_result

from mcore_compat import cli
from mcore_compat.analysis import untested_releases
from mcore_compat.analysis.constraints import parse
from mcore_compat.analysis.grades import Grade, Grades
from mcore_compat.publish import site
from mcore_compat.publish.collation import collate
from mcore_compat.publish.site.view import Site
from mcore_compat.resolve import resolvability

CELLS = [cell_of("0.15.3", WORKS), cell_of("0.16.1", FAILS)]
DIGESTS = digests_of({"0.16.0": "a", "0.16.1": "a", "0.17.0": "b", "0.17.1": "b"})


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A workspace in which one failure is published, open towards newer releases."""
    place = snapshot.workspace_in(tmp_path, monkeypatch)
    place.published.parent.mkdir()
    place.published.write_text(json.dumps(to_builtins(known_of(CELLS))))
    answer = SimpleNamespace(verdicts={name: SimpleNamespace(installs=None) for name in NAMES})
    monkeypatch.setattr(resolvability, "sweep", lambda *_, **__: answer)


NAMES = ("compat-0.17-modelopt0.41-te2.11-torch2.9", "compat-0.15.0-modelopt0.41-te2.11")


def test_the_command_names_a_patch_where_it_is_not_the_newest_of_its_series() -> None:
    commands = [
        untested_releases.command(pins_of(mcore), snapshot.matrix(), snapshot.releases())
        for mcore in ("0.16.1", "0.16.0")
    ]
    assert commands == [
        "nox -s compat-0.16-modelopt0.41 -- --te-extension stand-in",
        "nox -s compat-0.16.0-modelopt0.41 -- --te-extension stand-in",
    ]


@pytest.mark.parametrize("others", [{"torch": "9.0.0"}, {"torch": "2.15.0"}, {"python": "3.7"}])
def test_what_is_no_cell_or_does_not_install_has_no_command(others: dict[str, str]) -> None:
    pins = pins_of("0.16.1", **{"transformer-engine": "2.7.0"}, **others)
    assert untested_releases.command(pins, snapshot.matrix(), snapshot.releases()) == ""


def test_a_failure_extends_to_releases_by_grade() -> None:
    known = known_of(CELLS)
    untested = untested_releases.UntestedReleases(
        Grades(known, DIGESTS), snapshot.matrix(), snapshot.releases()
    )
    rows = [*untested.of_cause(cause_of(CELLS))]
    grades = {row.version: row.graded.grade for row in rows}
    assert grades["0.16.0"] is Grade.INFERRED
    assert grades["0.17.0"] is Grade.LIKELY
    assert not {"0.15.2", "0.15.3", "0.16.1"} & {*grades}
    first, second = untested_releases.lines(rows)
    assert first.startswith("inferred, not run: megatron-core 0.16.0; megatron/core/utils.py is ")
    assert second.startswith("likely, not run: megatron-core 0.17.0, 0.17.1, 0.18.0")
    assert first.endswith("; test it: nox -s compat-0.16.0-modelopt0.41 -- --te-extension stand-in")


def test_a_wish_is_made_whole_by_what_is_near() -> None:
    releases = snapshot.releases()
    near = CELLS[1]
    wished = untested_releases.wished(parse("mcore 0.17, python 3.11"), near, releases)
    assert wished == {**pins_of("0.17.1"), "python": "3.11"}
    assert untested_releases.wished(parse("torch 2.99"), near, releases) is None


@pytest.mark.usefixtures("published")
def test_recommend_says_what_is_known_and_advises_none_of_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["recommend", "mcore 0.17"]) == 1
    out = capsys.readouterr().out
    assert "not run: megatron-core 0.17.1, " in out
    assert "  likely, not run: restore[gpt] fails; known with megatron-core==0.16.1, " in out
    assert f"RuntimeError: no such thing (cause {FINGERPRINT})" in out
    assert f"test it in a minute or two: nox -s {NAMES[0]} -- --te-extension stand-in\n" in out
    assert not [line for line in out.splitlines() if "pip install" in line and "0.17" in line]
    assert out.splitlines()[-1].startswith("result: ")


@pytest.mark.usefixtures("published")
def test_recommend_says_nothing_of_it_where_what_fits_was_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    cli.main(["recommend", "mcore 0.15"])
    assert "not run" not in capsys.readouterr().out


@pytest.mark.usefixtures("published")
def test_explain_of_a_cell_that_was_not_run_says_what_is_known_of_its_releases(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["explain", NAMES[0]]) == 0
    first, second, *_, last = capsys.readouterr().out.splitlines()
    assert first == f"{NAMES[0]} was not run; other cells with its releases show:"
    assert second.startswith("likely, not run: restore[gpt] fails; ")
    assert last == f"test it in a minute or two: nox -s {NAMES[0]} -- --te-extension stand-in"
    assert cli.main(["explain", NAMES[1]]) == 2
    assert f"{NAMES[1]} has no result yet; run it: " in capsys.readouterr().err


def test_the_page_of_a_cause_lists_the_releases_with_their_grades() -> None:
    found = [
        stand_in_result(event("restore[gpt]", outcome), cell=stand_in_cell(mcore))
        for mcore, outcome in (("0.15.3", "works"), ("0.16.1", "broken"))
    ]
    cells = [stand_in_cell(mcore) for mcore in ("0.15.3", "0.16.1")]
    every = Site(collate(found, cells, snapshot.matrix(), snapshot.releases()), {}, DIGESTS)
    pages = [text for path, text in site.pages(every) if "causes/" in path and "index" not in path]
    (page,) = pages
    row = page[page.index("<td>0.17.0</td>") :].partition("</tr>")[0]
    assert "<td>likely</td>" in row
    assert "nox -s compat-0.17.0-modelopt0.41-te2.11-torch2.9 -- --te-extension stand-in" in row
    assert "<td>0.15.2</td>" not in page
