"""The last line of each answer: from which results it is."""

from __future__ import annotations

from pathlib import Path

from mcore_compat.results import citation
from mcore_compat.results.citation import Citation


def of(number: int) -> Citation:
    return citation.of(f"c{number}", "host", "2026-11-29T02:38:09Z", Path("reports/results"))


def test_one_line_names_cell_device_class_day_and_file() -> None:
    said = "c1 (host, 2026-11-29): reports/results/c1/main.host.json"
    assert citation.line([of(1), of(1)]) == f"result: {said}"
    assert citation.line([of(1), of(2)]).startswith(f"results: {said}; c2 (host, ")
    assert citation.lines([]) == []


def test_of_many_results_a_few_are_named_and_the_others_counted() -> None:
    said = citation.line(map(of, range(8)))
    assert "c4 (" in said
    assert "c5 (" not in said
    assert said.endswith("; and 3 more")


def test_json_has_the_same_and_is_read_back() -> None:
    row = of(1).data()
    assert row == {
        "cell": "c1",
        "device_class": "host",
        "taken": "2026-11-29",
        "path": "reports/results/c1/main.host.json",
    }
    assert citation.of_data(row) == of(1)
