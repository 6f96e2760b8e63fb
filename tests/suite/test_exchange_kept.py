"""What the exchange keeps of a checkpoint, and what it asks: plain files, no package under test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from suite.compare import digest
from suite.exchange import kept
from suite.exchange.kept import Manifest

from .conftest import ROOT
from .exchange_support import (
    CELL,
    QUANTIZED,
    SENTINEL,
    WHOLE,
)


def place(root: Path, cell: str, manifest: Manifest) -> Path:
    def write(part: Path) -> Manifest:
        return manifest

    return kept.keep(root / cell, manifest.family, manifest.kind, write)


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert kept.read(place(tmp_path, CELL, QUANTIZED)) == QUANTIZED


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "corrupt"),
        ("[]", "corrupt"),
        ('{"format": 1}', "corrupt"),
        ('{"format": 2}', "of format 2"),
        (kept.text(replace(WHOLE, family="mla-moe")), "of mla-moe/default, not of gpt/default"),
    ],
)
def test_a_manifest_that_is_not_whole_is_said(tmp_path: Path, text: str, told: str) -> None:
    folder = place(tmp_path, CELL, WHOLE)
    (folder / kept.MANIFEST).write_text(text)
    with pytest.raises(AssertionError, match=told):
        kept.read(folder)


def test_a_save_that_ends_early_keeps_what_was_there(tmp_path: Path) -> None:
    def dies(part: Path) -> Manifest:
        (part / "half").write_text("x")
        raise OSError("no space")

    folder = place(tmp_path, CELL, WHOLE)
    with pytest.raises(OSError, match="no space"):
        kept.keep(tmp_path / CELL, "gpt", "default", dies)
    assert kept.read(folder) == WHOLE
    assert [cell for cell, _, _ in kept.there(tmp_path)] == [CELL, CELL]
    place(tmp_path, CELL, WHOLE)
    assert [path.name for path in folder.parent.iterdir()] == ["default"]


def test_what_is_meant_is_found_in_order(tmp_path: Path) -> None:
    for cell in ("b", "a"):
        place(tmp_path, cell, WHOLE)
    place(tmp_path, "a", QUANTIZED)
    ways = [(cell, way.name) for cell, _, way in kept.there(tmp_path, "b:default,a")]
    assert ways == [
        ("a", "default"),
        ("a", "default-to-modelopt"),
        ("a", "quantized"),
        ("b", "default"),
    ]


@pytest.mark.parametrize("word", ["c", "a:quantised"])
def test_what_is_not_there_is_refused(tmp_path: Path, word: str) -> None:
    place(tmp_path, "a", WHOLE)
    with pytest.raises(ValueError, match=word.partition(":")[2] or word):
        kept.there(tmp_path, word)


def test_tensors_that_could_be_taken_for_one_another_are_found() -> None:
    same = {"a": SENTINEL, "b": SENTINEL, "c": digest(b"c", (2,), "float32")}
    assert kept.alike(same, same) == ["b and a are the same"]


def run(tmp_path: Path, *arguments: str, **variables: str) -> tuple[int, str, list[str]]:
    """Run the suite's engine without packages; its code, its output, and its checks' ids."""
    events = tmp_path / "events.jsonl"
    argv = [sys.executable, str(ROOT / "suite" / "run.py"), "--events", str(events)]
    names = {kept.SAVE_INTO, kept.LOAD_FROM, kept.LOADED}
    given = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run(
        [*argv, "--preload", "", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**given, **variables},
    )
    lines = events.read_text().splitlines() if events.exists() else []
    ids = [row["check"] for row in map(json.loads, lines) if row["event"] == "check"]
    return done.returncode, done.stdout + done.stderr, ids


EXCHANGE = ("--checks", str(ROOT / "suite" / "exchange"))


def test_the_main_suite_does_not_ask_the_exchange(tmp_path: Path) -> None:
    folder = {kept.SAVE_INTO: str(tmp_path), kept.LOAD_FROM: str(tmp_path)}
    code, output, _ = run(tmp_path, "--only", "save-default", **folder)
    assert code == 2
    assert "no check matches 'save-default'" in output


def test_without_a_folder_the_exchange_says_what_it_misses(tmp_path: Path) -> None:
    code, output, ids = run(tmp_path, *EXCHANGE)
    assert code == 3
    assert kept.SAVE_INTO in output
    assert not ids


def test_only_what_was_asked_for_is_saved_or_loaded(tmp_path: Path) -> None:
    place(tmp_path, CELL, WHOLE)
    _, _, saves = run(tmp_path, *EXCHANGE, **{kept.SAVE_INTO: str(tmp_path / "own")})
    assert {name.partition("[")[0] for name in saves} == {
        "save-default",
        "save-modelopt",
        "save-quantized",
    }
    (tmp_path / "events.jsonl").unlink()
    code, _, loads = run(
        tmp_path,
        *EXCHANGE,
        **{kept.LOAD_FROM: str(tmp_path), kept.LOADED: f"{CELL}:default-to-modelopt"},
    )
    assert code == 0
    assert loads[-1] == f"restore-from[{CELL}:gpt:default-to-modelopt]"
    assert all(name.startswith("build-") for name in loads[:-1])


def test_a_cell_that_kept_nothing_ends_the_run_as_an_error(tmp_path: Path) -> None:
    folder = {kept.LOAD_FROM: str(tmp_path), kept.LOADED: "compat-9-modelopt9"}
    code, output, _ = run(tmp_path, *EXCHANGE, **folder)
    assert code == 3
    assert "nothing is kept of" in output
