"""The one line that makes the environment which was tested, wherever it is told: constraints files,
`recommend`, `upgrade`, the site. Pure.

megatron-core asks for Transformer Engine in an extra alone, and several packages import what they
do not ask for: a line that leaves these out gives an environment that is not what was tested.
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
"""With which source-only packages are built: without isolation nobody else installs them."""

LABEL = "# Use: "
FILE = "THIS-FILE"

PIP = "pip install "
IN_SHORT = (
    "the line compiles what comes as source only, in minutes; the head of the constraints file "
    "says what that takes"
)
"""Beside lines of many cells."""

_INCLUDE = (
    """CPATH="$(python -c 'import glob, sysconfig; """
    """print(":".join(glob.glob(sysconfig.get_path("platlib") + "/nvidia/*/include")))')" """
)
"""The headers of CUDA that torch brought along, cuDNN's too, which no toolkit has."""


@dataclass(frozen=True, kw_only=True)
class InstallLine:
    """How the environment is made in which a cell was tested, for who relies on some families.

    `wheels`: what is asked of the index by name; `built`: what comes as source only and is compiled
    beside the torch that is there by then; `optional`: which of these only `families` need.
    `variables`: without which Transformer Engine is not imported. `python` and `cuda`: of what
    series, and of what version."""

    wheels: tuple[str, ...]
    built: tuple[str, ...]
    optional: tuple[str, ...]
    families: tuple[str, ...]
    variables: Mapping[str, str]
    python: str
    cuda: str

    def command(self, path: str) -> str:
        """One line for a shell in which the environment's `python` and `pip` are first; `path` is
        that of the constraints file."""
        constrained = f"-c {path if path == FILE else shlex.quote(path)}"
        steps = [f"{PIP}{constrained} {' '.join(self.wheels)}"]
        if self.built:
            how = f"--no-build-isolation --no-deps {constrained}"
            steps.append(f"{_INCLUDE}pip install {how} {' '.join(self.built)}")
        return " && ".join([*steps, *plain_import.exports(self.variables)])

    def notes(self) -> Iterator[str]:
        """What the second half of the line does, and takes."""
        yield f"In an environment of Python {self.python}, activated."
        if not self.built:
            return
        yield (
            f"The second pip compiles what the index has as source only: {', '.join(self.built)}. "
            f"That takes a C++ compiler, the toolkit (nvcc) of CUDA {self.cuda} and 5 to 20 "
            "minutes on 2 cores, unless a build finds a wheel on its project's release page; "
            f"`mcore-compat toolkit --cuda {self.cuda}` makes a toolkit without root."
        )
        yield "Wheels that you have are taken from the folder that PIP_FIND_LINKS names."
        if self.optional:
            names = ", ".join(self.optional)
            yield f"Only {', '.join(self.families)} models need {names}; leave them out else."


@dataclass(frozen=True, kw_only=True)
class InstallFacts:
    """What is known of releases, by which lines are made."""

    matrix: Matrix
    releases: Releases

    def line(
        self,
        pins: Mapping[str, str],
        python: str,
        variables: Mapping[str, str] | None = None,
        families: Collection[str] = (),
    ) -> InstallLine:
        """The line for an environment of these `pins`: version by package, as a constraints file
        has them. `families`: on which somebody relies, none: on all."""
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
        """As the matrix has it; of a torch that it does not know, in words."""
        if not is_version(torch):
            return "that torch is built for"
        rows = (version for spec, version in self.matrix.cuda if torch in spec)
        return next(rows, "that torch is built for")

    def _undeclared(
        self, pins: Mapping[str, str], families: Collection[str]
    ) -> Iterator[tuple[str, tuple[str, ...]]]:
        """What releases import and do not ask for, and for whose models alone."""
        for rule in self.matrix.undeclared:
            version = pins.get(rule.of, "")
            if not is_version(version) or not rule.when.contains(version, prereleases=True):
                continue
            if rule.concerns(families):
                yield from ((_name(text), rule.families) for text in rule.requires)

    def _with_requirements(self, asked: set[str], pins: Mapping[str, str]) -> set[str]:
        """With what the packages among them require that are built without their dependencies."""
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
        """ModelOpt up to 0.31 has what its torch part imports in an extra."""
        rows = self.releases.of(MODELOPT)
        version = pins.get(MODELOPT)
        extra = torch_extra(next((r.requires for r in rows if r.version == version), ()))
        return lambda name: f"'{MODELOPT}{extra}'" if extra and name == MODELOPT else name


def pins_of(text: str) -> dict[str, str]:
    """Version by package, from the text of a constraints file."""
    rows = (row.partition("==") for row in text.splitlines() if not row.startswith("#"))
    return {name: version for name, _, version in rows if version}


@functools.cache
def _name(text: str) -> str:
    return canonicalize_name(Requirement(text).name)
