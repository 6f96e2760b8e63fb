"""Constraints on the axes, parsed from text with versions in any usual form. Pure.

A version as an environment prints it (`2.10.0+cu128`, `2.11.0a0+5228986c39.nv26.02`) is read as its
release, or as the release that a pre-release precedes; a note names the part that was left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from mcore_compat.analysis.cell_record import CellRecord
from mcore_compat.base.errors import UsageError, edits, nearest
from mcore_compat.core.cells import AXES, parsed
from mcore_compat.core.releases import Releases, far_apart

CUDA = "cuda"

ALIASES = {
    "mcore": "megatron-core",
    "megatron": "megatron-core",
    "megatron-lm": "megatron-core",
    "modelopt": "nvidia-modelopt",
    "model-optimizer": "nvidia-modelopt",
    "te": "transformer-engine",
    "transformer-engine-torch": "transformer-engine",
    "transformer-engine-cu12": "transformer-engine",
    "transformer-engine-cu13": "transformer-engine",
    "pytorch": "torch",
    "py": "python",
    **{axis: axis for axis in AXES},
    CUDA: CUDA,
}
"""Names for axes, and for CUDA, which is not an axis but can be constrained by its major
version."""


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """A constraint on one axis. `text`: as it was written; `note`: how it was read, if not exactly
    as written; `version`: the version or series, if it is one and not a range."""

    axis: str
    specifier: SpecifierSet
    text: str
    note: str = ""
    version: str = ""

    def fits(self, cell: CellRecord) -> bool:
        """Whether a cell fits it."""
        return self.specifier.contains(self.of(cell), prereleases=True)

    def of(self, cell: CellRecord) -> str:
        """Return a cell's version of the axis."""
        return str(cell.cuda) if self.axis == CUDA else cell.pins[self.axis]


def parse(text: str) -> tuple[Constraint, ...]:
    """Parse `torch 2.9, python 3.12, TE any, modelopt >= 0.39`: names, each with a version or a
    specifier; also `torch==2.9.1` and `te[pytorch] 2.11`. Sorted by axis. A build tag that names
    CUDA gives one more constraint.

    Raises:
        UsageError: an unknown name (names the nearest), or neither a version nor a specifier.
    """
    constraints: list[Constraint] = []
    for part in _parts(text):
        axis, value = _named(part)
        if value.lower() not in ("", "any"):
            constraints += of_version(axis, value, " ".join(part.split()))
    return joined(constraints)


def joined(constraints: list[Constraint]) -> tuple[Constraint, ...]:
    """Return one constraint for each axis, sorted. An explicit constraint on CUDA overrides one
    that a build tag implies.

    Raises:
        UsageError: two explicit constraints on one axis differ.
    """
    by_axis: dict[str, Constraint] = {}
    for constraint in sorted(constraints, key=lambda c: IMPLIED in c.text):
        known = by_axis.setdefault(constraint.axis, constraint)
        if known.specifier == constraint.specifier:
            continue
        if IMPLIED not in constraint.text:
            raise UsageError(
                f'{known.axis} is constrained twice, by "{known.text}" and by '
                f'"{constraint.text}"; join them with ","'
            )
        said = f'"{known.text}" counts, not {constraint.text}'
        by_axis[constraint.axis] = replace(known, note="; ".join(filter(None, (known.note, said))))
    return tuple(by_axis[axis] for axis in sorted(by_axis))


def refuse_mistyped(constraints: Iterable[Constraint], releases: Releases) -> None:
    """Raise UsageError for a version that is far from every release, and name the most likely one.

    A version near a release may be newer than the known ones, or a vendor's; one that is older than
    all known releases may be a removed release. Neither is refused.
    """
    for c in constraints:
        known = releases.of(c.axis)
        if not known or not c.version or releases.meant(c.axis, c.version):
            continue
        near = releases.nearest(c.axis, c.version)
        old = parsed(c.version) < min(parsed(release.version) for release in known)
        if near and not old and far_apart(c.version, near):
            raise UsageError(f'"{c.text}": {c.axis} has no such release; did you mean "{near}"?')


_SPACED = re.compile(r"\b(transformer|megatron|model)\s+(engine|core|lm|optimizer)\b", re.I)
_BUILD = re.compile(r"(?<![\w.+])cu(\d\d)\d?\b", re.I | re.ASCII)
_ANY = "|".join(
    sorted((re.escape(name).replace(r"\-", "[-_.]") for name in ALIASES), key=len)[::-1]
)
_KNOWN = re.compile(rf"(?:nvidia[-_.])?(?P<name>{_ANY})(?![A-Za-z_]|-[A-Za-z])", re.I)
_NEXT = rf"{_KNOWN.pattern.replace('?P<name>', '?:')}|[A-Za-z][\w.-]*\s*(?:[=<>!~]=|\s)\s*\d"
_BREAK = re.compile(
    r"[,;\n]+\s*(?:and\s+)?(?=[A-Za-z])(?![^\[\n]*\])"
    rf"|\s+(?:(?:and|with|on)\s+)?(?={_NEXT})(?![^\[\n]*\])",
    re.I,
)
_EXTRAS = re.compile(r"\s*\[[^\]]*\]")
_NAME = re.compile(r"\s*([A-Za-z][\w.-]*)")


