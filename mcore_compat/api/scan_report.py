"""The result of a scan as text, JSON and SARIF. Pure."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mcore_compat.api import calls, judgement
from mcore_compat.api.scan import (
    DEFAULT_CHANGED,
    FAILURE,
    GUARDED,
    NOT_THERE_TO_SET,
    NOTE,
    ORDER_CHANGED,
    Finding,
    PackageFit,
    ScanReport,
)
from mcore_compat.base.foreign import plain

WORDS = {
    judgement.MISSING: "{path} does not exist",
    judgement.MODULE_MISSING: "module {path} does not exist",
    calls.UNKNOWN_KEYWORD: "{path} has no parameter {name}",
    calls.TOO_MANY: "{path}: too many arguments by position ({name})",
    calls.KEYWORD_ONLY: "{path} takes {name} by keyword only",
    calls.POSITIONAL_NOW: "{path} takes {name} by position only",
    calls.TWICE: "{path}: {name} is given by position and by keyword",
    calls.REQUIRED: "{path} requires {name}",
    NOT_THERE_TO_SET: "{path} is set here, but does not exist",
    ORDER_CHANGED: "{path}: another parameter at this position ({name})",
    DEFAULT_CHANGED: "{path}: another default ({name})",
}
"""The message of a finding, by kind."""

RULES = {kind: "mcore-compat/" + kind.replace(" ", "-") for kind in WORDS}
_LEVELS = {FAILURE: "error", GUARDED: "note", NOTE: "note"}

MOST_GUARDED = 20
"""Maximum lines of guarded uses and notes without `--all`."""


def message(finding: Finding) -> str:
    """A finding in one sentence."""
    what = WORDS[finding.kind].format(path=finding.path, name=finding.name)
    return f"{what} in {finding.package} {finding.release}{_since(finding)}"


def _since(finding: Finding) -> str:
    if finding.kind in (DEFAULT_CHANGED, ORDER_CHANGED):
        return f" (was written for {finding.last})"
    parts = []
    if finding.last:
        gone = finding.kind in (judgement.MISSING, judgement.MODULE_MISSING)
        changed = "removed in" if gone else "changed in"
        parts.append(f"{changed} {finding.changed}; {finding.last} was the last to fit")
    elif finding.first:
        parts.append(f"added in {finding.first}")
    else:
        parts.append("no known release fits")
    if finding.moved:
        parts.append(f"now {finding.moved}")
    return f" ({'; '.join(parts)})"


def lines(report: ScanReport, *, every: bool = False) -> Iterator[str]:
    """The report as text: failures, guarded uses, notes, unreadable files, and how each package
    fits."""
    for finding in report.findings:
        if finding.level == FAILURE:
            yield _line(finding)
    yield from _less(report, GUARDED, "guarded, not a failure", every)
    yield from _less(report, NOTE, "notes", every)
    for file in report.unreadable:
        yield plain(f"{shown(file.file)}:{file.line}: not read: {file.why}")
    for package, count in report.own.items():
        yield f"{count} files belong to {package} itself and were not checked"
    if report.findings or report.unreadable or report.own:
        yield ""
    for fit in report.fits:
        yield _fit(fit)
    yield f"{report.files} files, {report.lines:,} lines"


def _less(report: ScanReport, level: str, title: str, every: bool) -> Iterator[str]:
    found = [finding for finding in report.findings if finding.level == level]
    if not found:
        return
    yield f"{title}:"
    shown = found if every else found[:MOST_GUARDED]
    for finding in shown:
        yield f"  {_line(finding)}" + (f" [{finding.guard}]" if finding.guard else "")
    if len(shown) < len(found):
        yield f"  and {len(found) - len(shown)} more; --all shows them"


def _line(finding: Finding) -> str:
    return plain(f"{shown(finding.file)}:{finding.line}: {message(finding)}")


def shown(file: str) -> str:
    """A file as it is printed: relative to the working directory if it is below that."""
    relative = os.path.relpath(file)
    return file if relative.startswith("..") else relative


def _fit(fit: PackageFit) -> str:
    what = f"{fit.package} {fit.release}"
    if not fit.uses:
        return f"{what}: not used"
    if not fit.failures:
        more = f"; also {fit.newest}, the newest" if fit.newest not in ("", fit.release) else ""
        return f"{what}: all {fit.uses} uses fit{more}"
    newest = (
        f"the newest release that all of them fit is {fit.newest}"
        if fit.newest
        else "no release fits all of them"
    )
    return f"{what}: {fit.failures} of {fit.uses} uses do not fit; {newest}"


def as_json(report: ScanReport) -> str:
    """The report as JSON."""
    return json.dumps(as_data(report), ensure_ascii=False, indent=1)


def as_data(report: ScanReport) -> dict[str, Any]:
    """The report as plain data."""
    return {
        "schema": 1,
        "files": report.files,
        "lines": report.lines,
        "packages": [asdict(fit) for fit in report.fits],
        "findings": [
            {**asdict(f), "file": shown(f.file), "message": message(f)} for f in report.findings
        ],
        "unreadable": [{**asdict(u), "file": shown(u.file)} for u in report.unreadable],
        "own": dict(report.own),
    }


def as_sarif(report: ScanReport, version: str) -> str:
    """The report as SARIF 2.1.0, for code scanning services; `version`: of this program."""
    results = [
        {
            "ruleId": RULES[f.kind],
            "level": _LEVELS[f.level],
            "message": {"text": message(f) + (f" [{f.guard}]" if f.guard else "")},
            "locations": [_location(f.file, f.line, f.column)],
        }
        for f in report.findings
    ]
    unread = [
        {
            "level": "warning",
            "message": {"text": f"not read: {u.why}"},
            "locations": [_location(u.file, u.line, 1)],
        }
        for u in report.unreadable
    ]
    run: dict[str, Any] = {
        "tool": {
            "driver": {
                "name": "mcore-compat scan",
                "semanticVersion": version,
                "rules": _rules(report.findings),
            }
        },
        "invocations": [{"executionSuccessful": True, "toolExecutionNotifications": unread}],
        "results": results,
    }
    return json.dumps(
        {
            "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
            "version": "2.1.0",
            "runs": [run],
        },
        ensure_ascii=False,
        indent=1,
    )


def _rules(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    kinds = sorted({finding.kind for finding in findings})
    return [
        {
            "id": RULES[kind],
            "shortDescription": {"text": WORDS[kind].format(path="a name", name="a parameter")},
        }
        for kind in kinds
    ]


def _location(file: str, line: int, column: int) -> dict[str, Any]:
    return {
        "physicalLocation": {
            "artifactLocation": {"uri": Path(shown(file)).as_posix()},
            "region": {"startLine": line, "startColumn": column},
        }
    }
