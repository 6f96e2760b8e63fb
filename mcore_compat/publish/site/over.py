"""A page for each combination with results over a base; never the page of a locked cell. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from mcore_compat.base.errors import ResultError
from mcore_compat.core.cells import parse_name
from mcore_compat.publish import over_base
from mcore_compat.publish.over_base import OverBase
from mcore_compat.publish.rendering import render
from mcore_compat.publish.site import cell
from mcore_compat.publish.site.view import Site


def pages(site: Site) -> Iterator[tuple[str, str]]:
    """`over-base/NAME.html`: a separate folder, because a locked cell may have the same name.

    Raises:
        ResultError: a result has an invalid cell name; it would become a file name.
    """
    for name, mine in itertools.groupby(site.all_.over, key=lambda one: one.result.cell):
        if parse_name(name) is None:
            raise ResultError(f'"{name[:80]}" is not the name of a cell')
        yield f"over-base/{name}.html", _text(site, name, list(mine))


def _text(site: Site, name: str, mine: list[OverBase]) -> str:
    return render(
        "over.html",
        root="../",
        name=name,
        pins=mine[0].result.pins,
        known=site.entries,
        sections=[(o, cell.section(site, o.result, o.stale)) for o in mine],
        gpu=over_base.gpu,
        facts=[over_base.facts(o.result.base)[1:] for o in mine],
    )
