"""A package index on loopback that may lie: what `Liar.lies` names is answered otherwise."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from minimatrix.index import JSON, Index

PORTAL = (
    b"<!DOCTYPE html><html><head><title>Sign in</title></head><body><a href='/login'>Sign in</a>"
)
"""What stands between a machine and the network answers with, whatever it was asked for."""


@dataclass(frozen=True)
class Answer:
    """Of the server: what it sends. `declared`: the length that it announces, where not the true
    one; `pause_s`: it waits so long before each byte."""

    status: int = 200
    kind: str = JSON
    body: bytes = b""
    declared: int | None = None
    pause_s: float = 0.0
    location: str | None = None


Lie = Callable[[Answer], Answer | None]
"""From the true answer the one that is given; None: none, for ever."""


def portal(true: Answer) -> Answer:
    return Answer(kind="text/html", body=PORTAL)


def hangs(true: Answer) -> None:
    return None


def nothing(true: Answer) -> Answer:
    return Answer(status=404, kind="text/plain", body=b"not found")


def overloaded(true: Answer) -> Answer:
    return Answer(status=503, kind="text/plain", body=b"try later")


def cut(true: Answer) -> Answer:
    return Answer(kind=true.kind, body=true.body[: len(true.body) // 2], declared=len(true.body))


def redirected(true: Answer) -> Answer:
    return Answer(status=302, kind="text/plain", location="/portal")


def page(change: Callable[[dict[str, Any]], object]) -> Lie:
    """A page of which something was changed."""

    def lie(true: Answer) -> Answer:
        content = json.loads(true.body)
        change(content)
        return Answer(kind=true.kind, body=json.dumps(content).encode())

    return lie


empty = page(lambda content: content.update(files=[], versions=[]))


@dataclass
class Liar:
    """An index and the lies that are told instead of it: by path, or `*` for all. `asked` are the
    paths of all requests."""

    truth: Index
    url: str = ""
    lies: dict[str, Lie] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    closed: threading.Event = field(default_factory=threading.Event)

    def answer(self, path: str) -> Answer | None:
        self.asked.append(path)
        if path == "/portal":
            return Answer(kind="text/html", body=PORTAL)
        true = self.truth.answer(path)
        answer = Answer(kind=true[0], body=true[1]) if true else nothing(Answer())
        lie = self.lies.get(path.rstrip("/").rpartition("/")[2]) or self.lies.get("*")
        return lie(answer) if lie else answer


@contextlib.contextmanager
def lying(truth: Index) -> Iterator[Liar]:
    """The index, served, with its `url`."""
    liar = Liar(truth)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answer = liar.answer(self.path)
            if answer is None:
                liar.closed.wait()
                return
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.kind)
            length = len(answer.body) if answer.declared is None else answer.declared
            self.send_header("Content-Length", str(length))
            if answer.location:
                self.send_header("Location", answer.location)
            self.end_headers()
            with contextlib.suppress(OSError):  # who asked has gone
                self._send(answer)
            self.close_connection = answer.declared is not None

        def _send(self, answer: Answer) -> None:
            if not answer.pause_s:
                self.wfile.write(answer.body)
                return
            for byte in answer.body:
                self.wfile.write(bytes([byte]))
                if liar.closed.wait(answer.pause_s):
                    return

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        liar.url = f"http://{server.server_address[0]!s}:{server.server_address[1]}/projects/"
        yield liar
    finally:
        liar.closed.set()
        server.shutdown()
        server.server_close()
