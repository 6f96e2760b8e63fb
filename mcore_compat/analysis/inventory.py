"""What somebody has, as constraints: from an environment, a container, a requirements file, a
Dockerfile, or words. Words override the other sources. Pure."""

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
    """Constraints, with notes on their source; a note on one constraint is in the constraint."""

    constraints: tuple[Constraint, ...] = ()
    notes: tuple[str, ...] = ()


def of_words(text: str) -> Inventory:
    """Return the inventory of a text (`constraints.parse`)."""
    return Inventory(constraints=constraints.parse(text))


def of_installed(there: Installed) -> Inventory:
    """Return the inventory of an environment. An axis that is not installed, or has no valid
    version, is not constrained.

    Raises:
        UsageError: none of the axes' packages is installed.
    """
    found: list[Constraint] = []
    notes = []
    for axis in AXES[:-1]:
        version = there.versions.get(axis, "")
        try:
            found += constraints.of_version(axis, version, f"{axis} {version}") if version else ()
        except UsageError:
            notes.append(f'{axis} has no valid version: "{version}"; any version fits')
            continue
        if not version:
            notes.append(f"{axis} is not installed; any version fits")
    if not found:
        raise UsageError(f"current: the environment has none of {', '.join(AXES[:-1])}")
    found += constraints.of_version("python", there.python, f"python {there.python}")
    if there.cuda:
        found += constraints.of_version(CUDA, there.cuda, f"cuda {there.cuda}")
    return Inventory(constraints=constraints.joined(found), notes=tuple(notes))


def of_container(image: ContainerImage) -> Inventory:
    """Return the inventory of a container. If it has no megatron-core, its ModelOpt is not a
    constraint: pip replaces it by one that fits the megatron-core that is installed."""
    notes = [f"{image.text()}"]
    notes += [image.note] if image.note else []
    notes += [f"source: {source.line()}" for source in image.sources]
    notes += [VENDOR] if image.sources else []
    if image.branch:
        version = image.pins["megatron-core"]
        notes.append(f"its megatron-core {version} is the branch {image.branch}, not a release")
    bare = "megatron-core" not in image.pins
    found: list[Constraint] = []
    for axis, version in image.pins.items():
        if bare and axis == "nvidia-modelopt":
            notes.append(f"its {axis} {version} is ignored, because pip replaces it")
            continue
        found += constraints.of_version(axis, version, f"{axis} {version}")
    if image.cuda:
        found += constraints.of_version(CUDA, image.cuda, f"cuda {image.cuda}")
    quiet = (replace(c, note="") for c in constraints.joined(found))
    return Inventory(constraints=tuple(quiet), notes=tuple(notes))


VENDOR = (
    "its torch and Transformer Engine are NVIDIA's builds; tested were the releases on PyPI with "
    "these versions, and the install lines below replace the builds"
)
"""A note on each NVIDIA container."""


def together(inventories: Sequence[Inventory]) -> Inventory:
    """Join inventories: for each axis the last constraint wins, and a note names a different
    earlier one."""
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
