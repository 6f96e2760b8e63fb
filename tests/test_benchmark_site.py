"""The benchmark of the site reads results as they lie, and writes as the command does."""

from __future__ import annotations

from pathlib import Path

from benchmarks import synthetic


def test_a_made_up_matrix_gets_report_and_site(tmp_path: Path) -> None:
    synthetic.results_of(3, tmp_path / "results")
    laps: list[str] = []
    synthetic.build(tmp_path / "results", tmp_path / "out", laps.append)
    assert "3 cells loaded" in laps[0]
    assert "compat-0.9-modelopt0.21" in (tmp_path / "out/site/index.html").read_text()
    assert (tmp_path / "out/COMPATIBILITY.md").exists()
