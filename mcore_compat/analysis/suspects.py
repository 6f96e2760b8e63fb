"""Packages, other than the axes, that a failure points at: the one whose code raised it, or whose
name is missing. Pure."""

from __future__ import annotations

import functools
import re

from packaging.utils import canonicalize_name

from mcore_compat.core.cells import is_axis
from mcore_compat.core.extras import OF_TORCH
from mcore_compat.results.result import Failure, Result

_MISSING = (
    re.compile(
        r"cannot import name '[^']+' from (?:partially initialized module )?'(?P<m>[\w.]+)'"
    ),
    re.compile(r"module '(?P<m>[\w.]+)' has no attribute"),
    re.compile(r"No module named '(?P<m>[\w.]+)'"),
)
"""Messages about a missing module, or a missing name in one."""

_FRAME = re.compile(r'File "(?P<m>[A-Za-z_]\w*)[/.]')
"""The file of a frame in a traceback, relative to `site-packages`."""

_GONE = {"pkg_resources": "setuptools"}
"""Modules that a package had once; the installed files no longer show whose they were."""

BUILT = frozenset({"mamba-ssm", "causal-conv1d", "pytest", "pluggy"})
"""Packages under test, and the test runner."""


canonical = functools.cache(canonicalize_name)


class InstalledPackages:
    """The installed packages of a result, and whose each module is."""

    def __init__(self, result: Result) -> None:
        self._known = frozenset(map(canonical, result.installed))
        self._owners = _GONE | {
            module: owner
            for owner, modules in result.recorded("modules").items()
            for module in (modules if isinstance(modules, list) else ())
        }

    def suspects(self, failure: Failure) -> tuple[str, ...]:
        """Return the installed packages that a failure points at: the owner of the missing name,
        then the owner of the innermost frame. Other frames do not count, because they are in many
        tracebacks."""
        modules = _modules(failure.message, failure.traceback)
        found = dict.fromkeys(canonical(self._owners.get(m, m)) for m in modules)
        return tuple(name for name in found if name in self._known and may_be(name))


@functools.cache
def may_be(name: str) -> bool:
    """Whether a package can be a suspect; axes have rules anyway."""
    return not is_axis(name) and name not in OF_TORCH and name not in BUILT


@functools.cache
def _modules(message: str, traceback: str) -> tuple[str, ...]:
    """Return the modules that a failure points at; cached: thousands of cells fail alike."""
    missing = (match["m"] for pattern in _MISSING for match in pattern.finditer(message))
    last = (match["m"] for match in [*_FRAME.finditer(traceback)][-1:])
    return (*(module.partition(".")[0] for module in missing), *last)
