"""From the output of `pip freeze` on another machine, determines the packages that a bundle needs.

A line without a version means that the package is installed in an unknown version, which satisfies
only requirements without a version.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from mcore_compat.base import data, files
from mcore_compat.base.data import DataError
from mcore_compat.base.errors import UsageError
from mcore_compat.core.cells import Cell
from mcore_compat.offline.contents import group_of
from mcore_compat.offline.node import overlay
from mcore_compat.offline.node.overlay import UNKNOWN, BasePython
from mcore_compat.resolve.locks import Lock

_COMMENT = re.compile(r"#\s*(python|cuda):\s*([\d.]+)\s*")
_CUDA_OF_TORCH = re.compile(r"\+cu(\d+)(\d)\b")


@dataclass(frozen=True, kw_only=True)
class BaseList:
    """A list: `base` has the version by package; `python` is None if the list does not name it."""

    name: str
    sha256: str
    base: BasePython
    python: str | None

    @property
    def identity(self) -> dict[str, str]:
        """The list's entry in a bundle."""
        return {"name": self.name, "sha256": self.sha256}


def read(path: Path) -> BaseList:
    """Read a list.

    Raises:
        UsageError: it cannot be read, a line is invalid (names it), it has no torch, or does not
            name the CUDA version of torch.
    """
    try:
        text = data.text_of(path)
    except (FileNotFoundError, DataError) as error:
        raise UsageError(f"--base-list: {path} cannot be read: {error}") from None
    lines = text.splitlines()
    comments = {match[1]: match[2] for line in lines if (match := _COMMENT.fullmatch(line))}
    packages = (_line(line, f"--base-list: {path}:{n}") for n, line in enumerate(lines, 1))
    installed = dict(filter(None, packages))
    if "torch" not in installed:
        raise UsageError(f"--base-list: {path} has no torch")
    local = _CUDA_OF_TORCH.search(installed["torch"])
    cuda = comments.get("cuda") or (f"{local[1]}.{local[2]}" if local else None)
    if cuda is None:
        raise UsageError(
            f'--base-list: {path} does not name the CUDA of its torch; add e.g. "# cuda: 13.0"'
        )
    return BaseList(
        name=path.name,
        sha256=files.sha256_bytes(text.encode()),
        base=BasePython(installed=installed, cuda=cuda),
        python=comments.get("python"),
    )


def _line(line: str, where: str) -> tuple[str, str] | None:
    """Name and version in a line; None for an empty line or comment."""
    text = line.partition(" #")[0].strip()
    if not text or text.startswith("#"):
        return None
    if text.startswith("-e "):
        raise UsageError(f"{where}: an editable package without a name; write its name")
    try:
        requirement = Requirement(text)
        exact = [s.version for s in requirement.specifier if s.operator in ("==", "===")]
        if requirement.specifier and len(exact) != 1:
            raise InvalidRequirement("not one version")
        version = str(Version(exact[0])) if exact else UNKNOWN
    except (ValueError, RecursionError):  # also of numbers that are too long
        raise UsageError(
            f'{where}: "{text[:80]}" is not a line of pip freeze, e.g. numpy==2.5.2'
        ) from None
    return canonicalize_name(requirement.name), version


def left_out(
    there: BaseList,
    cell: Cell,
    lock: Lock,
    torch: Collection[str],
    requires: Callable[[Mapping[str, Any]], Iterable[str]],
) -> frozenset[str]:
    """The packages of a lock that the bundle does not need; `requires` reads the requirements of a
    package, `torch` has the names of the packages that belong to torch.

    Raises:
        UsageError: another Python than the cell's, or as `overlay.plan`.
    """
    if there.python and there.python.rpartition(".")[0] != cell.python:
        raise UsageError(
            f"--base-list: {there.name} is for python {there.python}, but {cell.name} needs "
            f"{cell.python}"
        )
    packages: list[dict[str, Any]] = [
        {
            "bound": cell.torch if pin in lock.source_only else None,
            "files": {pin.name: ""},  # all of them can be in the bundle
            "name": pin.name,
            "of": group_of(pin.name, torch),
            "version": pin.version,
        }
        for pin in lock.all_pins
    ]
    plan = overlay.plan(packages, there.base, requires, cell.cuda)
    return frozenset(pin.name for pin in lock.all_pins) - frozenset(plan.install)
