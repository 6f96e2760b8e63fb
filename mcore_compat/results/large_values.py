"""Results in a compact form: a value that many cells have is stored once, by its digest.

In a file of a result, a large value of a check's `details`, and a long traceback, is `{"shared":
DIGEST}`. A new value is a file `reports/results/shared/DIGEST.json`, so that results of several
machines can be merged by copying. `nox -s report` packs them: `pack-X.json` has all values whose
digests begin with X, one a line. A check's row is then `[name, outcome, seconds, DIGEST]`: all
else, which is equal in most cells, is such a value, too; and a list of mappings is `{"elements":
[DIGEST, ...]}`, because such lists differ in few of their elements. DIGEST is the first 16 hex
digits of the SHA-256 of the value as compact, sorted JSON with a final newline.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcore_compat.base import file_group, files, foreign
from mcore_compat.base.errors import ResultError
from mcore_compat.results import repairs

if TYPE_CHECKING:
    from filelock import FileLock

FOLDER = "shared"
"""The folder of shared values, beside the cells' folders."""

LEAST = 100
"""The number of characters from which a value is stored separately. Measured on 224 cells: 400
makes all results 10 % larger; 60 saves another 3 %, and makes them harder to read."""

DIGITS = 16
_DIGEST = re.compile(rf"[0-9a-f]{{{DIGITS}}}")
KEY = "shared"


def lock() -> FileLock:
    """Held while results are written and while values are packed, so that packing does not drop the
    values of a result that is being written."""
    from filelock import FileLock  # slow to import, and not needed to read results

    files.home().mkdir(parents=True, exist_ok=True)
    return FileLock(files.home() / "results.lock")


def text_of(value: Any) -> str:
    """A value as it is stored."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")) + "\n"


def name_of(text: str) -> str:
    """The digest that a value's text is stored under."""
    return files.sha256_bytes(text.encode())[:DIGITS]


def compact(row: Mapping[str, Any], into: dict[str, str]) -> dict[str, Any]:
    """The row of a check or record with the large values of its `details` and a long traceback
    replaced; their texts, by digest, are put `into`."""
    return _changed(row, lambda value: _apart(value, into))


