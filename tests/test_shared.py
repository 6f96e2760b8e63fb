"""Values that many cells recorded alike: kept once, found again, never mixed up."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import ROOT

from mcore_compat.base import file_group, foreign
from mcore_compat.base.errors import ResultError
from mcore_compat.core.cells import Cell
from mcore_compat.core.outcomes import CellOutcome, CheckOutcome
from mcore_compat.results import fingerprint, large_values, store
from mcore_compat.results.result import CheckResult, Failure, Result, Source, empty_result

LARGE = {"signature": "x" * 1000}


def cell(modelopt: str) -> Cell:
    return Cell(
        name=f"compat-0.16-modelopt{modelopt}",
        mcore="0.16.1",
        modelopt=f"{modelopt}.0",
        te="2.11.0",
        torch="2.9.1",
        python="3.12",
        cuda=12,
        default=True,
    )


def made(modelopt: str, details: dict[str, Any]) -> Result:
    check = CheckResult(
        check="private-names",
        kind="private-names",
        family=None,
        outcome=CheckOutcome.WORKS,
        seconds=1.0,
        reason=None,
        failure=None,
        details=details,
    )
    base = empty_result(cell(modelopt), device_class="host")
    return replace(base, outcome=CellOutcome.UNTESTED, checks=(check,))


def kept(folder: Path) -> list[Path]:
    return sorted((folder / large_values.FOLDER).glob("*"))


def test_what_two_cells_recorded_alike_is_kept_once_and_both_have_it(tmp_path: Path) -> None:
    for modelopt in ("0.40", "0.41"):
        path = store.save(made(modelopt, {"of": LARGE, "small": modelopt}), tmp_path)
        assert "xxx" not in path.read_text()
    assert len(kept(tmp_path)) == 1
    for found in store.load_all(tmp_path):
        assert found.checks[0].details["of"] == LARGE
    assert len(store.load_all(tmp_path)) == 2


texts = st.text().map(foreign.plain)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts | st.just("0123456789abcdef"),
    lambda inner: st.lists(inner) | st.dictionaries(texts | st.just("shared"), inner),
    max_leaves=20,
)


@settings(deadline=None)
@given(details=st.dictionaries(texts, values, max_size=5), length=st.integers(0, 800))
def test_whatever_was_recorded_comes_back(
    tmp_path_factory: pytest.TempPathFactory, details: dict[str, Any], length: int
) -> None:
    folder = tmp_path_factory.mktemp("results")
    details["long"] = "y" * length
    details["looks like a digest"] = {"shared": "0123456789abcdef"}
    into: dict[str, str] = {}
    row = {"details": details, "failure": {"traceback": "z" * length, "type": "E"}}
    small = large_values.compact(row, into)
    assert len(json.dumps(small)) <= len(json.dumps(row)) + 60 * (len(details) + 1)
    with file_group.Changes() as changes:
        large_values.write(into, folder, changes)
        changes.commit()
    assert set(large_values.named([small])) == set(into)
    assert large_values.expand(small, folder) == row


def test_a_long_traceback_is_kept_apart_and_comes_back(tmp_path: Path) -> None:
    failure = Failure(
        type="E",
        message="m",
        frame="f",
        fingerprint=fingerprint.of("E", "m", "f"),
        traceback="line\n" * 400,
        gpu_independent=None,
    )
    base = made("0.41", {})
    found = replace(
        base, checks=(replace(base.checks[0], failure=failure, outcome=CheckOutcome.BROKEN),)
    )
    path = store.save(found, tmp_path)
    assert "line" not in path.read_text()
    assert store.load(path) == found
    (small,) = store.load(path, whole=False).checks
    assert small.failure is not None
    assert small.failure.traceback == ""


def test_a_missing_value_is_named_with_the_way_out(tmp_path: Path) -> None:
    path = store.save(made("0.41", {"of": LARGE}), tmp_path)
    (value,) = kept(tmp_path)
    value.unlink()
    large_values.read.cache_clear()
    with pytest.raises(ResultError, match=rf"{value.name} cannot be read, .*--force"):
        store.load(path)
    assert store.load(path, whole=False).cell == "compat-0.16-modelopt0.41"


def test_a_corrupt_value_is_named_and_the_next_run_puts_it_right(tmp_path: Path) -> None:
    path = store.save(made("0.41", {"of": LARGE}), tmp_path)
    (value,) = kept(tmp_path)
    value.write_text("{}\n")
    large_values.read.cache_clear()
    with pytest.raises(ResultError, match=rf"{value.name} is corrupt"):
        store.load(path)
    store.save(made("0.41", {"of": LARGE}), tmp_path)
    assert store.load(path).checks[0].details["of"] == LARGE


def test_packed_values_come_back_and_are_not_written_again(tmp_path: Path) -> None:
    for modelopt in ("0.40", "0.41"):
        store.save(made(modelopt, {"of": LARGE, "by": {**LARGE, "cell": modelopt}}), tmp_path)
    before = store.load_all(tmp_path)
    assert len(kept(tmp_path)) == 3
    large_values.pack(tmp_path)
    assert kept(tmp_path)
    assert all(path.name.startswith("pack-") for path in kept(tmp_path))
    assert large_values.unpacked(tmp_path) == []
    packs = {path: path.read_bytes() for path in kept(tmp_path)}
    large_values.read.cache_clear()
    assert store.load_all(tmp_path) == before
    for one in before:
        store.save(one, tmp_path)
    large_values.pack(tmp_path)
    assert {path: path.read_bytes() for path in kept(tmp_path)} == packs


def test_a_packed_row_shows_how_the_check_ended_and_has_the_rest_apart(tmp_path: Path) -> None:
    path = store.save(made("0.41", {"of": LARGE}), tmp_path)
    before, quick = store.load(path), store.load(path, whole=False)
    large_values.pack(tmp_path)
    (row,) = json.loads(path.read_text())["checks"]
    check = before.checks[0]
    name, outcome, seconds, digest = row
    assert (name, outcome, seconds) == (check.check, check.outcome, check.seconds)
    assert (store.load(path), store.load(path, whole=False)) == (before, quick)
    path.write_text(path.read_text().replace(digest, "0" * 16))
    with pytest.raises(ResultError, match=r"0{16}.json cannot be read"):
        store.load(path, whole=False)


def test_a_pack_is_json_with_a_value_a_line(tmp_path: Path) -> None:
    odd = {"text": "a\u2028b\x0cc\x85d\n" * 40}
    store.save(made("0.41", {"of": odd}), tmp_path)
    large_values.pack(tmp_path)
    odd = foreign.cleaned(odd)
    packs = [path.read_text() for path in kept(tmp_path)]
    values = [value for pack in packs for value in json.loads(pack).values()]
    assert odd in values
    assert len(values) == 2, "the large value, and all that is not shown of the check's row"
    assert sum(len(pack.split("\n")) - 3 for pack in packs) == len(values)
    large_values.read.cache_clear()
    assert store.load_all(tmp_path)[0].checks[0].details["of"] == odd


def test_lists_of_mappings_share_their_elements(tmp_path: Path) -> None:
    rows = [{"module": f"package.module_{n}", "imported by": "package" * 9} for n in range(20)]
    store.save(made("0.40", {"of": rows}), tmp_path)
    store.save(made("0.41", {"of": rows[1:]}), tmp_path)
    before = store.load_all(tmp_path)
    large_values.pack(tmp_path)
    texts = "".join(path.read_text() for path in kept(tmp_path))
    assert [texts.count(row["module"] + '"') for row in rows] == [1] * 20
    large_values.forget()
    assert store.load_all(tmp_path) == before
    assert large_values.unpacked(tmp_path) == []
    for one in before:
        store.save(one, tmp_path)
    assert all(path.name.startswith("pack-") for path in kept(tmp_path)), "nothing is written again"


def test_an_element_that_was_changed_or_lost_is_noticed(tmp_path: Path) -> None:
    rows = [{"module": f"package.module_{n}", "imported by": "package" * 9} for n in range(3)]
    path = store.save(made("0.40", {"of": rows}), tmp_path)
    large_values.pack(tmp_path)
    for old, new, said in (
        ("module_1", "module_9", "is corrupt"),
        (large_values.name_of(large_values.text_of(rows[1])), "0" * 16, "cannot be read"),
    ):
        packs = {pack: pack.read_text() for pack in kept(tmp_path)}
        for pack, text in packs.items():
            changed = text.replace(f'"{old}":', f'"{new}":')
            pack.write_text(changed.replace(f"package.{old}", f"package.{new}"))
        large_values.forget()
        store._shared.cache_clear()
        store._endings.cache_clear()
        with pytest.raises(ResultError, match=said):
            store.load(path)
        for pack, text in packs.items():
            pack.write_text(text)


def test_a_kind_that_is_the_name_of_its_check_is_not_stored_again(tmp_path: Path) -> None:
    names = [f"restore-from[compat-0.{n}-modelopt0.21:gpt:default]" for n in (9, 10)]
    one = made("0.40", {})
    loaded = Source(
        lock="0" * 64, manifests="1" * 64, pins=one.pins, taken=one.taken, ways=("all",)
    )
    sources = {name.partition("[")[2].partition(":")[0]: loaded for name in names}
    checks = tuple(replace(one.checks[0], check=name, kind=name) for name in sorted(names))
    path = store.save(replace(one, check_set="exchange", checks=checks, sources=sources), tmp_path)
    before = store.load(path)
    large_values.pack(tmp_path)
    rows = json.loads(path.read_text())["checks"]
    assert rows[0][-1] == rows[1][-1]
    large_values.forget()
    assert store.load(path) == before
    assert [check.kind for check in before.checks] == sorted(names)


def test_values_that_no_result_names_are_dropped_packed_or_not(tmp_path: Path) -> None:
    store.save(made("0.40", {"of": LARGE}), tmp_path)
    store.save(made("0.41", {"of": {**LARGE, "more": 1}}), tmp_path)
    large_values.pack(tmp_path)
    store.save(made("0.41", {"of": {**LARGE, "more": 2}}), tmp_path)
    unpacked = large_values.unpacked(tmp_path)
    (loose,) = (path for path in kept(tmp_path) if not path.name.startswith("pack-"))
    assert {loose, tmp_path / "compat-0.16-modelopt0.41" / "main.host.json"} < {*unpacked}
    large_values.pack(tmp_path)
    texts = "".join(path.read_text() for path in kept(tmp_path))
    assert [texts.count(f'"more":{n}') for n in (1, 2)] == [0, 1]
    assert [len(e.checks) for e in store.load_all(tmp_path)] == [1, 1]


def test_results_of_two_machines_are_put_together_by_copying(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    store.save(made("0.40", {"of": LARGE}), here)
    large_values.pack(here)
    shutil.copytree(here, there)
    store.save(made("0.41", {"of": {**LARGE, "more": 1}}), there)
    store.save(made("0.39", {"of": {**LARGE, "more": 2}}), here)
    shutil.copytree(there, here, dirs_exist_ok=True)
    large_values.pack(here)
    large_values.read.cache_clear()
    assert [e.checks[0].details["of"].get("more") for e in store.load_all(here)] == [2, None, 1]


def test_a_value_that_another_process_packed_meanwhile_is_found(tmp_path: Path) -> None:
    path = store.save(made("0.40", {"of": LARGE}), tmp_path)
    before = store.load(path)
    large_values.read.cache_clear()
    large_values._pack.cache_clear()
    large_values._packed(tmp_path, kept(tmp_path)[0].stem)  # this process has looked: no pack
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, pathlib; from mcore_compat.results import large_values; "
            "large_values.pack(pathlib.Path(sys.argv[1]))",
            str(tmp_path),
        ],
        cwd=ROOT,
        timeout=60,
    )
    assert done.returncode == 0
    assert store.load(path) == before


def test_a_corrupt_pack_is_named_and_a_run_puts_it_right(tmp_path: Path) -> None:
    path = store.save(made("0.41", {"of": LARGE}), tmp_path)
    before = store.load(path)
    large_values.pack(tmp_path)
    (pack,) = (path for path in kept(tmp_path) if "xxx" in path.read_text())
    pack.write_text(pack.read_text().replace("xxx", "yyy", 1))
    large_values._pack.cache_clear()
    large_values.read.cache_clear()
    with pytest.raises(ResultError, match=rf"{pack.name} is corrupt"):
        store.load(path)
    with pytest.raises(ResultError, match=rf"{pack.name} is corrupt"):
        large_values.pack(tmp_path)
    store.save(before, tmp_path)
    large_values.pack(tmp_path)
    assert store.load(path) == before


def test_nothing_is_dropped_where_some_result_cannot_be_read(tmp_path: Path) -> None:
    path = store.save(made("0.40", {"of": LARGE}), tmp_path)
    path.write_text("{")
    there = kept(tmp_path)
    with pytest.raises(ResultError, match=r"host\.json is corrupt"):
        large_values.pack(tmp_path)
    assert kept(tmp_path) == there


def test_cells_whose_checks_ended_alike_share_what_follows_from_it(tmp_path: Path) -> None:
    for modelopt, seconds in (("0.41", 1.0), ("0.42", 2.5)):
        one = made(modelopt, LARGE)
        store.save(replace(one, checks=(replace(one.checks[0], seconds=seconds),)), tmp_path)
    store.save(made("0.43", {"signature": "other" * 200}), tmp_path)
    large_values.pack(tmp_path)
    first, alike, other = store.load_all(tmp_path)
    assert first.endings is alike.endings
    assert first.endings is not other.endings
    assert [check.seconds for check in (*first.checks, *alike.checks)] == [1.0, 2.5]
    assert [replace(check, seconds=None) for check in first.checks] == [*first.endings.checks]


def test_a_result_with_other_checks_has_its_own_endings(tmp_path: Path) -> None:
    store.save(made("0.41", LARGE), tmp_path)
    large_values.pack(tmp_path)
    (loaded,) = store.load_all(tmp_path)
    worse = replace(loaded.checks[0], outcome=CheckOutcome.NEEDS_GPU)
    assert loaded.points != replace(loaded, checks=(worse,)).points
    assert replace(loaded, checks=()).endings.checks == ()
