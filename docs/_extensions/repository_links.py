"""Links from a page to files of the repository, which work where the page is read on the web and
on the site: there, `reports/` lies beside the documentation, and any other file is shown where the
sources are. Every such file must be there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from docutils import nodes
from sphinx.addnodes import download_reference, pending_xref
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util import logging

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "reports" / "site"
"""Made by `nox -s report`; its pages are not in the repository."""

PAGES = {
    "reports/COMPATIBILITY.md": "reports/site/index.html",
}
"""What is better read as a page of the results' site."""

log = logging.getLogger(__name__)


def sources() -> str:
    """Where the sources are shown, by a workflow's variables; empty where that is not known."""
    server, name = os.environ.get("GITHUB_SERVER_URL"), os.environ.get("GITHUB_REPOSITORY")
    return f"{server}/{name}/tree/{os.environ.get('GITHUB_SHA', 'HEAD')}" if server and name else ""


class RepositoryLinks(SphinxTransform):
    """Turns what links to a file beside `docs/` into a link that the site can follow."""

    default_priority = 5

    def apply(self, **kwargs: Any) -> None:
        links = [
            *self.document.findall(download_reference),
            *(x for x in self.document.findall(pending_xref) if x.get("reftype") == "myst"),
        ]
        for link in links:
            self._mend(link)

    def _mend(self, link: nodes.Element) -> None:
        target = unquote(str(link["reftarget"])).partition("#")[0]
        page = Path(self.env.doc2path(self.env.docname))
        file = Path(os.path.normpath(page.parent / target)) if target else page
        docs = Path(self.env.srcdir)
        if docs in (file, *file.parents) or ROOT not in file.parents:
            return  # a page, or something that Sphinx itself tells of
        as_page = file.with_name(f"{file.name}.md")  # MyST cuts that ending
        if not file.exists() and as_page.exists():
            file = as_page
        if not file.exists() and SITE not in file.parents:
            log.warning("no such file: %s", target, location=link, type="repository_links")
        url = self._url(page, file)
        inner = [child.deepcopy() for child in link.children]
        there = nodes.reference("", "", *inner, refuri=url, internal=False) if url else None
        link.replace_self(there or inner)

    def _url(self, page: Path, file: Path) -> str:
        path = file.relative_to(ROOT).as_posix()
        path = PAGES.get(path, path)
        if path.startswith("reports/"):
            # The site has the pages in docs/, and what is in reports/ beside that folder.
            up = "../" * len(page.relative_to(ROOT).parent.parts)
            return up + path.removeprefix("reports/")
        base = sources()
        return f"{base}/{path}" if base else ""


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the transform."""
    app.add_transform(RepositoryLinks)
    return {"version": "1", "parallel_read_safe": True}
