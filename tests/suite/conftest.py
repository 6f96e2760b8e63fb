"""Runs the suite's engine on checks that a test writes, with the Python that runs the tests."""

from __future__ import annotations

import configparser
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))  # `suite` is not installed: it runs from the repository


def pytest_configure(config: pytest.Config) -> None:
    """The checks' own markers, as the suite registers them: tests import check files, too."""
    ini = configparser.ConfigParser()
    ini.read(ROOT / "suite" / "pytest.ini", encoding="utf-8")
    for line in ini["pytest"]["markers"].strip().splitlines():
        config.addinivalue_line("markers", line)


HEAD = """
import ctypes, os, signal, subprocess, sys, time
import pytest
from suite.outcomes import NeedsGpu, Unsupported, WorksWith
pytestmark = pytest.mark.feature("install")
"""
"""What each toy's file begins with; every check needs a feature, most tests need no certain one."""


@dataclass(frozen=True)
class Run:
    """One run of the suite: its exit code, its output, and its events."""

    code: int
    output: str
    events: list[dict[str, Any]]

    def __getitem__(self, check: str) -> dict[str, Any]:
        """The event of one check."""
        return next(e for e in self.events if e["event"] == "check" and e["check"] == check)

    def record(self, kind: str) -> dict[str, Any]:
        """The event of one record."""
        return next(e for e in self.events if e["event"] == "record" and e["record"] == kind)

    @property
    def outcomes(self) -> dict[str, str]:
        return {e["check"]: e["outcome"] for e in self.events if e["event"] == "check"}


def command(folder: Path, *arguments: str) -> list[str]:
    events = folder / "events.jsonl"
    run = [sys.executable, str(ROOT / "suite" / "run.py"), "--events", str(events)]
    return [*run, "--checks", str(folder), "--preload", "", *arguments]


def write(folder: Path, source: str) -> None:
    (folder / "check_it.py").write_text(HEAD + textwrap.dedent(source))


def read(folder: Path) -> list[dict[str, Any]]:
    events = folder / "events.jsonl"
    return [json.loads(line) for line in events.read_text().splitlines()] if events.exists() else []


@pytest.fixture
def ask(tmp_path: Path) -> Callable[..., Run]:
    """`ask(source, *arguments)`: write the checks, run the suite on them, read its events."""

    def run(source: str, *arguments: str) -> Run:
        write(tmp_path, source)
        done = subprocess.run(
            command(tmp_path, *arguments),
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "SUITE_TEST": str(tmp_path)},
        )
        return Run(done.returncode, done.stdout + done.stderr, read(tmp_path))

    return run
