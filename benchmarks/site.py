"""Report and site of a synthetic matrix of 5,000 cells, and how quick its first page is."""

from __future__ import annotations

import os
import re
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import synthetic
from benchmarks.measure import HERE, Row
from mcore_compat.base import processes

CELLS = 5000
FILTERS = (
    ("family", "gpt"),
    ("kind", "restore"),
    ("te", "2.31"),
    ("list", "other"),
    ("torch", "2.20"),
)

_FILTER = """([name, value]) => {
  const input = document.querySelector(`.switches [name=${name}]`);
  const started = performance.now();
  input.value = value;
  input.dispatchEvent(new Event("input", { bubbles: true }));
  document.body.getBoundingClientRect();  // what was changed is laid out
  return performance.now() - started;
}"""


def site() -> list[Row]:
    """From results to pages, in a separate process; then the first page in chromium."""
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "results", Path(folder) / "reports"
        synthetic.results_of(CELLS, source)
        argv = [sys.executable, "-m", "benchmarks.synthetic", str(source), str(out)]
        done = processes.run(argv, timeout=900, cwd=HERE.root)
        if done.returncode:
            raise SystemExit(done.output[-2000:])
        print(done.output)
        rows = re.findall(r"^ *([\d.]+) s +(\d+) MB", done.output, re.MULTILINE)
        cpu, peak = float(rows[-1][0]), float(rows[-1][1])
        opened, filters = _in_browser(out / "site" / "index.html")
    what = f"report and site of {CELLS} cells"
    return [
        Row(
            name="site",
            what=f"{what}, from results on disk to the last page",
            value=done.seconds,
            unit="s",
            limit=20.0,
            alternative="of that on the processor",
            alternative_value=cpu,
        ),
        Row(
            name="site-memory",
            what=f"{what}, the largest of three processes, which share most of it",
            value=peak,
            unit="MB",
            limit=500.0,
        ),
        Row(
            name="site-open",
            what=f"the first page of {CELLS} cells, opened in chromium until it can be used",
            value=opened,
            unit="s",
            limit=2.0,
        ),
        Row(
            name="site-filter",
            what=f"a filter of {CELLS} cells, until what is in view of its result is laid out; "
            f"the slowest of {len(filters)}, in ms",
            value=max(filters),
            unit="ms",
            limit=100.0,
            alternative="the median",
            alternative_value=statistics.median(filters),
        ),
    ]


def _in_browser(path: Path) -> tuple[float, list[float]]:
    """Seconds until the page is loaded, and milliseconds of each filter."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("chromium is not on PATH; install it: apt-get install chromium")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        page: Any = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto("about:blank")
        page.goto(path.as_uri())
        loaded = page.evaluate(
            "() => performance.timing.loadEventEnd - performance.timing.navigationStart"
        )
        filters = [page.evaluate(_FILTER, list(one)) for one in FILTERS]
        page.locator("[name=q]").fill("0.1 partial")
        filters.append(page.evaluate(_FILTER, ["q", "0.2 partial"]))
        print("filters:", ", ".join(f"{one:.0f}" for one in filters), "ms")
        browser.close()
    return float(loaded) / 1000, filters
