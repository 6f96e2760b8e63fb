"""Files of results: reading, writing and what may replace what.

A file is text that a person can open: sorted, a line a check; large values lie apart (see
`mcore_compat.results.large_values`).
"""

from __future__ import annotations

import contextlib
import functools
import gc
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from mcore_compat.base import file_group, files, foreign
from mcore_compat.base.errors import EvidenceError
from mcore_compat.core import profiles
from mcore_compat.core.outcomes import CellOutcome
from mcore_compat.results import agreement, fingerprint, large_values
from mcore_compat.results.evidence import FORMAT, MAIN, REAL, RECORDS, Evidence, Record, path_of


def dumps(result: Evidence, apart: dict[str, str] | None = None) -> str:
    """The file's text: sorted, the checks last, each a line. With `apart`, large values are put
    there instead, by their digest (see `mcore_compat.results.large_values`)."""
    # What only the class has, msgspec leaves out.
    data = foreign.cleaned(msgspec.to_builtins(replace(result)))
    rows = data.pop("checks")
    for row in rows:
        for name in ("feature", "format", "condition"):
            if row[name] is None:
                del row[name]
    if apart is not None:
        rows = [large_values.compact(row, apart) for row in rows]
        data["records"] = {
            kind: large_values.compact(row, apart) for kind, row in data["records"].items()
        }
    for name in ("base", "sources", "records"):  # most results have not all of them
        if not data[name]:
            del data[name]
    if data["variables"] is None:
        del data["variables"]
    if data["reason"] and data["reason"]["cause"] is None:
        del data["reason"]["cause"]
    if data["te_extension"] == REAL:
        del data["te_extension"]
    return files.json_with_rows({**data, "format": FORMAT}, "checks", rows)


def parse(text: str, where: str, *, folder: Path | None = None, whole: bool = True) -> Evidence:
    """Evidence from its text; believed only as far as it agrees with itself.

    `folder`: of all evidence, where the values lie that are kept apart. Without it, or not `whole`,
    large ones are left out: a digest stands in their place, and a traceback is empty.

    Raises:
        EvidenceError: not JSON, or not of the format, or it contradicts itself, or a value that is
            kept apart is missing or corrupt; names the place and the way out.
    """
    try:
        data = foreign.decode(text)
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise EvidenceError(f"it is not of the format {FORMAT}")
        data["checks"] = [_whole(row, folder, whole=whole) for row in data["checks"]]
        rows = data.get("records", {}).items()
        data["records"] = {kind: _whole(row, folder, whole=whole) for kind, row in rows}
        data["installed"] = _interned(data.get("installed", {}))
        result = msgspec.convert(data, Evidence)
        agreement.refuse_contradictions(result)
        return _refreshed(_with_verdict(_with_records(result)))
    except (EvidenceError, msgspec.MsgspecError) as error:
        raise EvidenceError(f"{where}: {error}; {way_out(where)}") from None
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise EvidenceError(f"{where} is corrupt ({error}); {way_out(where)}") from None


def _whole(row: dict[str, Any], folder: Path | None, *, whole: bool) -> dict[str, Any]:
    """The row of a check or record, its texts shared; with what is kept apart where there is a
    folder to look in, of large values only if `whole`."""
    row = large_values.unfolded(row, folder) if folder else row
    row = large_values.expand(row, folder) if folder and whole else large_values.without(row)
    for name in ("details", "failure"):
        row[name] = _interned(row[name])
    interned: dict[str, Any] = _interned(row)
    return interned


def _with_records(result: Evidence) -> Evidence:
    """With what an older suite asked as checks, and is none, among the records.

    Raises:
        EvidenceError: it is among the records, too.
    """
    older = [check for check in result.checks if check.kind in RECORDS]
    if not older:
        return result
    records = dict(result.records)
    for one in older:
        if one.kind in records:
            raise EvidenceError(f"the record {one.kind} is there twice")
        records[one.kind] = Record(seconds=one.seconds, failure=one.failure, details=one.details)
    checks = tuple(check for check in result.checks if check.kind not in RECORDS)
    return replace(result, checks=checks, records=records)


