"""Validates the index's answers, so that a wrong answer never decides anything.

A proxy may answer 200 to everything, and a mirror that is being filled lists nothing. Neither means
that a release does not exist.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from email.message import Message
from typing import TYPE_CHECKING, Any

from packaging.metadata import InvalidMetadata, Metadata
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from mcore_compat.base.errors import InfrastructureError
from mcore_compat.core.releases import Release

if TYPE_CHECKING:
    from mcore_compat.index.transport import Answer

JSON = "application/vnd.pypi.simple.v1+json"
HTML = "application/vnd.pypi.simple.v1+html"
OLD_HTML = "text/html"

REMOVED = "; if that is correct: nox -s refresh -- --allow-removals"


def page(project: str, answer: Answer) -> Any:
    """The files of a project, as `pypi_simple.ProjectPage`, from an answer with status 200.

    Raises:
        InfrastructureError: the answer is not a page of the simple API, or is another project's.
    """
    import pypi_simple

    header = Message()
    header["Content-Type"] = answer.kind or "none/none"
    kind = header.get_content_type()
    no_page = f"the answer for {project} is not from a package index"
    if kind not in (JSON, HTML, OLD_HTML):
        raise InfrastructureError(f"{no_page}: it sent {answer.kind[:80] or 'no content type'!r}")
    try:
        if kind == JSON:
            found = pypi_simple.ProjectPage.from_json_data(json.loads(answer.body), answer.url)
        else:
            charset = header.get_content_charset()
            found = pypi_simple.ProjectPage.from_html(project, answer.body, answer.url, charset)
    except (ValueError, RecursionError, pypi_simple.UnsupportedRepoVersionError) as error:
        raise InfrastructureError(f"{no_page}: {type(error).__name__}") from error
    if canonicalize_name(found.project) != canonicalize_name(project):
        raise InfrastructureError(f"{no_page}: it sent the page of {found.project[:80]!r}")
    # HTML may be any web page, unless it has an API version or lists files of the project.
    listed = any(file.version for file in found.packages)
    if kind == OLD_HTML and found.repository_version is None and not listed:
        raise InfrastructureError(f"{no_page}: it sent a web page that lists none of its files")
    return found


def requires(package: str, text: str, filename: str) -> tuple[str, ...]:
    """The Requires-Dist entries of METADATA or PKG-INFO, sorted.

    Raises:
        InfrastructureError: the text is not metadata, or is another package's.
    """
    try:
        metadata = Metadata.from_email(text, validate=False)
        name = metadata.name
        found = tuple(sorted(str(r) for r in metadata.requires_dist or ()))
    except InvalidMetadata as error:
        raise InfrastructureError(
            f"the index sent invalid metadata for {filename}: {type(error).__name__}"
        ) from error
    if canonicalize_name(name) != canonicalize_name(package):
        raise InfrastructureError(f"the index sent metadata of {name[:80]!r} for {filename}")
    return found


def versions(listed: Sequence[Any]) -> set[Version]:
    """The versions among the files of a page."""
    found = set()
    for file in listed:
        try:
            found.add(Version(file.version or ""))
        except InvalidVersion:
            continue  # not a release, or an outdated version format
    return found


def check(package: str, listed: Sequence[Any], known: Sequence[Release]) -> None:
    """Check that a package's page is plausible; `known`: its releases that are known already.

    Raises:
        InfrastructureError: it lists nothing, or lacks known releases.
    """
    if not listed:
        raise InfrastructureError(f"the index lists no files of {package}")
    there = versions(listed) if known else set()
    missing = [r.version for r in known if Version(r.version) not in there]
    if missing:
        raise InfrastructureError(f"the index no longer lists {_named(package, missing)}")


def lost(known: Release, now: Release) -> list[str]:
    """The files of a release that are no longer listed, as text."""
    wheels = [f"its wheel {tag}" for tag in known.wheels if tag not in now.wheels]
    return [*(["its source"] if known.sdist and not now.sdist else []), *wheels]


def _named(package: str, missing: Sequence[str]) -> str:
    more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
    return f"{package} {', '.join(missing[-5:])}{more}"


def check_hashes(package: str, listed: Sequence[Any]) -> None:
    """Check that each file has the hash that locks and downloads are verified with.

    Raises:
        InfrastructureError: a file has none.
    """
    without = next((file.filename for file in listed if "sha256" not in file.digests), None)
    if without:
        raise InfrastructureError(f"the index gives no sha256 for {without} of {package}")
