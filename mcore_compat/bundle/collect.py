"""Evidence that a bundle's run brought back → evidence of the cell, after it was verified.

What ran over packages that were there before is never evidence of the cell whose lock it was: it
gets the name of the combination that was really there, tells in `base` in what that differs from
the lock, and lies in `reports/over-base/`, which no table of the cells reads.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from mcore_compat import evidence, expand, files, locks, shared, verdict
from mcore_compat.bundle.base import normal
from mcore_compat.bundle.install import same
from mcore_compat.cells import Cell, Request, format_name, parse_name, series_of
from mcore_compat.errors import EvidenceError, LockError, UsageError
from mcore_compat.evidence import Builder, Evidence
from mcore_compat.locks import Lock
from mcore_compat.matrix import Matrix
from mcore_compat.releases import Releases

FOLDER = files.ROOT / "reports" / "over-base"
"""Where evidence lies that is of no locked cell: in a folder of its name, as the cells' does."""

SCHEMA = files.ROOT / "mcore_compat" / "schemas" / "carried.schema.json"
SUBJECTS = ("megatron-core", "nvidia-modelopt")


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is compared with: the matrix, the facts, the digest of the suite, where locks lie."""

    matrix: Matrix
    releases: Releases
    suite: str
    locks: Path = files.ROOT / "constraints" / "locks"


def found(paths: Iterable[Path]) -> list[Path]:
    """The files that are meant: each itself, and all evidence of runs below each folder.

    Raises:
        UsageError: one is not there, or a folder has none.
    """
    every: list[Path] = []
    for path in paths:
        if path.is_dir():
            place = path if path.name == "evidence" else path / "evidence"
            mine = sorted((place if place.is_dir() else path).glob("**/compat-*/*.json"))
            if not mine:
                raise UsageError(f"{path} has no evidence: no compat-*/*.json in it")
            every += mine
        elif path.is_file():
            every.append(path)
        else:
            raise UsageError(f"{path} is not there")
    return list(dict.fromkeys(every))


def read(path: Path, known: Known) -> Evidence:
    """The evidence in one file, verified.

    Raises:
        EvidenceError: it is not of this lock or suite, is damaged, or did not run what it says.
        UsageError: there is no such cell, or no lock of it here.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EvidenceError(f"{path} cannot be read: {error}") from None
    problem = next(problems(data), None)
    if problem is not None:
        raise EvidenceError(f"{path}: {problem.json_path}: {problem.message[:200]}")
    try:
        return _verified(data, known)
    except (EvidenceError, UsageError, LockError) as error:
        raise type(error)(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise EvidenceError(f"{path} is no evidence of a bundle's run: {error!r}") from None


def problems(data: Any) -> Iterator[Any]:
    """What in the data of a file is not of the schema."""
    from jsonschema import Draft202012Validator

    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    yield from Draft202012Validator(schema).iter_errors(data)


def _verified(data: Mapping[str, Any], known: Known) -> Evidence:
    path = known.locks / f"{data['cell']}.txt"
    if parse_name(data["cell"]) is None or not path.exists():
        raise UsageError(f"there is no lock of {data['cell']} here")
    lock = locks.read(path)
    if data["lock"] != lock.digest:
        raise EvidenceError(
            f"it is of another lock of {data['cell']} ({data['lock'][:12]}, here "
            f"{lock.digest[:12]}); make a new bundle"
        )
    if data["suite"] != known.suite:
        raise EvidenceError(
            f"it is of another suite ({data['suite'][:12]}, here {known.suite[:12]}); make a new "
            "bundle"
        )
    cell = _cell(data["cell"], lock, known)
    start = data["events"][0]
    if start["event"] != "start" or data["events"][-1]["event"] != "end":
        raise EvidenceError("the suite did not come to its end")
    if start["platform"].get("python", "").rpartition(".")[0] != cell.python:
        raise EvidenceError(f"it ran on python {start['platform'].get('python')}")
    builder = Builder(_start(cell, data), data["folders"])
    for event in data["events"]:
        builder.take(event)
    made = builder.evidence()
    there = {normal(name): version for name, version in made.installed.items()}
    _same_wheels(data, lock)
    if data["base"] is None:
        if not _same(there, _wanted(lock)):
            raise EvidenceError("what was installed is not what the lock says")
        return made
    return _over(made, cell, lock, there, data["base"], known)


def _cell(name: str, lock: Lock, known: Known) -> Cell:
    """The cell on the stack of its lock."""
    cell = expand.named(name, known.matrix, known.releases)
    stacks = known.matrix.stacks[series_of(cell.mcore)] if cell.default else ()
    others = (expand.on_stack(cell, s, known.matrix, known.releases) for s in stacks)
    for one in (cell, *others):
        if dict(lock.axes) == {**one.pins, "cuda": str(one.cuda)}:
            return one
    raise LockError(f"the lock of {name} is of other releases; remake it: nox -s lock -- {name}")


def _start(cell: Cell, data: Mapping[str, Any]) -> Evidence:
    base = evidence.start(
        cell,
        device_class=data["events"][0]["device_class"],
        lock=data["lock"],
        suite=data["suite"],
        wheels=data["wheels"],
    )
    return replace(base, taken=data["taken"])


def _wanted(lock: Lock) -> dict[str, str]:
    return {normal(pin.name): pin.version for pin in (*lock.pins, *lock.source_only)}


def _same(there: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Equal but for what a local build adds to a version."""
    public = {name: version.partition("+")[0] for name, version in there.items()}
    return same(public, {n: v.partition("+")[0] for n, v in wanted.items()})


def _same_wheels(data: Mapping[str, Any], lock: Lock) -> None:
    """Whether the wheelhouse's wheels are those of the lock; fewer where some were there before."""
    try:
        names = {str(parse_wheel_filename(name)[0]) for name in data["wheels"]}
    except InvalidWheelFilename as error:
        raise EvidenceError(str(error)) from None
    wanted = {normal(pin.name) for pin in lock.source_only}
    if not names <= wanted or (data["base"] is None and names != wanted):
        raise EvidenceError("its locally built wheels are not those of the lock")


def _over(
    made: Evidence,
    cell: Cell,
    lock: Lock,
    there: Mapping[str, str],
    said: Mapping[str, Any],
    known: Known,
) -> Evidence:
    """Evidence of what was really there, under the name of that combination."""
    for name in SUBJECTS:
        if there.get(name) != cell.pins[name]:
            raise EvidenceError(f"{name} {there.get(name)} ran, not {cell.pins[name]}")
    te = there.get("transformer-engine") or there.get("transformer-engine-torch")
    if te is None or "torch" not in there:
        raise EvidenceError("no torch or no transformer-engine was there")
    try:
        pins = {
            **cell.pins,
            "torch": str(Version(there["torch"])),
            "transformer-engine": str(Version(te)),
        }
    except InvalidVersion as error:
        raise EvidenceError(str(error)) from None
    wanted = _wanted(lock)
    differs = {
        name: {"lock": version, "there": there.get(name)}
        for name, version in wanted.items()
        if there.get(name) != version
    }
    cuda = str(made.platform.get("cuda") or "").partition(".")[0]
    return replace(
        made,
        cell=name_of(cell, pins, known),
        pins=pins,
        cuda=int(cuda) if cuda.isdigit() else cell.cuda,
        base={"cell": cell.name, "differs": differs, **said},
    )


def name_of(cell: Cell, pins: Mapping[str, str], known: Known) -> str:
    """The name of the combination that was there: that of the cell of these releases; what is no
    release of the index, as a vendor's build is not, is spelt out."""
    asked = parse_name(cell.name)
    assert asked is not None
    te, torch = pins["transformer-engine"], pins["torch"]
    request = Request(
        mcore=asked.mcore,
        modelopt=asked.modelopt,
        te=_word("transformer-engine", te, known.releases),
        torch=_word("torch", torch, known.releases),
        python=cell.python,
    )
    try:
        return expand.cell(request, known.matrix, known.releases).name
    except UsageError:
        return format_name(replace(request, python=asked.python))


def _word(package: str, version: str, releases: Releases) -> str:
    if all(version != r.version for r in releases.of(package)):
        return version
    series = series_of(version)
    return series if releases.newest(package, series).version == version else version


def place(one: Evidence) -> Path:
    """The folder of all evidence that this is of."""
    return evidence.FOLDER if one.base is None else FOLDER


def newer(one: Evidence) -> str | None:
    """When the evidence was taken that is here already, where it is of the same lock and suite,
    whole and newer than `one`; else None."""
    path = evidence.path_of(one.cell, one.device_class, place(one))
    if not path.exists():
        return None
    here = evidence.load(path, whole=False)
    still = (here.lock, here.suite, here.complete) == (one.lock, one.suite, True)
    return here.taken if still and here.taken > one.taken else None


def collect(paths: Sequence[Path], known: Known) -> list[tuple[Path, Evidence, str | None]]:
    """Verify all files, then store each but for those that are older than what is here: where it
    lies, what it is, and when that was taken which is newer.

    Raises:
        CompatError: as `found` and `read`; nothing is stored then.
    """
    every = [read(path, known) for path in found(paths)]
    done = []
    for one in every:
        path, later = evidence.path_of(one.cell, one.device_class, place(one)), newer(one)
        if later is None:
            evidence.save(one, place(one))
            if one.base is None:
                verdict.note(one)
        done.append((path, one, later))
    if any(one.base for one in every):
        shared.pack(FOLDER)
    return done
