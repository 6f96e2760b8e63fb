"""The search of errors on the page of causes: as `explain --error` answers, from a file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest

from mcore_compat.analysis import error_text
from mcore_compat.analysis.error_search import ErrorSearch
from mcore_compat.publish import compatibility_json
from mcore_compat.publish.rendering import shown
from mcore_compat.publish.site import causes
from mcore_compat.publish.site.view import Site

pytestmark = pytest.mark.browser

Opened = Callable[..., Any]

PAGE = "causes/index.html"
KNOWN = (
    "ImportError: cannot import name 'get_tensor_model_parallel_group_if_none' from "
    "'megatron.core.utils' (/x/site-packages/megatron/core/utils.py)"
)
UNKNOWN = "RuntimeError: Missing key in checkpoint state_dict: of.mine.alone"


@pytest.fixture(scope="module")
def search(sample: Site) -> ErrorSearch:
    return causes.search(sample, compatibility_json.known(sample.all_))


def told(page: Any) -> list[str]:
    titles: list[str] = page.locator("#error-found > li h3 a").all_text_contents()
    return titles


def test_an_error_in_the_address_is_found_as_the_command_finds_it(
    opened: Opened, search: ErrorSearch
) -> None:
    for text in (KNOWN, UNKNOWN, "'NoneType' object is not subscriptable"):
        page = opened(f"{PAGE}#error={quote(text)}")
        found = search.find(error_text.errors(text))
        assert found.matches
        expected = [m.known.tell().first if m.sure else m.known.title for m in found.matches]
        assert told(page) == [shown(title) for title in expected]
        assert (
            page.locator("#error-said")
            .text_content()
            .startswith("Known: " if found.sure else "Not known; the most similar known errors:")
        )
        assert page.get_by_label("An error message, a traceback or a log").input_value() == text


def test_what_is_pasted_is_found_said_and_kept_in_the_address(opened: Opened) -> None:
    page = opened(PAGE)
    field = page.get_by_label("An error message, a traceback or a log")
    hint = page.locator("#error-said").text_content()
    field.fill("2026-01-02 10:11:12,123 - INFO - all is well\n" * 500 + f"[rank0]: {KNOWN}\n")
    page.locator("#error-found > li").first.wait_for()
    assert page.locator("#error-said").text_content().startswith("Known: ")
    there = page.evaluate("() => decodeURIComponent(location.href.replaceAll('+', ' '))")
    assert there.endswith(f"error={KNOWN}")
    page.get_by_role("button", name="Clear").click()
    page.locator("#error-found > li").first.wait_for(state="detached")
    assert page.locator("#error-said").text_content() == hint
    assert "error=" not in page.evaluate("() => location.href")


def test_what_is_found_leads_to_its_page(opened: Opened) -> None:
    page = opened(f"{PAGE}?error={quote(KNOWN)}")
    page.locator("#error-found > li h3 a").first.click()
    assert "get_tensor_model_parallel_group_if_none" in page.locator("main").text_content()


def test_without_a_script_the_page_tells_of_the_command_and_lists_all(opened: Opened) -> None:
    page = opened(PAGE, java_script_enabled=False)
    assert not page.locator("#error-form").is_visible()
    assert "mcore-compat explain --error" in page.locator("#error-said").text_content()
    assert page.locator("table.list tbody tr").count() > 1
