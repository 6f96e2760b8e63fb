"""The report of `doctor`: text, JSON, or annotations of a GitHub workflow. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mcore_compat.analysis.remarks import NOTE, Remark
from mcore_compat.base.foreign import plain
from mcore_compat.results import citation
from mcore_compat.results.citation import Citation

FORMATS = ("text", "json", "github")

_TITLE = "mcore-compat doctor"


@dataclass(frozen=True, kw_only=True)
class DoctorReport:
    """All `remarks` on `what` (an environment, or files), with its `versions` by axis and the
    `results` that the remarks rest on. `accepted`: sentences on versions that the packages' code
    accepts. `cell`: for files, the tested cell nearest to their pins."""

    what: str
    remarks: Sequence[Remark]
    versions: Mapping[str, str]
    results: Sequence[Citation] = ()
    accepted: Sequence[str] = ()
    cell: str = ""

    @property
    def wrong(self) -> bool:
        """Whether any remark is more than a note."""
        return any(remark.kind != NOTE for remark in self.remarks)

    def lines(self, form: str, *, verbose: bool = False) -> Iterator[str]:
        """Yield the report in one of FORMATS; `verbose`: the text also lists the versions, and
        which are accepted."""
        if form == "json":
            yield json.dumps(self._data(), indent=1, ensure_ascii=False)
        elif form == "github":
            yield from map(_annotation, self.remarks)
        else:
            yield from self._text(verbose=verbose)

    def _text(self, *, verbose: bool) -> Iterator[str]:
        for remark in self.remarks:
            yield f"{remark.kind}: {_place(remark)}{_line(remark.text)}"
            if remark.help:
                yield f"  {_line(remark.help)}"
        yield from citation.lines(self.results)
        if verbose:
            yield from map(_line, self.accepted)
            for axis, version in self.versions.items():
                yield f"{axis} {_line(version)}"
            count = "1 remark" if len(self.remarks) == 1 else f"{len(self.remarks)} remarks"
            yield f"{count} on {self.what}"

    def _data(self) -> dict[str, Any]:
        return {
            "of": self.what,
            "wrong": self.wrong,
            "versions": dict(self.versions),
            "accepted": [*map(_line, self.accepted)],
            "cell": self.cell,
            "remarks": [_row(remark) for remark in self.remarks],
            "results": [result.data() for result in self.results],
        }


def _row(remark: Remark) -> dict[str, Any]:
    """Return a remark as JSON data, without empty fields."""
    row = {
        "kind": remark.kind,
        "text": _line(remark.text),
        "help": _line(remark.help),
        "cell": remark.cell.name if remark.cell else "",
        "file": remark.file,
        "line": remark.line,
    }
    return {key: value for key, value in row.items() if value}


def _place(remark: Remark) -> str:
    return f"{_line(remark.file)}:{remark.line}: " if remark.file else ""


def _line(text: str) -> str:
    """Return foreign text as one line that is safe to print."""
    return plain(" ".join(text.split()))


def _annotation(remark: Remark) -> str:
    """Return a workflow command (one line), which GitHub shows at a file, or at the run."""
    level = "warning" if remark.kind == NOTE else "error"
    properties = {"title": _TITLE}
    if remark.file:
        properties = {"file": remark.file, "line": str(remark.line), **properties}
    said = ",".join(f"{key}={_escaped(value, ':,')}" for key, value in properties.items())
    text = _line(remark.text)
    text += f"\n{_line(remark.help)}" if remark.help else ""
    return f"::{level} {said}::{_escaped(text)}"


def _escaped(text: str, more: str = "") -> str:
    """Percent-encode text for a workflow command: `%`, line breaks and the characters `more`."""
    for character in ("%", "\r", "\n", *more):
        text = text.replace(character, f"%{ord(character):02X}")
    return text
