"""Which parts there are, and where each keeps what."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mcore_compat.base import files
from mcore_compat.run import pipeline, runner


@dataclass(frozen=True, kw_only=True)
class Part:
    """`title` and `about` head its report; `never` is said there while no GPU has run it.
    `devices`: how many GPUs it takes at a time, where there are so many; `limit`: seconds that all
    of its checks may take."""

    name: str
    title: str
    about: str
    never: str
    devices: int = 1
    limit: float = runner.SUITE_LIMIT_S

    @property
    def checks(self) -> Path:
        """The folder of its checks."""
        return files.ROOT / "suite" / self.name

    @property
    def folder(self) -> Path:
        """The folder of its evidence."""
        return files.ROOT / "reports" / self.name

    @property
    def report(self) -> Path:
        """What is published of it."""
        return files.ROOT / "reports" / f"{self.name.upper()}.md"

    def digest(self) -> str:
        """Digest of its checks and of the suite that they are made of."""
        return runner.digest(pipeline.suite_digest(), self.checks)


RANKS = Part(
    name="ranks",
    title="Restore across parallel sizes",
    about=(
        "One rank saves a default-spec model and two load it into a ModelOpt-spec model, and the "
        "other way round: tensor-parallel (`tp`) and pipeline-parallel (`pp`) sizes 1 and 2. Every "
        "piece that a rank holds is compared bit for bit with the same piece of what was saved; "
        "`1-to-2` also saves with two ranks what they loaded, and loads that with one."
    ),
    never=(
        "No rank has spoken NCCL yet: no check made its assertion on a device of the class `gpu`. "
        "Without GPUs the ranks speak gloo, on the CPU."
    ),
    devices=2,
)
GPU = Part(
    name="gpu",
    title="The GPU tier",
    about=(
        "Models on the device in bfloat16 and float32: restore, prefill and decode, logits against "
        "those of the default spec, quantization with calibration, quantized inference and "
        "training. Nothing stands in for a GPU here."
    ),
    never=(
        "**Never run on a GPU.** No check made its assertion on a device of the class `gpu`: they "
        "are written against the packages' sources, nothing is known of what they would show, and "
        "nothing is claimed."
    ),
    limit=2 * runner.SUITE_LIMIT_S,  # kernels are compiled, and each check has a limit of its own
)
PARTS = {part.name: part for part in (RANKS, GPU)}
