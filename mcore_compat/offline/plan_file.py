"""A bundle that is described in a file, so that it can be made again, and what of it is missing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomllib

from mcore_compat.base import files
from mcore_compat.base.errors import UsageError, nearest
from mcore_compat.environments import wheelhouse
from mcore_compat.offline import archive
from mcore_compat.offline.node import run_script
from mcore_compat.offline.node.run_script import RefusedError
from mcore_compat.resolve.locks import Unresolvable
from mcore_compat.run import pipeline
from mcore_compat.run.pipeline import Context

TEXTS = ("base-list", "gpu-arch", "output", "part-size")
KEYS = ("cells", *TEXTS)


@dataclass(frozen=True, kw_only=True)
class BundlePlan:
    """What the options of `bundle` would say; paths are below the repository."""

    cells: tuple[str, ...]
    output: Path
    base_list: Path | None
    gpu_arch: str | None
    part_size: str | None


def read(path: Path) -> BundlePlan:
    """A plan of a file.

    Raises:
        UsageError: it is not there, no TOML, or has a key that means nothing.
    """
    try:
        data: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"--plan: {path} cannot be read: {error}") from None
    for key in data:
        if key not in KEYS:
            raise UsageError(f'--plan: {path} has a key "{key}"{nearest(key, KEYS)}')
    cells = data.get("cells")
    if not (isinstance(cells, list) and cells and all(isinstance(c, str) for c in cells)):
        raise UsageError(f"--plan: {path} names no cells: cells = [...]")
    for key in TEXTS:
        if not isinstance(data.get(key, ""), str):
            raise UsageError(f"--plan: {path}: {key} is a text")
    if "output" not in data:
        raise UsageError(f"--plan: {path} does not say where the bundle goes: output = ...")
    base_list = data.get("base-list")
    return BundlePlan(
        cells=tuple(cells),
        output=files.ROOT / data["output"],
        base_list=files.ROOT / base_list if base_list else None,
        gpu_arch=data.get("gpu-arch"),
        part_size=data.get("part-size"),
    )


def missing(names: Sequence[str], arch: str | None, here: Context) -> Iterator[str]:
    """In words, which locks and wheels of the wheelhouse are not there; nothing is made."""
    for name in names:
        cell = pipeline.chosen(name, here)
        if not pipeline.locked(cell):
            yield f"the lock of {name}"
            continue
        lock = pipeline.lock_of(cell, here)
        assert not isinstance(lock, Unresolvable)
        for pin in lock.source_only:
            keys = wheelhouse.keys_of(pin, cell, arch)
            if not any(map(wheelhouse.lookup, keys)):
                yield f"the wheel {keys[0]}"


def parts(output: Path, manifest: str) -> Iterator[str]:
    """In words, what is wrong with the parts of a bundle that should have this manifest."""
    listed = output.parent / f"{output.stem}{run_script.PARTS}"
    try:
        for name, digest in sorted(run_script.sums(listed).items()):
            path = output.parent / name
            if not path.is_file() or files.sha256_file(path) != digest:
                yield f"{name}, or it was changed"
        if archive.manifest_of(output) != manifest:
            yield f"{output.name} of today's locks, wheels and suite"
    except RefusedError:
        yield f"the parts of {output.name}"
