"""Asks the checks of this folder where it was named, and takes a rank's word for how it ended."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from suite import plugin
from suite.ranks.launch import RankEnded

HERE = Path(__file__).resolve().parent

_judged = plugin.judged


def pytest_configure(config: pytest.Config) -> None:
    """Ranks that cannot meet would each look like one that died."""
    if config.rootpath.resolve() != HERE:
        return
    plugin.judged = judged
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname(), timeout=5).close()
    except OSError as error:
        raise pytest.UsageError(f"the ranks cannot meet on 127.0.0.1: {error}") from None


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    inside = HERE in collection_path.resolve().parents
    return True if inside and config.rootpath.resolve() != HERE else None


def judged(error: BaseException, **options: Any) -> dict[str, Any]:
    """As the suite judges an error; a rank judged its own where the exception itself was."""
    return error.judgement if isinstance(error, RankEnded) else _judged(error, **options)
