"""Files of results: reading, writing, and which results may replace which.

A file is readable text: sorted, a line a check; large values are stored separately (see
`mcore_compat.results.large_values`).
"""

from __future__ import annotations

import contextlib
import functools
import gc
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from mcore_compat.base import file_group, files, foreign
from mcore_compat.base.errors import ResultError
from mcore_compat.core import profiles
from mcore_compat.core.outcomes import CellOutcome
from mcore_compat.results import agreement, fingerprint, large_values
from mcore_compat.results.result import (
    FORMAT,
    MAIN,
    MOST_SECONDS,
    REAL,
    RECORDS,
    CheckEndings,
    CheckResult,
    Record,
    Result,
    result_path,
)


def dumps(result: Result, apart: dict[str, str] | None = None) -> str:
    """The file's text: sorted, the checks last, each a line. With `apart`, large values are put
    there by their digest (see `mcore_compat.results.large_values`)."""
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
    for name in ("base", "sources", "records"):  # most results lack some of them
        if not data[name]:
            del data[name]
    if data["variables"] is None:
        del data["variables"]
    if data["reason"] and data["reason"]["cause"] is None:
        del data["reason"]["cause"]
    if data["te_extension"] == REAL:
        del data["te_extension"]
    return files.json_with_rows({**data, "format": FORMAT}, "checks", rows)


def parse(text: str, where: str, *, folder: Path | None = None, whole: bool = True) -> Result:
    """A result from its text, which must be consistent.

    `folder`: of all results, for the values that are stored separately. Without it, or if not
    `whole`, large ones are left out: a digest replaces them, and a traceback is empty.

    Raises:
        ResultError: not JSON, not of the format, or inconsistent, or a separately stored value is
            missing or corrupt; names the place and the remedy.
    """
    try:
        data = foreign.decode(text)
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise ResultError(f"it is not of the format {FORMAT}")
        packed = _packed(data["checks"]) if folder else None
        if packed is None:
            data["checks"] = [_whole(row, folder, whole=whole) for row in data["checks"]]
        else:
            at = str(folder)
            data["checks"] = [_shared(*row, at, whole) for row in packed]
        rows = data.get("records", {}).items()
        data["records"] = {kind: _record(row, folder, whole=whole) for kind, row in rows}
        data["installed"] = _interned(data.get("installed", {}))
        result = msgspec.convert(data, Result)
        endings = None
        if packed is not None and result.check_set == MAIN:
            # Of checks that ended alike, all but the time is checked once.
            endings = _endings(tuple((*row[:2], row[3]) for row in packed), str(folder), whole)
        agreement.refuse_contradictions(result, checked=endings is not None)
        result = _with_records(result)
        if endings is None or not endings.current:
            result = _refreshed(result)
        return _with_verdict(result, endings.shared if endings else CheckEndings(result.checks))
    except (ResultError, msgspec.MsgspecError) as error:
        raise ResultError(f"{where}: {error}; {way_out(where)}") from None
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ResultError(f"{where} is corrupt ({error}); {way_out(where)}") from None


_PACKED = (*large_values.SHOWN, large_values.KEY)
"""The fields of a packed check, which is a list of them."""


def _packed(rows: Sequence[Any]) -> Sequence[list[Any]] | None:
    """The rows, if all are packed checks; else None."""
    return rows if all(type(row) is list and len(row) == len(_PACKED) for row in rows) else None


@functools.lru_cache(maxsize=None, typed=True)
def _shared(name: str, outcome: str, seconds: Any, digest: str, folder: str, whole: bool) -> Any:
    """A packed check; the same object each time, because thousands of results share few.

    Raises:
        msgspec.ValidationError: it is not of the format.
        ResultError: the rest is missing, or does not match its digest.
    """
    if type(seconds) is float and 0 <= seconds <= MOST_SECONDS:
        timeless: CheckResult = _shared(name, outcome, None, digest, folder, whole)
        return replace(timeless, seconds=seconds)
    row = dict(zip(_PACKED, (name, outcome, seconds, digest), strict=True))
    return msgspec.convert(_whole(row, Path(folder), whole=whole), CheckResult)


def _record(row: dict[str, Any], folder: Path | None, *, whole: bool) -> Any:
    """A record from its row; the same object for packed ones that differ by their time alone."""
    if folder and row.keys() == _PACKED_RECORD and type(row[large_values.KEY]) is str:
        return _shared_record(row["seconds"], row[large_values.KEY], str(folder), whole)
    return _whole(row, folder, whole=whole)


