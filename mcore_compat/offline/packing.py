"""Cells → what goes into a bundle of them: locks are made, wheels built and downloaded."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcore_compat.base import files
from mcore_compat.base.errors import UsageError
from mcore_compat.core.cells import Cell
from mcore_compat.environments import interpreters
from mcore_compat.environments.recipes import RECIPES
from mcore_compat.environments.wheelhouse import Unbuildable, Wheel
from mcore_compat.offline import base_list, contents, download, gpu_code
from mcore_compat.offline.archive import BundleFile
from mcore_compat.offline.base_list import BaseList
from mcore_compat.offline.contents import ChangedWheel, PackedCell
from mcore_compat.offline.node import install
from mcore_compat.resolve.locks import Lock, Unresolvable
from mcore_compat.run import pipeline
from mcore_compat.run.pipeline import Context

CORE = "transformer-engine-cu"
"""How the packages of TE's core begin: each is of one CUDA."""

TOP = 5
"""How many of the packages that travel are named, the largest first."""


@dataclass(frozen=True, kw_only=True)
class PackingOptions:
    """What of a cell is packed: without what `without` matches, or what `there` has. `gpu_arch` is
    the other machine's, for which kernels are compiled; `only_arch`: TE keeps code of that alone.
    """

    without: tuple[str, ...] = ()
    there: BaseList | None = None
    gpu_arch: str | None = None
    only_arch: bool = False


def entries(cells: Mapping[str, PackingOptions], here: Context) -> list[BundleFile]:
    """What goes into a bundle of cells, by name.

    Raises:
        CompatError: a cell cannot be resolved or built, or the surroundings failed.
    """
    packed = [pack(name, choice, here) for name, choice in cells.items()]
    tools = download.ensure(contents.tool_pins(), here.say, pure=True)
    return contents.entries(packed, tools)


def pack(name: str, choice: PackingOptions, here: Context) -> PackedCell:
    """One cell, with all its wheels; raises as `entries`."""
    cell = pipeline.chosen(name, here)
    lock = pipeline.lock_of(cell, here)
    if isinstance(lock, Unresolvable):
        raise UsageError(f"{name} cannot be installed: {lock.reason}")
    torch = contents.torch_group(lock, here.releases)
    left_out = contents.chosen(lock, choice.without, torch)
    if choice.there:
        left_out |= _there(choice.there, cell, lock, torch, here)
    downloads = download.ensure([p for p in lock.pins if p.name not in left_out], here.say)
    made = PackedCell(
        cell=cell,
        lock=lock,
        wheels=_wheels(cell, lock, left_out, here, choice.gpu_arch),
        downloads=downloads,
        changed=_reduced(lock, downloads, choice.gpu_arch, here) if choice.only_arch else {},
        torch=torch,
        without=choice.without,
        left_out=left_out,
        base_list=choice.there.identity if choice.there else None,
    )
    if choice.there:
        here.say(_told(made))
    return made


def _reduced(
    lock: Lock, downloads: Mapping[str, Path], arch: str | None, here: Context
) -> dict[str, ChangedWheel]:
    """TE's core with the GPU code of one architecture only, where it travels; made once.

    Raises:
        UsageError: `arch` is none, or one that it has no code for.
    """
    if arch is None:
        raise UsageError("--only-arch: say of which GPU, e.g. --gpu-arch sm_90")
    number = gpu_code.number(arch)
    found = {}
    for pin in lock.pins:
        mine = [(h, downloads[h]) for h in pin.hashes if h in downloads]
        if not (pin.name.startswith(CORE) and mine):
            continue
        (digest, path), *_ = mine
        folder = download.folder() / digest / arch
        kept = next(iter(sorted(folder.glob("*.whl"))), None)
        if kept is None:
            here.say(f"{path.name}: keeping the GPU code of {arch} only")
            kept = gpu_code.reduced(path, number, folder)
        found[pin.name] = ChangedWheel(
            path=kept, sha256=files.sha256_file(kept), what=f"GPU code of {arch} only"
        )
    return found


def _wheels(
    cell: Cell, lock: Lock, left_out: Iterable[str], here: Context, arch: str | None = None
) -> tuple[Wheel, ...]:
    """The wheels of the wheelhouse that a cell needs."""
    wanted = [pin.name for pin in lock.source_only if pin.name not in left_out]
    python = interpreters.find(cell.python, here.run, here.uv) if wanted else Path(sys.executable)
    found: list[Wheel] = []
    for package in wanted:
        made = pipeline.wheels_of(cell, lock, python, here, only=package, arch=arch)
        if isinstance(made, Unbuildable):
            raise UsageError(f"{cell.name} cannot be built: {made.reason}")
        found += made
        if arch and RECIPES[package].kernels_needed and made[0].key.variant == "-nocuda":
            here.say(
                f"{cell.name}: {package} travels without its kernels, for nvcc of torch's CUDA is "
                "not here; the hybrid family's checks on a GPU will end needs-gpu"
            )
    return tuple(found)


def _there(
    there: BaseList, cell: Cell, lock: Lock, torch: frozenset[str], here: Context
) -> frozenset[str]:
    """What of a lock need not travel."""
    pins = {pin.name: pin for pin in lock.pins}

    def requires(package: Mapping[str, Any]) -> Sequence[str]:
        name = str(package["name"])
        if name in pins:
            paths = [*download.ensure([pins[name]], here.say).values()]
        else:
            others = (pin.name for pin in lock.source_only if pin.name != name)
            paths = [wheel.path for wheel in _wheels(cell, lock, frozenset(others), here)]
        return install.requires(paths[0].parent, {"files": {paths[0].name: ""}})

    return base_list.left_out(there, cell, lock, torch, requires)


def _told(packed: PackedCell) -> str:
    """What travels of a cell, the largest first."""
    instead = {one.path.name: one.path for one in packed.changed.values()}
    paths = [instead.get(path.name, path) for path in packed.downloads.values()]
    paths += [wheel.path for wheel in packed.wheels]
    sizes = sorted(((path.stat().st_size, path.name) for path in paths), reverse=True)
    largest = ", ".join(f"{name.partition('-')[0]} {size / 1e6:.1f}" for size, name in sizes[:TOP])
    total = sum(size for size, _ in sizes)
    return (
        f"{packed.cell.name}: {len(sizes)} packages travel, {total / 1e6:.1f} MB (in MB: {largest}"
        f"{', …' if sizes[TOP:] else ''})"
    )