def _parts(text: str) -> Iterator[str]:
    """Yield the parts of a text, one for each constraint."""
    spelt = _BUILD.sub(r"cuda \1", _SPACED.sub(r"\1-\2", text))
    yield from (part.strip() for part in _BREAK.split(spelt.strip(" \t\n,;")))


def _named(part: str) -> tuple[str, str]:
    """Split `te[pytorch] == 2.11` into the axis and the rest."""
    known = _KNOWN.match(part)
    if known is None:
        name = _NAME.match(part)
        if name is None:
            raise UsageError(f'"{part}" names no package; write e.g. "torch 2.9"')
        raise UsageError(f'no such axis "{name[1]}"{_likely(name[1].lower()[:40])}')
    rest = part[known.end() :]
    extras = _EXTRAS.match(rest)
    value = rest[extras.end() if extras else 0 :].lstrip(" \t:").rstrip()
    return ALIASES[re.sub(r"[_.]", "-", known["name"].lower())], value


def _likely(name: str) -> str:
    """Return a hint for a message: the axis most like a word, else all axes."""
    if any(edits(name, alias) <= len(alias) // 4 + 1 for alias in ALIASES if len(alias) > 2):
        return nearest(name, ALIASES)
    return f"; the axes are {', '.join((*AXES, CUDA))}"


IMPLIED = "of the build "
"""Part of the text of each constraint that a build tag implies."""

_BARE = re.compile(r"(?:=(?!=)\s*|(?:core_|release_)?v)?\s*(?P<version>\d[\w.+!-]*)", re.ASCII)
_EXACT = re.compile(r"===?\s*(?P<version>v?\d[\w.+!-]*)", re.ASCII)
_OF_CUDA = re.compile(r"cu(\d\d)\d*")

KNOWN_TO = {CUDA: (1, "CUDA's major version"), "python": (2, "Python's series")}
"""The axes of which cells have only a part of the version: how many numbers, and its name."""


def of_version(axis: str, value: str, text: str) -> tuple[Constraint, ...]:
    """Return the constraints of a version or specifier of an axis; `text`: as it was written.

    Raises:
        UsageError: it is neither.
    """
    bare, exact = _BARE.fullmatch(value), _EXACT.fullmatch(value)
    match = bare or exact
    try:
        if match is None or not value.isascii():
            return (Constraint(axis=axis, specifier=SpecifierSet(value), text=text),)
        exactly = bare is None or len(Version(match["version"]).release) > 2
        return _of_one(axis, match["version"], text, exact=exactly)
    except (InvalidSpecifier, InvalidVersion, ValueError):  # ValueError: too many digits
        raise UsageError(
            f'"{text}" is neither a version nor a specifier; write e.g. "torch 2.9" or '
            '"modelopt >=0.39,<0.43"'
        ) from None


def _of_one(axis: str, spelt: str, text: str, *, exact: bool) -> tuple[Constraint, ...]:
    """Return the constraints of one version; notes quote its build tag (after `+`) as written."""
    version, tag = Version(spelt), spelt.partition("+")[2]
    digits, what = KNOWN_TO.get(axis, (0, ""))
    exact = exact or version.post is not None
    parts, why = version.public, f"{tag} is its build tag{_vendor(tag)}" if tag else ""
    if digits:
        parts, exact = ".".join(map(str, version.release[:digits])), False
        why = f"cells differ only in {what}" if len(version.release) > digits else ""
    elif version.is_prerelease:
        parts, exact = f"{version.major}.{version.minor}", False
        before = f"{version.public} came before {version.base_version}"
        why = "; ".join(filter(None, (before, why)))
    one = Constraint(
        axis=axis,
        specifier=SpecifierSet(f"=={parts}" if exact else f"=={parts}.*"),
        text=text,
        note=f'"{text}" is read as {axis} {parts}: {why}' if why else "",
        version=parts,
    )
    return (one, *_of_build(tag, text))


def _of_build(tag: str, text: str) -> tuple[Constraint, ...]:
    """Return the constraint on CUDA that a build tag implies, if any."""
    match = next(filter(None, map(_OF_CUDA.fullmatch, tag.split("."))), None)
    if match is None:
        return ()
    one = Constraint(
        axis=CUDA,
        specifier=SpecifierSet(f"=={match[1]}.*"),
        text=f"CUDA {match[1]} {IMPLIED}{text}",
        note=f'"{match[0]}" is read as CUDA {match[1]}',
        version=match[1],
    )
    return (one,)


def _vendor(tag: str) -> str:
    """Return words about whose build a tag is of, if it says so."""
    parts = tag.split(".")
    month = next((parts[i : i + 2] for i, p in enumerate(parts) if re.fullmatch(r"nv\d\d", p)), [])
    if len(month) == 2 and month[1].isdecimal():
        return f", of NVIDIA's container {month[0][2:]}.{int(month[1]):02}"
    if "cpu" in parts or any(part.startswith("rocm") for part in parts):
        return ": a build without CUDA, which no cell has"
    return ""


def with_text(constraint: Constraint, text: str) -> Constraint:
    """Replace a constraint's text, e.g. by a line of a file, in its note, too."""
    return replace(constraint, text=text, note=constraint.note.replace(constraint.text, text))
