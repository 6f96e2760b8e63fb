"""The command that installs a tested environment, for constraints files, `recommend`, `upgrade` and
the site. Pure.

megatron-core requires Transformer Engine only in an extra, and several packages import packages
that they do not require. Without these, the environment would not be the tested one.
"""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mcore_compat.analysis.package_origin import EXTENSION
from mcore_compat.analysis.te_parts import CORES
from mcore_compat.core.cells import AXES, is_version
from mcore_compat.core.extras import torch_extra
from mcore_compat.core.matrix import Matrix
from mcore_compat.core.releases import Releases
from mcore_compat.environments import plain_import
from mcore_compat.environments.recipes import RECIPES

MODELOPT = "nvidia-modelopt"

TOOLS = ("ninja", "packaging", "pybind11", "setuptools", "wheel")
"""Build tools of source-only packages; without build isolation, pip does not install them."""

LABEL = "# Use: "
FILE = "THIS-FILE"

PIP = "pip install "
IN_SHORT = (
    "the line compiles source-only packages, in minutes; the head of the constraints file lists "
    "what that needs"
)
"""A note after the lines of several cells."""

_INCLUDE = (
    """CPATH="$(python -c 'import glob, sysconfig; """
    """print(":".join(glob.glob(sysconfig.get_path("platlib") + "/nvidia/*/include")))')" """
)
"""Adds the headers of torch's CUDA wheels, which have cuDNN's; CUDA toolkits do not."""


@dataclass(frozen=True, kw_only=True)
class InstallLine:
    """How to install a cell's tested environment, for some families.

    `wheels`: packages to install by name; `built`: source-only packages, which are compiled after
    torch is installed; `optional`: those of them that only `families` need; `variables`:
    environment variables that Transformer Engine needs to be imported; `python`: the series;
    `cuda`: the version of CUDA."""

    wheels: tuple[str, ...]
    built: tuple[str, ...]
    optional: tuple[str, ...]
    families: tuple[str, ...]
    variables: Mapping[str, str]
    python: str
    cuda: str

    def command(self, path: str) -> str:
        """Return one line for a shell in which the environment is active; `path`: of the
        constraints file."""
        constrained = f"-c {path if path == FILE else shlex.quote(path)}"
        steps = [f"{PIP}{constrained} {' '.join(self.wheels)}"]
        if self.built:
            how = f"--no-build-isolation --no-deps {constrained}"
            steps.append(f"{_INCLUDE}pip install {how} {' '.join(self.built)}")
        return " && ".join([*steps, *plain_import.exports(self.variables)])

    def notes(self) -> Iterator[str]:
        """Yield notes on what the line needs, and what its second half does."""
        yield f"Run it in an active environment of Python {self.python}."
        if not self.built:
            return
        yield (
            f"The second pip compiles source-only packages: {', '.join(self.built)}. "
            f"That needs a C++ compiler, the toolkit (nvcc) of CUDA {self.cuda} and 5 to 20 "
            "minutes on 2 cores, unless a build finds a wheel on its project's release page; "
            f"`mcore-compat toolkit --cuda {self.cuda}` makes a toolkit without root."
        )
        yield "Set PIP_FIND_LINKS to a folder of wheels to use those that you have."
        if self.optional:
            names = ", ".join(self.optional)
            yield f"Only {', '.join(self.families)} models need {names}; otherwise leave them out."


@dataclass(frozen=True, kw_only=True)
class InstallFacts:
    """Facts about releases that install lines are made from."""

    matrix: Matrix
    releases: Releases

    def line(
        self,
        pins: Mapping[str, str],
        python: str,
        variables: Mapping[str, str] | None = None,
        families: Collection[str] = (),
    ) -> InstallLine:
        """Return the line for an environment of these `pins` (version by package, from a
        constraints file). `families`: the families that somebody relies on; empty: all."""
        undeclared = dict(self._undeclared(pins, families))
        asked = {name for name in (*AXES[:-1], *CORES, EXTENSION, *undeclared) if name in pins}
        asked = self._with_requirements(asked, pins)
        sources = [name for name in RECIPES if name in asked and name in self._source_only()]
        wheels = {*(asked - {*sources}), *(TOOLS if sources else ())}
        torch = pins.get("torch", "")
        return InstallLine(
            wheels=tuple(map(self._with_extra(pins), sorted(wheels))),
            built=tuple(sources),
            optional=tuple(name for name in sources if undeclared.get(name)),
            families=tuple(sorted({f for of in undeclared.values() for f in of})),
            variables=variables or {},
            python=python,
            cuda=self.releases.cuda_of_torch(torch) or self._cuda(torch),
        )

    def _source_only(self) -> set[str]:
        return {rule.package for rule in self.matrix.source_only}

    def _cuda(self, torch: str) -> str:
        """Return the CUDA version of a torch from the matrix; words if the matrix lacks it."""
        if not is_version(torch):
            return "that torch is built for"
        rows = (version for spec, version in self.matrix.cuda if torch in spec)
        return next(rows, "that torch is built for")

    def _undeclared(
        self, pins: Mapping[str, str], families: Collection[str]
    ) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield packages that the releases import without requiring them, with the families that
        need them (empty: all)."""
        for rule in self.matrix.undeclared:
            version = pins.get(rule.of, "")
            if not is_version(version) or not rule.when.contains(version, prereleases=True):
                continue
            if rule.concerns(families):
                yield from ((_name(text), rule.families) for text in rule.requires)

    def _with_requirements(self, asked: set[str], pins: Mapping[str, str]) -> set[str]:
        """Add the requirements of source-only packages, which are built without dependencies."""
        every, new = set[str](), asked
        while new:
            every |= new
            new = {
                _name(text)
                for rule in self.matrix.source_only
                if rule.package in new and is_version(version := pins[rule.package])
                if rule.when.contains(version, prereleases=True)
                for text in rule.requires
            }
            new = {name for name in new - every if name in pins}
        return every

    def _with_extra(self, pins: Mapping[str, str]) -> Callable[[str], str]:
        """Add ModelOpt's extra `torch` to its name; ModelOpt up to 0.31 needs it."""
        rows = self.releases.of(MODELOPT)
        version = pins.get(MODELOPT)
        extra = torch_extra(next((r.requires for r in rows if r.version == version), ()))
        return lambda name: f"'{MODELOPT}{extra}'" if extra and name == MODELOPT else name


def pins_of(text: str) -> dict[str, str]:
    """Return version by package, from the text of a constraints file."""
    rows = (row.partition("==") for row in text.splitlines() if not row.startswith("#"))
    return {name: version for name, _, version in rows if version}


@functools.cache
def _name(text: str) -> str:
    return canonicalize_name(Requirement(text).name)
