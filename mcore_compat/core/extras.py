"""Version ranges that releases declare in extras, and which packages a release requires or only
mentions. Pure."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from packaging.markers import Marker
from packaging.utils import canonicalize_name

from mcore_compat.core.cells import AXES, Cell, is_axis
from mcore_compat.core.combinations import machine, requirement
from mcore_compat.core.releases import Releases

DEVELOPING = re.compile(r"(dev|test|doc|lint|build)([-_].*|s)?")
"""Extras for the project's own developers."""


@dataclass(frozen=True, kw_only=True, order=True)
class DeclaredRange:
    """`package version` declares the range `text` (`transformers<4.51,>=4.48`) of the package
    `name` in `extras`, none of which the cell installs."""

    package: str
    version: str
    name: str
    text: str
    extras: tuple[str, ...]

    @property
    def of_developers(self) -> bool:
        """Whether only extras for the project's own developers declare it."""
        return all(DEVELOPING.fullmatch(extra) for extra in self.extras)

    def words(self) -> str:
        extras = "extra" if len(self.extras) == 1 else "extras"
        return f"{self.text} of {self.package} {self.version} ({extras} {', '.join(self.extras)})"


def declared_ranges(of: Cell, releases: Releases) -> tuple[DeclaredRange, ...]:
    """The ranges that the cell's releases declare in their extras. Sorted.

    The cell does not install the extras, but if another package requires one of their packages, the
    declared range applies: a transformers that modelopt rules out would cause false failures.
    Ranges of the axes are left out: a cell may be outside of them.
    """
    return tuple(
        sorted(
            DeclaredRange(package=axis, version=of.pins[axis], name=name, text=text, extras=extras)
            for axis in AXES[:-1]
            for name, text, extras in ranges_of_extras(
                releases.get(axis, of.pins[axis]).requires, of.python
            )
        )
    )


def bounds_of_extras(of: Cell, releases: Releases) -> Mapping[str, tuple[str, ...]]:
    """The ranges of megatron-core and modelopt by package. Sorted."""
    return {
        package: tuple(
            sorted({text for _, text, _ in ranges_of_extras(release.requires, of.python)})
        )
        for package, version in (("megatron-core", of.mcore), ("nvidia-modelopt", of.modelopt))
        for release in (releases.get(package, version),)
    }


def named(requires: tuple[str, ...], python: str) -> Iterator[tuple[str, bool]]:
    """Each package except the axes that a release mentions, and whether it always requires it."""
    for text in requires:
        need = requirement(text)
        name = canonicalize_name(need.name)
        if is_axis(name) or name in OF_TORCH:
            continue
        always = need.marker is None or need.marker.evaluate({**machine(python), "extra": ""})
        if always or (need.marker and _extras(need.marker, python)):
            yield name, always


def torch_extra(requires: Iterable[str]) -> str:
    """`[torch]` where a release has that extra, else nothing: later releases of ModelOpt have none,
    as they always require torch, and asking for it is a warning."""
    return "[torch]" if any(_IN_EXTRA_TORCH.search(text) for text in requires) else ""


_IN_EXTRA_TORCH = re.compile(r"""extra == ['"]torch['"]""")

OF_TORCH = frozenset({"torchvision", "torchaudio"})
"""Each release of these fits one torch release, which only its own metadata names."""


@functools.cache
def ranges_of_extras(
    requires: tuple[str, ...], python: str
) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    """`(package, range, extras)` of ranges that only extras declare. Sorted."""
    ranges: dict[tuple[str, str], set[str]] = {}
    for text in requires:
        need = requirement(text)
        name = canonicalize_name(need.name)
        if is_axis(name) or not need.specifier or not need.marker:
            continue
        extras = _extras(need.marker, python)
        if extras:
            ranges.setdefault((name, f"{name}{need.specifier}"), set()).update(extras)
    return tuple(
        (name, text, tuple(sorted(extras))) for (name, text), extras in sorted(ranges.items())
    )


def _extras(marker: Marker, python: str) -> list[str]:
    """The extras for which a marker holds, for the cell's python on x86-64 Linux."""
    there = machine(python)
    extras = re.findall(r"""extra == ["']([^"']+)["']""", str(marker))
    return [extra for extra in extras if marker.evaluate({**there, "extra": extra})]
