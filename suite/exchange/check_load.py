"""Does a checkpoint that another cell kept fit this cell's models, and lose nothing?

The model is first filled with a sentinel; afterwards every tensor is compared bit for bit with
the manifest that was written beside the checkpoint.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from suite import check_build, check_modelopt_state, checkpoints, compare, quantizers
from suite.exchange import kept, models
from suite.exchange.kept import Manifest
from suite.plugin import Record

pytestmark = pytest.mark.feature("restore")

ROOT = Path(os.environ.get(kept.LOAD_FROM) or os.devnull)
THERE = kept.there(ROOT, os.environ.get(kept.LOADED, "")) if ROOT.is_dir() else []
WAYS = {way.name: way for way in kept.WAYS}


def check_build_default(family: str, record: Record, tmp_path: Path) -> None:
    models.need(family, "default")
    with models.widths():
        check_build.built(family, "default", record, tmp_path)


def check_build_modelopt(family: str, record: Record, tmp_path: Path) -> None:
    models.need(family, "modelopt")
    with models.widths():
        check_build.built(family, "modelopt", record, tmp_path)


@pytest.mark.kind("restore-from[{cell}:{of}:{way}]")
@pytest.mark.after("build-{spec}[{of}]")
@pytest.mark.parametrize(
    ("cell", "of", "way", "spec"), [(cell, of, way.name, way.target) for cell, of, way in THERE]
)
def check_restore_from(
    cell: str, of: str, way: str, spec: str, record: Record, tmp_path: Path
) -> None:
    folder = ROOT / cell / of / WAYS[way].saved
    manifest = kept.read(folder)
    record("saved with", manifest.versions)
    load = restored_quantized if way == "quantized" else restored
    problems = load(manifest, folder / "checkpoint", spec, record, tmp_path)
    assert not problems, "; ".join(problems)


def restored(
    manifest: Manifest, checkpoint: Path, spec: str, record: Record, folder: Path
) -> list[str]:
    """Load a checkpoint into a model of `spec`; in words, what is wrong with it then."""
    model = checkpoints.model(manifest.family, spec, folder, seed=99)
    sentinels = compare.renamed(checkpoints.forget(model))
    record.gpu_independent("names and Python objects of a checkpoint are compared, on no device")
    other_keys(manifest, model, record)
    strict = checkpoints.mismatched(model, checkpoint)
    problems = [] if strict is None else compare.keys(*strict)

    def judge(told: Any) -> list[str]:
        lost = compare.keys(told.missing_keys, told.unexpected_keys)
        return problems + lost + compared(manifest, sentinels, model, record)

    return checkpoints.restore(model, checkpoint, judge, record)


def restored_quantized(
    manifest: Manifest, checkpoint: Path, spec: str, record: Record, folder: Path
) -> list[str]:
    """Restore ModelOpt's state, then the weights; in words, what is wrong with the model then."""
    plugin = models.plugin()
    fresh = checkpoints.model(manifest.family, spec, folder, seed=99)
    sentinels = compare.renamed(checkpoints.forget(fresh))
    record.gpu_independent("names and Python objects of a checkpoint are compared, on no device")
    try:
        model, problems = check_modelopt_state.restore(plugin, fresh, checkpoint)
    except checkpoints.failures() as error:
        if isinstance(error, Exception):
            raise
        return [f"restoring ModelOpt's state raises {refusal(error, record)}"]
    other_keys(manifest, model, record)
    there = models.quantizers(model)
    problems += quantizer_problems(manifest.quantizers, there, record)
    try:
        told = checkpoints.load(model, checkpoint)
    except checkpoints.failures() as error:
        if isinstance(error, Exception):
            raise
        return [*problems, f"a load with all defaults raises {refusal(error, record)}"]
    problems += compare.keys(told.missing_keys, told.unexpected_keys)
    problems += compare.differing(manifest.modes, quantizers.modes(model), "modelopt modes")
    return problems + compared(manifest, sentinels, model, record)


def refusal(error: BaseException, record: Record) -> str:
    """What a load said, by its cause: its own text begins with the tracebacks of all ranks."""
    refused = f"{type(error).__name__}: {compare.last_line(error)}"
    record("load with defaults", refused)
    return refused


def quantizer_problems(
    saved: Mapping[str, Mapping[str, Any]], there: Mapping[str, Mapping[str, Any]], record: Record
) -> list[str]:
    """What is wrong with the quantizers that do something; how the others differ is recorded."""
    idle = sorted({*saved, *there} - {*kept.enabled(saved), *kept.enabled(there)})
    gone = [name for name in idle if name not in there]
    new = [name for name in idle if name not in saved]
    if gone or new:
        record("disabled quantizers", {"gone": gone, "new": new})
    if not kept.enabled(saved):
        return ["none of the saved quantizers is enabled"]
    return compare.differing(kept.enabled(saved), kept.enabled(there), "quantizers")


def other_keys(manifest: Manifest, model: Any, record: Record) -> None:
    """Record which tensors the checkpoint has under other keys than the model asks for."""
    saved = kept.unfused({name: one.key for name, one in manifest.tensors.items()})
    moved = kept.moved(saved, kept.unfused(models.keys(model)))
    if moved:
        record("other keys", moved)


def compared(
    manifest: Manifest, sentinels: Mapping[str, compare.Digest], model: Any, record: Record
) -> list[str]:
    """What was left as it was before the load, and what is not as the manifest says, through the
    checkpoint's keys where a release names a parameter otherwise."""
    there = compare.renamed(checkpoints.parameters(model))
    keys = kept.unfused({name: one.key for name, one in manifest.tensors.items()})
    names = kept.other_names(keys, kept.unfused(models.keys(model)))
    if names:
        record("other names", names)
    saved = compare.renamed(compare.renamed(manifest.digests), lambda name: names.get(name, name))
    return compare.untouched(sentinels, there) + compare.tensors(saved, there)
