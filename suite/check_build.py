"""Can the family be built with the default spec, and with the ModelOpt spec?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from suite import adapter, checkpoints, families
from suite.plugin import Record

pytestmark = pytest.mark.feature("interface")


def check_build_default(family: str, record: Record, tmp_path: Path) -> None:
    built(family, "default", record, tmp_path)


def check_build_modelopt(family: str, record: Record, tmp_path: Path) -> None:
    mapped = built(family, "modelopt", record, tmp_path)
    # As callers do who restore nothing: the norms are then not mapped, and the model is the same.
    config = families.config(family)
    spec = adapter.modelopt_spec(family, config, remap_te_layernorm=False)
    plain = adapter.build_model(family, spec, config)
    names = [sorted(one.state_dict()) for one in (mapped, plain)]
    assert names[0] == names[1], "without remap_te_layernorm the model has other tensors"


def built(family: str, kind: str, record: Record, folder: Path) -> Any:
    """The model, which has parameters; what they are is recorded."""
    model = checkpoints.model(family, kind, folder)
    tensors = checkpoints.parameters(model)
    record("tensors", {name: [one.dtype, *one.shape] for name, one in tensors.items()})
    record("extra_states", checkpoints.extras(model))
    assert tensors, f"the {kind}-spec model has no parameters"
    return model
