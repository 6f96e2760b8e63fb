"""Keeps this cell's checkpoints, each with a manifest of what is in it, for other cells to load."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from suite import checkpoints, compare, families, quantizers
from suite.exchange import kept, models
from suite.exchange.kept import Manifest, Tensor
from suite.plugin import Record

pytestmark = pytest.mark.feature("restore")


def check_save_default(family: str, record: Record, tmp_path: Path) -> None:
    saved(family, "default", record, tmp_path)


def check_save_modelopt(family: str, record: Record, tmp_path: Path) -> None:
    saved(family, "modelopt", record, tmp_path)


@pytest.mark.after("save-modelopt")
def check_save_quantized(family: str, record: Record, tmp_path: Path) -> None:
    saved(family, "quantized", record, tmp_path)


def saved(family: str, kind: str, record: Record, folder: Path) -> None:
    """Build, draw, quantize where that is the kind, and keep."""
    spec = "default" if kind == "default" else "modelopt"
    models.need(family, spec)
    plugin = models.plugin() if kind == "quantized" else None
    with models.widths():
        model = checkpoints.model(family, spec, folder)
    checkpoints.distinct(model)
    problems = kept.alike(checkpoints.parameters(model), checkpoints.floating_of(model))
    assert not problems, "; ".join(problems)
    if plugin:
        model = models.quantized(model)

    def write(part: Path) -> Manifest:
        checkpoints.save(model, part / "checkpoint", quick=True)
        if plugin:
            plugin.save_sharded_modelopt_state([model], str(part / "checkpoint"))
            there = (part / "checkpoint" / "modelopt_state").is_dir()
            assert there, "no modelopt_state was written"
        return manifest(family, kind, model)

    place = kept.keep(Path(os.environ[kept.SAVE_INTO]), family, kind, write)
    digests = kept.read(place).digests
    record("tensors", len(digests))
    record("digest", compare.total(digests))


def manifest(family: str, kind: str, model: Any) -> Manifest:
    """What is said of the checkpoint of `model`."""
    keys = models.keys(model)
    quantized = kind == "quantized"
    return Manifest(
        family=family,
        kind=kind,
        seed=families.SEED,
        versions=models.versions(),
        configuration=models.configuration(model),
        tensors={
            name: Tensor(one.sha256, one.shape, one.dtype, keys.get(name))
            for name, one in checkpoints.parameters(model).items()
        },
        extra_states=tuple(checkpoints.extras(model)),
        quantizers=models.quantizers(model) if quantized else {},
        modes=quantizers.modes(model) if quantized else {},
    )
