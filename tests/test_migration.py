"""Results of format 1 become results of format 2, and nothing of them is lost. All are made up."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import ROOT

from mcore_compat.base.errors import ResultError
from mcore_compat.exchange import transfer_results as exchanges
from mcore_compat.results import fingerprint, large_values, migration, store
from mcore_compat.results.result import Result

CELL, OTHER = "compat-0.16-modelopt0.41", "compat-0.9-modelopt0.21"
PINS = {"megatron-core": "0.16.1", "nvidia-modelopt": "0.41.0", "transformer-engine": "2.11.0",
        "torch": "2.9.1", "python": "3.12"}  # fmt: skip
TAKEN = "2026-01-02T03:04:05Z"
TRACEBACK = "Traceback (most recent call last)\n" + "  a line\n" * 40
LOOSE, PACKED = {"signature": "x" * 300}, {"keys": ["y" * 200, {"z": 1}]}
BASE = {"cell": CELL, "differs": {"torch": {"lock": "2.9.1", "there": None}}, "installed": ["a"],
        "unmet": [], "without": ["nvidia-*"]}  # fmt: skip


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of the test's own."""
    monkeypatch.setenv("MCORE_COMPAT_HOME", str(tmp_path / "home"))


def failure(message: str = "'decoder.weight'") -> dict[str, Any]:
    named = ("KeyError", message, "megatron.core.x:load")
    return {
        "type": named[0],
        "message": message,
        "frame": named[2],
        "fingerprint": fingerprint.of(*named),
        "traceback": TRACEBACK,
        "gpu_independent": "a stand-in says so",
    }


def check(name: str, outcome: str = "works", **fields: Any) -> dict[str, Any]:
    return {
        "check": name,
        "kind": name.partition("[")[0],
        "family": "gpt",
        "outcome": outcome,
        "seconds": 1.5,
        "reason": None if outcome == "works" else f"why it is {outcome}",
        "failure": failure() if outcome == "broken" else None,
        "details": {},
        **fields,
    }


CHECKS = [
    check("build[gpt]", details={"small": 3, "loose": LOOSE, "packed": PACKED}),
    check("quantize[gpt]", "needs-gpu", details={"text": "t" * 500}),
    check("restore[gpt]", "broken", details={"packed": PACKED, "empty": {}}),
]


def main(device: str = "host", **fields: Any) -> dict[str, Any]:
    return {
        "schema": 1,
        "cell": CELL,
        "device_class": device,
        "outcome": "incompatible",
        "reason": None,
        "taken": TAKEN,
        "pins": PINS,
        "cuda": 12,
        "digests": {"lock": "l", "suite": "s", "wheels": {"a.whl": "1"}},
        "platform": {"python": "3.12.1", "gpu": None},
        "installed": {"torch": "2.9.1"},
        "complete": True,
        "checks": CHECKS,
        **fields,
    }


def part(name: str, device: str, **fields: Any) -> dict[str, Any]:
    return {
        "format": 1,
        "part": name,
        "cell": CELL,
        "device_class": device,
        "taken": TAKEN,
        "pins": PINS,
        "digests": {"lock": "l", "part": f"of {name}"},
        "platform": {"gpu": "a GPU"},
        "complete": True,
        "checks": CHECKS,
        **fields,
    }


EXCHANGE: dict[str, Any] = {
    "format": 1,
    "cell": CELL,
    "device_class": "host",
    "pins": PINS,
    "digests": {"lock": "l", "exchange": "of the exchange"},
    "from": {
        origin: {
            "digests": {"lock": f"of {origin}", "manifests": "m"},
            "pins": {**PINS, "python": "3.11"},
            "taken": taken,
            "ways": ["default", "quantized"],
            "answers": {
                "gpt:default": "works",
                "gpt:quantized": {
                    "outcome": "broken",
                    "cause": failure()["fingerprint"],
                    "notes": {"other keys": {"a": "b" * 300}},
                },
                "mla-moe:default": {"outcome": "unsupported", "reason": "not saved: no spec"},
            },
        }
        for origin, taken in ((CELL, TAKEN), (OTHER, "2026-02-02T03:04:05Z"))
    },
    "failures": {failure()["fingerprint"]: failure()},
}
RESULTS: dict[str, dict[str, Any]] = {
    f"evidence/{CELL}/host.json": main(),
    f"evidence/{CELL}/gpu.json": main("gpu", complete=False, outcome="error"),
    f"evidence/{OTHER}/host.json": main(
        cell=OTHER,
        pins={**PINS, "megatron-core": "0.9.0", "nvidia-modelopt": "0.21.1"},
        outcome="unresolvable",
        reason={"kind": "unresolvable", "message": "two torches", "help": "wait"},
        checks=[],
    ),
    f"ranks/{CELL}.host.json": part("ranks", "host"),
    f"gpu/{CELL}.gpu.json": part("gpu", "gpu", complete=False),
    f"exchange/{CELL}.host.json": EXCHANGE,
    f"over-base/{CELL}/gpu.json": main("gpu", base={**BASE, "toolkit": "12.8"}),
    f"over-base/gpu/{CELL}.gpu.json": part("gpu", "gpu", base=BASE),
}
APART = {"evidence", "over-base"}
"""Folders in which format 1 kept large values apart: those of the main set alone."""


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    """A folder of all that is published, in format 1."""
    return written(tmp_path / "reports")