def _with_verdict(result: Evidence) -> Evidence:
    """With the verdict for the default profile that its checks give, whatever its file says: a
    profile may have changed since."""
    whole = result.check_set == MAIN and result.complete and result.outcome is not CellOutcome.ERROR
    if not whole or not result.checks:
        return result
    made = profiles.outcome(result.checks)
    return result if made is result.outcome else replace(result, outcome=made)


def _interned(values: Any) -> Any:
    """A mapping, where it is one, whose texts are the same objects in all cells: most are alike,
    and of thousands of cells they are most of the memory."""
    if type(values) is not dict:
        return values
    return {_same(k): _same(v) if type(v) is str else v for k, v in values.items()}


@functools.cache
def _same(text: str) -> str:
    """The first string that is equal."""
    return text


def _refreshed(result: Evidence) -> Evidence:
    """With the fingerprints made anew: causes told apart better by now are so everywhere."""
    if result.check_set != MAIN:
        return result
    checks = []
    for check in result.checks:
        failure = check.failure
        if failure is not None:
            anew = fingerprint.of(failure.type, failure.message, failure.frame)
            if anew != failure.fingerprint:
                check = replace(check, failure=replace(failure, fingerprint=anew))
        checks.append(check)
    return replace(result, checks=tuple(checks))


def way_out(where: str) -> str:
    """What puts right a file of evidence that is of no use, by its cell's folder and its name."""
    check_set = Path(where).name.partition(".")[0]
    if check_set == "exchange":
        return "remove it and run nox -s exchange"
    options = f"--{check_set} " if check_set in ("ranks", "gpu") else ""
    cell = Path(where).parent.name or "CELL"
    return f"run the cell again: nox -s {cell} -- {options}--publish --force"


def load(path: Path, *, whole: bool = True) -> Evidence:
    """The evidence at `path`; not `whole`: without the values that are kept apart.

    Raises:
        FileNotFoundError: there is none.
        EvidenceError: as `parse`, or it is of another cell, check set or device class than its
            place says, or of other versions than its cell's name says.
    """
    where = f"{path.parent.name}/{path.name}"
    try:
        text = foreign.read(path, where)
        result = parse(text, where, folder=path.parent.parent, whole=whole)
        _refuse_place(result, where)
    except EvidenceError as error:
        hint = way_out(where)
        raise EvidenceError(str(error).removesuffix(f"; {hint}") + f"; {hint}") from None
    return result


def _refuse_place(result: Evidence, where: str) -> None:
    """Refuse what is not of its place, or whose cell has the name of another combination."""
    name = f"{result.cell}/{result.check_set}.{result.device_class}.json"
    if name != where:
        raise EvidenceError(f"{where} is that of {name}")
    try:
        agreement.refuse_name(result)
    except EvidenceError as error:
        raise EvidenceError(f"{where}: {error}") from None


def save(result: Evidence, folder: Path) -> Path:
    """Write evidence whole or not at all; as `Batch.add` says.

    Raises:
        EvidenceError: it does not follow its own format, or contradicts itself; nothing is written.
        InfrastructureError: the disk is full.
    """
    batch = Batch()
    path = batch.add(result, folder)
    batch.write()
    return path