_PACKED_RECORD = {"seconds", large_values.KEY}


@functools.lru_cache(maxsize=None, typed=True)
def _shared_record(seconds: Any, digest: str, folder: str, whole: bool) -> Any:
    """A packed record; raises as `_shared`."""
    if type(seconds) is float and 0 <= seconds <= MOST_SECONDS:
        timeless: Record = _shared_record(None, digest, folder, whole)
        return replace(timeless, seconds=seconds)
    row = {"seconds": seconds, large_values.KEY: digest}
    return msgspec.convert(_whole(row, Path(folder), whole=whole), Record)


def _whole(row: Any, folder: Path | None, *, whole: bool) -> dict[str, Any]:
    """The row of a check or record, with shared texts; completed with the separately stored values
    if there is a `folder`, with large ones only if `whole`."""
    row = large_values.unfolded(row, folder) if folder else row
    row = large_values.expand(row, folder) if folder and whole else large_values.without(row)
    for name in ("details", "failure"):
        row[name] = _interned(row[name])
    interned: dict[str, Any] = _interned(row)
    return interned


def _with_records(result: Result) -> Result:
    """The result with the records that an older suite had as checks.

    Raises:
        ResultError: it has the record twice.
    """
    older = [check for check in result.checks if check.kind in RECORDS]
    if not older:
        return result
    records = dict(result.records)
    for one in older:
        if one.kind in records:
            raise ResultError(f"it has the record {one.kind} twice")
        records[one.kind] = Record(seconds=one.seconds, failure=one.failure, details=one.details)
    checks = tuple(check for check in result.checks if check.kind not in RECORDS)
    return replace(result, checks=checks, records=records)


def _with_verdict(result: Result, endings: CheckEndings) -> Result:
    """The result with these endings, and with their verdict for the default profile, which may have
    changed since the file was written."""
    whole = result.check_set == MAIN and result.complete and result.outcome is not CellOutcome.ERROR
    made = profiles.outcome(endings.points) if whole and result.checks else result.outcome
    result = result if made is result.outcome else replace(result, outcome=made)
    vars(result)["endings"] = endings
    return result


class _Endings(NamedTuple):
    """`current`: their fingerprints in the files are the current ones."""

    shared: CheckEndings
    current: bool


@functools.cache
def _endings(key: tuple[tuple[str, str, str], ...], folder: str, whole: bool) -> _Endings:
    """How packed checks of a main set ended.

    Raises:
        ResultError: they contradict themselves or each other.
    """
    checks = tuple(_shared(name, ended, None, digest, folder, whole) for name, ended, digest in key)
    agreement.refuse_checks(checks)
    kept = tuple(check for check in checks if check.kind not in RECORDS)
    made = _with_fingerprints(kept)
    return _Endings(CheckEndings(made), current=made is kept)


def _interned(values: Any) -> Any:
    """A mapping with shared texts (other values are returned as they are): most texts are equal in
    all cells, and would use most of the memory."""
    if type(values) is not dict:
        return values
    return {_same(k): _same(v) if type(v) is str else v for k, v in values.items()}


@functools.cache
def _same(text: str) -> str:
    """The first string that is equal."""
    return text


def _refreshed(result: Result) -> Result:
    """The result with current fingerprints, so that a better distinction of causes applies to
    all."""
    checks = _with_fingerprints(result.checks) if result.check_set == MAIN else result.checks
    return result if checks is result.checks else replace(result, checks=checks)


def _with_fingerprints(checks: tuple[CheckResult, ...]) -> tuple[CheckResult, ...]:
    """The checks with current fingerprints; the same object if all are."""
    anew = {}
    for place, check in enumerate(checks):
        failure = check.failure
        if failure is not None:
            now = fingerprint.of(failure.type, failure.message, failure.frame)
            if now != failure.fingerprint:
                anew[place] = replace(check, failure=replace(failure, fingerprint=now))
    if not anew:
        return checks
    return tuple(anew.get(place, check) for place, check in enumerate(checks))


def way_out(where: str) -> str:
    """The command that replaces an unusable file of a result, from its folder and name."""
    check_set = Path(where).name.partition(".")[0]
    if check_set == "exchange":
        return "remove it and run nox -s exchange"
    options = f"--{check_set} " if check_set in ("ranks", "gpu") else ""
    cell = Path(where).parent.name or "CELL"
    return f"run the cell again: nox -s {cell} -- {options}--publish --force"