def written(folder: Path) -> Path:
    for name, data in RESULTS.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        apart: dict[str, str] = {}
        if "schema" in data:
            rows = [large_values.compact(row, apart) for row in data["checks"]]
            data = {**data, "checks": rows}
        path.write_text(json.dumps(data))
        shared = folder / name.partition("/")[0] / large_values.FOLDER
        for digest, text in apart.items():
            shared.mkdir(exist_ok=True)
            if json.loads(text) == PACKED:
                pack = f'{{\n "{digest}": {text.rstrip()}\n}}\n'
                (shared / large_values.pack_of(digest)).write_text(pack)
            else:
                (shared / f"{digest}.json").write_text(text)
    (folder / "COMPATIBILITY.md").write_text("the page")
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def rows(found: Result) -> list[dict[str, Any]]:
    """The checks of a result as JSON has them."""
    checks: list[dict[str, Any]] = json.loads(store.dumps(found))["checks"]
    return checks


def result(reports: Path, name: str) -> Result:
    return store.load(reports / name)


def test_all_lie_at_their_places_and_nothing_else_does(reports: Path) -> None:
    assert migration.migrate(reports) == len(RESULTS)
    files = {name for name in tree(reports) if f"/{large_values.FOLDER}/" not in name}
    assert files == {
        "COMPATIBILITY.md",
        f"results/{CELL}/main.host.json",
        f"results/{CELL}/main.gpu.json",
        f"results/{OTHER}/main.host.json",
        f"results/{CELL}/ranks.host.json",
        f"results/{CELL}/gpu.gpu.json",
        f"results/{CELL}/exchange.host.json",
        f"over-base/{CELL}/main.gpu.json",
        f"over-base/{CELL}/gpu.gpu.json",
    }
    assert sorted(p.name for p in reports.iterdir()) == ["COMPATIBILITY.md", "over-base", "results"]
    assert large_values.unpacked(reports / "results") == []
    assert large_values.unpacked(reports / "over-base") == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (f"evidence/{CELL}/host.json", f"results/{CELL}/main.host.json"),
        (f"evidence/{CELL}/gpu.json", f"results/{CELL}/main.gpu.json"),
        (f"evidence/{OTHER}/host.json", f"results/{OTHER}/main.host.json"),
        (f"over-base/{CELL}/gpu.json", f"over-base/{CELL}/main.gpu.json"),
    ],
)
def test_of_the_main_set_all_is_as_it_was(old: str, new: str, reports: Path) -> None:
    migration.migrate(reports)
    before = {name: value for name, value in RESULTS[old].items() if name != "schema"}
    digests = before.pop("digests")
    found = result(reports, new)
    now = {**before, **digests, "check_set": "main", "format": 2}
    assert json.loads(store.dumps(found)) == now
    assert rows(found) == before["checks"]
    assert all(one.failure.traceback == TRACEBACK for one in found.checks if one.failure)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (f"ranks/{CELL}.host.json", f"results/{CELL}/ranks.host.json"),
        (f"gpu/{CELL}.gpu.json", f"results/{CELL}/gpu.gpu.json"),
        (f"over-base/gpu/{CELL}.gpu.json", f"over-base/{CELL}/gpu.gpu.json"),
    ],
)
def test_of_the_other_sets_too_and_they_are_no_verdict(old: str, new: str, reports: Path) -> None:
    migration.migrate(reports)
    before, found = RESULTS[old], result(reports, new)
    assert rows(found) == before["checks"]
    assert found.check_set == before["part"]
    assert (found.lock, found.suite) == (before["digests"]["lock"], before["digests"]["part"])
    for name in ("cell", "device_class", "taken", "pins", "platform", "complete"):
        assert getattr(found, name) == before[name], name
    assert found.base == before.get("base")
    assert found.outcome.value == "untested"


