"""The history of a name: when it appeared, what changed, where it moved. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from mcore_compat.api import definitions, resolution
from mcore_compat.api.definitions import ARGS, Definition, FunctionParameter
from mcore_compat.api.interface_index import InterfaceIndex
from mcore_compat.api.resolution import InterfaceView, Missing, Target

_ALIKE = 0.5
"""The share of common parameters, or names of a class or module, from which two count as equal."""

MOST_FOUND = 12


@dataclass(frozen=True, kw_only=True)
class NameChange:
    """A change of a name in a release: `text` is the new definition, None if it was removed; then
    `moved` is its new place, if any."""

    release: str
    text: str | None
    moved: str = ""


@dataclass(frozen=True, kw_only=True)
class NameLife:
    """The history of a name of a module; `last`: the newest known release."""

    package: str
    path: str
    changes: tuple[NameChange, ...]
    last: str


def life(index: InterfaceIndex, module: str, name: str) -> NameLife:
    """The history of a name."""
    changes = []
    for place, text in index.modules[module][name]:
        moved = ""
        if text is None:
            moved = moved_to(index, f"{module}.{name}" if name else module, place - 1, place)
        changes.append(NameChange(release=index.releases[place], text=text, moved=moved))
    path = f"{module}.{name}" if name else module
    last = index.releases[-1]
    return NameLife(package=index.package.name, path=path, changes=tuple(changes), last=last)


def find(index: InterfaceIndex, wanted: str) -> list[tuple[str, str]]:
    """The module and name of each definition of a dotted name: exact matches, else names that end
    with it. Imported names count only if there is nothing else."""
    exact: list[tuple[str, str]] = []
    ends: list[tuple[str, str]] = []
    taken: list[tuple[str, str]] = []
    for module, by_name in index.modules.items():
        if module == wanted or module.endswith(f".{wanted}"):
            (exact if module == wanted else ends).append((module, ""))
        for name, changes in by_name.items():
            path = f"{module}.{name}"
            if not name or not f".{path}".endswith(f".{wanted}"):
                continue
            own = any(text and not _is_taken(text) for _, text in changes)
            (exact if path == wanted else ends if own else taken).append((module, name))
    return sorted(exact or ends or taken) or _inherited(index, wanted)


def _inherited(index: InterfaceIndex, wanted: str) -> list[tuple[str, str]]:
    """The definitions of a method that a class has from its bases, by the newest release that has
    the class."""
    above, _, name = wanted.rpartition(".")
    found: dict[tuple[str, str], None] = {}
    for module, cls in find(index, above) if above else ():
        places = (at for at in range(len(index.releases)) if index.at(module, cls, at))
        view = InterfaceView(index, max(places, default=0))
        there = view.resolve(_target(index, f"{module}.{cls}.{name}")) if cls else ()
        members = () if isinstance(there, Missing) else there
        found |= {(one.module, one.name): None for one in members if not one.open}
    return sorted(found)


def nearest_names(indexes: Iterable[InterfaceIndex], wanted: str) -> list[str]:
    """Existing names that are similar to an unknown one."""
    last = wanted.rpartition(".")[2]
    by_last: dict[str, str] = {}
    for index in indexes:
        for module, by_name in index.modules.items():
            for name, changes in by_name.items():
                if any(text and not _is_taken(text) for _, text in changes):
                    path = f"{module}.{name}".removesuffix(".")
                    by_last.setdefault(path.rpartition(".")[2], path)
    close = difflib.get_close_matches(last, by_last, n=3, cutoff=0.7)
    return [by_last[name] for name in close]


def _is_taken(text: str) -> bool:
    """Whether a definition is only an import."""
    parts = text.split(definitions.EITHER)
    return all(p.startswith(definitions.ALIAS) or p == definitions.FOREIGN for p in parts)


def moved_to(index: InterfaceIndex, path: str, before: int, after: int) -> str:
    """The new place of a name that an earlier release had; empty if unknown.

    It is the definition that the name referred to, if that still exists; else a similar definition
    with the same name.
    """
    old, new = InterfaceView(index, before), InterfaceView(index, after)
    target = _target(index, path)
    found = old.resolve(target)
    if isinstance(found, Missing) or len(found) != 1 or found[0].open:
        return ""
    there = found[0]
    if there.path != path and not isinstance(new.resolve(_target(index, there.path)), Missing):
        return there.path
    if there.definition is None:
        return _module_moved(index, there.path, before, after)
    last = there.name.rpartition(".")[2]
    if there.owner:  # a removed method did not move
        return ""
    alike = []
    for module, text in resolution.candidates(new, last):
        if f"{module}.{last}" == path:
            continue
        likeness = _likeness(old, there.module, there.name, new, module, text)
        if likeness >= _ALIKE:
            was_there = index.at(module, last, before) is not None
            alike.append((was_there, -likeness, len(module), f"{module}.{last}"))
    return min(alike)[3] if alike else ""


def _target(index: InterfaceIndex, path: str) -> Target:
    root = index.package.root
    below = path[len(root) + 1 :]
    return Target(module=root, names=tuple(below.split(".")) if below else ())


def _likeness(
    old: InterfaceView, module: str, name: str, new: InterfaceView, there: str, text: str
) -> float:
    """The similarity of two definitions of one name, from 0 to 1."""
    before = old.index.at(module, name, old.place) or ""
    if before == text and not before.startswith("class"):
        return 1.0
    first, second = definitions.read(before)[0], definitions.read(text)[0]
    if first.word != second.word:
        return 0.0
    if first.word == "class":
        last = name.rpartition(".")[2]
        members = _members(old, module, name), _members(new, there, last)
        return _share(*members) if any(members) else float(before == text)
    if first.word in ("def", "staticmethod", "classmethod"):
        return _share({p.name for p in first.parameters}, {p.name for p in second.parameters})
    return 0.0


def _members(view: InterfaceView, module: str, name: str) -> set[str]:
    by_name = view.index.modules[module]
    return {
        below
        for below in by_name
        if below.startswith(f"{name}.") and view.index.at(module, below, view.place) is not None
    }


def _share(one: set[str], other: set[str]) -> float:
    return len(one & other) / len(one | other) if one | other else 0.0


def _module_moved(index: InterfaceIndex, path: str, before: int, after: int) -> str:
    def names(module: str, place: int) -> set[str]:
        own = index.modules[module]
        texts = {name: index.at(module, name, place) for name in own}
        return {n for n, text in texts.items() if n and text and not _is_taken(text)}

    mine = names(path, before)
    last = path.rpartition(".")[2]
    alike = []
    for module in index.modules:
        if module.rpartition(".")[2] == last and module != path and index.at(module, "", after):
            likeness = _share(mine, names(module, after))
            if likeness >= _ALIKE:
                alike.append((-likeness, module))
    return min(alike)[1] if alike else ""


def differences(old: str, new: str) -> Iterator[str]:
    """The differences between two definitions, as text."""
    first, second = definitions.read(old)[0], definitions.read(new)[0]
    if first.word != second.word or not (first.parameters or second.parameters):
        if replace(first, opaque=False) != replace(second, opaque=False):
            yield f"{_in_words(first)} → {_in_words(second)}"
        return
    before = {p.name: p for p in first.parameters}
    after = {p.name: p for p in second.parameters}
    for name, p in after.items():
        if name not in before:
            yield f"+ {_shown(p)}" + (" (required)" if p.required else "")
    for name in before:
        if name not in after:
            yield f"- {_shown(before[name])}"
        else:
            yield from _of_parameter(before[name], after[name])
    kept = [name for name in before if name in after]
    if kept != [name for name in after if name in before]:
        yield "another order"


def _of_parameter(old: FunctionParameter, new: FunctionParameter) -> Iterator[str]:
    if old.kind != new.kind:
        kinds = {kind: word for word, kind in definitions.KINDS.items()}
        yield f"{new.name}: {kinds[old.kind]} → {kinds[new.kind]}"
    if old.default != new.default:
        yield f"{new.name}: {_default(old)} → {_default(new)}"


def _default(p: FunctionParameter) -> str:
    return "required" if p.default is None and p.kind != ARGS else str(p.default)


def _shown(p: FunctionParameter) -> str:
    stars = {definitions.ARGS: "*", definitions.KWARGS: "**"}.get(p.kind, "")
    return f"{stars}{p.name}" + (f"={p.default}" if p.default is not None else "")


def _in_words(definition: Definition) -> str:
    if definition.word == "alias":
        return f"from {definition.target}"
    if definition.word == "class":
        return f"class({', '.join(definition.bases)})"
    return {"import": "from another package", "def": "function"}.get(
        definition.word, definition.word
    )
