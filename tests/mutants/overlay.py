"""A package of an environment, linked file by file into another folder, with one file changed.

The environment's own files are never written to: a link shares them, so that what is changed is
unlinked first and made anew, and Python compiles nothing into the copy's shared folders.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from mcore_compat.base.processes import Runner
from mutants.faults import Patch

PROBE = """
import sys
from importlib.machinery import PathFinder
name, path = "", None
for part in sys.argv[1].split("."):
    name = f"{name}.{part}" if name else part
    spec = PathFinder.find_spec(name, path)
    path = spec.submodule_search_locations
print(spec.origin or list(path)[0])
"""
"""Says where a module would be imported from, and imports none of it."""


def build(site: Path, patch: Patch, folder: Path) -> None:
    """Link the top folder of the patch's file from `site` into `folder`, and change that file."""
    top = patch.file.parts[0]
    for root, _, names in os.walk(site / top):
        place = folder / Path(root).relative_to(site)
        place.mkdir(parents=True)
        for name in names:
            _link(Path(root, name), place / name)
    changed = folder / patch.file
    changed.parent.mkdir(parents=True, exist_ok=True)
    changed.unlink(missing_ok=True)
    for compiled in (changed.parent / "__pycache__").glob(f"{changed.stem}.*"):
        compiled.unlink()
    changed.write_bytes(patch.content)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target, follow_symlinks=False)


def variables(own: Mapping[str, str], folder: Path) -> dict[str, str]:
    """The cell's own variables, with the overlay before everything installed."""
    return {**own, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}


def module_of(file: Path) -> str:
    """The dotted name of a Python file; of another file, of the package that it lies in."""
    parts = file.with_suffix("").parts if file.suffix == ".py" else file.parts[:1]
    return ".".join(parts).removesuffix(".__init__")


def unused(python: Path, patch: Patch, folder: Path, own: Mapping[str, str], run: Runner) -> str:
    """In words, why the cell's Python would not import the changed file; empty: it would."""
    module = module_of(patch.file)
    done = run([python, "-c", PROBE, module], timeout=60, env=variables(own, folder))
    place = done.output.strip()
    if not done.ok:
        return f"{module} cannot be located: {place[-300:]}"
    if patch.file.suffix == ".py":
        used = Path(place) == folder / patch.file
    else:
        used = Path(place).is_relative_to(folder)
    return "" if used else f"{module} would be imported from {place}"
