"""On which versions of one another do the packages decide? A record, for choosing what to run."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from suite import guards
from suite.record import Record

PACKAGES = {
    "megatron-core": "megatron.core",
    "nvidia-modelopt": "modelopt",
    "transformer-engine": "transformer_engine",
}
AXES = (*PACKAGES, "torch")
"""Guards on other packages than those of the matrix are left out."""


@pytest.mark.record_only
def check_version_guards(record: Record) -> None:
    known = 0
    for package, module in PACKAGES.items():
        places: dict[str, list[str]] = {}
        root = folder(module)
        for file in sorted(root.rglob("*.py")) if root else []:
            try:
                found = list(guards.guards(file.read_text(encoding="utf-8", errors="replace")))
            except SyntaxError as error:
                record(f"unread: {file.relative_to(root)}", str(error))
                continue
            for one in found:
                if one.package in AXES:
                    where = f"{file.relative_to(root)}:{one.line}"
                    places.setdefault(str(one), []).append(where)
        known += len(places)
        record(package, {guard: sorted(where) for guard, where in sorted(places.items())})
    assert known, f"no version is compared in {', '.join(PACKAGES.values())}"


def folder(module: str) -> Path | None:
    """Where a package lies, without importing more of it than its parents."""
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return None
    places = list(spec.submodule_search_locations or []) if spec else []
    return Path(places[0]) if places else None
