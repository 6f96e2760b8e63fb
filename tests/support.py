"""What the tests of the host side share. All evidence here is made up, and says so."""

from __future__ import annotations

from typing import Any

from mcore_compat.cells import Cell


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
    if outcome == "broken":
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
        **fields,
    }


START = {
    "event": "start",
    "suite": 1,
    "device_class": "host",
    "platform": {"python": "3.12.1"},
    "installed": {"torch": "2.9.1"},
    "checks": [],
}
