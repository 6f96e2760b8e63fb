"""The files of a bundle: for each cell its lock, its wheels and their description; once the suite,
its tools and the runner."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import parse_wheel_filename

from mcore_compat.base import files
from mcore_compat.base.errors import UsageError, nearest
from mcore_compat.core.cells import Cell
from mcore_compat.core.releases import Releases
from mcore_compat.core.workspace import PACKAGE, Workspace
from mcore_compat.environments.wheelhouse import Wheel
from mcore_compat.offline.archive import RUN_SCRIPT, BundleFile
from mcore_compat.offline.node.overlay import SUBJECTS
from mcore_compat.resolve import locks
from mcore_compat.resolve.locks import Lock, Pin

BY_NAME = ("nvidia-ml-py",)
"""Named like CUDA's libraries, but not one of them: left out only by its exact name."""

NODE = (
    "__init__.py",
    "base/__init__.py",
    "base/errors.py",
    "base/exhaustion.py",
    "base/files.py",
    "base/forks.py",
    "base/process_marks.py",
    "base/processes.py",
    "base/temporary.py",
    "base/watchdog.py",
    "base/watched.py",
    "environments/__init__.py",
    "environments/build_log.py",
    "environments/interpreters.py",
    "environments/process_variables.py",
    "environments/toolkits.py",
    "offline/__init__.py",
    *(f"offline/node/{path.name}" for path in sorted(RUN_SCRIPT.parent.glob("*.py"))),
    "run/__init__.py",
    "run/check_sets.py",
    "run/confirmation.py",
    "run/infrastructure.py",
    "run/machine.py",
    "run/memory.py",
    "run/room.py",
    "run/runner.py",
)
"""The modules of this package that run on the other machine."""

TOOLS = ("bundle-tools.txt", "suite-tools.txt")


@dataclass(frozen=True, kw_only=True)
class ChangedWheel:
    """A wheel that was changed and no longer has the lock's hash; `what`: the change."""

    path: Path
    sha256: str
    what: str


@dataclass(frozen=True, kw_only=True)
class PackedCell:
    """A cell for a bundle: `wheels` are from the wheelhouse, `downloads` the others by hash.
    `without`: patterns, and `left_out`: names of packages that the other machine has; `base_list`:
    the list that they come from, if any; `changed`: changed wheels by package."""

    cell: Cell
    lock: Lock
    wheels: tuple[Wheel, ...]
    downloads: Mapping[str, Path]
    torch: frozenset[str]
    without: tuple[str, ...] = ()
    left_out: frozenset[str] = frozenset()
    base_list: Mapping[str, str] | None = None
    changed: Mapping[str, ChangedWheel] = field(default_factory=dict)


def torch_group(lock: Lock, releases: Releases) -> frozenset[str]:
    """torch and the packages that belong to it: those pinned by it, and CUDA's libraries."""
    names = {pin.name for pin in lock.all_pins}
    group = {"torch", "triton"}
    for text in releases.get("torch", lock.version("torch") or "").requires:
        requirement = Requirement(text)
        if any(s.operator == "==" and "*" not in s.version for s in requirement.specifier):
            group.add(requirement.name.lower())
    group |= {name for name in names if name.startswith(("nvidia-", "cuda-"))}
    return frozenset((group - {*SUBJECTS, *BY_NAME}) & names)


def left_out(lock: Lock, patterns: Sequence[str], torch: frozenset[str]) -> frozenset[str]:
    """The packages of a lock that `patterns` leave out; with torch also those that belong to it.

    Raises:
        UsageError: a pattern matches nothing, or names a package under test.
    """
    names = sorted(pin.name for pin in lock.all_pins)
    packages: set[str] = set()
    for pattern in patterns:
        if pattern in SUBJECTS:
            raise UsageError(f"--without: {pattern} is a package that {lock.cell} tests")
        matching = fnmatch.filter(names, pattern)
        if not matching:
            raise UsageError(
                f'--without: the lock of {lock.cell} has no "{pattern}"{nearest(pattern, names)}'
            )
        packages |= {n for n in matching if n == pattern or n not in (*SUBJECTS, *BY_NAME)}
    return frozenset(packages | (torch if "torch" in packages else set()))


