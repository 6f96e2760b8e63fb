"""Evidence that comes back: taken where it is of this lock and this suite, refused in one line
else. All of it is made up here."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import event

from mcore_compat import evidence, expand, locks, matrix, releases, verdict
from mcore_compat.bundle import collect
from mcore_compat.bundle.collect import Known
from mcore_compat.cells import Cell
from mcore_compat.errors import CompatError, EvidenceError, UsageError
from mcore_compat.locks import Lock
from mcore_compat.outcomes import CellOutcome

NAME = "compat-0.16-modelopt0.41"
SUITE = "5" * 64
TE_TORCH = "transformer_engine_torch-2.11.0-cp312-cp312-linux_x86_64.whl"
VENDOR = "2.8.0a0+5228986c39.nv25.6"

Carried = dict[str, Any]
Write = Callable[..., Path]


@pytest.fixture(scope="module")
def cell() -> Cell:
    return expand.named(NAME, matrix.load(), releases.load())


@pytest.fixture(scope="module")
def lock(cell: Cell) -> Lock:
    """Of a few packages; the real one has more."""
    pins = {name: cell.pins[name] for name in collect.SUBJECTS}
    pins |= {"torch": cell.torch, "transformer-engine": cell.te, "numpy": "2.4.4"}
    pins["transformer-engine-torch"] = cell.te
    body = "".join(f"{n}=={v} \\\n    --hash=sha256:{'ab' * 32}\n" for n, v in sorted(pins.items()))
    head = locks.head(cell, "2026-01-01", ["transformer-engine-torch"], extras="", body=body)
    return locks.parse(head + body, f"{NAME}.txt")


@pytest.fixture
def known(lock: Lock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Known:
    """What is compared with; evidence is stored below a temporary folder."""
    monkeypatch.setenv("MCORE_COMPAT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(evidence, "FOLDER", tmp_path / "stored" / "evidence")
    monkeypatch.setattr(collect, "FOLDER", tmp_path / "stored" / "over-base")
    monkeypatch.setattr(verdict, "note", lambda found: None)
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks" / f"{NAME}.txt").write_text(lock.text)
    return Known(
        matrix=matrix.load(), releases=releases.load(), suite=SUITE, locks=tmp_path / "locks"
    )


@pytest.fixture
def carried(lock: Lock, cell: Cell) -> Carried:
    """What a run of the cell brings back."""
    start = {
        "event": "start",
        "suite": 1,
        "device_class": "host",
        "platform": {"python": f"{cell.python}.1", "cuda": "12.8", "gpu": None},
        "installed": {pin.name: pin.version for pin in (*lock.pins, *lock.source_only)},
        "checks": [],
    }
    return {
        "base": None,
        "bundle": "b" * 64,
        "cell": NAME,
        "events": [start, event("restore[gpt]"), {"event": "end", "seconds": 1.0}],
        "folders": ["/srv/node/bundle"],
        "lock": lock.digest,
        "schema": 1,
        "suite": SUITE,
        "taken": "2026-06-01T10:00:00Z",
        "wheels": {TE_TORCH: "e" * 64},
    }


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def put(data: Carried, name: str = "host", folder: str = "back") -> Path:
        path = tmp_path / folder / "evidence" / NAME / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(data))
        return path

    return put


def over_base(data: Carried, te: str = "2.4.0+3cd6870", torch: str = VENDOR) -> Carried:
    """The same, over a vendor's torch and TE."""
    data = copy.deepcopy(data)
    data["base"] = {"installed": ["megatron-core"], "unmet": [], "without": ["torch"]}
    there = data["events"][0]["installed"]
    there.update({"torch": torch, "transformer-engine": te, "apex": "0.1"})
    del there["transformer-engine-torch"]
    data["wheels"] = {}
    return data


def stored(tmp_path: Path) -> list[str]:
    place = tmp_path / "stored"
    return sorted(p.relative_to(place).as_posix() for p in place.rglob("*.json"))


def test_evidence_of_the_lock_is_the_cells(
    carried: Carried, known: Known, write: Write, tmp_path: Path, cell: Cell
) -> None:
    broken = event("restore-back[gpt]", "broken")
    broken["failure"]["message"] = "no /srv/node/bundle/suite/x.py"
    carried["events"].insert(2, broken)
    write(carried)
    ((path, one, later),) = collect.collect([tmp_path / "back"], known)
    assert later is None
    assert path == tmp_path / "stored" / "evidence" / NAME / "host.json"
    found = evidence.load(path)
    assert found == one
    assert (found.cell, found.pins, found.base) == (NAME, cell.pins, None)
    assert (found.lock, found.suite) == (carried["lock"], SUITE)
    assert found.wheels == {TE_TORCH: "e" * 64}
    assert found.taken == "2026-06-01T10:00:00Z"
    assert found.outcome is CellOutcome.COMPATIBLE or found.outcome is CellOutcome.PARTIAL
    message = next(c.failure.message for c in found.checks if c.failure)
    assert message == "no suite/x.py", "no path of the other machine"
    assert '"base"' not in path.read_text()


