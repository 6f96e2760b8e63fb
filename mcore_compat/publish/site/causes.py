"""A page for each cause of failures: in which cells and versions it occurs and where it is
discussed; and the list of causes, with a search for error messages. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from mcore_compat.analysis import known_names
from mcore_compat.analysis.error_search import ErrorSearch
from mcore_compat.analysis.grades import Grades
from mcore_compat.analysis.published import Compatibility
from mcore_compat.analysis.untested_releases import UntestedRelease, UntestedReleases
from mcore_compat.core.cells import AXES
from mcore_compat.publish import compatibility_json
from mcore_compat.publish.collation import SeenCause
from mcore_compat.publish.rendering import render, script_json
from mcore_compat.publish.site.view import Site


def pages(site: Site) -> Iterator[tuple[str, str]]:
    """`causes/FINGERPRINT.html`, and the list of all causes."""
    places = {name: place for place, name in enumerate(site.entries)}
    causes = site.all_.failures
    known = compatibility_json.known(site.all_)
    untested = UntestedReleases(Grades(known, site.digests), site.all_.matrix, site.all_.releases)
    for cause in causes:
        cells = sorted(cause.members, key=lambda m: (places[m[0].cell], m[0].device_class))
        yield (
            f"causes/{cause.cause.fingerprint}.html",
            render(
                "cause.html",
                root="../",
                one=cause,
                cells=cells,
                untested=_untested(cause, known, untested),
            ),
        )
    data = script_json(search(site, known).data())
    yield "causes/index.html", render("causes.html", root="../", causes=causes, data=data)


def _untested(
    cause: SeenCause, known: Compatibility, untested: UntestedReleases
) -> dict[str, list[UntestedRelease]]:
    """By device class: the untested releases that a cause probably affects."""
    return {
        name: [*untested.of_cause(known.cause(cause.cause.fingerprint, name))]
        for name in cause.explained
    }


def search(site: Site, known: Compatibility) -> ErrorSearch:
    """The data for the page's search for error messages: the same as for `explain --error`."""
    releases = site.all_.releases
    versions = {axis: [release.version for release in releases.of(axis)] for axis in AXES[:4]}
    return ErrorSearch(known_names.known_errors(known, versions, site.all_.matrix.undeclared))
