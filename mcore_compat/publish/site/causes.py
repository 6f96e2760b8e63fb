"""A page for each cause of failures: where it was seen, over which versions, who knows. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from mcore_compat.publish.rendering import render
from mcore_compat.publish.site.view import Site


def pages(site: Site) -> Iterator[tuple[str, str]]:
    """`causes/FINGERPRINT.html`, and the list of them."""
    places = {name: place for place, name in enumerate(site.entries)}
    causes = site.all_.failures
    for cause in causes:
        cells = sorted(cause.members, key=lambda m: (places[m[0].cell], m[0].device_class))
        yield (
            f"causes/{cause.cause.fingerprint}.html",
            render("cause.html", root="../", one=cause, cells=cells),
        )
    yield "causes/index.html", render("causes.html", root="../", causes=causes)
