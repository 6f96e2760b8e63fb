"""What is in a bundle: for each cell its lock, its wheels and what is to be known of them there;
the suite, its tools and the runner once."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import parse_wheel_filename

from mcore_compat.base import files
from mcore_compat.base.errors import UsageError, nearest
from mcore_compat.core.cells import Cell
from mcore_compat.core.releases import Releases
from mcore_compat.environments.wheelhouse import Wheel
from mcore_compat.offline.archive import START, BundleFile
from mcore_compat.resolve import locks
from mcore_compat.resolve.locks import Lock, Pin

SUBJECTS = ("megatron-core", "nvidia-modelopt", "nvidia-modelopt-core")
"""What a cell is about: never left out, whatever pattern they match."""

BY_NAME = ("nvidia-ml-py",)
"""Called as CUDA's libraries are, and none of them: left out by its own name only."""

NODE = (
    "__init__.py",
    "base/__init__.py",
    "base/errors.py",
    "base/files.py",
    "base/forks.py",
    "base/processes.py",
    "environments/__init__.py",
    "environments/build_log.py",
    "environments/process_variables.py",
    "environments/toolkits.py",
    "offline/__init__.py",
    *(f"offline/node/{path.name}" for path in sorted(START.parent.glob("*.py"))),
    "run/__init__.py",
    "run/machine.py",
    "run/memory.py",
    "run/runner.py",
)
"""The modules of this package that run there."""

TOOLS = ("bundle-tools.txt", "suite-tools.txt")


@dataclass(frozen=True, kw_only=True)
class ChangedWheel:
    """A wheel that is not as the lock's hash has it: what was done to it, in words."""

    path: Path
    sha256: str
    what: str


@dataclass(frozen=True, kw_only=True)
class PackedCell:
    """A cell as it goes into a bundle: `wheels` are those of the wheelhouse, `downloads` the others
    by hash, `without` the patterns and `left_out` the names of what the other machine brings;
    `base_list` tells by which list of what is there, where it was by one; `changed` are, by name,
    wheels that go in the place of the lock's."""

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
    """torch and what comes with it: what it pins to one version, and CUDA's libraries."""
    names = {pin.name for pin in (*lock.pins, *lock.source_only)}
    found = {"torch", "triton"}
    for text in releases.get("torch", lock.version("torch") or "").requires:
        need = Requirement(text)
        if any(one.operator == "==" and "*" not in one.version for one in need.specifier):
            found.add(need.name.lower())
    found |= {name for name in names if name.startswith(("nvidia-", "cuda-"))}
    return frozenset((found - {*SUBJECTS, *BY_NAME}) & names)


def chosen(lock: Lock, patterns: Sequence[str], torch: frozenset[str]) -> frozenset[str]:
    """The packages of a lock that `patterns` leave out; with torch goes what comes with it.

    Raises:
        UsageError: a pattern matches nothing, or names what the cell is about.
    """
    names = sorted(pin.name for pin in (*lock.pins, *lock.source_only))
    found: set[str] = set()
    for pattern in patterns:
        if pattern in SUBJECTS:
            raise UsageError(f"--without: {pattern} is what {lock.cell} is about")
        mine = fnmatch.filter(names, pattern)
        if not mine:
            raise UsageError(
                f'--without: the lock of {lock.cell} has no "{pattern}"{nearest(pattern, names)}'
            )
        found |= {n for n in mine if n == pattern or n not in (*SUBJECTS, *BY_NAME)}
    return frozenset(found | (torch if "torch" in found else set()))


def entries(
    packed: Sequence[PackedCell], tools: Mapping[str, Path], root: Path = files.ROOT
) -> list[BundleFile]:
    """Every file of a bundle, each once. `tools` are the wheels of the tools by hash."""
    found = {
        "run.py": BundleFile(name="run.py", source=START),
        **{e.name: e for e in map(_wheel, tools.values(), tools)},
    }
    for name in NODE:
        place = f"mcore_compat/{name}"
        found[place] = BundleFile(name=place, source=files.ROOT / place)
    for path in (root / "suite").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            place = path.relative_to(root).as_posix()
            found[place] = BundleFile(name=place, source=path)
    for name in TOOLS:
        place = f"constraints/{name}"
        found[place] = BundleFile(name=place, source=root / place)
    for one in packed:
        for entry in _of_cell(one):
            found[entry.name] = entry
    return list(found.values())


