"""The site, opened from its files: it does what it says, for a mouse, a keyboard and a reader."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import HOSTILE

from mcore_compat.analysis import constraints, recommend
from mcore_compat.core.outcomes import CellOutcome
from mcore_compat.publish.rendering import shown
from mcore_compat.publish.site import choose, index
from mcore_compat.publish.site.view import Site
from mcore_compat.results import answer

pytestmark = pytest.mark.browser

Opened = Callable[..., Any]

KINDS = {
    "index": "index.html",
    "picked": "index.html?pick=compat-0.16-modelopt0.41,compat-0.12-modelopt0.41",
    "cell": "cells/compat-0.16-modelopt0.41.html",
    "incompatible": "cells/compat-0.9-modelopt0.35.html",
    "hostile": "cells/compat-0.30-modelopt0.60.html",
    "release": "releases/nvidia-modelopt-0.41.html",
    "choose": "choose.html",
    "in the way": "choose.html?torch=2.6&megatron-core=0.16",
    "cells": "cells/index.html",
    "releases": "releases/index.html",
    "causes": "causes/index.html",
    "error": "causes/index.html?error='NoneType' object is not subscriptable",
}


def words(page: Any) -> dict[str, str]:
    """By pair: what its square says."""
    found: dict[str, str] = page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll('#matrix td')].filter(
             (td) => td.querySelector('.word')).map((td) => [
               td.querySelector('.vh').textContent, td.querySelector('.word').textContent]))"""
    )
    return found


def address_of(page: Any) -> str:
    """As the page has it: what the driver was told of may be older."""
    found: str = page.evaluate("() => location.href")
    return found


def names(page: Any) -> list[str]:
    found: list[str] = page.locator("#cells tbody th").all_text_contents()
    return found


def test_every_page_opens_and_asks_for_nothing_else(opened: Opened, root: Path) -> None:
    page = opened("index.html")
    for path in sorted(root.rglob("*.html")):
        page.goto(path.as_uri())
        assert page.locator("h1").count() == 1


def test_every_link_leads_somewhere(opened: Opened, root: Path) -> None:
    page = opened("index.html")
    for path in sorted(root.rglob("*.html")):
        page.goto(path.as_uri())
        links = page.evaluate("() => [...document.links].map((a) => a.href.split(/[?#]/)[0])")
        inside = {link for link in links if link.startswith("file:")}
        assert [link for link in inside if not (root / link.split("/site/")[1]).is_file()] == []


def test_a_family_and_check_show_their_outcome(opened: Opened, sample: Site) -> None:
    page = opened("index.html")
    page.get_by_label("Family").select_option("gpt")
    page.locator("select[name=kind]").select_option("restore")
    said = words(page)
    for one in sample.entries.values():
        if not one.default:
            continue
        e = one.by_class.get("host")
        outcomes = [c.outcome.value for c in e.checks if c.check == "restore[gpt]"] if e else []
        expected = outcomes[0] if outcomes else one.outcome("host").value
        if e and e.checks and not outcomes:
            expected = "not run"
        assert said["megatron-core {}, ModelOpt {}: ".format(*one.pair)] == expected
    assert "check restore, family gpt" in page.locator("#matrix-said").text_content()


def test_a_stack_shows_its_cells_and_nothing_else(opened: Opened, sample: Site) -> None:
    page = opened("index.html?te=2.9&for=default")
    said = words(page)
    of = {one.pair: one.outcome("host").value for one in sample.entries.values()
          if one.pins["transformer-engine"].startswith("2.9.")}  # fmt: skip
    assert of
    for pair, outcome in of.items():
        assert said.pop("megatron-core {}, ModelOpt {}: ".format(*pair)) == outcome
    assert set(said.values()) == {"untested"}


def test_each_device_class_shows_its_own_result(opened: Opened) -> None:
    both = "megatron-core 0.16, ModelOpt 0.41: "
    ladder = opened("index.html").locator("#matrix td", has_text=both)
    assert re.search(r"gpu: [○◔◑◕●] [1-5]", ladder.text_content())
    page = opened("index.html?for=default")
    square = page.locator("#matrix td", has_text=both)
    assert "gpu: partial" in square.text_content()
    page.get_by_label("Device class").select_option("gpu")
    said = words(page)
    assert said.pop(both) == CellOutcome.PARTIAL.value
    assert "host: partial" in square.text_content()
    assert set(said.values()) == {CellOutcome.UNTESTED.value}


def test_untested_and_stale_and_needs_gpu_are_always_seen(opened: Opened, sample: Site) -> None:
    page = opened("index.html")
    untested = [one for one in sample.entries.values() if one.default and not one.by_class]
    assert list(words(page).values()).count("untested") == len(untested) > 0
    assert page.locator("#matrix td.stale .note", has_text="out of date").count() == 2
    assert page.locator("#matrix .note", has_text="GPU –").count() > 0
    page.locator("select[name=for]").select_option("all")
    assert page.locator("#matrix .note", has_text="need gpu").count() > 0


