"""A failure over releases of one package, made up, for the tests of grades."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from support import cell_record

from mcore_compat.analysis.cell_record import CellRecord
from mcore_compat.analysis.published import Compatibility, PublishedCause, PublishedRule
from mcore_compat.analysis.rules import Bound
from mcore_compat.core import source_digests
from mcore_compat.core.cells import AXES, parsed
from mcore_compat.core.source_digests import SourceDigests

FILE = "megatron/core/utils.py"
CHECK = "restore[gpt]"
FAILS, WORKS = "broken", "works"
FINGERPRINT = "0" * 12
STACK = {
    "nvidia-modelopt": "0.41.0",
    "transformer-engine": "2.11.0",
    "torch": "2.9.1",
    "python": "3.12",
}


def pins_of(mcore: str, **others: str) -> dict[str, str]:
    moved = {axis.replace("-", "_"): axis for axis in AXES}
    return {
        "megatron-core": mcore,
        **STACK,
        **{moved.get(name, name): version for name, version in others.items()},
    }


def cell_of(mcore: str, outcome: str, **others: str) -> CellRecord:
    """A cell in which the one check came to an outcome; `otherwise`: it fails for another cause."""
    pins = pins_of(mcore, **others)
    causes = {"broken": FINGERPRINT, "otherwise": "f" * 12}
    return cell_record(
        pins,
        name="compat-" + "-".join(pins.values()),
        by_outcome={"broken" if outcome == "otherwise" else outcome: (CHECK,)},
        causes={CHECK: causes[outcome]} if outcome in causes else {},
    )


def cause_of(cells: Sequence[CellRecord], **fields: Any) -> PublishedCause:
    """The failure of some cells, with the rule over megatron-core that they make."""
    failing = [cell for cell in cells if cell.causes.get(CHECK) == FINGERPRINT]
    versions = sorted((cell.pins["megatron-core"] for cell in failing), key=parsed)
    bound = Bound(axis="megatron-core", low=versions[0], high=versions[-1], below=None, above=None)
    rule = PublishedRule(text=bound.specifier(), bounds=(bound,), checks=(CHECK,))
    given: dict[str, Any] = {
        "device_class": "host",
        "fingerprint": FINGERPRINT,
        "type": "RuntimeError",
        "message": "no such thing",
        "frame": "megatron.core.utils:get",
        "gpu_independent": None,
        "checks": (CHECK,),
        "cells": tuple(cell.name for cell in failing),
        "attributed_to": ("megatron-core",),
        "bounded_rules": (rule,),
        "files": (FILE,),
    }
    return PublishedCause(**{**given, **fields})


def known_of(cells: Sequence[CellRecord], **fields: Any) -> Compatibility:
    return Compatibility(
        schema="3.0.0",
        made_by="",
        axes={},
        cells=tuple(cells),
        causes=(cause_of(cells, **fields),),
        findings=(),
        intervals=(),
        drift=(),
    )


def digests_of(
    by_release: Mapping[str, str], names: Mapping[str, tuple[str, ...]] | None = None
) -> SourceDigests:
    """Of the one file, by release of megatron-core: `{"0.16.0": "a"}`."""
    found = {version: {FILE: digest * 64} for version, digest in by_release.items()}
    return source_digests.made({"megatron-core": found}, names or {})
