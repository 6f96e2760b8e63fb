"""Does a checkpoint fit models that are spread over another number of ranks, and lose nothing?

What was saved by one rank is kept whole; every piece that a rank holds after its load is compared
bit for bit with the same piece of it. Then the ranks save, and one rank loads that again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from suite import check_restore, checkpoints, compare
from suite.outcomes import NeedsGpu, WorksWith
from suite.plugin import Record
from suite.ranks import launch, models, sabotage, shards
from suite.ranks.models import ONE, Size

pytestmark = pytest.mark.feature("parallel")

RESTORED = "keys, offsets and tensors of a checkpoint are compared by Python code, on no device"


@pytest.mark.limit(120)
def check_restore_on_one(family: str, record: Record, tmp_path: Path) -> None:
    # What is broken on one rank says nothing about several.
    said(record)
    whole = saved(family, tmp_path)
    given = compare.renamed(checkpoints.parameters(whole))
    problems = loaded(family, tmp_path / "checkpoint", given, record, tmp_path)
    assert not problems, "; ".join(problems)


@pytest.mark.kind("restore-{axis}1-to-{axis}2")
@pytest.mark.after("restore-on-one")
@pytest.mark.limit(300)
@pytest.mark.parametrize("axis", sorted(models.AXES, reverse=True))
def check_restore_to_two(
    axis: str, family: str, record: Record, on_host: bool, tmp_path: Path
) -> None:
    said(record)
    enough(on_host)
    whole = saved(family, tmp_path)
    given = compare.renamed(checkpoints.parameters(whole))
    refusal = spread(family, "modelopt", axis, whole, record, on_host, tmp_path)
    # The way back, of the same tensors: what two ranks saved is what one rank had.
    problems = loaded(family, tmp_path / "again", given, record, tmp_path)
    assert not problems, "saved again by the ranks and loaded by one: " + "; ".join(problems)
    if refusal:
        raise refusal


@pytest.mark.kind("restore-{axis}2-to-{axis}1")
@pytest.mark.after("restore-on-one")
@pytest.mark.limit(300)
@pytest.mark.parametrize("axis", sorted(models.AXES, reverse=True))
def check_restore_to_one(
    axis: str, family: str, record: Record, on_host: bool, tmp_path: Path
) -> None:
    said(record)
    enough(on_host)
    whole = saved(family, tmp_path)
    given = compare.renamed(checkpoints.parameters(whole))
    refusal = spread(family, "default", axis, whole, record, on_host, tmp_path)
    problems = loaded(family, tmp_path / "again", given, record, tmp_path)
    assert not problems, "; ".join(problems)
    if refusal:
        raise refusal


def said(record: Record) -> None:
    """What was found while something was broken on purpose is no evidence."""
    if sabotage.active():
        record("sabotage", sabotage.active())


def enough(on_host: bool) -> None:
    """Raises NeedsGpu where there is a GPU, but not one for each rank."""
    if on_host:
        return
    import torch

    count = torch.cuda.device_count()
    if count < launch.RANKS:
        raise NeedsGpu(f"{launch.RANKS} ranks that speak NCCL need as many GPUs; there is {count}")


def saved(family: str, folder: Path) -> Any:
    """The family's default-spec model, of one rank, which is saved."""
    model = models.model(family, "default", ONE, folder)
    checkpoints.distinct(model)
    checkpoints.save(model, folder / "checkpoint", quick=True)
    return model


def spread(
    family: str, spec: str, axis: str, whole: Any, record: Record, on_host: bool, folder: Path
) -> WorksWith | None:
    """Load into a model of `spec` over two ranks, which save it again; the condition under which
    alone the ranks could load, if there is one.

    Raises:
        AssertionError: what the ranks hold is not what was saved.
    """
    wholes = models.wholes(whole)
    size = Size(axis, launch.RANKS)
    job = {"family": family, "spec": spec, "axis": axis, "ranks": size.ranks}
    job |= {
        "device": not on_host,
        "load": str(folder / "checkpoint"),
        "save": str(folder / "again"),
    }
    found = launch.asked(job, folder / "ranks", record)
    all_held = [shards.parsed(one["held"]) for one in found]
    record("backend", "gloo, on the CPU" if on_host else "NCCL, on GPUs")
    record("pieces", {held.rank: len(held.pieces) for held in all_held})
    spread_out = shards.parallel(all_held)
    record("spread over the ranks", spread_out)
    problems = launch.problems(found) + shards.compared(wholes, all_held)
    if not spread_out:
        problems.append("no tensor is spread over the ranks")
    assert not problems, f"over the ranks, of {spec} spec: " + "; ".join(problems)
    said = [one for one in found if one["condition"]]
    return WorksWith(said[0]["condition"], launch.Refused(said[0]["refused"])) if said else None


def loaded(family: str, checkpoint: Path, given: Any, record: Record, folder: Path) -> list[str]:
    """Load into a ModelOpt-spec model of one rank; what is not then as it was saved."""
    model = models.model(family, "modelopt", ONE, folder, seed=99)
    sentinels = compare.renamed(checkpoints.forget(model))
    record.gpu_independent(RESTORED)

    def judge(told: Any) -> list[str]:
        problems = compare.keys(told.missing_keys, told.unexpected_keys)
        return problems + check_restore.compared(given, sentinels, model, record)

    return checkpoints.restore(model, checkpoint, judge, record)