def _changed(row: Mapping[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    """A check's row with each value of its `details`, and its traceback, as `change` gives it."""
    failure = row["failure"]
    if failure:
        failure = {**failure, "traceback": change(failure["traceback"])}
    return {**row, "details": {k: change(v) for k, v in row["details"].items()}, "failure": failure}


def _apart(value: Any, into: dict[str, str]) -> Any:
    if not isinstance(value, (dict, list, str)):
        return value
    text = text_of(value)
    if len(text) < LEAST and not digest_in(
        value
    ):  # a value that looks like a reference is stored separately
        return value
    into[name_of(text)] = text
    return {KEY: name_of(text)}


def expand(row: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Complete a check's row in place, with the values stored below `folder`, the folder of all
    results.

    Raises:
        ResultError: a value is missing, or does not match its digest.
    """
    where = str(folder)
    for values in (row["details"], row["failure"] or {}):
        for name, value in values.items():
            if type(value) is dict and (digest := digest_in(value)):
                values[name] = read(where, digest)
    return row


SHOWN = ("check", "outcome", "seconds")
"""The fields of a packed check in the result's own file; a record has only the time."""


def folded(row: Mapping[str, Any], into: dict[str, str]) -> list[Any] | dict[str, Any]:
    """The packed row of a check, a list, or of a record, a mapping: all but the fields of `SHOWN`
    is put `into`."""
    rest = {name: value for name, value in row.items() if name not in SHOWN}
    if rest.get("kind") == row.get("check"):
        # Thousands of loads of other cells' checkpoints end alike and differ in this alone.
        rest.pop("kind", None)
    text = text_of(rest)
    into[name_of(text)] = text
    if "check" in row:
        return [*(row[name] for name in SHOWN), name_of(text)]
    return {"seconds": row["seconds"], KEY: name_of(text)}


def unfolded(row: list[Any] | dict[str, Any], folder: Path) -> dict[str, Any]:
    """The unpacked row of a check or record; an unpacked one is returned as it is.

    Raises:
        ResultError: the rest is missing, or does not match its digest.
        ValueError: a list of another length.
    """
    if isinstance(row, list):
        row = dict(zip((*SHOWN, KEY), row, strict=True))
    if KEY not in row:
        return row
    digest = digest_in({KEY: row[KEY]})
    rest = read(str(folder), digest) if digest else None
    if not isinstance(rest, dict):
        raise ResultError(f"the packed part of {row.get('check', 'a record')} is invalid")
    failure = dict(rest["failure"]) if rest["failure"] else None
    shown = {name: row[name] for name in row if name != KEY}
    kind = {"kind": row["check"]} if "check" in row and "kind" not in rest else {}
    # `read` returns the same object each time, and the row is completed in place.
    return {**rest, **kind, **shown, "details": dict(rest["details"]), "failure": failure}


def without(row: Mapping[str, Any]) -> dict[str, Any]:
    """A check's row without values that are stored separately: such a traceback is empty."""
    failure = row["failure"]
    if failure and digest_in(failure["traceback"]):
        failure = {**failure, "traceback": ""}
    return {**row, "failure": failure}


def digest_in(value: Any) -> str | None:
    """The digest in a reference to a value; None for a value itself."""
    if isinstance(value, dict) and len(value) == 1 and KEY in value:
        digest = value[KEY]
        if isinstance(digest, str) and _DIGEST.fullmatch(digest):
            return digest
    return None


def named(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """The digests in the checks and records of one result."""
    for row in rows:
        values = list(row["details"].values())
        values += [row["failure"]["traceback"]] if row["failure"] else []
        yield from filter(None, map(digest_in, values))


@functools.cache
def read(folder: str, digest: str) -> Any:
    """A value that is stored separately below `folder`; the same object each time, not to be
    changed.

    Raises:
        ResultError: it is missing, or does not match its digest.
    """
    where, text = _stored(folder, digest)
    try:
        value = foreign.decode(text)
        if name_of(text) != digest and (elements := _elements(value)):
            value = [foreign.decode(_stored(folder, each)[1]) for each in elements]
            text = text_of(value)
    except ValueError as error:
        raise ResultError(f"{where} is corrupt ({error})") from None
    if name_of(text) != digest:
        raise ResultError(f"{where} is corrupt: the digest of {digest} is {name_of(text)}")
    return value


def _stored(folder: str, digest: str) -> tuple[str, str]:
    """The file that has a value, and its text there; raises ResultError if none has it."""
    # Single files come first: so a run repairs a value that is corrupt in a pack.
    where, text = f"{FOLDER}/{digest}.json", _alone(folder, digest)
    if text is None:
        where, text = f"{FOLDER}/{pack_of(digest)}", _packed(folder, digest)
    if text is None:  # packed by another process since the pack was read here
        _pack.cache_clear()
        text = _packed(folder, digest)
    if text is None:
        raise ResultError(f"{FOLDER}/{digest}.json cannot be read, and {where} does not have it")
    return where, text


ELEMENTS = "elements"


def _elements(value: Any) -> list[str]:
    """The digests of the elements of a packed list; empty for another value."""
    digests = value.get(ELEMENTS) if isinstance(value, dict) and len(value) == 1 else None
    if not isinstance(digests, list):
        return []
    return digests if all(digest_in({KEY: digest}) for digest in digests) else []


def _taken_apart(text: str, values: dict[str, str]) -> str:
    """The packed text of a value: the elements of a list of mappings are put into `values`."""
    value = json.loads(text) if text.startswith("[{") else ()
    if not value or not all(isinstance(element, dict) for element in value):
        return text
    elements = [text_of(element) for element in value]
    values.update({name_of(element): element for element in elements})
    return text_of({ELEMENTS: [*map(name_of, elements)]})


def _alone(folder: str, digest: str) -> str | None:
    try:  # no Path: for thousands of values it takes longer than reading
        with open(f"{folder}/{FOLDER}/{digest}.json", encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ResultError(f"{FOLDER}/{digest}.json cannot be read ({error})") from None


def pack_of(digest: str) -> str:
    """The name of the file that a value is packed into."""
    return f"pack-{digest[0]}.json"


def _packed(folder: str, digest: str) -> str | None:
    return _pack(f"{folder}/{FOLDER}/{pack_of(digest)}").get(digest)


@functools.cache
def _pack(path: str) -> Mapping[str, str]:
    """The texts of a pack by digest; empty without a pack."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ResultError(f"{FOLDER}/{Path(path).name} cannot be read ({error})") from None
    # A line is ` "DIGEST": VALUE,`; slicing is 50 times faster than a regular expression, and this
    # runs for each check that is written. Not `splitlines`: a value may hold other characters that
    # end a line for Unicode.
    ends, begins = 2 + DIGITS, 2 + DIGITS + len('": ')
    return {
        line[2:ends]: line[begins:].removesuffix(",") + "\n"
        for line in text.split("\n")
        if line.startswith(' "') and line[ends:begins] == '": ' and _DIGEST.fullmatch(line[2:ends])
    }


def write(texts: Mapping[str, str], folder: Path, changes: file_group.Changes) -> None:
    """Store values below `folder` with the changes; values that are stored already are not written
    again."""
    _pack.cache_clear()
    for digest, text in sorted(texts.items()):
        try:
            packed = _packed(str(folder), digest)
            if _alone(str(folder), digest) == text or packed in (text, _taken_apart(text, {})):
                continue
        except ResultError:
            pass  # not readable: written below
        changes.write(folder / FOLDER / f"{digest}.json", text, durable=False)


def forget() -> None:
    """Clear the caches: files have changed."""
    _pack.cache_clear()
    read.cache_clear()


def pack(folder: Path) -> None:
    """Pack all values that results below `folder` use, and drop all others.

    Raises:
        ResultError: a result or a value cannot be read; nothing is changed then.
    """
    with lock(), file_group.Changes() as changes:
        stage(folder, changes)
        changes.commit()
    _pack.cache_clear()


def stage(folder: Path, changes: file_group.Changes) -> None:
    """As `pack`, as a part of other changes; the caller holds `lock`.

    Raises:
        ResultError: as `pack`.
    """
    _pack.cache_clear()
    results = _results(folder)
    wanted, there = _packs(folder, results), _there(folder, results)
    for path, text in wanted.items():
        if there.get(path) != text:
            changes.write(path, text)
    for path in sorted({*there, *_loose(folder)} - {*wanted}):
        changes.remove(path)


def unpacked(folder: Path) -> list[Path]:
    """What `pack` would change below `folder`; sorted.

    Raises:
        ResultError: as `pack`.
    """
    results = _results(folder)
    wanted, there = _packs(folder, results), _there(folder, results)
    differ = {p for p in {*wanted, *there} if wanted.get(p) != there.get(p)}
    return sorted({*differ, *_loose(folder)})


def _there(folder: Path, results: Iterable[Path]) -> dict[Path, str]:
    """The packs and the files of results as they are."""
    paths = (*(folder / FOLDER).glob("pack-*.json"), *results)
    return {path: path.read_text(encoding="utf-8", errors="replace") for path in paths}


def _results(folder: Path) -> list[Path]:
    """The files of results, sorted."""
    paths = folder.glob("compat-*/*.json")
    return sorted(path for path in paths if not path.name.startswith(f"{repairs.STEM}."))


def _loose(folder: Path) -> list[Path]:
    return [p for p in sorted((folder / FOLDER).glob("*.json")) if _DIGEST.fullmatch(p.stem)]


def _packs(folder: Path, results: Iterable[Path]) -> dict[Path, str]:
    """The texts by path of the packs and of the files of results after packing."""
    texts: dict[Path, str] = {}
    values: dict[str, str] = {}
    wanted: set[str] = set()
    for path in results:
        texts[path], named_there = _packed_result(path, folder, values)
        wanted |= named_there
    for digest in wanted - values.keys():
        values[digest] = text_of(read(str(folder), digest))
    apart = dict(values)
    for digest, text in values.items():
        apart[digest] = _taken_apart(text, apart)
    rows: dict[Path, list[str]] = {}
    for digest in sorted(apart):
        line = apart[digest].rstrip("\n")
        rows.setdefault(folder / FOLDER / pack_of(digest), []).append(f' "{digest}": {line}')
    packs = {path: "{\n" + ",\n".join(lines) + "\n}\n" for path, lines in rows.items()}
    return {**texts, **packs}


def _packed_result(path: Path, folder: Path, values: dict[str, str]) -> tuple[str, set[str]]:
    """The text of a packed result, and the digests that it uses; the values of its rows are put
    into `values`.

    Raises:
        ResultError: it cannot be read.
    """
    try:
        data = foreign.decode(foreign.read(path))
        rows = data.pop("checks")
        whole = [unfolded(row, folder) for row in rows]
        records = {kind: unfolded(row, folder) for kind, row in data.get("records", {}).items()}
        wanted = set(named([*whole, *records.values()]))
        packed = [folded(row, values) for row in whole]
        if records:
            data["records"] = {kind: folded(row, values) for kind, row in records.items()}
        return files.json_with_rows(data, "checks", packed), wanted
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ResultError(f"{path.parent.name}/{path.name} is corrupt ({error})") from None