def load(path: Path, *, whole: bool = True) -> Result:
    """The result at `path`; not `whole`: without the values that are stored separately.

    Raises:
        FileNotFoundError: no such file.
        ResultError: as `parse`, or its cell, check set or device class do not match the path, or
            its versions do not match the cell's name.
    """
    where = f"{path.parent.name}/{path.name}"
    try:
        text = foreign.read(path, where)
        result = parse(text, where, folder=path.parent.parent, whole=whole)
        _refuse_place(result, where)
    except ResultError as error:
        hint = way_out(where)
        raise ResultError(str(error).removesuffix(f"; {hint}") + f"; {hint}") from None
    return result


def _refuse_place(result: Result, where: str) -> None:
    """Refuse a result that does not match its path, or whose versions do not match its cell's
    name."""
    name = f"{result.cell}/{result.check_set}.{result.device_class}.json"
    if name != where:
        raise ResultError(f"{where} is that of {name}")
    try:
        agreement.refuse_name(result)
    except ResultError as error:
        raise ResultError(f"{where}: {error}") from None


def save(result: Result, folder: Path) -> Path:
    """Write a result completely or not at all; as `Batch.add`.

    Raises:
        ResultError: it is not of the format, or inconsistent; nothing is written.
        InfrastructureError: the disk is full.
    """
    batch = Batch()
    path = batch.add(result, folder)
    batch.write()
    return path


class Batch:
    """Results that are written together: all of them, or none."""

    def __init__(self) -> None:
        self._results: dict[Path, Result] = {}
        self._texts: dict[Path, str] = {}
        self._apart: dict[Path, dict[str, str]] = {}

    def at(self, path: Path) -> Result:
        """The result that will be at a path.

        Raises:
            FileNotFoundError: there will be none.
            ResultError: it is corrupt.
        """
        return self._results[path] if path in self._results else load(path)

    def add(self, result: Result, folder: Path) -> Path:
        """Add a result to be written below `folder`; returns its path.

        An infrastructure error or an interrupted run never replaces a complete result; for other
        sets than the main one, only if that has the same lock and checks. The checks of two
        interrupted runs are merged. Variables that only the older result has stay if it has the
        same lock and base.

        Raises:
            ResultError: it is not of the format, or inconsistent.
        """
        path = result_path(result.cell, result.device_class, folder, result.check_set)
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

    def _readable(self, path: Path) -> Result | None:
        """The result that will be at a path; None if there is none, or it is corrupt (it is
        replaced)."""
        try:
            return self.at(path)
        except (FileNotFoundError, ResultError):
            return None

    def write(self, also: Mapping[Path, str] | None = None) -> None:
        """Write all results, and the texts in `also`, by path.

        Raises:
            InfrastructureError: the disk is full; nothing was changed.
        """
        with large_values.lock(), file_group.Changes() as changes:
            for folder, texts in self._apart.items():
                large_values.write(texts, folder, changes)
            for path, text in {**self._texts, **(also or {})}.items():
                changes.write(path, text)
            changes.commit()
        large_values.forget()
        _shared.cache_clear()
        _shared_record.cache_clear()
        _endings.cache_clear()


def _with_variables(result: Result, known: Mapping[str, str] | None) -> Result:
    """The result with these variables, unless it has its own."""
    return result if result.variables is not None else replace(result, variables=known)


def _outranks(before: Result, result: Result) -> bool:
    same = (before.lock, before.suite) == (result.lock, result.suite)
    whole = before.complete and before.outcome is not CellOutcome.ERROR
    return whole and (same or result.check_set == MAIN)


_SAME = ("check_set", "cell", "device_class", "lock", "suite", "pins", "base", "te_extension")
_MACHINE = ("gpu", "driver", "python")
"""What must be equal for the checks of two runs to be one result."""


def added(before: Result, after: Result) -> Result:
    """Both as one result, if neither is complete and both have the same lock, checks, base and
    machine; else `after` alone. For a check in both, the later run's outcome counts."""
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


def load_all(folder: Path, check_set: str = MAIN) -> tuple[Result, ...]:
    """All results of a check set below `folder`, sorted by cell and device class.

    Raises:
        ResultError: a file is corrupt, or `folder` is not a folder.
    """
    if not folder.is_dir() and os.path.lexists(folder):
        raise ResultError(f"{folder} is not a folder of results; move it away")
    paths = sorted(folder.glob(f"compat-*/{check_set}.*.json"))
    with _nothing_collected():
        return tuple(load(path) for path in paths)


@contextlib.contextmanager
def _nothing_collected() -> Iterator[None]:
    """Without garbage collection, which takes a quarter of the time and finds nothing."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
