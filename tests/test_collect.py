"""A result that comes back: taken where it is of this lock and this suite, refused in one line
else. All of it is made up here."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import snapshot
from collect_support import (
    BEFORE,
    LATER,
    NAME,
    SUITE,
    TAKEN,
    TE_TORCH,
    TIER,
    VENDOR,
    Carried,
    Write,
    ask,
    carried_,
    cell_,
    known_,
    lock_,
    of_a_part,
    on_a_gpu,
    over_base,
    stored,
    write_,
)
from support import CONDITION, event, record_event

from mcore_compat.base.errors import CompatError, ResultError, UsageError
from mcore_compat.core.cells import Cell
from mcore_compat.core.outcomes import CellOutcome
from mcore_compat.offline import collection
from mcore_compat.offline.verification import Reference
from mcore_compat.results import store, suite_checks
from mcore_compat.results.result import Result, result_path
from mcore_compat.run.check_sets import GPU, MAIN

FIXTURES_HERE = (cell_, lock_, known_, carried_, write_)
"""Fixtures are found where they are imported."""


def test_a_result_of_the_lock_is_the_cells(
    carried: Carried, known: Reference, write: Write, tmp_path: Path, cell: Cell
) -> None:
    broken = event("restore-back[gpt]", "broken")
    broken["failure"]["message"] = "no /srv/node/bundle/suite/x.py"
    ask(carried, broken)
    write(carried)
    ((path, one, _, later),) = collection.collect([tmp_path / "back"], known)
    assert later is None
    assert path == result_path(NAME, "host", known.workspace.results)
    found = store.load(path)
    assert found == one
    assert (found.cell, found.pins, found.base) == (NAME, cell.pins, None)
    assert (found.lock, found.suite) == (carried["lock"], SUITE)
    assert found.wheels == {TE_TORCH: "e" * 64}
    assert found.taken == TAKEN
    assert found.outcome is CellOutcome.COMPATIBLE or found.outcome is CellOutcome.PARTIAL
    message = next(c.failure.message for c in found.checks if c.failure)
    assert message == "no suite/x.py", "no path of the other machine"
    assert '"base"' not in path.read_text()


def test_conditions_features_and_records_come_back(
    carried: Carried, known: Reference, write: Write, tmp_path: Path
) -> None:
    ask(carried, event("restore-back[gpt]", "works-with", feature="restore-back"))
    carried["events"].insert(2, record_event("signatures", **{"megatron.a:f": "(x)"}))
    write(carried)
    ((path, *_),) = collection.collect([tmp_path / "back"], known)
    found = store.load(path)
    back = next(c for c in found.checks if c.check == "restore-back[gpt]")
    assert (back.condition, back.feature) == (CONDITION, "restore-back")
    assert found.recorded("signatures") == {"megatron.a:f": "(x)"}
    assert found.outcome is CellOutcome.COMPATIBLE


def test_device_classes_stand_side_by_side(
    carried: Carried, known: Reference, write: Write, tmp_path: Path
) -> None:
    collection.collect([write(carried)], known)
    before = result_path(NAME, "host", known.workspace.results).read_bytes()
    collection.collect([write(on_a_gpu(carried), "main.gpu")], known)
    assert stored(known) == [f"results/{NAME}/main.gpu.json", f"results/{NAME}/main.host.json"]
    assert result_path(NAME, "host", known.workspace.results).read_bytes() == before


def test_an_older_result_never_replaces_newer(
    carried: Carried, known: Reference, write: Write, tmp_path: Path
) -> None:
    collection.collect([write(carried)], known)
    before = result_path(NAME, "host", known.workspace.results).read_bytes()
    older = {**carried, "taken": BEFORE}
    ((*_, later),) = collection.collect([write(older)], known)
    assert later == TAKEN
    assert result_path(NAME, "host", known.workspace.results).read_bytes() == before


def test_over_a_base_it_is_never_the_locked_cells(
    carried: Carried, known: Reference, write: Write, tmp_path: Path, cell: Cell
) -> None:
    brought = over_base(carried)
    brought["base"]["changed"] = {"transformer-engine-cu13": "GPU code of sm_90 only"}
    ((path, one, *_),) = collection.collect([write(brought, "main.host-base")], known)
    name = f"{NAME}-te2.4.0+3cd6870-torch{VENDOR}"
    assert path == known.workspace.over_base / name / "main.host.json"
    assert one.cell == name
    assert (one.pins["torch"], one.pins["transformer-engine"]) == (VENDOR, "2.4.0+3cd6870")
    assert one.base is not None
    assert one.base["cell"] == NAME
    assert one.base["changed"] == {"transformer-engine-cu13": "GPU code of sm_90 only"}
    assert one.base["toolkit"] == "12.8"
    assert one.base["differs"] == {
        "torch": {"lock": cell.torch, "there": VENDOR},
        "transformer-engine": {"lock": cell.te, "there": "2.4.0+3cd6870"},
        "transformer-engine-torch": {"lock": cell.te, "there": None},
    }
    assert store.load(path) == one
    assert not store.load_all(known.workspace.results)
    assert one.installed["apex"] == "0.1"


def test_of_releases_it_has_the_name_of_their_cell(
    carried: Carried, known: Reference, write: Write, tmp_path: Path, cell: Cell
) -> None:
    same = over_base(carried, te=cell.te, torch=cell.torch)
    ((path, one, *_),) = collection.collect([write(same, "main.host-base")], known)
    assert path == known.workspace.over_base / NAME / "main.host.json", "never beside the locked"
    assert one.base is not None
    assert set(one.base["differs"]) == {"transformer-engine-torch"}
    other = over_base(carried, te=cell.te, torch="2.8.0")
    ((path, one, *_),) = collection.collect([write(other, "main.host-base")], known)
    assert path.parent.name == f"{NAME}-torch2.8"


def tier(known: Reference) -> tuple[Result, ...]:
    """What is stored of the GPU tier."""
    return store.load_all(known.workspace.results, "gpu")


def test_of_a_part_of_the_suite_it_lies_where_that_of_a_run_here_does(
    carried: Carried, known: Reference, write: Write, tmp_path: Path, cell: Cell
) -> None:
    data = of_a_part(on_a_gpu(carried))
    broken = event("quantized-fp8[gpt]", "broken")
    broken["failure"]["message"] = "no /srv/node/bundle/suite/x.py"
    ask(data, broken)
    ((path, one, _, later),) = collection.collect([write(data, "gpu.gpu")], known)
    assert later is None
    assert path == result_path(NAME, "gpu", known.workspace.results, "gpu")
    assert stored(known) == [f"results/{NAME}/gpu.gpu.json"]
    assert tier(known) == (one,)
    assert not store.load_all(known.workspace.results), "no verdict of the cell"
    assert (one.check_set, one.lock, one.suite) == ("gpu", carried["lock"], TIER)
    assert (one.taken, one.pins, one.base) == (TAKEN, cell.pins, None)
    assert [c.outcome.value for c in one.checks] == ["broken", "works"]
    assert one.checks[0].failure
    assert one.checks[0].failure.message == "no suite/x.py", "no path of the other machine"


def test_an_older_result_of_a_part_never_replaces_newer(
    carried: Carried, known: Reference, write: Write
) -> None:
    data = of_a_part(carried)
    collection.collect([write(data, "gpu.host")], known)
    before = tier(known)
    ((*_, later),) = collection.collect([write({**data, "taken": BEFORE}, "gpu.host")], known)
    assert later == TAKEN
    assert tier(known) == before


def test_of_a_part_over_a_base_it_is_kept_apart(
    carried: Carried, known: Reference, write: Write, tmp_path: Path
) -> None:
    data = of_a_part(over_base(carried))
    ((path, one, *_),) = collection.collect([write(data, "gpu.host-base")], known)
    name = f"{NAME}-te2.4.0+3cd6870-torch{VENDOR}"
    assert path == known.workspace.over_base / name / "gpu.host.json"
    assert store.load(path) == one
    assert one.base is not None
    assert one.base["differs"]["torch"]["there"] == VENDOR
    assert tier(known) == ()


def test_a_clock_that_is_a_little_ahead_is_taken(
    carried: Carried, known: Reference, write: Write
) -> None:
    soon = datetime.now(timezone.utc) + timedelta(minutes=3)
    carried["taken"] = soon.strftime("%Y-%m-%dT%H:%M:%SZ")
    ((_, one, *_),) = collection.collect([write(carried)], known)
    assert one.taken == carried["taken"]


def set_in(*keys: Any, to: Any) -> Callable[[Carried], None]:
    def change(data: Carried) -> None:
        for key in keys[:-1]:
            data = data[key]
        data[keys[-1]] = to

    return change


def drop_end(data: Carried) -> None:
    data["events"].pop()


def twice(data: Carried) -> None:
    data["events"][1]["outcome"] = "unsupported"
    data["events"].insert(2, event("restore[gpt]"))


def no_checks(data: Carried) -> None:
    del data["events"][1]


def another_check(data: Carried) -> None:
    data["events"].insert(2, event("build[gpt]"))


def unnamed(*names: str) -> Callable[[Carried], None]:
    """On a GPU that is not told by all of its names."""

    def change(data: Carried) -> None:
        start = data["events"][0]
        start["device_class"] = "gpu"
        named = {"gpu": "a stand-in", "capability": "9.0", "driver": "1.0"}
        start["platform"].update(named, **dict.fromkeys(names))

    return change


REFUSED = {
    "for another gpu part of the suite": set_in("part", to={"name": "gpu", "digest": "0" * 64}),
    r"\$.part": set_in("part", to={"name": "exchange", "digest": TIER}),
    r"\$.events\[0\]": set_in("events", 0, "checks", to=[]),
    r"each once: 'spec\[gpt\]'": set_in("events", 0, "checks", to=["spec[gpt]", "restore[gpt]"]),
    r"each once: 'build\[gpt\]'": another_check,
    r"each once: 'restore\[gpt\]'": twice,
    "not those it announced, each once": no_checks,
    "events are from more than one run": lambda data: data["events"].insert(1, data["events"][-1]),
    "from more than one": lambda data: data["events"].insert(1, data["events"][0]),
    "its GPU lacks: gpu": unnamed("gpu"),
    "lacks: capability, driver": unnamed("capability", "driver"),
    "taken: 2999-01-01T00:00:00Z is in the future": set_in("taken", to="2999-01-01T00:00:00Z"),
    "taken: invalid timestamp 2021-01-01T99:99:99Z": set_in("taken", to="2021-01-01T99:99:99Z"),
    "for another lock": set_in("lock", to="0" * 64),
    "for another suite": set_in("suite", to="0" * 64),
    "no lock of compat-0.8-modelopt0.41": set_in("cell", to="compat-0.8-modelopt0.41"),
    r"\$.cell": set_in("cell", to="compat-../../etc"),
    r"\$.taken": set_in("taken", to="yesterday"),
    r"\$.folders": set_in("folders", to=[""]),
    r"\$.events": set_in("events", 0, "device_class", to="tpu"),
    r"\$.events\[1\].seconds": set_in("events", 1, "seconds", to=-1),
    r"\$.events\[2\].event: Invalid value 'error'": set_in(
        "events", 2, to={"event": "error", "message": "no"}
    ),
    "unknown field `path`": set_in("path", to="/srv"),
    "did not come to its end": drop_end,
    "it ran on python 3.9.1": set_in("events", 0, "platform", "python", to="3.9.1"),
    "installed packages differ from the lock": set_in("events", 0, "installed", "numpy", to="1.0"),
    "broken on purpose": set_in("events", 0, "sabotage", to="drop-key-map"),
    "not those of the lock": set_in("wheels", to={}),
    "uses protocol 2": set_in("events", 0, "suite", to=2),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_is_not_of_here_is_refused(
    carried: Carried, known: Reference, write: Write, tmp_path: Path, why: str
) -> None:
    good = write(carried, folder="good")
    REFUSED[why](carried)
    bad = write(carried)
    with pytest.raises(CompatError, match=why) as refused:
        collection.collect([good, bad], known)
    assert refused.value.exit_code == 2
    assert str(bad) in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not stored(known), "not the good one either"


def test_over_a_base_the_subjects_must_be_the_cells(
    carried: Carried, known: Reference, write: Write
) -> None:
    data = over_base(carried)
    data["events"][0]["installed"]["nvidia-modelopt"] = "0.40.0"
    with pytest.raises(ResultError, match=r"nvidia-modelopt 0.40.0 ran, not 0.41"):
        collection.collect([write(data)], known)


@pytest.mark.usefixtures("on_snapshot")
def test_what_came_of_a_part_over_a_base_is_told(
    carried: Carried,
    known: Reference,
    write: Write,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = known.workspace
    monkeypatch.setattr(suite_checks, "of", lambda *_: {})  # these checks are made up
    for path in (here.matrix, here.releases):
        shutil.copyfile(snapshot.WORKSPACE.constraints / path.name, path)
    data = of_a_part(over_base(carried))
    data["suite"], data["part"]["digest"] = MAIN.digest(here.suite), GPU.digest(here.suite)
    ask(data, event("quantized-fp8[gpt]", "broken", reason="a stand-in"))
    (one,) = collection.take_back([write(data, "gpu.host-base")], here)
    assert store.load_all(here.over_base, "gpu") == (one,)
    first, *rest = capsys.readouterr().out.splitlines()
    told = (
        f"{one.cell}, gpu, device class host: ✓ works 1, ✗ broken 1; over a base, with the lock of "
        f"{NAME}"
    )
    assert first == f"{told}; {here.over_base / one.cell / 'gpu.host.json'}"
    assert rest[:2] == ["  quantized-fp8[gpt]", "    ✗ broken: a stand-in"]
    assert f"  torch: lock {one.base['differs']['torch']['lock']}, there {VENDOR}" in rest  # type: ignore[index]
    assert "  transformer-engine-torch: lock 2.11.0, there none" in rest
    data.update(complete=False, taken=LATER, events=data["events"][:2])
    collection.take_back([write(data, "gpu.host-base")], here)
    first, *_ = capsys.readouterr().out.splitlines()
    assert "; incomplete: 1 of 2 checks; not stored: " in first


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 1}'])
def test_what_is_no_result_is_refused(known: Reference, tmp_path: Path, text: str) -> None:
    (tmp_path / "main.host.json").write_text(text)
    with pytest.raises(ResultError, match=r"main\.host\.json"):
        collection.collect([tmp_path / "main.host.json"], known)


def test_a_folder_without_results(known: Reference, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no results"):
        collection.collect([known.workspace.constraints], known)
    with pytest.raises(UsageError, match="does not exist"):
        collection.collect([tmp_path / "nowhere"], known)
