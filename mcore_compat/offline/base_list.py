"""What another machine's Python has, as `pip freeze` says it → what of a cell must travel there.

A line that names a package and no version says that it is there in a version nobody knows: it is
taken to fit where nothing is asked of its version.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion, Version

from mcore_compat.base import files
from mcore_compat.base.errors import UsageError
from mcore_compat.core.cells import Cell
from mcore_compat.offline.node import overlay
from mcore_compat.offline.node.overlay import UNKNOWN, BasePython, normal
from mcore_compat.resolve.locks import Lock

_SAID = re.compile(r"#\s*(python|cuda):\s*([\d.]+)\s*")
_OF_TORCH = re.compile(r"\+cu(\d+)(\d)\b")


@dataclass(frozen=True, kw_only=True)
class BaseList:
    """`base`: version by package; `python` where the list says it; `name` is how it is called."""

    name: str
    sha256: str
    base: BasePython
    python: str | None

    @property
    def identity(self) -> dict[str, str]:
        """What is said of it in a bundle."""
        return {"name": self.name, "sha256": self.sha256}


def read(path: Path) -> BaseList:
    """A list of what a Python has.

    Raises:
        UsageError: it is not there, a line is no requirement, or it has no torch or does not say
            of which CUDA that is; names the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--base-list: {path} cannot be read: {error}") from None
    said = {match[1]: match[2] for line in text.splitlines() if (match := _SAID.fullmatch(line))}
    there = dict(
        found
        for number, line in enumerate(text.splitlines(), 1)
        if (found := _line(line, f"--base-list: {path}:{number}"))
    )
    if "torch" not in there:
        raise UsageError(f"--base-list: {path} has no torch to go over")
    of_torch = _OF_TORCH.search(there["torch"])
    cuda = said.get("cuda") or (f"{of_torch[1]}.{of_torch[2]}" if of_torch else None)
    if cuda is None:
        raise UsageError(
            f'--base-list: {path} does not say of which CUDA its torch is; add "# cuda: 13.0"'
        )
    return BaseList(
        name=path.name,
        sha256=files.sha256_bytes(text.encode()),
        base=BasePython(installed=there, cuda=cuda),
        python=said.get("python"),
    )


def _line(line: str, where: str) -> tuple[str, str] | None:
    """Name and version that a line says; None where it says nothing."""
    text = line.partition(" #")[0].strip()
    if not text or text.startswith("#"):
        return None
    if text.startswith("-e "):
        raise UsageError(f"{where}: an editable package has no name here; write its name")
    try:
        need = Requirement(text)
        exact = [str(one.version) for one in need.specifier if one.operator in ("==", "===")]
        if need.specifier and len(exact) != 1:
            raise InvalidRequirement("not one version")
        version = str(Version(exact[0])) if exact else UNKNOWN
    except (InvalidRequirement, InvalidVersion):
        raise UsageError(
            f'{where}: "{text[:80]}" is no line of pip freeze, e.g. numpy==2.5.2'
        ) from None
    return normal(need.name), version


def left_out(
    there: BaseList,
    cell: Cell,
    lock: Lock,
    torch: Iterable[str],
    requires: Callable[[Mapping[str, Any]], Iterable[str]],
) -> frozenset[str]:
    """The packages of a lock that need not travel; `requires` reads a package's own requirements,
    `torch` names what comes with it.

    Raises:
        UsageError: it is another Python than the cell's, or as `base.plan`.
    """
    if there.python and there.python.rpartition(".")[0] != cell.python:
        raise UsageError(
            f"--base-list: {there.name} is of python {there.python}, {cell.name} of {cell.python}"
        )
    group = frozenset(torch)
    source_only = {pin.name for pin in lock.source_only}
    packages: list[dict[str, Any]] = [
        {
            "bound": cell.torch if pin.name in source_only else None,
            "files": {pin.name: ""},  # all of them can travel
            "name": pin.name,
            "of": "te" if pin.name.startswith("transformer-engine") else _group(pin.name, group),
            "version": pin.version,
        }
        for pin in (*lock.pins, *lock.source_only)
    ]
    plan = overlay.plan(packages, there.base, requires, cell.cuda)
    return frozenset(p["name"] for p in packages) - frozenset(plan.install)


def _group(name: str, torch: frozenset[str]) -> str | None:
    return "torch" if name in torch else None
