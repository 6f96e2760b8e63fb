"""A package index on loopback, of wheels that are written here: no build, no network.

By HTTP and not from a folder: only an index that says when a file was uploaded can be asked for
the world of a date, which every lock is.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any

from minimatrix.packages import Toy

JSON = "application/vnd.pypi.simple.v1+json"


def wheel(toy: Toy) -> tuple[str, bytes]:
    """Name and content of a release's wheel; the same bytes for the same release."""
    stem = f"{toy.name.replace('-', '_')}-{toy.version}"
    info = f"{stem}.dist-info"
    members = {
        **toy.files,
        f"{info}/METADATA": metadata(toy),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(_row(name, text) for name, text in members.items()) + f"{info}/RECORD,,\n"
    out = BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, text in {**members, f"{info}/RECORD": record}.items():
            archive.writestr(zipfile.ZipInfo(name), text)
    return f"{stem}-py3-none-any.whl", out.getvalue()


def _row(name: str, text: str) -> str:
    """A file's line of RECORD."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(text.encode())}\n"


def metadata(toy: Toy) -> str:
    """METADATA of a release."""
    lines = ["Metadata-Version: 2.1", f"Name: {toy.name}", f"Version: {toy.version}"]
    return "\n".join([*lines, *(f"Requires-Dist: {text}" for text in toy.requires)]) + "\n"


def sha256(toy: Toy) -> str:
    """Digest of a release's wheel, as a lock has it."""
    return hashlib.sha256(wheel(toy)[1]).hexdigest()


class Index:
    """What there is: a page by project, a file by name. Releases may be added at any time."""

    def __init__(self, releases: Iterable[Toy]) -> None:
        self.url = ""
        self._pages: dict[str, list[dict[str, Any]]] = {}
        self._files: dict[str, bytes] = {}
        self.add(releases)

    def add(self, releases: Iterable[Toy]) -> None:
        """Publish more releases."""
        for toy in releases:
            name, content = wheel(toy)
            described = metadata(toy).encode()
            self._files[name] = content
            self._files[f"{name}.metadata"] = described
            self._pages.setdefault(toy.name, []).append(
                {
                    "filename": name,
                    "url": f"/files/{name}",
                    "hashes": {"sha256": hashlib.sha256(content).hexdigest()},
                    "core-metadata": {"sha256": hashlib.sha256(described).hexdigest()},
                    "requires-python": ">=3.10",
                    "size": len(content),
                    "upload-time": f"{toy.uploaded}T12:00:00Z",
                    "yanked": False,
                }
            )

    def answer(self, path: str) -> tuple[str, bytes] | None:
        """Content type and content of a path; None where there is nothing."""
        if match := re.fullmatch(r"/projects/([^/]+)/", path):
            files = self._pages.get(match[1])
            page = {"meta": {"api-version": "1.1"}, "name": match[1], "files": files}
            page["versions"] = sorted(f["filename"].split("-")[1] for f in files or ())
            return (JSON, json.dumps(page).encode()) if files else None
        content = self._files.get(path.removeprefix("/files/"))
        return None if content is None else ("application/octet-stream", content)


@contextmanager
def served(index: Index) -> Iterator[Index]:
    """The index, with its `url` while it is served."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            found = index.answer(self.path)
            kind, content = found or ("text/plain", b"")
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        index.url = f"http://{server.server_address[0]!s}:{server.server_address[1]}/projects/"
        yield index
    finally:
        server.shutdown()
        server.server_close()
