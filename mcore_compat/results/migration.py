"""Results of the format 1 → format 2: `python -m mcore_compat.results.migration [reports]`.

Format 1 had a file format for each check set: `evidence/CELL/CLASS.json` (main),
`ranks/CELL.CLASS.json`, `gpu/CELL.CLASS.json` and `exchange/CELL.CLASS.json`. Now all are results
below `results/CELL/`. Old files are removed once all new ones are written.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from mcore_compat.base.errors import ResultError
from mcore_compat.results import large_values, store
from mcore_compat.results.result import FORMAT, Result

PARTS = ("ranks", "gpu")
FOLDERS = ("evidence", "exchange", *PARTS)
MAIN = ("host.json", "gpu.json")


def migrate(reports: Path) -> int:
    """Convert all results below a folder `reports` to format 2; returns their number.

    Raises:
        ResultError: a file is not of format 1, or a value of it is missing or corrupt; nothing
            is changed then.
    """
    over_base = reports / "over-base"
    results = [(reports / "results", r) for r in _results(reports, reports / "evidence")]
    results += [(over_base, r) for r in _results(over_base, over_base)]
    old = [source / name for source in (reports, over_base) for name in FOLDERS]
    old += [path for name in MAIN for path in over_base.glob(f"compat-*/{name}")]
    batch = store.Batch()
    for folder, result in results:
        batch.add(result, folder)
    batch.write()
    for folder in {folder for folder, _ in results}:
        large_values.pack(folder)
    for path in old:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    return len(results)


def _results(source: Path, main: Path) -> Iterator[Result]:
    for name in MAIN:
        for path in sorted(main.glob(f"compat-*/{name}")):
            yield _read(path, lambda data: _main(data, main))
    for part in PARTS:
        for path in sorted((source / part).glob("compat-*.json")):
            yield _read(path, _part)
    for path in sorted((source / "exchange").glob("compat-*.json")):
        yield _read(path, _exchange)


def _read(path: Path, result_of: Callable[[dict[str, Any]], Result]) -> Result:
    try:
        return result_of(json.loads(path.read_text(encoding="utf-8")))
    except ResultError as error:
        raise ResultError(f"{path}: {error}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(f"{error!r}".split())
        raise ResultError(f"{path} is not of format 1 ({reason}); nothing is changed") from None


def _main(data: dict[str, Any], folder: Path) -> Result:
    digests = data.pop("digests")
    checks = [large_values.expand(row, folder) for row in data.pop("checks")]
    del data["schema"]
    return msgspec.convert({**data, **digests, "checks": checks}, Result)


def _part(data: dict[str, Any]) -> Result:
    return _other(
        data,
        check_set=data["part"],
        suite=data["digests"]["part"],
        taken=data["taken"],
        platform=data["platform"],
        complete=data["complete"],
        base=data.get("base"),
        checks=data["checks"],
    )


def _other(data: Mapping[str, Any], **fields: Any) -> Result:
    """A result of a check set without a verdict; fields that format 1 lacks are empty."""
    known: dict[str, Any] = {"outcome": "untested", "reason": None, "cuda": 0, "wheels": {}}
    same = {name: data[name] for name in ("cell", "device_class", "pins")}
    lock = data["digests"]["lock"]
    return msgspec.convert({**known, **same, "lock": lock, **fields}, Result)


def _exchange(data: Mapping[str, Any]) -> Result:
    checks = [
        _answer(origin, key, answer, data["failures"])
        for origin, source in data["from"].items()
        for key, answer in source["answers"].items()
    ]
    sources = {
        origin: {
            **source["digests"],
            **{name: source[name] for name in ("pins", "taken", "ways")},
        }
        for origin, source in data["from"].items()
    }
    return _other(
        data,
        check_set="exchange",
        suite=data["digests"]["exchange"],
        taken=max(source["taken"] for source in sources.values()),
        checks=sorted(checks, key=lambda check: str(check["check"])),
        sources=sources,
    )


def _answer(
    origin: str, key: str, answer: str | Mapping[str, Any], failures: Mapping[str, Any]
) -> dict[str, Any]:
    fields = {"outcome": answer} if isinstance(answer, str) else dict(answer)
    return {
        "check": f"restore-from[{origin}:{key}]",
        "kind": "restore-from",
        "family": key.partition(":")[0],
        "outcome": fields["outcome"],
        "seconds": None,
        "reason": fields.get("reason"),
        "failure": failures[fields["cause"]] if fields.get("cause") else None,
        "details": fields.get("notes", {}),
    }


if __name__ == "__main__":
    try:
        moved = migrate(Path(sys.argv[1] if len(sys.argv) > 1 else "reports"))
    except ResultError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    print(f"converted {moved} results to format {FORMAT}")