def test_the_list_is_searched_sorted_and_filtered(opened: Opened, sample: Site) -> None:
    page = opened("index.html?for=default")
    page.locator("select[name=list]").select_option("other")
    off = [one.name for one in sample.entries.values() if not one.default]
    if page.locator("#more").is_visible():  # the list begins with its first rows alone
        page.locator("#more").click()
    assert sorted(names(page)) == sorted(off)
    page.locator("select[name=list]").select_option("")
    page.get_by_label("Search").fill("0.16.1 2.9.1")
    wanted = ("0.16.1", "2.9.1")
    found = [e for e in sample.entries.values() if all(v in e.pins.values() for v in wanted)]
    assert sorted(names(page)) == sorted(one.name for one in found)
    page.get_by_role("button", name="ModelOpt", exact=True).click()
    order = page.locator("#cells tbody tr td:nth-child(5)").all_text_contents()
    assert order == sorted(order, key=lambda v: [int(n) for n in v.split(".")])
    page.get_by_role("button", name="ModelOpt", exact=True).click()
    assert page.locator("#cells tbody tr td:nth-child(5)").all_text_contents() == order[::-1]
    assert page.locator("th[aria-sort=descending]").count() == 1
    page.locator("select[name=outcome]").select_option("partial")
    partial = [one for one in found if one.outcome("host") is CellOutcome.PARTIAL]
    assert len(names(page)) == len(partial)
    assert f"{len(partial)} cells" in page.locator("#list-said").text_content()


def test_the_matrix_is_that_of_a_profile_and_links_to_it(opened: Opened, sample: Site) -> None:
    page = opened("index.html")
    for name in ("default", "restore"):
        profile = index.profiles_of(sample)[name]
        page.locator("select[name=for]").select_option(name)
        said = words(page)
        for one in sample.entries.values():
            e = one.by_class.get("host")
            if one.default and e:
                ended = answer.outcome(e, profile)
                assert said["megatron-core {}, ModelOpt {}: ".format(*one.pair)] == ended.value
        assert f"for={name}" in address_of(page)
        page.reload()
        assert words(page) == said


def test_a_small_screen_steps_from_series_to_series(opened: Opened) -> None:
    page = opened("index.html", width=380)
    rows = page.locator("#matrix tbody tr:visible")
    assert rows.count() == 1
    newest = rows.first.get_attribute("data-series")
    page.get_by_role("button", name="older megatron-core").click()
    assert page.locator("#matrix tbody tr:visible").first.get_attribute("data-series") != newest
    page.get_by_role("button", name="newer megatron-core").click()
    assert page.locator("#matrix tbody tr:visible").first.get_attribute("data-series") == newest


def test_a_square_says_why_where_it_is_pointed_at(opened: Opened, sample: Site) -> None:
    page = opened("index.html")
    why = page.locator("#why")
    before = why.text_content()
    link = page.locator("#matrix td.o-restores a").first
    link.focus()
    assert why.text_content() != before
    assert link.get_attribute("href").removesuffix(".html").removeprefix("cells/") in " ".join(
        [why.inner_html(), why.text_content()]
    )
    page.get_by_label("Family").select_option("mla-moe")
    assert why.text_content() == before  # what it explained may have gone


def test_any_view_can_be_linked_and_survives_a_reload(opened: Opened) -> None:
    page = opened("index.html")
    page.get_by_label("Family").select_option("mla-moe")
    page.locator("select[name=list]").select_option("other")
    page.get_by_label("Search").fill("0.16")
    page.get_by_role("button", name="ModelOpt", exact=True).click()
    page.locator("#cells tbody input").first.check()
    before = words(page), names(page), page.locator("#picked thead").text_content()
    address = address_of(page)
    for key in ("family=mla-moe", "list=other", "q=0.16", "sort=nvidia-modelopt", "pick=compat-"):
        assert key in address
    page.reload()
    assert (words(page), names(page), page.locator("#picked thead").text_content()) == before
    other = opened(address.split("/site/")[1])
    assert (words(other), names(other), other.locator("#picked thead").text_content()) == before
    assert other.get_by_label("Family").input_value() == "mla-moe"


def test_an_address_that_means_nothing_is_passed_over(opened: Opened) -> None:
    page = opened("index.html?family=nope&device=tpu&sort=nope&pick=nope")
    assert page.get_by_label("Family").input_value() == ""
    assert page.get_by_label("Device class").input_value() == "host"


