"""Are the links of the built site good? Each one to a page, a part of a page or a file beside the
documentation must lead somewhere; other sites are not asked.

    python docs/_extensions/site_links.py build/docs reports
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The links and the anchors of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.links.append(value)
            elif name == "id" and value:
                self.anchors.add(value)


def bad_links(docs: Path, beside: Path) -> Iterator[str]:
    """Every link that leads nowhere: `page: link`. `beside`: what is published beside `docs`."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(docs.rglob("*.html"))}
    for path, page in pages.items():
        for link in dict.fromkeys(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            file = (path.parent / unquote(parts.path)).resolve() if parts.path else path.resolve()
            if docs.resolve() not in file.parents:
                file = beside.resolve() / file.relative_to(docs.resolve().parent)
                if not file.exists() and not _not_made(file, beside):
                    yield f"{path.relative_to(docs)}: {link}"
                continue
            there = pages.get(docs / file.relative_to(docs.resolve()))
            if not file.exists() or (parts.fragment and there and _lacks(there, parts.fragment)):
                yield f"{path.relative_to(docs)}: {link}"


def _lacks(page: Page, fragment: str) -> bool:
    return unquote(fragment) not in page.anchors


def _not_made(file: Path, beside: Path) -> bool:
    """Whether it is of the results' site, where that was not made here (`nox -s report`)."""
    site = beside.resolve() / "site"
    return not site.exists() and file == site / "index.html"


def main() -> int:
    """Print the links that lead nowhere; 1 where there are some."""
    docs, beside = map(Path, sys.argv[1:])
    bad = list(bad_links(docs, beside))
    print("\n".join(bad), end="\n" if bad else "")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