def bundle_files(
    cells: Sequence[PackedCell], tools: Mapping[str, Path], workspace: Workspace
) -> list[BundleFile]:
    """Every file of a bundle, each once. `tools` are the wheels of the tools by hash."""
    suite, constraints = workspace.suite, workspace.constraints
    checks = [p for p in suite.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    listed = [
        BundleFile(name="run.py", source=RUN_SCRIPT),
        *(_index_wheel(path, digest) for digest, path in tools.items()),
        *(BundleFile(name=f"mcore_compat/{name}", source=PACKAGE / name) for name in NODE),
        *(BundleFile(name=f"suite/{p.relative_to(suite).as_posix()}", source=p) for p in checks),
        *(BundleFile(name=f"constraints/{name}", source=constraints / name) for name in TOOLS),
        *(file for cell in cells for file in _of_cell(cell)),
    ]
    return list({file.name: file for file in listed}.values())


def _index_wheel(path: Path, digest: str) -> BundleFile:
    return BundleFile(name=f"wheels/{path.name}", source=path, sha256=digest)


def _of_cell(packed: PackedCell) -> Iterable[BundleFile]:
    name = packed.cell.name
    description = files.dump_json(cell_description(packed))
    yield BundleFile(name=lock_place(name), source=packed.lock.text.encode())
    yield BundleFile(name=f"cells/{name}.json", source=description.encode())
    for pin in packed.lock.all_pins:
        yield from _of_package(pin, packed)


def _of_package(pin: Pin, packed: PackedCell) -> list[BundleFile]:
    """The files of a package. Paths of wheelhouse wheels include the key, because wheels for
    several torch releases have the same name."""
    if pin.name in packed.left_out:
        return []
    changed, wheel = packed.changed.get(pin.name), _local_wheel(pin, packed)
    if changed:
        place = f"changed/{changed.path.name}"
        return [BundleFile(name=place, source=changed.path, sha256=changed.sha256)]
    if wheel:
        place = f"wheelhouse/{wheel.key}/{wheel.path.name}"
        return [BundleFile(name=place, source=wheel.path, sha256=wheel.sha256)]
    paths = {h: packed.downloads[h] for h in pin.hashes if h in packed.downloads}
    return [_index_wheel(path, digest) for digest, path in paths.items()]


def _local_wheel(pin: Pin, packed: PackedCell) -> Wheel | None:
    return next((wheel for wheel in packed.wheels if wheel.key.package == pin.name), None)


def lock_place(cell: str) -> str:
    """The path of a cell's lock in a bundle, as in the repository."""
    return f"constraints/locks/{cell}.txt"


def cell_description(packed: PackedCell) -> dict[str, Any]:
    """The description of a cell for the other machine, as data.

    For each package: `files` to install with their hashes, empty if it was left out; `of`: `torch`
    for torch and what belongs to it, `te` for TE; `bound`: the torch release that it was (or, left
    out, would have been) compiled for; `changed`: the change, if it no longer has the lock's hash.
    """
    return {
        "base_list": packed.base_list,
        "cell": packed.cell.name,
        "cuda": packed.cell.cuda,
        "lock": lock_place(packed.cell.name),
        "packages": [
            _package(pin, packed) for pin in sorted(packed.lock.all_pins, key=lambda p: p.name)
        ],
        "python": packed.cell.python,
        "schema": 1,
        "without": list(packed.without),
    }


def group_of(name: str, torch: Collection[str]) -> str | None:
    """The value of `of` in `cell_description`."""
    if name.startswith("transformer-engine"):
        return "te"
    return "torch" if name in torch else None


def _package(pin: Pin, packed: PackedCell) -> dict[str, Any]:
    wheel, bound = _local_wheel(pin, packed), pin in packed.lock.source_only
    if wheel:
        bound = any(tag.abi != "none" for tag in parse_wheel_filename(wheel.path.name)[3])
    changed = packed.changed.get(pin.name)
    return {
        "bound": packed.cell.torch if bound else None,
        "changed": changed.what if changed else None,
        "files": {file.name: file.sha256 for file in _of_package(pin, packed)},
        "local": wheel is not None,
        "name": pin.name,
        "of": group_of(pin.name, packed.torch),
        "version": pin.version,
    }


def tool_pins(workspace: Workspace) -> tuple[Pin, ...]:
    """The tools of the suite and the installation, beside the cells' packages.

    Raises:
        LockError: a file is not a list of pins.
    """
    texts = {n: (workspace.constraints / n).read_text(encoding="utf-8") for n in TOOLS}
    return tuple(pin for name, text in texts.items() for pin in locks.pins_of(text, name))
