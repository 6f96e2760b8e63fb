"""Prepares cells for a bundle: makes locks, builds and downloads wheels."""

from __future__ import annotations

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
from mcore_compat.resolve.locks import Lock
from mcore_compat.resolve.resolution import Unresolvable
from mcore_compat.results.result import REAL
from mcore_compat.run import pipeline
from mcore_compat.run.context import Context

CORE = "transformer-engine-cu"
"""The prefix of the packages of TE's core, one for each CUDA."""

TOP = 5
"""How many of the bundle's packages are named, the largest first."""


@dataclass(frozen=True, kw_only=True)
class PackingOptions:
    """What is packed: not the packages that match `without` or that `there` has. `gpu_arch`: the
    target machine's, for compiled kernels; `only_arch`: remove TE's code for other architectures.
    """

    without: tuple[str, ...] = ()
    there: BaseList | None = None
    gpu_arch: str | None = None
    only_arch: bool = False


def bundle_files(cells: Mapping[str, PackingOptions], context: Context) -> list[BundleFile]:
    """The files of a bundle of cells.

    Raises:
        CompatError: a cell cannot be resolved or built, or an infrastructure error.
    """
    packed = [pack(name, options, context) for name, options in cells.items()]
    tools = download.ensure(contents.tool_pins(context.workspace), context.say, pure=True)
    return contents.bundle_files(packed, tools, context.workspace)


def pack(name: str, options: PackingOptions, context: Context) -> PackedCell:
    """Prepare one cell with all its wheels; raises as `bundle_files`."""
    cell = pipeline.chosen(name, context)
    lock = pipeline.lock_of(cell, context)
    if isinstance(lock, Unresolvable):
        raise UsageError(f"{name} cannot be installed: {lock.reason}")
    torch = contents.torch_group(lock, context.releases)
    left_out = contents.left_out(lock, options.without, torch)
    there = options.there
    if there:
        left_out |= _on_base_list(there, cell, lock, torch, context)
    downloads = download.ensure([p for p in lock.pins if p.name not in left_out], context.say)
    arch = options.gpu_arch
    packed = PackedCell(
        cell=cell,
        lock=lock,
        wheels=_wheels(cell, lock, left_out, context, arch),
        downloads=downloads,
        changed=_reduced(lock, downloads, arch, context) if options.only_arch else {},
        torch=torch,
        without=options.without,
        left_out=left_out,
        base_list=there.identity if there else None,
    )
    if there:
        context.say(_sizes(packed))
    return packed


def _reduced(
    lock: Lock, downloads: Mapping[str, Path], arch: str | None, context: Context
) -> dict[str, ChangedWheel]:
    """TE's core with the GPU code of one architecture only, if it is in the bundle; cached.

    Raises:
        UsageError: `arch` is missing or invalid, or TE has no code for it.
    """
    if arch is None:
        raise UsageError("--only-arch needs the GPU's architecture, e.g. --gpu-arch sm_90")
    number = gpu_code.number(arch)
    reduced = {}
    for pin in lock.pins:
        digest = next((h for h in pin.hashes if h in downloads), None)
        if digest is None or not pin.name.startswith(CORE):
            continue
        path = downloads[digest]
        folder = download.folder() / digest / arch
        wheel = next(iter(sorted(folder.glob("*.whl"))), None)
        if wheel is None:
            context.say(f"{path.name}: keeping the GPU code of {arch} only")
            wheel = gpu_code.reduced(path, number, folder)
        reduced[pin.name] = ChangedWheel(
            path=wheel, sha256=files.sha256_file(wheel), what=f"GPU code of {arch} only"
        )
    return reduced


def _wheels(
    cell: Cell, lock: Lock, left_out: Iterable[str], context: Context, arch: str | None = None
) -> tuple[Wheel, ...]:
    """The wheels of the wheelhouse that a cell needs."""
    packages = [pin.name for pin in lock.source_only if pin.name not in left_out]
    if not packages:
        return ()
    python = interpreters.find(cell.python, context.run, context.uv)
    wheels: list[Wheel] = []
    for package in packages:
        built = pipeline.wheels_of(
            cell, lock, python, context, only=package, arch=arch or "", extension=REAL
        )
        if isinstance(built, Unbuildable):
            raise UsageError(f"{cell.name} cannot be built: {built.reason}")
        wheels += built
        if arch and RECIPES[package].kernels_needed and built[0].key.variant == "-nocuda":
            context.say(
                f"{cell.name}: {package} is packed without its kernels, because there is no nvcc "
                "of torch's CUDA here; the hybrid family's checks on a GPU will end needs-gpu"
            )
    return tuple(wheels)


def _on_base_list(
    there: BaseList, cell: Cell, lock: Lock, torch: frozenset[str], context: Context
) -> frozenset[str]:
    """The packages of a lock that the bundle does not need."""
    pins = {pin.name: pin for pin in lock.pins}

    def requires(package: Mapping[str, Any]) -> Sequence[str]:
        name = str(package["name"])
        if name in pins:
            paths = [*download.ensure([pins[name]], context.say).values()]
        else:
            others = (pin.name for pin in lock.source_only if pin.name != name)
            paths = [wheel.path for wheel in _wheels(cell, lock, frozenset(others), context)]
        return install.requires(paths[0].parent, {"files": {paths[0].name: ""}})

    return base_list.left_out(there, cell, lock, torch, requires)


def _sizes(packed: PackedCell) -> str:
    """The number and sizes of a cell's packages in the bundle, the largest first."""
    changed = {wheel.path.name: wheel.path for wheel in packed.changed.values()}
    paths = [changed.get(path.name, path) for path in packed.downloads.values()]
    paths += [wheel.path for wheel in packed.wheels]
    sizes = sorted(((path.stat().st_size, path.name) for path in paths), reverse=True)
    largest = ", ".join(f"{name.partition('-')[0]} {size / 1e6:.1f}" for size, name in sizes[:TOP])
    total = sum(size for size, _ in sizes)
    return (
        f"{packed.cell.name}: {len(sizes)} packages, {total / 1e6:.1f} MB (in MB: {largest}"
        f"{', …' if sizes[TOP:] else ''})"
    )