def _wheel(path: Path, digest: str) -> BundleFile:
    return BundleFile(name=f"wheels/{path.name}", source=path, sha256=digest)


def _of_cell(one: PackedCell) -> Iterable[BundleFile]:
    name = one.cell.name
    yield BundleFile(name=lock_of(name), source=one.lock.text.encode())
    yield BundleFile(name=f"cells/{name}.json", source=files.dump_json(described(one)).encode())
    instead = {h for pin in one.lock.pins if pin.name in one.changed for h in pin.hashes}
    yield from (_wheel(path, h) for h, path in one.downloads.items() if h not in instead)
    for changed in one.changed.values():
        yield BundleFile(name=_place(changed), source=changed.path, sha256=changed.sha256)
    for wheel in one.wheels:
        yield BundleFile(name=local(wheel), source=wheel.path, sha256=wheel.sha256)


def _place(changed: ChangedWheel) -> str:
    """Where a bundle has a wheel that is not the lock's."""
    return f"changed/{changed.path.name}"


def lock_of(cell: str) -> str:
    """Where a bundle has a cell's lock: as the repository has it."""
    return f"constraints/locks/{cell}.txt"


def local(wheel: Wheel) -> str:
    """Where a bundle has a wheel of the wheelhouse: by its key, for those of several torch
    releases have one name."""
    return f"wheelhouse/{wheel.key}/{wheel.path.name}"


def described(one: PackedCell) -> dict[str, Any]:
    """What is to be known of a cell there, as data.

    Of each package: `files` to install it from, with their hashes, none where it was left out;
    `of` tells torch and what comes with it (`torch`) and TE (`te`); `bound` is the torch release
    that it was compiled for, where it was, or would have been where it was left out; `changed`
    tells what was done to it, where the lock's hash is not its own.
    """
    return {
        "base_list": one.base_list,
        "cell": one.cell.name,
        "cuda": one.cell.cuda,
        "lock": lock_of(one.cell.name),
        "packages": [_package(pin, one) for pin in _pins(one.lock)],
        "python": one.cell.python,
        "schema": 1,
        "without": list(one.without),
    }


def _pins(lock: Lock) -> list[Pin]:
    return sorted((*lock.pins, *lock.source_only), key=lambda pin: pin.name)


def _package(pin: Pin, one: PackedCell) -> dict[str, Any]:
    group = "torch" if pin.name in one.torch else None
    wheel = next((w for w in one.wheels if w.key.package == pin.name), None)
    there = {} if pin.name in one.left_out else _files(pin, wheel, one)
    bound = _compiled(wheel) if wheel else pin in one.lock.source_only
    changed = one.changed.get(pin.name)
    return {
        "bound": one.cell.torch if bound else None,
        "changed": changed.what if changed else None,
        "files": there,
        "local": wheel is not None,
        "name": pin.name,
        "of": "te" if pin.name.startswith("transformer-engine") else group,
        "version": pin.version,
    }


def _files(pin: Pin, wheel: Wheel | None, one: PackedCell) -> dict[str, str]:
    """Hash by place in the bundle."""
    if pin.name in one.changed:
        return {_place(one.changed[pin.name]): one.changed[pin.name].sha256}
    if wheel:
        return {local(wheel): wheel.sha256}
    mine = {h: one.downloads[h] for h in pin.hashes if h in one.downloads}
    return {f"wheels/{path.name}": digest for digest, path in mine.items()}


def _compiled(wheel: Wheel) -> bool:
    return any(tag.abi != "none" for tag in parse_wheel_filename(wheel.path.name)[3])


def tool_pins(root: Path = files.ROOT) -> tuple[Pin, ...]:
    """What the suite and the installation need besides the cells' packages.

    Raises:
        LockError: a file of them is no list of pins.
    """
    found: list[Pin] = []
    for name in TOOLS:
        text = (root / "constraints" / name).read_text(encoding="utf-8")
        found += locks.pins_of(text, name)
    return tuple(found)
