"""A bundle that is described in a file, so that it can be made again, and what of it is missing."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from mcore_compat.base import data
from mcore_compat.base.data import DataError
from mcore_compat.base.errors import UsageError, nearest
from mcore_compat.environments import wheelhouse
from mcore_compat.resolve.resolution import Unresolvable
from mcore_compat.run import pipeline
from mcore_compat.run.context import Context


class BundlePlan(Struct, rename="kebab", kw_only=True, frozen=True):
    """What the options of `bundle` would say; paths are below the workspace."""

    cells: Annotated[list[str], Meta(min_length=1)]
    output: Path
    base_list: Path | None = None
    gpu_arch: str | None = None
    part_size: str | None = None


KEYS = BundlePlan.__struct_encode_fields__


def read(path: Path, root: Path) -> BundlePlan:
    """A plan of a file; its paths are below `root`.

    Raises:
        UsageError: it is not there, no TOML, or has a key that means nothing.
    """
    try:
        rows = data.toml_of(data.text_of(path))
        for key in rows:
            if key not in KEYS:
                raise UsageError(f'--plan: {path} has a key "{key}"{nearest(key, KEYS)}')
        return msgspec.convert(rows, BundlePlan, dec_hook=functools.partial(_below, root))
    except msgspec.ValidationError as error:
        raise UsageError(f"--plan: {path}: {error}") from None
    except (FileNotFoundError, DataError) as error:
        raise UsageError(f"--plan: {path} cannot be read: {error}") from None


def _below(root: Path, _: type, value: object) -> Path:
    if not isinstance(value, str):
        raise TypeError("a path is a text")
    return root / value


def missing(names: Sequence[str], arch: str | None, context: Context) -> Iterator[str]:
    """In words, which locks and wheels of the wheelhouse are not there; nothing is made."""
    for name in names:
        cell = pipeline.chosen(name, context)
        if not pipeline.locked(cell, context.workspace):
            yield f"the lock of {name}"
            continue
        lock = pipeline.lock_of(cell, context)
        assert not isinstance(lock, Unresolvable)
        for pin in lock.source_only:
            keys = wheelhouse.keys_of(pin, cell, arch)
            if not any(map(wheelhouse.lookup, keys)):
                yield f"the wheel {keys[0]}"
