"""Imports that the packages under test do without, and that fail in an environment though what they
name is installed: a feature is off, and nothing says so. Read from the files."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mcore_compat.environments.module_files import Attempt, Import, Module, Modules

ROOTS = ("megatron/core", "modelopt/torch", "transformer_engine/pytorch")
"""Whose guarded imports are looked at."""

_PLUGINS = re.compile(r"modelopt\.torch\.(?:\w+\.)+plugins\.")
"""Modules that are followed: of what else a package is made is the matter of its requirements."""

_BUILT_IN = frozenset({"torch", "triton", "numpy", "transformer_engine_torch"})
"""Of these nothing is said here: large, made of compiled parts, and looked at elsewhere."""

_MARKS = (b"ImportError", b"ModuleNotFoundError", b"except Exception", b"import_plugin(")
"""One of these is in a file that guards an import."""

_SHARED = frozenset({"megatron"})
"""Folders in which several distributions have a package each."""


@dataclass(frozen=True, kw_only=True)
class Unmet:
    """An import that fails, where, and why: `missing` (`a.b.c` or `name of a.b`) is not in the
    installed `package`; if the whole package is missing, `absent`."""

    package: str
    missing: str
    where: str
    absent: bool = False


@dataclass(frozen=True, kw_only=True)
class SwitchedOff:
    """A guarded import of `wanted` at `where` (`modelopt/torch/x.py:12`), failing by `unmet`."""

    where: str
    wanted: str
    plugin: str
    unmet: Unmet


def switched_off(places: Sequence[Path]) -> tuple[SwitchedOff, ...]:
    """All of an environment's, in the order of the files."""
    reader = _Reader(places)
    return tuple(off for module in _candidates(places, reader) for off in reader.failing(module))


def _candidates(places: Sequence[Path], reader: _Reader) -> Iterator[Module]:
    """The modules that guard an import, of the first folder that has their package."""
    for root in ROOTS:
        place = next((p for p in places if (p / root).is_dir()), None)
        if place is None:
            continue
        for path in sorted((place / root).rglob("*.py")):
            try:
                text = path.read_bytes()
            except OSError:
                continue
            if not any(mark in text for mark in _MARKS):
                continue
            parts = path.relative_to(place).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            if module := reader.modules.module(name):
                yield module


class _Reader:
    """Follows imports from file to file; each is read once."""

    def __init__(self, places: Sequence[Path]) -> None:
        self.modules = Modules(places)
        self._known: dict[str, Unmet | None] = {}

    def failing(self, module: Module) -> Iterator[SwitchedOff]:
        """The guarded imports of a module of which no way works."""
        for attempt in module.attempts:
            unmet = [self._first(way, module) for way in attempt.ways]
            if unmet and all(unmet) and (first := unmet[0]):
                yield SwitchedOff(
                    where=f"{self.modules.shown(module.path)}:{attempt.line}",
                    wanted=_wanted(attempt),
                    plugin=attempt.name,
                    unmet=first,
                )

    def _first(self, imports: Sequence[Import], module: Module) -> Unmet | None:
        """The first of some imports that fails."""
        return next(filter(None, (self._unmet(one, module) for one in imports)), None)

    def _unmet(self, one: Import, module: Module) -> Unmet | None:
        """Why an import fails; None where it works, as far as files tell."""
        top = one.module.partition(".")[0]
        where = f"{self.modules.shown(module.path)}:{one.line}"
        if not top or top in sys.stdlib_module_names or top in _BUILT_IN:
            return None
        whole = ".".join(one.module.split(".")[:2]) if top in _SHARED else top
        if not self.modules.file(whole):
            return Unmet(package=whole, missing=whole, where=where, absent=True)
        if top != module.name.partition(".")[0]:
            if not self.modules.file(one.module):
                return Unmet(package=top, missing=one.module, where=where)
            found = self.modules.module(one.module) if one.name else None
            if found and not self._defines(found, one.name, set()):
                return Unmet(package=top, missing=f"{one.name} of {one.module}", where=where)
        return self._runs(one.module)

    def _defines(self, module: Module, name: str, seen: set[str]) -> bool:
        """Whether a module has a name, or may have it."""
        if module.dynamic or name in module.defined or name.startswith("__"):
            return True
        if self.modules.file(f"{module.name}.{name}"):
            return True
        seen.add(module.name)
        others = [self.modules.module(star) for star in module.stars if star not in seen]
        return any(other is None or self._defines(other, name, seen) for other in others)

    def _runs(self, name: str) -> Unmet | None:
        """Why a module of the packages under test, or a package that it is in, cannot be imported:
        the first import in it that fails."""
        if not _PLUGINS.match(name) or name in self._known:
            return self._known.get(name)
        self._known[name] = None  # who imports one another is seen once
        module = self.modules.module(name) if self.modules.file(name) else None
        unmet = self._first(module.imports, module) if module else None
        self._known[name] = unmet
        return unmet


def _wanted(attempt: Attempt) -> str:
    names = [".".join(filter(None, (i.module, i.name))) for i in attempt.ways[0]]
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]}{more}"
