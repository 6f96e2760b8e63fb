"""What is installed in an environment, read from its files: nothing of it is imported or run, but
for its Python, once, to say where it looks for packages. No network; changes nothing."""

from __future__ import annotations

import email
import functools
import importlib.metadata
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection
from packaging.utils import canonicalize_name

from mcore_compat.base import data
from mcore_compat.base.errors import UsageError
from mcore_compat.base.processes import Runner
from mcore_compat.environments.toolkits import cuda_of_torch

_ASK = "import json, sys; print(json.dumps([sys.version_info[:3], [p for p in sys.path if p]]))"

_Answer = tuple[tuple[int, int, int], tuple[str, ...]]
"""What the Python answers: its version, and the folders that it searches."""

_SYMBOL = struct.Struct("<IBBHQQ")
_WEAK = 2

_OF_TORCH = re.compile(rb"(?:_ZN[KVr]*(?:2at|3c10|5torch|6caffe2)|_ZT[ISV]N?(?:2at|3c10|5torch))")
"""Mangled names in one of torch's own namespaces."""


@dataclass(frozen=True, kw_only=True)
class Installed:
    """An environment. `versions`: by normalised distribution name. `python`: `3.12.1`.

    `requires`: Requires-Dist by name. `cuda`: the CUDA that torch says it was built with, None
    where it says none; `unread`: why torch's files do not tell, or empty. `extension`: whether TE's
    extension for torch is there as a file; `unresolved`: torch's symbols that it needs and the
    installed torch does not have. `places`: the folders that its Python searches.
    """

    python: str
    versions: Mapping[str, str]
    requires: Mapping[str, tuple[str, ...]]
    cuda: str | None = None
    unread: str = ""
    extension: bool = False
    unresolved: tuple[str, ...] = ()
    places: tuple[Path, ...] = ()


def inspect(python: Path, run: Runner) -> Installed:
    """What the environment of `python` holds.

    Raises:
        UsageError: it is no Python that runs.
    """
    try:
        # -B: what a .pth file imports would be compiled into the environment.
        completed = run([python, "-B", "-c", _ASK], timeout=60)
        version, folders = data.json_of(completed.output.strip().splitlines()[-1], _Answer)
    except (OSError, ValueError, IndexError):
        raise UsageError(f"{python} is no Python that runs; name one with --python") from None
    return read([Path(folder) for folder in folders], ".".join(map(str, version)))


def read(folders: Iterable[Path], python: str) -> Installed:
    """What lies in the folders that a Python searches, the first one of each name."""
    places = [folder for folder in folders if folder.is_dir()]
    versions: dict[str, str] = {}
    requires: dict[str, tuple[str, ...]] = {}
    for distribution in importlib.metadata.distributions(path=[str(p) for p in places]):
        metadata = _metadata(distribution)
        name = canonicalize_name(_field(metadata, "Name"))
        if name and name not in versions:
            versions[name] = _field(metadata, "Version")
            eggs = distribution.read_text("requires.txt") is not None
            asked = distribution.requires if eggs else metadata.get_all("Requires-Dist")
            requires[name] = tuple(asked or ())
    extensions = [p for folder in places for p in sorted(folder.glob(_EXTENSION))]
    extensions += [p for f in places for p in sorted(f.glob(f"transformer_engine/**/{_EXTENSION}"))]
    torch = next((folder / "torch" for folder in places if (folder / "torch").is_dir()), None)
    cuda, unread = (
        cuda_of_torch(torch) if torch else (None, "no folder torch is where Python searches")
    )
    return Installed(
        python=python,
        versions=dict(sorted(versions.items())),
        requires=requires,
        cuda=cuda,
        unread=unread,
        extension=bool(extensions),
        unresolved=unresolved(extensions[0], torch) if extensions and torch else (),
        places=tuple(places),
    )


def _metadata(distribution: importlib.metadata.Distribution) -> Message:
    """What a package says of itself; what is no text in UTF-8 stands as what stands for that."""
    try:
        text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
    except UnicodeDecodeError:
        folder = Path(getattr(distribution, "_path"))  # noqa: B009  # there is no public word for it
        text = (folder / "METADATA").read_text(encoding="utf-8", errors="replace")
    return email.message_from_string(text)


def _field(metadata: Message, key: str) -> str:
    """A field of metadata; what a broken installation lacks is empty."""
    values: list[str] = metadata.get_all(key) or [""]
    return values[0]


_EXTENSION = "transformer_engine_torch*.so"


def unresolved(extension: Path, torch: Path) -> tuple[str, ...]:
    """Symbols of torch's namespaces that the extension needs and no library of torch has."""
    needed = {name for name in symbols(extension, defined=False) if _OF_TORCH.match(name)}
    for library in sorted((torch / "lib").glob("*.so*")):
        if not needed:
            break
        needed -= symbols(library, defined=True)
    return tuple(sorted(name.decode("utf-8", "replace") for name in needed))


def symbols(path: Path, *, defined: bool) -> set[bytes]:
    """Names of a shared library's dynamic symbols: those it has, or those it needs of others (weak
    ones left out). Empty where the file is none."""
    return {*_symbols(path, defined)}


@functools.lru_cache(maxsize=64)
def _symbols(path: Path, defined: bool) -> frozenset[bytes]:
    try:
        with path.open("rb") as file:
            elf = ELFFile(file)
            # Not by its name: for that every section is read, with tables that are long.
            table = next(elf.iter_sections("SHT_DYNSYM"), None)
            if not isinstance(table, SymbolTableSection):
                return frozenset()
            rows, text = table.data(), table.stringtable.data()
    except (OSError, ELFError):
        return frozenset()
    matching = set()
    for name, info, _, section, _, _ in _SYMBOL.iter_unpack(rows):
        if name and (section != 0) is defined and (defined or info >> 4 != _WEAK):
            matching.add(text[name : text.index(b"\0", name)])
    return frozenset(matching)
