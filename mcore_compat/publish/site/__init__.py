"""Stage collated → site: pages that need no server and load nothing from the network.

`reports/site/` is generated and not committed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

from mcore_compat.publish.site import causes, cell, choose, index, over, series
from mcore_compat.publish.site.view import Site

FOLDER = "site"
"""The folder of the site, beside the report."""

_STATIC = Path(__file__).with_name("static")


def pages(site: Site) -> Iterator[tuple[str, str]]:
    """Every file of the site: its relative path and its text.

    Raises:
        ResultError: a result has an invalid cell name.
    """
    for half in halves(site):
        yield from half


def halves(site: Site) -> tuple[Iterator[tuple[str, str]], Iterator[tuple[str, str]]]:
    """The files of `pages` in two parts that take equally long: the pages about causes, which need
    what the report needs, and those about series; and the others."""
    first, others = (causes, series), (cell, index, choose, over)
    return (
        itertools.chain.from_iterable(part.pages(site) for part in first),
        itertools.chain(_static(), *(part.pages(site) for part in others)),
    )


def _static() -> Iterator[tuple[str, str]]:
    for path in sorted(_STATIC.iterdir()):
        yield path.name, path.read_text(encoding="utf-8")
