"""A site of a sample of the real results, with one stand-in cell whose texts are hostile, in
Debian's chromium."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import snapshot
from support import (
    HOSTILE,
    ROOT,
    event,
    hostile_event,
    stand_in_cell,
    stand_in_result,
    write_folder,
)

from mcore_compat.core import combinations
from mcore_compat.core.cells import series_of
from mcore_compat.core.workspace import Workspace
from mcore_compat.publish import site
from mcore_compat.publish.collation import collate
from mcore_compat.publish.site.view import Site
from mcore_compat.results import store

SAMPLE = ("0.9", "0.12", "0.16")
"""Series of megatron-core: some that fail, some that restore, some off the default stacks."""

BOTH = "compat-0.16-modelopt0.41"
"""The cell that has results of two device classes here."""

STALE = "compat-0.16-modelopt0.40"
"""A default cell whose result is said to be out of date, as BOTH's is."""

UNTESTED = "compat-0.16-modelopt0.39"
"""The default cell whose result is left out here."""


@pytest.fixture(scope="session")
def sample() -> Site:
    declared, known = snapshot.matrix(), snapshot.releases()
    found = [
        e
        for e in store.load_all(Workspace(ROOT).results)
        if series_of(e.pins["megatron-core"]) in SAMPLE and e.cell != UNTESTED
    ]
    made = stand_in_result(
        event("restore[gpt]"),
        hostile_event("restore[mla-moe]"),
        event("inference-numbers[gpt]", "unsupported", reason=HOSTILE),
        cell=stand_in_cell("0.30.0", "0.60.0"),
    )
    found.append(replace(made, suite=HOSTILE))
    both = next(e for e in found if e.cell == BOTH)
    found.append(replace(both, device_class="gpu"))  # a stand-in: nothing was run on a GPU
    cells = [c for c in combinations.cells(declared, known) if series_of(c.mcore) in SAMPLE]
    all_ = collate(found, cells, declared, known)
    return Site(all_, {(STALE, "host"): "a stand-in says so", (BOTH, "host"): HOSTILE})


@pytest.fixture(scope="session")
def root(sample: Site, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "site"
    write_folder(folder, site.pages(sample))
    return folder


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    found = shutil.which("chromium")
    if found is None:
        pytest.fail("chromium is not on PATH; install it: apt-get install chromium", pytrace=False)
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=arguments)
        yield browser
        browser.close()


Opened = Callable[..., Any]


@pytest.fixture
def opened(chromium: Any, root: Path) -> Iterator[Opened]:
    """Opens a page, `opened("index.html?q=x", width=380)`; at the end nothing may have failed."""
    contexts: list[Any] = []
    said: list[str] = []

    def watch(page: Any) -> None:
        page.on("console", lambda m: said.append(f"{page.url}: {m.type}: {m.text}"))
        page.on("pageerror", lambda e: said.append(f"{page.url}: {e}"))
        page.on("requestfailed", lambda r: said.append(f"{page.url}: {r.url} failed"))
        page.on("dialog", lambda d: (said.append(f"{page.url}: a dialog"), d.dismiss()))
        page.on(
            "request",
            lambda r: None if r.url.startswith(("file:", "data:")) else said.append(r.url),
        )

    def open_(path: str, *, width: int = 1440, scheme: str = "light", **options: Any) -> Any:
        context = chromium.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, **options
        )
        contexts.append(context)
        page = context.new_page()
        watch(page)
        page.goto(f"{root.as_uri()}/{path}")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert said == []
