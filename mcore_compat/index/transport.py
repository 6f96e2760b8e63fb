"""HTTP requests to the index, each with a time-out, a few retries and a total time limit."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from mcore_compat.base.errors import InfrastructureError, UsageError

TIMEOUT = "MCORE_COMPAT_INDEX_TIMEOUT"
"""The environment variable for the time-out: how many seconds the index may send nothing."""

SILENCE_S = 30.0
CONNECT_S = 10.0

MOST_BYTES = 1 << 28
"""Maximum size of a page; the largest of the public index is a tenth of it."""

_AGAIN = Retry(
    total=4,
    connect=2,
    read=1,
    status=2,
    other=0,
    status_forcelist=(429, 500, 502, 503, 504),
    backoff_factor=0.3,
    raise_on_status=False,
    respect_retry_after_header=False,
)

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Time limits in seconds: for silence, for a page and for a whole file."""

    silence: float

    @property
    def page(self) -> float:
        return 10 * self.silence

    @property
    def file(self) -> float:
        return 120 * self.silence


def limits() -> Limits:
    """The limits from the environment variable, else 30 s of silence: five minutes for a page, an
    hour for a file.

    Raises:
        UsageError: the variable is not a positive number of seconds.
    """
    text = os.environ.get(TIMEOUT, "")
    try:
        silence = float(text) if text else SILENCE_S
    except ValueError:
        silence = 0.0
    if not math.isfinite(silence) or silence <= 0:
        raise UsageError(f'{TIMEOUT}: "{text}" is not a number of seconds; write e.g. 30')
    return Limits(silence=silence)


class Session(requests.Session):
    """A session with a time-out and retries for every request."""

    def __init__(self) -> None:
        super().__init__()
        for scheme in ("http://", "https://"):
            self.mount(scheme, HTTPAdapter(max_retries=_AGAIN))

    def request(self, method: Any, url: Any, *args: Any, **options: Any) -> requests.Response:
        """As `requests.Session.request`."""
        if options.get("timeout") is None:
            silence = limits().silence
            options["timeout"] = (min(CONNECT_S, silence), silence)
        return super().request(method, url, *args, **options)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A complete answer: its status, the content type header, and the body."""

    url: str
    status: int
    kind: str
    body: bytes


def get(session: requests.Session, url: str, accept: str) -> Answer:
    """Send a GET request and read the whole answer.

    Raises:
        InfrastructureError: the answer is larger than MOST_BYTES.
        OSError: no answer, or not in time; the errors of `requests` are subclasses.
    """

    def read() -> Answer:
        with session.get(url, headers={"Accept": accept}, stream=True) as response:
            body = bytearray()
            for chunk in response.iter_content(1 << 16):
                body += chunk
                if len(body) > MOST_BYTES:
                    raise InfrastructureError(
                        f"the index sent over {MOST_BYTES >> 20} MB for a page"
                    )
            kind = response.headers.get("Content-Type", "")
            return Answer(
                url=response.url, status=response.status_code, kind=kind, body=bytes(body)
            )

    return within(limits().page, read)


def within(seconds: float, work: Callable[[], T]) -> T:
    """The result of `work`, run in a thread that is abandoned after `seconds`.

    A socket's time-out only ends silence; this also ends an answer that arrives byte by byte, and a
    name server that does not answer.

    Raises:
        TimeoutError: it took longer.
        Exception: any exception of `work`.
    """
    future: Future[T] = Future()

    def to_the_end() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # `future.result` raises it
            future.set_exception(error)

    threading.Thread(target=to_the_end, daemon=True).start()
    try:
        return future.result(seconds)
    except TimeoutError as error:
        if future.done():
            raise
        raise TimeoutError(f"it was not complete after {seconds:g} s") from error
