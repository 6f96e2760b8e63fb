"""Reads a file that describes a bundle, and finds the locks and wheels that it lacks."""

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
    """The options of `bundle`; paths are relative to the workspace."""

    cells: Annotated[list[str], Meta(min_length=1)]
    output: Path
    base_list: Path | None = None
    gpu_arch: str | None = None
    part_size: str | None = None


KEYS = BundlePlan.__struct_encode_fields__


def read(path: Path, root: Path) -> BundlePlan:
    """Read a plan; its paths are relative to `root`.

    Raises:
        UsageError: it does not exist, is not TOML, or has an unknown key.
    """
    try:
        rows = data.toml_of(data.text_of(path))
        for key in rows:
            if key not in KEYS:
                raise UsageError(f'--plan: {path}: unknown key "{key}"{nearest(key, KEYS)}')
        return msgspec.convert(rows, BundlePlan, dec_hook=functools.partial(_below, root))
    except msgspec.ValidationError as error:
        raise UsageError(f"--plan: {path}: {error}") from None
    except (FileNotFoundError, DataError) as error:
        raise UsageError(f"--plan: {path} cannot be read: {error}") from None


def _below(root: Path, _: type, value: object) -> Path:
    if not isinstance(value, str):
        raise TypeError("a path must be a string")
    return root / value


def missing(names: Sequence[str], arch: str | None, context: Context) -> Iterator[str]:
    """The missing locks and wheelhouse wheels, as text; makes nothing."""
    for name in names:
        cell = pipeline.chosen(name, context)
        if not pipeline.locked(cell, context.workspace):
            yield f"the lock of {name}"
            continue
        lock = pipeline.lock_of(cell, context)
        assert not isinstance(lock, Unresolvable)
        for pin in lock.source_only:
            keys = wheelhouse.keys_of(pin, cell, arch or "")
            if not any(map(wheelhouse.lookup, keys)):
                yield f"the wheel {keys[0]}"
