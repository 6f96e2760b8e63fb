"""Reads from files what is installed in an environment. Its packages are neither imported nor run;
its Python runs once, to print its search path. No network; changes nothing."""

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
"""The output of the Python: its version, and the folders of its search path."""

_SYMBOL = struct.Struct("<IBBHQQ")
_WEAK = 2

_OF_TORCH = re.compile(rb"(?:_ZN[KVr]*(?:2at|3c10|5torch|6caffe2)|_ZT[ISV]N?(?:2at|3c10|5torch))")
"""Mangled names in one of torch's own namespaces."""


@dataclass(frozen=True, kw_only=True)
class Installed:
    """The packages of an environment.

    - `python`: its version, e.g. `3.12.1`.
    - `versions`, `requires`: the version and the Requires-Dist entries, by normalised name.
    - `cuda`: the CUDA version that torch was built for; None if there is none or it is not known.
    - `unread`: why it is not known, or empty.
    - `extension`: whether TE's extension for torch exists as a file.
    - `unresolved`: torch's symbols that the extension needs and the installed torch lacks.
    - `places`: the folders of the search path.
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
    """What is installed in the environment of the interpreter `python`.

    Raises:
        UsageError: it is not a working Python interpreter.
    """
    try:
        # -B: modules that .pth files import must not be compiled into the environment.
        completed = run([python, "-B", "-c", _ASK], timeout=60)
        version, folders = data.json_of(completed.output.strip().splitlines()[-1], _Answer)
    except (OSError, ValueError, IndexError):
        raise UsageError(
            f"{python} is not a working Python interpreter; name one with --python"
        ) from None
    return read([Path(folder) for folder in folders], ".".join(map(str, version)))


def read(folders: Iterable[Path], python: str) -> Installed:
    """What is installed in the folders of a search path; of each package, the first one counts."""
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
        cuda_of_torch(torch) if torch else (None, "no folder torch in Python's search path")
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
    """The metadata of a package; invalid UTF-8 is replaced."""
    try:
        text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
    except UnicodeDecodeError:
        folder = Path(getattr(distribution, "_path"))  # noqa: B009  # no public attribute has it
        text = (folder / "METADATA").read_text(encoding="utf-8", errors="replace")
    return email.message_from_string(text)


def _field(metadata: Message, key: str) -> str:
    """A field of metadata; empty if a broken installation lacks it."""
    values: list[str] = metadata.get_all(key) or [""]
    return values[0]


_EXTENSION = "transformer_engine_torch*.so"


def unresolved(extension: Path, torch: Path) -> tuple[str, ...]:
    """The symbols in torch's namespaces that the extension needs and no library of torch has."""
    needed = {name for name in symbols(extension, defined=False) if _OF_TORCH.match(name)}
    for library in sorted((torch / "lib").glob("*.so*")):
        if not needed:
            break
        needed -= symbols(library, defined=True)
    return tuple(sorted(name.decode("utf-8", "replace") for name in needed))


def symbols(path: Path, *, defined: bool) -> set[bytes]:
    """The names of a shared library's dynamic symbols: those that it defines, or those that it
    needs from others (without weak ones). Empty if the file is not a shared library."""
    return {*_symbols(path, defined)}


@functools.lru_cache(maxsize=64)
def _symbols(path: Path, defined: bool) -> frozenset[bytes]:
    try:
        with path.open("rb") as file:
            elf = ELFFile(file)
            # By type, not by name: a lookup by name would read every section.
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
