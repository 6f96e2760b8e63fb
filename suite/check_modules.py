"""A record of whose the modules are that failures name: `yaml` is PyYAML's."""

from __future__ import annotations

import importlib.metadata
import re

import pytest

from suite.plugin import Record

pytestmark = pytest.mark.bare


@pytest.mark.record_only
def check_modules(record: Record) -> None:
    """By distribution: the modules that have another name than it has."""
    modules: dict[str, list[str]] = {}
    for module, owners in importlib.metadata.packages_distributions().items():
        for owner in map(normalised, dict.fromkeys(owners)):
            if normalised(module) != owner:
                modules.setdefault(owner, []).append(module)
    for owner, names in sorted(modules.items()):
        record(owner, sorted(names))


def normalised(name: str) -> str:
    """A name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()
