"""The site's own extensions: transcripts, links, generated references."""

from __future__ import annotations

from pathlib import Path

import docs_support
import pytest

transcripts = docs_support.extension("transcripts")
site_links = docs_support.extension("site_links")
reference = docs_support.extension("generated_reference")

LONG = "a line of more words than fit: " + "word " * 30


def readme(*shown: str, command: str = "mcore-compat show CELL") -> str:
    return "\n".join(["Before.", "", "```console", f"$ {command}", *shown, "```", "", "After.", ""])


@pytest.fixture(autouse=True)
def _printed(monkeypatch: pytest.MonkeyPatch) -> None:
    said = (0, ("the answer", LONG.strip(), "the end"))
    monkeypatch.setattr(transcripts, "printed", lambda command: said)


def test_a_transcript_becomes_what_is_printed_now() -> None:
    now = transcripts.renewed(readme("what it said before"))
    assert "$ mcore-compat show CELL\nthe answer\na line of more" in now
    assert now.endswith("the end\n```\n\nAfter.\n")
    assert max(map(len, now.splitlines())) <= transcripts.WIDTH
    assert transcripts.renewed(now) == now


def test_a_transcript_that_was_cut_stays_cut_at_a_whole_line() -> None:
    now = transcripts.renewed(readme("1", "2", transcripts.CUT))
    assert now == readme("the answer", transcripts.CUT)


def test_what_ran_in_an_environment_stays() -> None:
    for command in ("mcore-compat doctor --python mine", "nox -s compat-0.9-modelopt0.21"):
        before = readme("fault", command=command)
        assert transcripts.renewed(before) == before


def test_links_of_the_site_that_lead_nowhere(tmp_path: Path) -> None:
    docs, beside = tmp_path / "docs", tmp_path / "reports"
    (docs / "how-to").mkdir(parents=True)
    beside.mkdir()
    (beside / "data.json").write_text("{}")
    (docs / "index.html").write_text('<p id="top"></p><a href="how-to/a.html#here">')
    good = '<a id="here" href="../index.html#top"><a href="../../data.json"><a href="https://x.y">'
    page = docs / "how-to" / "a.html"
    page.write_text(f'{good}<a href="../../site/index.html">')
    assert list(site_links.bad_links(docs, beside)) == []
    page.write_text(f'{good}<a href="b.html"><a href="../index.html#no"><a href="../../no.json">')
    bad = list(site_links.bad_links(docs, beside))
    assert [line.rpartition(" ")[2] for line in bad] == [
        *("b.html", "../index.html#no", "../../no.json")
    ]


def test_a_schema_becomes_tables() -> None:
    text = reference.schema("mcore_compat/core/matrix.schema.json")
    assert "| `axes` | table | The series of each axis that is tested, oldest first. |" in text
    assert "| `stack` | tables | " in text
    assert "| `profile` | a table for each name; optional | " in text
    assert "### `[profile.NAME]`" in text
    assert "### `[[expect]]`" in text
    assert "| `memory-mib` | integer |" in text


def test_a_model_becomes_tables_the_outermost_first() -> None:
    text = reference.model("mcore_compat.results.result:Result")
    assert text.index("### Result") < text.index("### CheckResult")
    assert "`blocked`, `broken`, `crashed`" in text
    assert "[CheckResult](#checkresult)" in text
