"""What of a toy project's files and answers is compared with the golden ones: fields that say what
was found, none that say when, where or by which bytes. The one place that knows the formats."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import tomllib

from mcore_compat.results import large_values
from minimatrix.project import PYTHON, Project

DEVICE = "host"

OF_THE_MOMENT = frozenset(
    {"taken", "source", "seconds", "schema", "made_by", "digests", "platform"}
)
PROSE = frozenset({"text", "rules", "wider_rules", "reasons", "gpu_independent"})


def plain(value: Any, without: Collection[str] = OF_THE_MOMENT | PROSE) -> Any:
    """JSON data without some keys; the Python that the tests run by is `PYTHON`."""
    if isinstance(value, Mapping):
        return {k: plain(v, without) for k, v in value.items() if k not in without}
    if isinstance(value, list):
        return [plain(item, without) for item in value]
    return "PYTHON" if value == PYTHON else value


def read(path: Path) -> Any:
    """The JSON of a file; None where there is none, or half of one."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _stored(project: Project, cell: str) -> Any:
    """A cell's result as it is stored; its name may lack the first word."""
    name = f"compat-{cell.removeprefix('compat-')}"
    return read(project.folder / "reports" / "results" / name / f"main.{DEVICE}.json")


def result(project: Project, cell: str) -> Any:
    """What a cell's run showed; None where it was not run."""
    data = _stored(project, cell)
    if data is None:
        return None
    folder = project.folder / "reports" / "results"  # a report packs the rows
    rows = [large_values.unfolded(row, folder) for row in data["checks"]]
    failures = {c["check"]: c["failure"] for c in rows if c["failure"]}
    return {
        "outcome": data["outcome"],
        "complete": data["complete"],
        "pins": plain(data["pins"]),
        "reason": data["reason"] and data["reason"]["kind"],
        "checks": {c["check"]: c["outcome"] for c in rows},
        "failures": {
            check: f"{one['type']}: {one['message']} in {one['frame'] or 'no frame'}"
            for check, one in failures.items()
        },
    }


def checks(project: Project, cell: str) -> set[str]:
    """The checks that a cell was asked so far."""
    rows = (_stored(project, cell) or {"checks": ()})["checks"]
    return {_shown(row)[0] for row in rows}


def _shown(row: Any) -> list[Any]:
    """Name, outcome and seconds of a check, packed or not."""
    return row if isinstance(row, list) else [row[name] for name in large_values.SHOWN]


def complete(project: Project, cell: str) -> bool:
    """Whether a cell's run came to its end."""
    return bool((_stored(project, cell) or {}).get("complete"))


def cells(project: Project) -> list[str]:
    """The cells that have a result."""
    return sorted(p.name for p in (project.folder / "reports" / "results").glob("compat-*"))


def results(project: Project) -> dict[str, Any]:
    """All results, by cell."""
    return {cell: result(project, cell) for cell in cells(project)}


def times(project: Project) -> dict[str, str]:
    """When each complete result was taken, to tell whether it was taken again: a report packs
    files, which are then written anew."""
    stored = {cell: _stored(project, cell) for cell in cells(project)}
    return {
        cell: f"{data['taken']} {[_shown(row)[2] for row in data['checks']]}"
        for cell, data in stored.items()
        if data and data["complete"]
    }


def releases(project: Project) -> Any:
    """What is known of releases."""
    rows = read(project.folder / "constraints" / "releases.json")["releases"]
    return {f"{r['package']} {r['version']}": plain(r, {"package", "version"}) for r in rows}


def declared(project: Project) -> Any:
    """Axes and stacks of the matrix."""
    data = tomllib.loads((project.folder / "constraints" / "matrix.toml").read_text())
    return plain({"axes": data["axes"], "stack": data["stack"]}, {"note"})


def locks(project: Project) -> dict[str, list[str]]:
    """The pins of each lock."""
    found = {}
    for path in sorted((project.folder / "constraints" / "locks").glob("*.txt")):
        found[path.stem] = re.findall(r"^([a-z0-9-]+==\S+)", path.read_text(), re.MULTILINE)
    return found


def published(project: Project) -> Any:
    """What is published: the data by its own fields, and the names of all other files."""
    reports = project.folder / "reports"
    data = plain(read(reports / "compatibility.json"))
    data["intervals"] = [
        {k: v for k, v in row.items() if k not in ("kind", "device_class")}
        for row in data["intervals"]
        if row["kind"] == "restore"
    ]
    names = [p.relative_to(reports).as_posix() for p in reports.rglob("*") if p.is_file()]
    kept = sorted(name for name in names if not name.startswith(("results/", "site/")))
    pages = sorted(name for name in names if re.fullmatch(r"site/[^/]+\.html", name))
    return {**data, "files": [*kept, *pages]}


def answer(out: str, without: Collection[str] = ()) -> Any:
    """What a command answered with `--format json`."""
    return plain(json.loads(out), OF_THE_MOMENT | PROSE | set(without))


def table(project: Project) -> str:
    """The published table."""
    return undated((project.folder / "reports" / "COMPATIBILITY.md").read_text())


def undated(text: str) -> str:
    """Without dates and the Python of this run."""
    text = re.sub(r"\b20\d\d-\d\d-\d\d(T[\d:]+Z)?", "DATE", text)
    return re.sub(rf"(?<![\d.]){re.escape(PYTHON)}(?![\d.])", "PYTHON", text)


def contents(folder: Path) -> dict[str, bytes]:
    """The files below a folder, by their paths in it."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