class Batch:
    """Results that are written together: all of them, or none."""

    def __init__(self) -> None:
        self._results: dict[Path, Evidence] = {}
        self._texts: dict[Path, str] = {}
        self._apart: dict[Path, dict[str, str]] = {}

    def at(self, path: Path) -> Evidence:
        """What will lie there.

        Raises:
            FileNotFoundError: nothing will.
            EvidenceError: it is corrupt.
        """
        return self._results[path] if path in self._results else load(path)

    def add(self, result: Evidence, folder: Path) -> Path:
        """Have evidence written below `folder`; where it will lie.

        A failure of the surroundings, or an interrupted run, never replaces complete evidence that
        is there already; of another set than the main one, not where that is of the same lock and
        checks. What two interrupted runs have asked is added up. Variables that only the older knew
        stay where it is of the same lock and base.

        Raises:
            EvidenceError: it does not follow its own format, or contradicts itself.
        """
        path = path_of(result.cell, result.device_class, folder, result.check_set)
        unsure = result.outcome is CellOutcome.ERROR or not result.complete
        before = self._readable(path) if unsure or result.variables is None else None
        if before and unsure:
            if _outranks(before, result):
                return path
            result = added(before, result)
        if before and (before.lock, before.base) == (result.lock, result.base):
            result = _with_variables(result, before.variables)
        where, apart = f"{path.parent.name}/{path.name}", self._apart.setdefault(folder, {})
        text = dumps(result, apart)
        parse(text, where)
        _refuse_place(result, where)
        self._results[path], self._texts[path] = result, text
        return path

    def _readable(self, path: Path) -> Evidence | None:
        """What will lie there; None where nothing will, or it is corrupt: then it is replaced."""
        try:
            return self.at(path)
        except (FileNotFoundError, EvidenceError):
            return None

    def write(self, also: Mapping[Path, str] | None = None) -> None:
        """Write all, and what is `also` to be written with them.

        Raises:
            InfrastructureError: the disk is full; all is then as it was.
        """
        with large_values.lock(), file_group.Changes() as changes:
            for folder, texts in self._apart.items():
                large_values.write(texts, folder, changes)
            for path, text in {**self._texts, **(also or {})}.items():
                changes.write(path, text)
            changes.commit()
        large_values.forget()


def _with_variables(result: Evidence, known: Mapping[str, str] | None) -> Evidence:
    """With these where it knows of none by itself."""
    return result if result.variables is not None else replace(result, variables=known)


def _outranks(before: Evidence, result: Evidence) -> bool:
    same = (before.lock, before.suite) == (result.lock, result.suite)
    whole = before.complete and before.outcome is not CellOutcome.ERROR
    return whole and (same or result.check_set == MAIN)


_SAME = ("check_set", "cell", "device_class", "lock", "suite", "pins", "base", "te_extension")
_MACHINE = ("gpu", "driver", "python")
"""What must be equal for the checks of two runs to be one result."""


def added(before: Evidence, after: Evidence) -> Evidence:
    """Both as one result, where neither came to its end and both are of the same lock, checks, base
    and machine; else `after` alone. Of a check that both asked, the later run's outcome counts."""
    if before.complete or any(getattr(before, name) != getattr(after, name) for name in _SAME):
        return after
    if any(before.platform.get(name) != after.platform.get(name) for name in _MACHINE):
        return after
    older, newer = sorted((before, after), key=lambda result: result.taken)
    checks = {check.check: check for check in (*older.checks, *newer.checks)}
    return replace(
        _with_variables(newer, older.variables),
        checks=tuple(checks[name] for name in sorted(checks)),
        records={**older.records, **newer.records},
    )


def load_all(folder: Path, check_set: str = MAIN) -> tuple[Evidence, ...]:
    """All evidence of a check set below `folder`, sorted by cell and device class.

    Raises:
        EvidenceError: a file is corrupt, or `folder` is none.
    """
    if not folder.is_dir() and os.path.lexists(folder):
        raise EvidenceError(f"{folder} is no folder of results: move what lies there away")
    paths = sorted(folder.glob(f"compat-*/{check_set}.*.json"))
    with _nothing_collected():
        return tuple(load(path) for path in paths)


@contextlib.contextmanager
def _nothing_collected() -> Iterator[None]:
    """Nothing that is loaded is garbage: looking for it takes a quarter of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
