"""Can the family be built with the default spec, and with the ModelOpt spec?"""

from __future__ import annotations

from pathlib import Path

import pytest

from suite import checkpoints
from suite.plugin import Record

pytestmark = pytest.mark.feature("interface")


def check_build_default(family: str, record: Record, tmp_path: Path) -> None:
    built(family, "default", record, tmp_path)


def check_build_modelopt(family: str, record: Record, tmp_path: Path) -> None:
    built(family, "modelopt", record, tmp_path)


def built(family: str, kind: str, record: Record, folder: Path) -> None:
    model = checkpoints.model(family, kind, folder)
    tensors = checkpoints.parameters(model)
    record("tensors", {name: [one.dtype, *one.shape] for name, one in tensors.items()})
    record("extra_states", checkpoints.extras(model))
    assert tensors, f"the {kind}-spec model has no parameters"
