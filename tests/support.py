"""What the tests of the host side share. All results here are made up, and says so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mcore_compat.analysis.cell_record import CellRecord
from mcore_compat.base.file_group import Changes
from mcore_compat.core.cells import Cell
from mcore_compat.results.from_events import Builder
from mcore_compat.results.result import Result, empty_result

ROOT = Path(__file__).resolve().parents[1]
"""The checkout."""


CONDITION = "model.load_state_dict(saved, strict=False)"
"""Under which a check holds that works under a condition, where a test names no other."""


def write_folder(
    folder: Path, pages: Iterable[tuple[str, str]], also: Iterable[tuple[str, str]] = ()
) -> int:
    """Put files, each a path within it and a text, in the place of a folder; how many."""
    with Changes() as changes:
        count = changes.write_folder(folder, pages, also)
        changes.commit()
    return count


def stand_in_cell(mcore: str = "0.16.1", modelopt: str = "0.41.0") -> Cell:
    """A cell that no matrix has."""
    series = ".".join(mcore.split(".")[:2]), ".".join(modelopt.split(".")[:2])
    return Cell(
        name=f"compat-{series[0]}-modelopt{series[1]}",
        mcore=mcore,
        modelopt=modelopt,
        te="2.11.0",
        torch="2.9.1",
        python="3.12",
        cuda=12,
    )


def event(check: str, outcome: str = "works", **fields: Any) -> dict[str, Any]:
    """A check's event of the suite's protocol."""
    kind, _, family = check.partition("[")
    failure = None
    if outcome in ("broken", "works-with"):
        failure = {
            "type": "KeyError",
            "message": "'decoder.weight'",
            "frames": [{"module": "megatron.core.x", "file": "megatron/core/x.py", "line": 3,
                        "function": "load"}],
            "traceback": "Traceback",
            "gpu_independent": "a stand-in says so",
        }  # fmt: skip
    return {
        "event": "check",
        "check": check,
        "kind": kind,
        "family": family.rstrip("]") or None,
        "outcome": outcome,
        "seconds": 0.5,
        "reason": None,
        "failure": failure,
        "details": {},
        "warnings": [],
        "condition": CONDITION if outcome == "works-with" else None,
        **fields,
    }


def record_event(kind: str, **details: Any) -> dict[str, Any]:
    """A record's event of the suite's protocol."""
    data = {"seconds": 0.5, "failure": None, "details": details}
    return {"event": "record", "record": kind, **data}


START = {
    "event": "start",
    "suite": 1,
    "device_class": "host",
    "platform": {"python": "3.12.1"},
    "installed": {"torch": "2.9.1"},
    "checks": [],
}


def stand_in_result(*events: dict[str, Any], cell: Cell | None = None) -> Result:
    """The result of a run that came to its end, the same whenever it is made."""
    base = empty_result(
        cell or stand_in_cell(), device_class="host", lock="l", suite="s", wheels={"w": "1"}
    )
    builder = Builder(replace(base, taken="2026-01-01T00:00:00Z"))
    for one in (START, *events, {"event": "end", "seconds": 1.0}):
        builder.take(one)
    return builder.result()


HOSTILE = (
    "</script><script>document.title='owned'</script><img src=x onerror=alert(1)> \" ' & "
    "javascript:alert(1) \x1b[31m \u202egnp.exe\u2066 \u061c\ufeff\u2028 {{ 7 * 7 }} <!-- ]]>"
)
"""What a package may put into its messages."""


def hostile_event(check: str) -> dict[str, Any]:
    """A failure of which every text is hostile."""
    made = event(check, "broken")
    frame = {"module": HOSTILE, "file": HOSTILE, "line": 1, "function": HOSTILE}
    made["failure"] = {
        "type": HOSTILE,
        "message": HOSTILE,
        "frames": [frame],
        "traceback": HOSTILE,
        "gpu_independent": HOSTILE,
    }
    return made


def cell_record(pins: Mapping[str, str], **fields: Any) -> CellRecord:
    """A published cell of a host in which a GPT's checkpoint restores."""
    row: dict[str, Any] = {
        "name": "compat-0.16-modelopt0.41",
        "device_class": "host",
        "level": "quantizes",
        "outcome": "partial",
        "reason": None,
        "pins": pins,
        "cuda": 12,
        "taken": "2026-11-23T00:00:00Z",
        "digests": {},
        "by_outcome": {"works": ("restore[gpt]",)},
        "causes": {},
        "by_reason": {},
        "points": {},
        "unexpected": (),
    }
    return CellRecord(**{**row, **fields})
