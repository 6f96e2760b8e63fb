"""Differences of interfaces in a few words, for a row of a table. Pure; not escaped."""

from __future__ import annotations

from collections.abc import Sequence

from mcore_compat.analysis.interfaces.signatures import InterfaceDifference

FULL = 8
"""If there are more names than these, they are counted, and only those that break callers named."""

LONGEST = 60
"""The most characters of a default or a text."""

_WHOLE = 300
"""The most characters of a name; real names are shorter."""

_KINDS = {
    "added": "added",
    "removed": "removed",
    "moved": "moved to {new}",
    "recorded differently": "recorded differently: {why}",
    "parameter removed": "removed: {names}",
    "parameter added": "added: {names}",
    "kind changed": "kind of {name}: {old} → {new}",
    "default added": "{name} is optional now: {new}",
    "default removed": "{name} is required now, was {old}",
    "default changed": "default of {name}: {old} → {new}",
    "order changed": "order: {new} is now at the place of {name}",
    "signature hidden": "signature hidden behind (*args, **kwargs)",
    "signature shown": "signature shown, was (*args, **kwargs)",
    "text changed": "no signature to compare: {old} → {new}",
    "submodule removed": "submodule removed: {names}",
    "submodule added": "submodule added: {names}",
    "class changed": "{name}: {old} → {new}",
    "annotation changed": "only annotations: {names}",
}
"""By kind, in the order of the table: words for one difference, or with `{names}` for all."""

_BELOW = {"submodule added", "submodule removed"}


def summary(what: Sequence[InterfaceDifference]) -> str:
    """Return what changed; counts instead of names if there are many of a kind."""
    parts = []
    for kind, words in _KINDS.items():
        of_kind = [d for d in what if d.kind == kind]
        if of_kind and "{names}" in words:
            parts.append(words.format(names=_names(kind, of_kind)))
        elif len(of_kind) > FULL:
            parts.append(f"{kind}: {len(of_kind)} times")
            parts += [_in_words(words, d) for d in of_kind if d.breaking]
        else:
            parts += [_in_words(words, d) for d in of_kind]
    return "; ".join(parts)


def breaks(what: Sequence[InterfaceDifference]) -> str:
    """Return whether callers break, and why: each reason once, with the names that it concerns."""
    reasons: dict[str, list[str]] = {}
    for difference in what:
        if difference.breaking:
            reasons.setdefault(difference.why, []).append(difference.name or "")
    if not reasons:
        return "no"
    parts = []
    for why, names in reasons.items():
        named = ", ".join(names[:FULL]) + (f" and {len(names) - FULL} more" * (len(names) > FULL))
        parts.append(f"{named}: {why}" if named and len(what) > 1 else why)
    by_position = all(
        difference.kind == "order changed" for difference in what if difference.breaking
    )
    return f"{'only by position' if by_position else 'yes'}: {'; '.join(parts)}"


def _in_words(words: str, difference: InterfaceDifference) -> str:
    old, new = difference.old or "none", difference.new or "none"
    if difference.kind == "class changed":
        old, new = _short(old, new)
    longest = LONGEST if difference.kind.startswith(("default", "text")) else _WHOLE
    return words.format(
        name=difference.name or "the whole",
        old=_cut(old, longest),
        new=_cut(new, longest),
        why=difference.why,
    )


def _short(old: str, new: str) -> tuple[str, str]:
    """Return two dotted paths without their common start, except its last module."""
    first, second = old.split("."), new.split(".")
    same = next((i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), 0)
    return ".".join(first[max(same - 1, 0) :]), ".".join(second[max(same - 1, 0) :])


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _names(kind: str, differences: Sequence[InterfaceDifference]) -> str:
    """Return the names, with notes (required, or with others below it); or their number."""
    names = [d.name or "the whole" for d in differences]
    if kind.startswith("submodule"):
        below = _topmost(names)
        names = [f"{n} (with {below[n]} below it)" if below[n] else n for n in below]
    elif kind == "parameter added":
        required = [" (required)" * d.breaking for d in differences]
        names = [name + word for name, word in zip(names, required, strict=True)]
    if len(names) <= FULL:
        return ", ".join(names)
    breaking = [n for n, d in zip(names, differences, strict=False) if d.breaking]
    noun = "submodules" if kind.startswith("submodule") else "parameters"
    return ", ".join([f"{len(names)} {noun}", *breaking])


def _topmost(names: list[str]) -> dict[str, int]:
    """Return the places that are not below another one, each with the number of places below it."""
    tops = [n for n in names if not any(n != o and (not o or n.startswith(f"{o}.")) for o in names)]
    return {top: sum(not top or n.startswith(f"{top}.") for n in names if n != top) for top in tops}
