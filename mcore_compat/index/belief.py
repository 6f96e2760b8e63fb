"""Which answers of the index are believed: one that is none of an index decides nothing.

What stands between a machine and the network answers 200 to everything; a mirror that is being
filled lists nothing. Neither says that a release does not exist.
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

REMOVED = "; if that is right: nox -s refresh -- --allow-removals"


def page(project: str, answer: Answer) -> Any:
    """The files of a project, as `pypi_simple.ProjectPage`, from an answer of status 200.

    Raises:
        InfrastructureError: the answer is no page of the simple API, or another project's.
    """
    import pypi_simple

    header = Message()
    header["Content-Type"] = answer.kind or "none/none"
    kind = header.get_content_type()
    no_page = f"what answered for {project} is no package index"
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
    # A page of this type may be any web page, unless it says what it is or lists what it should.
    listed = any(file.version for file in found.packages)
    if kind == OLD_HTML and found.repository_version is None and not listed:
        raise InfrastructureError(f"{no_page}: it sent a web page that lists none of its files")
    return found


def requires(package: str, text: str, filename: str) -> tuple[str, ...]:
    """Requires-Dist of METADATA or PKG-INFO, sorted.

    Raises:
        InfrastructureError: the text is no such file's, or another package's.
    """
    try:
        metadata = Metadata.from_email(text, validate=False)
        name = metadata.name
        found = tuple(sorted(str(r) for r in metadata.requires_dist or ()))
    except InvalidMetadata as error:
        raise InfrastructureError(
            f"what the index gives as metadata of {filename} is none: {type(error).__name__}"
        ) from error
    if canonicalize_name(name) != canonicalize_name(package):
        raise InfrastructureError(
            f"what the index gives as metadata of {filename} is that of {name[:80]!r}"
        )
    return found


def versions(listed: Sequence[Any]) -> set[Version]:
    """The versions among the files of a page."""
    found = set()
    for file in listed:
        try:
            found.add(Version(file.version or ""))
        except InvalidVersion:
            continue  # a file that is no release's, or of another time
    return found


def check(package: str, listed: Sequence[Any], known: Sequence[Release]) -> None:
    """Whether a page can be the package's, of which releases are `known`.

    Raises:
        InfrastructureError: it lists nothing, or lacks releases that are known.
    """
    if not listed:
        raise InfrastructureError(f"the index lists no file of {package}")
    there = versions(listed) if known else set()
    missing = [r.version for r in known if Version(r.version) not in there]
    if missing:
        raise InfrastructureError(f"the index lacks {_named(package, missing)}, known before")


def lost(known: Release, now: Release) -> list[str]:
    """The files of a release that are not listed any more, in words."""
    wheels = [f"its wheel {tag}" for tag in known.wheels if tag not in now.wheels]
    return [*(["its source"] if known.sdist and not now.sdist else []), *wheels]


def _named(package: str, missing: Sequence[str]) -> str:
    more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
    return f"{package} {', '.join(missing[-5:])}{more}"


def check_hashes(package: str, listed: Sequence[Any]) -> None:
    """Whether each file comes with the hash that locks and downloads are held against.

    Raises:
        InfrastructureError: one does not.
    """
    without = next((file.filename for file in listed if "sha256" not in file.digests), None)
    if without:
        raise InfrastructureError(f"the index gives no sha256 for {without} of {package}")