def test_device_classes_stand_side_by_side(
    carried: Carried, known: Known, write: Write, tmp_path: Path
) -> None:
    collect.collect([write(carried)], known)
    before = (tmp_path / "stored" / "evidence" / NAME / "host.json").read_bytes()
    carried["events"][0]["device_class"] = "gpu"
    carried["events"][0]["platform"]["gpu"] = "a stand-in"
    collect.collect([write(carried, "gpu")], known)
    assert stored(tmp_path) == [f"evidence/{NAME}/gpu.json", f"evidence/{NAME}/host.json"]
    assert (tmp_path / "stored" / "evidence" / NAME / "host.json").read_bytes() == before


def test_older_evidence_never_replaces_newer(
    carried: Carried, known: Known, write: Write, tmp_path: Path
) -> None:
    collect.collect([write(carried)], known)
    before = (tmp_path / "stored" / "evidence" / NAME / "host.json").read_bytes()
    older = {**carried, "taken": "2026-05-01T10:00:00Z"}
    ((_, _, later),) = collect.collect([write(older)], known)
    assert later == "2026-06-01T10:00:00Z"
    assert (tmp_path / "stored" / "evidence" / NAME / "host.json").read_bytes() == before


def test_over_a_base_it_is_never_the_locked_cells(
    carried: Carried, known: Known, write: Write, tmp_path: Path, cell: Cell
) -> None:
    ((path, one, _),) = collect.collect([write(over_base(carried), "host-base")], known)
    name = f"{NAME}-te2.4.0+3cd6870-torch{VENDOR}"
    assert path == tmp_path / "stored" / "over-base" / name / "host.json"
    assert one.cell == name
    assert (one.pins["torch"], one.pins["transformer-engine"]) == (VENDOR, "2.4.0+3cd6870")
    assert one.base is not None
    assert one.base["cell"] == NAME
    assert one.base["differs"] == {
        "torch": {"lock": cell.torch, "there": VENDOR},
        "transformer-engine": {"lock": cell.te, "there": "2.4.0+3cd6870"},
        "transformer-engine-torch": {"lock": cell.te, "there": None},
    }
    assert evidence.load(path) == one
    assert not evidence.load_all(tmp_path / "stored" / "evidence")
    assert one.installed["apex"] == "0.1"


def test_of_releases_it_has_the_name_of_their_cell(
    carried: Carried, known: Known, write: Write, tmp_path: Path, cell: Cell
) -> None:
    same = over_base(carried, te=cell.te, torch=cell.torch)
    ((path, one, _),) = collect.collect([write(same, "host-base")], known)
    assert path == tmp_path / "stored" / "over-base" / NAME / "host.json", "never beside the locked"
    assert one.base is not None
    assert set(one.base["differs"]) == {"transformer-engine-torch"}
    other = over_base(carried, te=cell.te, torch="2.8.0")
    ((path, one, _),) = collect.collect([write(other, "host-base")], known)
    assert path.parent.name == f"{NAME}-torch2.8"


def set_in(*keys: Any, to: Any) -> Callable[[Carried], None]:
    def change(data: Carried) -> None:
        for key in keys[:-1]:
            data = data[key]
        data[keys[-1]] = to

    return change


def drop_end(data: Carried) -> None:
    data["events"].pop()


REFUSED = {
    "of another lock": set_in("lock", to="0" * 64),
    "of another suite": set_in("suite", to="0" * 64),
    "no lock of compat-0.8-modelopt0.41": set_in("cell", to="compat-0.8-modelopt0.41"),
    r"\$.cell": set_in("cell", to="compat-../../etc"),
    r"\$.taken": set_in("taken", to="yesterday"),
    r"\$.folders": set_in("folders", to=[""]),
    r"\$.events": set_in("events", 0, "device_class", to="tpu"),
    "did not come to its end": drop_end,
    "it ran on python 3.9.1": set_in("events", 0, "platform", "python", to="3.9.1"),
    "not what the lock says": set_in("events", 0, "installed", "numpy", to="1.0"),
    "broken on purpose": set_in("events", 0, "sabotage", to="drop-key-map"),
    "not those of the lock": set_in("wheels", to={}),
    "speaks protocol 2": set_in("events", 0, "suite", to=2),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_is_not_of_here_is_refused(
    carried: Carried, known: Known, write: Write, tmp_path: Path, why: str
) -> None:
    good = write(carried, folder="good")
    REFUSED[why](carried)
    bad = write(carried)
    with pytest.raises(CompatError, match=why) as refused:
        collect.collect([good, bad], known)
    assert refused.value.exit_code == 2
    assert str(bad) in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not stored(tmp_path), "not the good one either"


def test_over_a_base_the_subjects_must_be_the_cells(
    carried: Carried, known: Known, write: Write
) -> None:
    data = over_base(carried)
    data["events"][0]["installed"]["nvidia-modelopt"] = "0.40.0"
    with pytest.raises(EvidenceError, match=r"nvidia-modelopt 0.40.0 ran, not 0.41"):
        collect.collect([write(data)], known)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 1}'])
def test_what_is_no_evidence_is_refused(known: Known, tmp_path: Path, text: str) -> None:
    (tmp_path / "host.json").write_text(text)
    with pytest.raises(EvidenceError, match=r"host\.json"):
        collect.collect([tmp_path / "host.json"], known)


def test_a_folder_without_evidence(known: Known, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no evidence"):
        collect.collect([tmp_path / "locks"], known)
    with pytest.raises(UsageError, match="is not there"):
        collect.collect([tmp_path / "nowhere"], known)
