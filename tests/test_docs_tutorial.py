"""The tutorial's answers, from the results of the cells that it names. What it runs in
environments is in tests/real/test_tutorial.py."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import docs_support
import pytest
import snapshot
from docs_support import DOCS, Block
from support import ROOT

from mcore_compat import cli
from mcore_compat.core import combinations
from mcore_compat.core.workspace import Workspace
from mcore_compat.publish import compatibility_json
from mcore_compat.publish.collation import collate
from mcore_compat.results import store

CELLS = (
    "compat-0.16-modelopt0.41",
    "compat-0.18-modelopt0.46",
    "compat-0.19-modelopt0.46",
    "compat-0.19-modelopt0.47",
)
ANSWERS = [b for b in docs_support.blocks(DOCS / "tutorial.md") if b.info.startswith("{")]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which nothing but these cells has a result."""
    place = Workspace(tmp_path_factory.mktemp("published"))
    shutil.copytree(snapshot.WORKSPACE.root / "constraints", place.root / "constraints")
    for cell in CELLS:
        shutil.copytree(ROOT / "reports/results" / cell, place.results / cell)
    shutil.copytree(ROOT / "reports/results/shared", place.results / "shared")
    declared, known = snapshot.matrix(), snapshot.releases()
    cells = combinations.cells(declared, known)
    all_ = collate(store.load_all(place.results), cells, declared, known)
    place.published.write_text("".join(compatibility_json.text(all_)), encoding="utf-8")
    return place.root


@pytest.mark.parametrize("block", ANSWERS, ids=lambda block: block.commands[0])
def test_what_the_tutorial_reads(
    block: Block,
    published: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    snapshot.use(monkeypatch, Workspace(published))
    words = shlex.split(block.commands[0])[1:]
    assert cli.main(words) in block.codes
    first = capsys.readouterr().out.partition("\n")[0]
    if words[0] == "upgrade":
        assert first.startswith(f"Upgrade compat-{words[1]} → compat-{words[2]}: ")
    elif words[0] == "show":
        assert first.startswith(f"compat-{words[1]}: ")
    else:
        assert "pip install -c" in first or first.startswith("compat-0.16-modelopt0.41 ")


def test_the_tutorial_has_an_answer_of_each_kind() -> None:
    assert {b.commands[0].split()[1] for b in ANSWERS} == {"recommend", "show", "upgrade"}
