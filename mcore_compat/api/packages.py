"""The packages with indexed interfaces, and their modules."""

from __future__ import annotations

from dataclasses import dataclass

from mcore_compat.core.cells import AXES

MCORE, MODELOPT, TE = AXES[:3]


@dataclass(frozen=True, kw_only=True)
class IndexedPackage:
    """A package of the index; `root` is the module that contains its interface.

    `also`: packages of the same version that have the sources if the package's own wheel is empty.
    """

    name: str
    root: str
    also: tuple[str, ...] = ()


PACKAGES = (
    # From 0.17 on its wheel also has a part of megatron.training, but code that imports that uses
    # the repository's: not judged.
    IndexedPackage(name=MCORE, root="megatron.core"),
    IndexedPackage(name=MODELOPT, root="modelopt"),
    IndexedPackage(name=TE, root="transformer_engine", also=(f"{TE}-cu12",)),
)

BY_NAME = {package.name: package for package in PACKAGES}


def owner(path: str) -> IndexedPackage | None:
    """The package that a dotted name belongs to, or None."""
    return next((p for p in PACKAGES if path == p.root or path.startswith(f"{p.root}.")), None)
