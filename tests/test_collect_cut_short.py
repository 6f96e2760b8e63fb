"""Runs that were cut short, and archives: what was learnt comes back, and outranks nothing that is
whole. All of it is made up here."""

from __future__ import annotations

import copy
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from collect_support import (
    AT_LAST,
    BEFORE,
    LATER,
    NAME,
    TAKEN,
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
    write_,
)
from support import event

from mcore_compat.base.errors import ResultError, UsageError
from mcore_compat.core.outcomes import CellOutcome
from mcore_compat.offline import collection
from mcore_compat.offline.verification import Reference
from mcore_compat.results import levels, store

FIXTURES_HERE = (cell_, lock_, known_, carried_, write_)
"""Fixtures are found where they are imported."""


def cut_short(data: Carried) -> Carried:
    """The same, of a run that ended after its first check."""
    data = copy.deepcopy(data)
    data["complete"] = False
    data["events"][0]["checks"].append("restore[mla-moe]")
    data["events"].pop()
    return data


def test_of_a_run_that_was_cut_short_what_it_learnt_is_taken(
    carried: Carried, known: Reference, write: Write
) -> None:
    ((path, one, *_),) = collection.collect([write(cut_short(carried))], known)
    found = store.load(path)
    assert found == one
    assert [check.check for check in found.checks] == ["restore[gpt]"]
    assert not found.complete
    assert found.outcome is CellOutcome.ERROR, "no verdict"


def test_what_was_cut_short_replaces_nothing_whole(
    carried: Carried, known: Reference, write: Write
) -> None:
    ((path, *_),) = collection.collect([write(carried)], known)
    before = path.read_bytes()
    ((*_, stays),) = collection.collect([write({**cut_short(carried), "taken": LATER})], known)
    assert stays == TAKEN, "and that is said"
    assert path.read_bytes() == before


def test_of_a_part_neither(carried: Carried, known: Reference, write: Write) -> None:
    data = of_a_part(on_a_gpu(carried))
    ((_, whole, *_),) = collection.collect([write(data, "gpu.gpu")], known)
    short = {**cut_short(data), "taken": LATER}
    ((*_, stays),) = collection.collect([write(short, "gpu.gpu")], known)
    assert stays == TAKEN
    assert store.load_all(known.workspace.results, "gpu") == (whole,)


@pytest.mark.parametrize(
    "kind", [copy.deepcopy, of_a_part, over_base], ids=["main", "part", "base"]
)
def test_of_two_that_were_cut_short_what_both_asked_is_kept(
    carried: Carried, known: Reference, write: Write, kind: Callable[[Carried], Carried]
) -> None:
    first = kind(cut_short(carried))
    second = copy.deepcopy({**first, "taken": LATER})
    ask(first, event("restore[llama4-moe]"))
    second["events"].append(event("restore[mla-moe]", "broken"))
    ((_, one, asked, _),) = collection.collect([write(first)], known)
    assert (len(one.checks), asked) == (2, 3)
    ((path, one, *_, stays),) = collection.collect([write(second)], known)
    assert stays is None
    found = store.load(path)
    assert {check.check: check.outcome.value for check in found.checks} == {
        "restore[gpt]": "works",
        "restore[llama4-moe]": "works",
        "restore[mla-moe]": "broken",
    }
    assert not found.complete, "no verdict, whatever they asked together"
    assert found.taken == LATER
    # Of another driver, it is another machine's.
    second["events"][0]["platform"]["driver"] = "2.0"
    collection.collect([write(second)], known)
    found = store.load(path)
    assert [check.check for check in found.checks] == ["restore[gpt]", "restore[mla-moe]"]


def test_only_what_is_whole_and_stored_is_a_verdict(
    carried: Carried, known: Reference, write: Write
) -> None:
    def verdicts() -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = json.loads(known.workspace.verdicts.read_text())
        return found["verdicts"]

    worse = copy.deepcopy(carried)
    ask(worse, event("modelopt-state[gpt]", "broken"))
    collection.collect([write(cut_short(carried))], known)
    collection.collect([write(of_a_part(carried), "gpu.host")], known)
    collection.collect([write(over_base(carried), "main.host-base")], known)
    assert not known.workspace.verdicts.exists()
    ((_, one, *_),) = collection.collect([write({**carried, "taken": LATER})], known)
    assert verdicts() == {NAME: {"host": levels.line(one)}}
    ((_, other, *_),) = collection.collect([write({**worse, "taken": BEFORE})], known)
    assert other.outcome is not one.outcome
    assert verdicts() == {NAME: {"host": levels.line(one)}}, "it was not stored"
    collection.collect([write({**worse, "taken": AT_LAST})], known)
    assert verdicts() == {NAME: {"host": levels.line(other)}}


def test_a_check_twice_is_refused_of_a_run_that_was_cut_short_as_well(
    carried: Carried, known: Reference, write: Write
) -> None:
    data = cut_short(carried)
    data["events"].append(data["events"][-1])
    with pytest.raises(ResultError, match="each once"):
        collection.collect([write(data)], known)


@pytest.mark.parametrize("folder", ["results", "evidence"])
def test_an_archive_is_read_and_nothing_else_in_it(
    carried: Carried, known: Reference, tmp_path: Path, folder: str
) -> None:
    path = tmp_path / "results.tar"
    inside = {
        f"{folder}/{NAME}/main.host.json": json.dumps(carried),
        f"../{folder}/{NAME}/main.gpu.json": "{",
        "logs/suite.log": "{",
    }
    with tarfile.open(path, "w") as out:
        for name, text in inside.items():
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            out.addfile(info, io.BytesIO(text.encode()))
    ((stored_at, one, *_),) = collection.collect([path], known)
    assert store.load(stored_at) == one
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises((ResultError, UsageError), match=r"results\.tar"):
        collection.collect([path], known)


@pytest.mark.parametrize("folder", ["results", "evidence"])
def test_of_a_bundles_folder_its_results_are_read_and_nothing_else(
    carried: Carried, known: Reference, tmp_path: Path, folder: str
) -> None:
    for name, text in ((folder, json.dumps(carried)), ("work/environment", "{")):
        place = tmp_path / "bundle" / name / NAME
        place.mkdir(parents=True)
        (place / "main.host.json").write_text(text)
    for path in (tmp_path / "bundle", tmp_path / "bundle" / folder):
        ((stored_at, one, *_),) = collection.collect([path], known)
        assert store.load(stored_at) == one
