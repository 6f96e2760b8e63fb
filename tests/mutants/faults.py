"""The catalogue: what is broken, where, and which checks must notice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import tomllib

from mcore_compat.base import files

CATALOGUE = Path(__file__).parent / "catalogue"


class DoesNotApplyError(Exception):
    """A fault does not fit a release: the text that it replaces is not there, or not once."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One file, below site-packages, and the texts in it that are replaced one after another;
    without any, the file is emptied. `times`: how often each text must be there."""

    file: str
    edits: tuple[tuple[str, str], ...]
    times: int = 1


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One way to break a package. `noticed_by`: ids or globs of checks; `why_missed`: why none
    can notice without a GPU, else empty; `hangs`: what is broken never comes to an end."""

    id: str
    area: str
    breaks: str
    noticed_by: tuple[str, ...]
    variants: tuple[Variant, ...]
    why_missed: str = ""
    hangs: bool = False

    @property
    def digest(self) -> str:
        """Of what is broken and who must notice: a verdict on another text is out of date."""
        return files.sha256_bytes(repr((self.noticed_by, self.variants)).encode())[:12]


@dataclass(frozen=True, kw_only=True)
class Patch:
    """A file below site-packages, and what stands in it instead."""

    file: Path
    content: bytes


def catalogue(folder: Path = CATALOGUE) -> dict[str, Fault]:
    """Every fault by its id, sorted; ValueError where two share one or a table is not whole."""
    found: dict[str, Fault] = {}
    for path in sorted(folder.glob("*.toml")):
        for name, table in tomllib.loads(path.read_text(encoding="utf-8")).items():
            if name in found:
                raise ValueError(f"{name} is in {path.name} and in {found[name].area}.toml")
            found[name] = _fault(name, path.stem, table)
    return dict(sorted(found.items()))


def _fault(name: str, area: str, table: dict[str, Any]) -> Fault:
    known = {"breaks", "noticed_by", "variant", "why_missed", "hangs"}
    if not {"breaks", "noticed_by", "variant"} <= set(table) <= known:
        raise ValueError(f"{name}: its keys are {', '.join(table)}")
    return Fault(
        id=name,
        area=area,
        breaks=table["breaks"],
        noticed_by=tuple(table["noticed_by"]),
        variants=tuple(_variant(name, one) for one in table["variant"]),
        why_missed=table.get("why_missed", ""),
        hangs=table.get("hangs", False),
    )


def _variant(name: str, table: dict[str, Any]) -> Variant:
    if table.get("emptied"):
        return Variant(file=table["file"], edits=())
    finds, replaces = (
        [table[key]] if isinstance(table[key], str) else table[key] for key in ("find", "replace")
    )
    if not finds or len(finds) != len(replaces) or not all(finds):
        raise ValueError(f"{name}: {len(finds)} texts are replaced by {len(replaces)}")
    edits = tuple(zip(finds, replaces, strict=True))
    return Variant(file=table["file"], edits=edits, times=table.get("times", 1))


def patch(fault: Fault, site: Path) -> Patch:
    """The fault as it fits the packages in `site`: the first variant whose every text is there
    exactly once.

    Raises:
        DoesNotApplyError: none fits; says why, variant by variant.
    """
    reasons = []
    for variant in fault.variants:
        try:
            return _fitted(variant, site)
        except DoesNotApplyError as error:
            reasons.append(str(error))
    raise DoesNotApplyError("; ".join(dict.fromkeys(reasons)))


def _fitted(variant: Variant, site: Path) -> Patch:
    fitting = sorted(site.glob(variant.file))
    if len(fitting) != 1:
        there = "there is no" if not fitting else f"{len(fitting)} files fit"
        raise DoesNotApplyError(f"{there} {variant.file}")
    content = patched(fitting[0].read_bytes(), variant) if variant.edits else b""
    return Patch(file=fitting[0].relative_to(site), content=content)


def patched(content: bytes, variant: Variant) -> bytes:
    """`content` with the texts of `variant` replaced.

    Raises:
        DoesNotApplyError: a text is there more or less often than it must be.
    """
    for find, replace in variant.edits:
        count = content.count(find.encode())
        if count != variant.times:
            first = find.strip("\0\n ").splitlines()[0].strip()
            wanted = "once" if variant.times == 1 else f"{variant.times} times"
            raise DoesNotApplyError(f"{variant.file} has `{first}` {count} times, not {wanted}")
        content = content.replace(find.encode(), replace.encode())
    return content


def checks_of(fault: Fault, there: Sequence[str]) -> list[str]:
    """The ids, of those that the suite has, that `noticed_by` names; brackets stand for
    themselves in its globs."""
    globs = [word.replace("[", "[[]") for word in fault.noticed_by]
    return [name for name in there if any(fnmatchcase(name, glob) for glob in globs)]
