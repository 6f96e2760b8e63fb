"""What somebody has, as constraints: an environment, a container, a file of requirements or a
Dockerfile, and words. What is said in words counts before what is found. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mcore_compat.analysis import constraints
from mcore_compat.analysis.constraints import CUDA, IMPLIED, Constraint
from mcore_compat.base.errors import UsageError
from mcore_compat.core.cells import AXES
from mcore_compat.core.containers import ContainerImage
from mcore_compat.environments.scan import Installed


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """What is there, and what is to be said of how it was found; what is said of one constraint is
    its own note."""

    constraints: tuple[Constraint, ...] = ()
    notes: tuple[str, ...] = ()


def of_words(text: str) -> Inventory:
    """What is said in words (`constraints.parse`)."""
    return Inventory(constraints=constraints.parse(text))


def of_installed(there: Installed) -> Inventory:
    """What an environment has. An axis that it has not, or that has no version, may be any.

    Raises:
        UsageError: it has none of the axes' packages.
    """
    found: list[Constraint] = []
    notes = []
    for axis in AXES[:-1]:
        version = there.versions.get(axis, "")
        try:
            found += constraints.of_version(axis, version, f"{axis} {version}") if version else ()
        except UsageError:
            notes.append(f'installed: {axis} has no valid version: "{version}"; any is taken')
            continue
        if not version:
            notes.append(f"installed: {axis} is not; any is taken")
    if not found:
        raise UsageError(f"current: none of {', '.join(AXES[:-1])} is installed there")
    found += constraints.of_version("python", there.python, f"python {there.python}")
    if there.cuda:
        found += constraints.of_version(CUDA, there.cuda, f"cuda {there.cuda}")
    return Inventory(constraints=constraints.joined(found), notes=tuple(notes))


def of_container(image: ContainerImage) -> Inventory:
    """What a container has. Of one without megatron-core its ModelOpt is only told: pip replaces it
    by what goes with the megatron-core that is installed."""
    notes = [f"{image.text()}"]
    notes += [image.note] if image.note else []
    notes += [f"known from {source.line()}" for source in image.sources]
    notes += [VENDOR] if image.sources else []
    if image.branch:
        version = image.pins["megatron-core"]
        notes.append(f"megatron-core {version} there is of the branch {image.branch}, no release")
    bare = "megatron-core" not in image.pins
    found: list[Constraint] = []
    for axis, version in image.pins.items():
        if bare and axis == "nvidia-modelopt":
            notes.append(f"{axis} {version} there may be any: pip replaces it")
            continue
        found += constraints.of_version(axis, version, f"{axis} {version}")
    if image.cuda:
        found += constraints.of_version(CUDA, image.cuda, f"cuda {image.cuda}")
    quiet = (replace(c, note="") for c in constraints.joined(found))
    return Inventory(constraints=tuple(quiet), notes=tuple(notes))


VENDOR = (
    "torch and Transformer Engine there are NVIDIA's own builds; tested were the index's of these "
    "versions, and an install line below replaces them"
)
"""What holds of each of NVIDIA's containers."""


def together(inventories: Sequence[Inventory]) -> Inventory:
    """All of them: of each axis what the last one says, and where that is another, that it is."""
    by_axis: dict[str, Constraint] = {}
    notes = [note for one in inventories for note in one.notes]
    for one in inventories:
        for constraint in one.constraints:
            before = by_axis.get(constraint.axis)
            if before and IMPLIED in constraint.text:
                continue
            if before and before.specifier != constraint.specifier and IMPLIED not in before.text:
                notes.append(f'"{constraint.text}" counts, not "{before.text}"')
            by_axis[constraint.axis] = constraint
    return Inventory(
        constraints=tuple(by_axis[axis] for axis in sorted(by_axis)), notes=tuple(notes)
    )
