"""The toy index on loopback, which answers badly where it is told to."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from minimatrix.index import JSON, Index
from minimatrix.packages import Toy

HTML = "<!doctype html><title>Log in</title><p>Please log in to this network.\n"

HANGS_S = 60.0

Answer = tuple[int, str, bytes]
"""Status, content type, content."""

Bad = Callable[["Request"], Answer | None]
"""What is answered instead; None: as an index does."""


class Request:
    """One request: its path, what a good index answers, and the connection."""

    def __init__(self, path: str, good: Answer, connection: socket.socket) -> None:
        self.path, self.good, self.connection = path, good, connection

    @property
    def is_page(self) -> bool:
        """Whether it asks which files a project has."""
        return self.path.startswith("/projects/")

    @property
    def is_wheel(self) -> bool:
        """Whether it asks for a wheel."""
        return self.path.endswith(".whl")


class HostileIndex(Index):
    """An index that is good until it is spoiled, and again when it is mended."""

    def __init__(self, releases: Iterable[Toy]) -> None:
        super().__init__(releases)
        self.bad: Bad | None = None
        self.bad_from = 0
        self.asked = 0
        self.did_bad = 0
        self.ended = threading.Event()

    def spoil(self, bad: Bad, after: int = 0) -> None:
        """Answer badly from now on, but for the first requests."""
        self.bad, self.bad_from, self.asked, self.did_bad = bad, after, 0, 0
        self.ended = threading.Event()

    def mend(self) -> None:
        """Answer well again."""
        self.bad = None
        self.ended.set()

    def answered(self, path: str, connection: socket.socket) -> Answer:
        """What is answered."""
        found = self.answer(path)
        good = (200, *found) if found else (404, "text/plain", b"")
        self.asked += 1
        if self.bad is None or self.asked <= self.bad_from:
            return good
        answer = self.bad(Request(path, good, connection))
        self.did_bad += answer is not None
        return answer or good


class DropError(Exception):
    """Ends a connection without an answer."""


def status(code: int) -> Bad:
    """An error's status, with a page."""
    return lambda request: (code, "text/html", b"<h1>error</h1>")


def html(request: Request) -> Answer:
    """200, and the page of a network that wants a login."""
    return (200, "text/html", HTML.encode())


def html_as_json(request: Request) -> Answer:
    """The same, called what was asked for."""
    return (200, request.good[1], HTML.encode())


def empty_list(request: Request) -> Answer | None:
    """A page without a file."""
    name = request.path.strip("/").rpartition("/")[2]
    page = {"meta": {"api-version": "1.1"}, "name": name, "files": [], "versions": []}
    return (200, JSON, json.dumps(page).encode()) if request.is_page else None


def nothing(request: Request) -> Answer:
    """200, and no content."""
    return (200, request.good[1], b"")


def cut(request: Request) -> Answer:
    """Half of the content, as if it were all."""
    code, kind, content = request.good
    return (code, kind, content[: len(content) // 2])


def forgets(request: Request) -> Answer | None:
    """A page without half of its files."""
    if not request.is_page or request.good[0] != 200:
        return None
    page = json.loads(request.good[2])
    page["files"] = page["files"][: len(page["files"]) // 2]
    page["versions"] = sorted(file["filename"].split("-")[1] for file in page["files"])
    return (200, JSON, json.dumps(page).encode())


def lies(request: Request) -> Answer | None:
    """Other digests than those of the files."""
    if not request.is_page or request.good[0] != 200:
        return None
    page = json.loads(request.good[2])
    for file in page["files"]:
        file["hashes"] = {"sha256": "0" * 64}
    return (200, JSON, json.dumps(page).encode())


def flipped(request: Request) -> Answer | None:
    """A wheel with a byte that is not what it was."""
    code, kind, content = request.good
    if not request.is_wheel or not content:
        return None
    middle = len(content) // 2
    return (code, kind, content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])


def odd_versions(request: Request) -> Answer | None:
    """Files of versions that are none, with control characters in their names."""
    if not request.is_page or request.good[0] != 200:
        return None
    page = json.loads(request.good[2])
    for version in ("not.a.version", "1.0\x1b[31m", "9" * 400, "2.0\u202e", "1.0\n99"):
        file = dict(page["files"][0])
        name = file["filename"].split("-")[0]
        page["files"].append({**file, "filename": f"{name}-{version}-py3-none-any.whl"})
        page["versions"].append(version)
    return (200, JSON, json.dumps(page).encode())


def deep(request: Request) -> Answer | None:
    """JSON that is a hundred thousand lists deep."""
    return (200, JSON, b"[" * 100_000) if request.is_page else None


def wrong_project(request: Request) -> Answer | None:
    """The page of another project."""
    page = {"meta": {"api-version": "1.1"}, "name": "other", "files": [], "versions": ["1.0"]}
    file = {"filename": "other-1.0-py3-none-any.whl", "url": "/files/other-1.0-py3-none-any.whl"}
    page["files"] = [{**file, "hashes": {}, "upload-time": "2025-01-01T12:00:00Z"}]
    return (200, JSON, json.dumps(page).encode()) if request.is_page else None


def garbage(request: Request) -> Answer:
    """No HTTP at all."""
    with suppress(OSError):
        request.connection.sendall(b"\x00\x01\x02 garbage\r\n\r\n")
    raise DropError


def drops(request: Request) -> Answer:
    """The connection ends in the middle of the content."""
    content = request.good[2]
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {request.good[1]}\r\nContent-Length: {len(content)}"
    with suppress(OSError):
        request.connection.sendall(f"{head}\r\n\r\n".encode() + content[: len(content) // 2])
    raise DropError


def redirects(request: Request) -> Answer:
    """Round and round."""
    head = f"HTTP/1.1 302 Found\r\nLocation: {request.path}\r\nContent-Length: 0\r\n\r\n"
    with suppress(OSError):
        request.connection.sendall(head.encode())
    raise DropError


def hangs(index: HostileIndex) -> Bad:
    """Never an answer."""

    def bad(request: Request) -> Answer:
        index.did_bad += 1
        index.ended.wait(HANGS_S)
        raise DropError

    return bad


def drips(index: HostileIndex) -> Bad:
    """A byte now and then."""

    def bad(request: Request) -> Answer:
        index.did_bad += 1
        with suppress(OSError):
            request.connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            started = time.monotonic()
            while not index.ended.wait(0.5) and time.monotonic() < started + HANGS_S:
                request.connection.sendall(b"x")
        raise DropError

    return bad


@contextmanager
def served(index: HostileIndex) -> Iterator[HostileIndex]:
    """The index, with its `url` while it is served."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            try:
                code, kind, content = index.answered(self.path, self.connection)
            except DropError:
                index.did_bad += 1
                self.close_connection = True
                return
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, request: object, client_address: object) -> None:
            """Who asked has gone: that is what these tests are about."""

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        index.url = f"http://{server.server_address[0]!s}:{server.server_address[1]}/projects/"
        yield index
    finally:
        index.mend()
        server.shutdown()
        server.server_close()
