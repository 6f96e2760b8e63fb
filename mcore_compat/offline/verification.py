"""What a bundle's run brought back → evidence, where it is whole and of what is here.

What ran over packages that were there before is never evidence of the cell whose lock it was: it
gets the name of the combination that was really there, and tells in `base` in what that differs
from the lock.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, cast

from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from mcore_compat.base import files
from mcore_compat.base.errors import EvidenceError, LockError, UsageError
from mcore_compat.core import combinations
from mcore_compat.core.cells import Cell, Request, format_name, parse_name, series_of
from mcore_compat.core.matrix import Matrix
from mcore_compat.core.outcomes import CellOutcome
from mcore_compat.core.releases import Releases
from mcore_compat.offline.install import same
from mcore_compat.offline.overlay import normal
from mcore_compat.resolve import locks
from mcore_compat.resolve.locks import Lock
from mcore_compat.results import evidence
from mcore_compat.results.evidence import MAIN, Base, Evidence, Reason
from mcore_compat.results.from_events import Builder

SCHEMA = files.ROOT / "mcore_compat" / "results" / "schemas" / "carried.schema.json"
SUBJECTS = ("megatron-core", "nvidia-modelopt")
OF_A_GPU = ("gpu", "capability", "driver")
"""What evidence of a GPU names it by."""

CUT_SHORT = Reason(
    kind="cut-short",
    message="the run was cut short, or asked some of the checks only",
    help="run the bundle again",
)

MOMENT = "%Y-%m-%dT%H:%M:%SZ"
SKEW = timedelta(minutes=10)
"""What another machine's clock may be ahead."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is compared with: the matrix, the facts, the digests of the suite and, by name, of its
    parts, where locks lie."""

    matrix: Matrix
    releases: Releases
    suite: str
    parts: Mapping[str, str] = field(default_factory=dict)
    locks: Path = files.ROOT / "constraints" / "locks"


def problems(data: Any) -> Iterator[Any]:
    """What in the data of a file is not of the schema."""
    from jsonschema import Draft202012Validator

    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    yield from Draft202012Validator(schema).iter_errors(data)


def verified(data: Mapping[str, Any], known: Known) -> Evidence:
    """The evidence in a file's data; of a part of the suite, its `suite` is the part's digest. Of a
    run that was cut short it has the checks that ended, and is not complete.

    Raises:
        EvidenceError: it is not of this lock or suite, is damaged, or did not run what it says.
        LockError: the lock here is of other releases.
        UsageError: there is no such cell, or no lock of it here.
    """
    path = known.locks / f"{data['cell']}.txt"
    if parse_name(data["cell"]) is None or not path.exists():
        raise UsageError(f"there is no lock of {data['cell']} here")
    lock = locks.read(path)
    if data["lock"] != lock.digest:
        raise EvidenceError(
            f"it is of another lock of {data['cell']} ({data['lock'][:12]}, here "
            f"{lock.digest[:12]}); make a new bundle"
        )
    suite = _suite(data, known)
    taken = _moment(data["taken"])
    cell = _cell(data["cell"], lock, known)
    _one_run(data["events"], complete=data["complete"])
    start = data["events"][0]
    _platform(start, cell)
    base = evidence.start(
        cell,
        device_class=start["device_class"],
        lock=data["lock"],
        suite=suite,
        wheels=data["wheels"],
        check_set=part_of(data) or MAIN,
    )
    builder = Builder(replace(base, taken=taken), data["folders"])
    for event in data["events"]:
        builder.take(event)
    made = builder.evidence()
    if not data["complete"]:
        outcome = CellOutcome.ERROR if made.check_set == MAIN else made.outcome
        made = replace(made, complete=False, outcome=outcome, reason=CUT_SHORT)
    there = {normal(name): version for name, version in made.installed.items()}
    _same_wheels(data, lock)
    if data["base"] is None:
        if not _same(there, _wanted(lock)):
            raise EvidenceError("what was installed is not what the lock says")
        return made
    return _over(made, cell, lock, there, data["base"], known)


def part_of(data: Mapping[str, Any]) -> str | None:
    """The part of the suite that it is of; None where that is the main suite."""
    said = data.get("part")
    return str(said["name"]) if said else None


def _suite(data: Mapping[str, Any], known: Known) -> str:
    """The digest of what was asked, where that is the one here."""
    part = part_of(data)
    pairs = [("suite", data["suite"], known.suite)]
    if part:
        pairs.append((f"{part} part of the suite", data["part"]["digest"], known.parts[part]))
    for name, there, here in pairs:
        if there != here:
            raise EvidenceError(
                f"it is of another {name} ({there[:12]}, here {here[:12]}); make a new bundle"
            )
    return str(pairs[-1][1])


def _moment(taken: str) -> str:
    """When it was taken, where that is a moment, and none that is still to come: it would outrank
    all later evidence."""
    try:
        moment = datetime.strptime(taken, MOMENT).replace(tzinfo=timezone.utc)
    except ValueError:
        raise EvidenceError(f"taken: {taken} is no moment") from None
    if moment > datetime.now(timezone.utc) + SKEW:
        raise EvidenceError(f"taken: {taken} is still to come; set the clock there or here")
    return taken


def _one_run(events: Sequence[Mapping[str, Any]], *, complete: bool) -> None:
    """Refuse events that are not those of one run: each check that it was to ask once, or where it
    was cut short, at most once."""
    kinds = [event["event"] for event in events]
    if kinds[0] != "start" or (complete and kinds[-1] != "end"):
        raise EvidenceError("the suite did not come to its end")
    if kinds.count("start") != 1 or "end" in kinds[:-1]:
        raise EvidenceError("its events are of more than one run")
    asked = Counter(event["check"] for event in events if event["event"] == "check")
    wanted = Counter(events[0]["checks"])
    names = {*asked, *wanted} if complete else {*asked}
    wrong = sorted(name for name in names if (asked[name], wanted[name]) != (1, 1))
    if wrong:
        raise EvidenceError(
            f"its checks are not those that were to be asked, each once: {wrong[0]!r}"
            + (f" and {len(wrong) - 1} more" if wrong[1:] else "")
        )


def _platform(start: Mapping[str, Any], cell: Cell) -> None:
    """Refuse another Python than the cell's, and a GPU that nobody can name."""
    on = start["platform"]
    if str(on.get("python")).rpartition(".")[0] != cell.python:
        raise EvidenceError(f"it ran on python {on.get('python')}")
    missing = [name for name in OF_A_GPU if not (isinstance(on.get(name), str) and on[name])]
    if start["device_class"] == "gpu" and missing:
        raise EvidenceError(f"of its GPU it does not say: {', '.join(missing)}")


def _cell(name: str, lock: Lock, known: Known) -> Cell:
    """The cell on the stack of its lock."""
    cell = combinations.named(name, known.matrix, known.releases)
    stacks = known.matrix.stacks[series_of(cell.mcore)] if cell.default else ()
    others = (combinations.on_stack(cell, s, known.matrix, known.releases) for s in stacks)
    for one in (cell, *others):
        if dict(lock.axes) == {**one.pins, "cuda": str(one.cuda)}:
            return one
    raise LockError(f"the lock of {name} is of other releases; remake it: nox -s lock -- {name}")


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
        base=cast("Base", {"cell": cell.name, "differs": differs, **said}),
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
        return combinations.cell(request, known.matrix, known.releases).name
    except UsageError:
        return format_name(replace(request, python=asked.python))


def _word(package: str, version: str, releases: Releases) -> str:
    if all(version != r.version for r in releases.of(package)):
        return version
    series = series_of(version)
    return series if releases.newest(package, series).version == version else version
