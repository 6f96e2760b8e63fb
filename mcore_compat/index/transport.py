"""How the index is talked to: each request with a time-out, a few retries, and an end."""

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
"""The variable that sets for how many seconds the index may be silent."""

SILENCE_S = 30.0
CONNECT_S = 10.0

MOST_BYTES = 1 << 28
"""Of one page; the largest that the public index has is a tenth of it."""

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
    """Seconds: how long nothing may come, and how long a page and a whole file may take."""

    silence: float

    @property
    def page(self) -> float:
        return 10 * self.silence

    @property
    def file(self) -> float:
        return 120 * self.silence


def limits() -> Limits:
    """What the variable says, else half a minute of silence: five for a page, an hour for a file.

    Raises:
        UsageError: that is no number of seconds.
    """
    text = os.environ.get(TIMEOUT, "")
    try:
        silence = float(text) if text else SILENCE_S
    except ValueError:
        silence = 0.0
    if not math.isfinite(silence) or silence <= 0:
        raise UsageError(f'{TIMEOUT}: "{text}" is no number of seconds; write e.g. 30')
    return Limits(silence=silence)


class Session(requests.Session):
    """A session whose every request has a time-out, and is tried again where it may help."""

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
    """What was answered: its status, the content type as it was sent, and all of it."""

    url: str
    status: int
    kind: str
    body: bytes


def get(session: requests.Session, url: str, accept: str) -> Answer:
    """The whole answer to one question.

    Raises:
        InfrastructureError: it is larger than any page.
        OSError: it did not come, or not in time; `requests` has its own errors below this one.
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
    """What `work` comes to, which is left to itself where it takes longer.

    A time-out of a socket ends a silence. An answer that comes byte by byte, or a name server that
    is silent, only this ends.

    Raises:
        TimeoutError: it took longer.
        Exception: what `work` raised.
    """
    future: Future[T] = Future()

    def to_the_end() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # raised where it is waited for
            future.set_exception(error)

    threading.Thread(target=to_the_end, daemon=True).start()
    try:
        return future.result(seconds)
    except TimeoutError as error:
        if future.done():
            raise
        raise TimeoutError(f"it was not whole after {seconds:g} s") from error