def test_what_was_exchanged_is_as_it_was_by_the_cell_that_saved(reports: Path) -> None:
    migration.migrate(reports)
    (found,) = store.load_all(reports / "results", "exchange")
    answers = exchanges.answers(found)
    assert (found.cell, found.lock, found.suite) == (CELL, "l", "of the exchange")
    assert found.pins == PINS
    assert sorted(found.sources) == sorted(EXCHANGE["from"])
    for origin, before in EXCHANGE["from"].items():
        source = found.sources[origin]
        assert (source.lock, source.manifests) == tuple(before["digests"].values())
        assert (source.pins, source.taken) == (before["pins"], before["taken"])
        assert list(source.ways) == before["ways"]
        assert sorted(answers[origin]) == sorted(before["answers"])
        for key, answer in before["answers"].items():
            fields = {"outcome": answer} if isinstance(answer, str) else answer
            now = answers[origin][key]
            assert now.outcome.value == fields["outcome"]
            cause = now.failure.fingerprint if now.failure else None
            assert (cause, now.reason) == (fields.get("cause"), fields.get("reason"))
            assert now.details == fields.get("notes", {})
    failures = [check.failure for check in found.checks if check.failure]
    assert {one.fingerprint: one.traceback for one in failures} == {
        name: one["traceback"] for name, one in EXCHANGE["failures"].items()
    }
    assert result(reports, f"results/{CELL}/exchange.host.json").taken == "2026-02-02T03:04:05Z"


def test_twice_is_as_once(reports: Path) -> None:
    migration.migrate(reports)
    before = tree(reports)
    assert migration.migrate(reports) == 0
    assert tree(reports) == before


def test_one_that_was_killed_before_it_removed_anything_is_made_up_for(reports: Path) -> None:
    migration.migrate(reports)
    before = tree(reports)
    written(reports)
    assert migration.migrate(reports) == len(RESULTS)
    assert tree(reports) == before


def cut(path: Path) -> None:
    path.write_text(path.read_text()[:-20])


def misspelt(path: Path) -> None:
    path.write_text(path.read_text().replace('"works"', '"fine"'))


def of_another_format(path: Path) -> None:
    path.write_text("[]")


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        *((name, cut) for name in RESULTS),
        (f"evidence/{CELL}/host.json", misspelt),
        (f"ranks/{CELL}.host.json", misspelt),
        (f"exchange/{CELL}.host.json", misspelt),
        (f"evidence/{CELL}/host.json", of_another_format),
        (f"exchange/{CELL}.host.json", of_another_format),
    ],
)
def test_one_corrupt_file_is_named_and_changes_nothing(
    name: str, harm: Callable[[Path], None], reports: Path
) -> None:
    right = (reports / name).read_bytes()
    harm(reports / name)
    assert (reports / name).read_bytes() != right
    before = tree(reports)
    with pytest.raises(ResultError, match=rf"{name} is not of format 1") as caught:
        migration.migrate(reports)
    assert "\n" not in str(caught.value)
    assert tree(reports) == before


def test_once_a_corrupt_file_is_put_right_all_is_there(reports: Path) -> None:
    once = written(reports.with_name("once"))
    migration.migrate(once)
    corrupt = reports / f"ranks/{CELL}.host.json"
    right = corrupt.read_bytes()
    cut(corrupt)
    with pytest.raises(ResultError):
        migration.migrate(reports)
    corrupt.write_bytes(right)
    migration.migrate(reports)
    assert tree(reports) == tree(once)


@pytest.mark.parametrize("folder", sorted(APART))
def test_a_value_that_is_missing_changes_nothing(folder: str, reports: Path) -> None:
    gone = [p for p in (reports / folder / "shared").iterdir() if not p.name.startswith("pack-")]
    gone[0].unlink()
    before = tree(reports)
    with pytest.raises(ResultError, match=gone[0].stem):
        migration.migrate(reports)
    assert tree(reports) == before


def test_it_is_run_as_a_module(reports: Path) -> None:
    def run() -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "mcore_compat.results.migration", str(reports)]
        return subprocess.run(argv, capture_output=True, text=True, cwd=ROOT, timeout=60)

    page = reports / f"ranks/{CELL}.host.json"
    right = page.read_bytes()
    cut(page)
    done = run()
    assert done.returncode == ResultError.exit_code
    assert f"ranks/{CELL}.host.json is not of format 1" in done.stderr
    assert done.stderr.count("\n") == 1
    page.write_bytes(right)
    done = run()
    assert (done.returncode, done.stdout) == (0, "converted 8 results to format 2\n")