def test_without_script_the_matrix_is_there(opened: Opened) -> None:
    plain = opened("index.html", java_script_enabled=False)
    assert plain.locator("form:visible").count() == 0
    squares = plain.locator("#matrix td .word").all_text_contents()
    assert squares == opened("index.html").locator("#matrix td .word").all_text_contents()
    assert plain.locator("#cells tbody tr").count() > 0
    assert opened("choose.html", java_script_enabled=False).locator("#choices li").count() > 0


@pytest.mark.parametrize(
    "asked",
    [{}, {"torch": "2.9"}, {"cuda": "12", "megatron-core": "0.12"},
     {"torch": "2.6", "megatron-core": "0.16"},
     {"torch": "2.6", "megatron-core": "0.16", "transformer-engine": "2.11"}],
)  # fmt: skip
def test_the_choice_is_what_recommend_says(
    opened: Opened, sample: Site, asked: dict[str, str]
) -> None:
    page = opened("choose.html?" + "&".join(f"{k}={v}" for k, v in asked.items()))
    text = ", ".join(f"{axis} {version}" for axis, version in asked.items())
    wanted = constraints.parse(text) if text else ()
    good = choose.ranked(sample)
    advice = recommend.advise(wanted, good)
    shown_ = page.locator("#choices li h2 a").all_text_contents()
    assert shown_ == [cell.name for cell in advice.cells[: choose.ROWS]]
    blocking = page.locator(".way a.name").all_text_contents()
    assert sorted(blocking) == sorted(cell.name for _, cell in advice.in_the_way)
    assert bool(blocking) is not bool(shown_)


def test_constraints_can_be_had(opened: Opened, sample: Site) -> None:
    page = opened("choose.html")
    link = page.get_by_role("link", name="constraints", exact=True).first
    assert link.get_attribute("download") is not None
    name = page.locator("#choices h2 a").first.text_content()
    page.goto(link.evaluate("(a) => a.href"))
    text = sample.all_.constraints[name]
    assert page.locator("pre").text_content() == text


def test_hostile_text_shows_as_text(opened: Opened, root: Path) -> None:
    text = " ".join(shown(HOSTILE).split())
    for path in ("cells/compat-0.30-modelopt0.60.html", "index.html?q=0.60"):
        page = opened(path)
        page.wait_for_timeout(50)
        assert "owned" not in page.title()
        assert page.locator("img").count() == 0
        body = " ".join(page.locator("body").text_content().split())
        assert "\u202e" not in body
        if path.startswith("cells"):
            assert text in body
            assert "{{ 7 * 7 }}" in body
    every = [p for p in (root / "causes").glob("*.html") if p.name != "index.html"]
    causes = [p for p in every if "owned" in p.read_text("utf-8")]
    assert causes
    page = opened(f"causes/{causes[0].name}")
    assert text in " ".join(page.locator("pre").first.text_content().split())


def test_the_theme_is_kept(opened: Opened) -> None:
    page = opened("index.html")
    background = "() => getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    button = page.get_by_role("button", name="Theme")
    button.click()
    button.click()
    assert "dark" in button.text_content()
    assert page.evaluate(background) != light
    page.reload()
    assert page.evaluate(background) != light


def test_all_can_be_done_by_keyboard(opened: Opened) -> None:
    page = opened("index.html")
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("() => document.activeElement.id") == "main"
    page.get_by_label("Family").focus()
    page.keyboard.press("ArrowDown")
    assert "family=" in address_of(page)
    page.locator("#matrix tbody td a").first.focus()
    outline = "() => getComputedStyle(document.activeElement).outlineStyle"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert page.evaluate(outline) != "none"
    target = page.evaluate("() => document.activeElement.href")
    page.get_by_role("button", name="cell", exact=True).focus()
    page.keyboard.press("Enter")
    assert "sort=cell" in address_of(page)
    page.locator("#cells tbody input").first.focus()
    page.keyboard.press("Space")
    assert "pick=" in address_of(page)
    page.locator(f"#matrix a[href='{'/'.join(target.split('/')[-2:])}']").focus()
    page.keyboard.press("Enter")
    page.wait_for_url(target)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [380, 1440])
@pytest.mark.parametrize("kind", [*KINDS, "cause"])
def test_accessible_and_within_the_window(
    opened: Opened, root: Path, kind: str, width: int, scheme: str
) -> None:
    cause = min(p for p in (root / "causes").glob("*.html") if p.name != "index.html")
    page = opened(
        KINDS.get(kind, f"causes/{cause.name}"), width=width, scheme=scheme, bypass_csp=True
    )
    page.evaluate("() => document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    over = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(over) <= 0
    page.add_script_tag(path=os.environ["MCORE_COMPAT_AXE"])
    found = page.evaluate("() => axe.run(document, {preload: false})")
    nodes = [(v["id"], n) for v in found["violations"] for n in v["nodes"][:2]]
    assert [(rule, n["html"][:200], n["failureSummary"]) for rule, n in nodes] == []
