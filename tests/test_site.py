"""The site's pages say what the results say, the same bytes each time, and nothing that a
package slips in. All results here are made up but where it says so."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import snapshot
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup
from support import HOSTILE, event, hostile_event, stand_in_cell, stand_in_result, write_folder

from mcore_compat.base.errors import ResultError
from mcore_compat.publish import site
from mcore_compat.publish.collation import Collated, collate
from mcore_compat.publish.rendering import address, issue, render, script_json, shown
from mcore_compat.publish.site import choose, index, series, staleness
from mcore_compat.publish.site.view import Site
from mcore_compat.results.result import Result


def made(*found: Result) -> Collated:
    cells = [stand_in_cell(), stand_in_cell("0.17.1")]
    return collate(found, cells, snapshot.matrix(), snapshot.releases())


def pages(*found: Result) -> dict[str, str]:
    return dict(site.pages(Site(made(*found), {})))


class Reader(HTMLParser):
    """Tags, attributes and text as a browser would take them apart."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.update(name for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


def hostile() -> Result:
    return stand_in_result(
        event("restore[gpt]"),
        hostile_event("restore[mla-moe]"),
        event("inference-numbers[gpt]", "unsupported", reason=HOSTILE),
    )


def test_hostile_text_is_text_on_every_page() -> None:
    found = pages(hostile(), replace(hostile(), cell="compat-0.15-modelopt0.41"))
    for name, text in found.items():
        if name.endswith(".html"):
            reader = Reader(text)
            data, search = 'id="data"' in text, 'error_search.js"' in text
            assert reader.tags.count("script") == 1 + data + search, name
            assert "img" not in reader.tags, name
            assert not [a for a in reader.attributes if a.startswith("on")], name
            assert not re.search("[\u202e\u2066\u061c\ufeff\u2028\x1b]", text), name
    cell = Reader(found["cells/compat-0.16-modelopt0.41.html"]).text
    assert shown(HOSTILE) in cell
    assert "{{ 7 * 7 }}" in cell


@given(st.text())
def test_data_in_a_script_never_ends_it_and_is_read_back(text: str) -> None:
    written = script_json({text: [text]})
    assert not set(written) & set("<>&")
    assert json.loads(written) == {shown(text): [shown(text)]}


@given(st.text())
def test_text_in_an_attribute_stays_there(text: str) -> None:
    reader = Reader(str(Markup('<p title="{}">').format(shown(text))))
    assert reader.tags == ["p"]
    assert reader.attributes == {"title"}


@given(st.text())
def test_an_address_has_no_markup_and_no_scheme(text: str) -> None:
    assert not set(address("cells", text)) & set("<>\"'&?#: ")


def test_an_issue_is_linked_and_nothing_else_is() -> None:
    assert issue("owner/repository#12").endswith("/owner/repository/issues/12")
    assert issue("not reported") == issue("javascript:alert(1)") == ""


def test_a_result_of_no_cell_names_no_file() -> None:
    bad = replace(hostile(), cell="compat-../../x")
    with pytest.raises(ResultError, match="is not the name of a cell"):
        pages(bad)


def test_the_same_results_make_the_same_bytes() -> None:
    one, two = hostile(), replace(hostile(), cell="compat-0.15-modelopt0.41")
    assert pages(one, two) == pages(two, one)


def test_an_untested_cell_has_a_page_that_says_so() -> None:
    text = pages(hostile())["cells/compat-0.17-modelopt0.41.html"]
    assert "This combination has no result" in text
    assert "nox -s compat-0.17-modelopt0.41 -- --force" in text
    assert "✓" not in text


def test_which_versions_to_use_is_a_command_that_installs_transformer_engine_too() -> None:
    installed = {"megatron-core": "0.16.1", "nvidia-modelopt": "0.41.0", "transformer-engine": "2"}
    found = replace(stand_in_result(event("restore[gpt]")), installed=installed)
    text = dict(choose.pages(Site(made(found), {})))["choose.html"]
    command = f"pip install -c {found.cell}.txt {' '.join(installed)}"
    assert text.count(command) == 2  # in the page, and in what its script reads


def test_needs_gpu_never_counts_as_works() -> None:
    asked = event("inference-numbers[gpt]", "needs-gpu", feature="inference")
    e = stand_in_result(event("restore[gpt]"), asked)
    text = pages(e)["cells/compat-0.16-modelopt0.41.html"]
    assert "1 work, 0 fail or are blocked, <b>1 need a GPU</b>" in text
    squares = index.squares(Site(made(e), {}), "host").values()
    (square,) = (one for one in squares if one.entry.by_class)
    assert "GPU –" in square.shown.lines


def test_an_outdated_result_is_marked_on_its_square_and_page() -> None:
    e = hostile()
    all_ = made(e)
    why = staleness.stale(all_, "another suite", {e.cell: "l"})
    assert why == {(e.cell, "host"): "the suite changed"}
    assert staleness.stale(all_, "s", {e.cell: "l"}) == {}
    found = dict(site.pages(Site(all_, why)))
    assert 'class="o-restores stale"' in found["index.html"]
    assert "the suite changed" in found["cells/compat-0.16-modelopt0.41.html"]


def test_a_page_says_what_to_take_instead() -> None:
    bad = stand_in_result(event("restore[gpt]", "broken"))
    near = stand_in_result(event("restore[gpt]"), cell=stand_in_cell("0.16.1", "0.40.0"))
    far = stand_in_result(event("restore[gpt]"), cell=stand_in_cell("0.14.0", "0.31.0"))
    found = dict(site.pages(Site(made(bad, near, far), {})))
    page = found[f"cells/{bad.cell}.html"]
    assert page.count("<dt>instead</dt>") == 1
    assert f'<dt>instead</dt><dd><a class="name" href="../cells/{near.cell}.html"' in page
    assert page.index("<dt>instead</dt>") < page.index("Run it again")
    assert "<dt>instead</dt>" not in found[f"cells/{near.cell}.html"]


def test_a_series_says_what_it_broke_and_fixed() -> None:
    cell = stand_in_cell("0.16.1", "0.40.0")
    old = stand_in_result(event("restore[gpt]"), event("x", "broken"), cell=cell)
    new = stand_in_result(event("restore[gpt]", "broken"), event("x"))
    there = series.against("nvidia-modelopt", [old], [new])
    assert there is not None
    assert there.exact
    assert [line.check for line in there.broke] == ["restore[gpt]"]
    assert [line.check for line in there.fixed] == ["x"]
    other = replace(old, pins={**old.pins, "torch": "2.8.0"})
    there = series.against("nvidia-modelopt", [other], [new])
    assert there is not None
    assert not there.exact
    assert there.also == ("torch",)
    assert series.against("torch", [other], [new]) is None


def test_a_template_passes_over_no_undefined_name() -> None:
    with pytest.raises(Exception, match="undefined"):
        render("causes.html", root="../")


def test_a_folder_is_put_in_place_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "site"
    assert write_folder(folder, [("a.txt", "1"), ("b/c.txt", "2")]) == 2

    def broken() -> Iterator[tuple[str, str]]:
        yield ("a.txt", "3")
        raise ValueError("half-way")

    with pytest.raises(ValueError, match="half-way"):
        write_folder(folder, broken())
    assert (folder / "a.txt").read_text() == "1"
    assert write_folder(folder, [("d.txt", "4")]) == 1
    assert [p.name for p in folder.iterdir()] == ["d.txt"]
    assert [p.name for p in tmp_path.iterdir()] == ["site"]
