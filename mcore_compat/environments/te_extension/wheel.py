"""Makes the stand-in's wheel from a release's source distribution, in about a second."""

from __future__ import annotations

import dataclasses
import pprint
import tarfile
from pathlib import Path

from mcore_compat.base.errors import InfrastructureError
from mcore_compat.environments import plain_wheel
from mcore_compat.environments.te_extension import bindings

PACKAGE = "transformer-engine-torch"
MODULE = "transformer_engine_torch"
BUILD = "0standin"
"""The wheel's build tag, which marks the stand-in in its file name."""

_HERE = Path(__file__).parent
_LOADER = f"_{MODULE}_loader"
_LIBRARY = b"Not a library: Transformer Engine looks for a file of this name.\n"
_PATH_FILE = f"import {_LOADER}; {_LOADER}.install()\n"
_METADATA = "Summary: Stand-in for the torch extension of Transformer Engine: no kernels\n"


def make(sdist: Path, version: str, folder: Path) -> Path:
    """Write the wheel into `folder`.

    Raises:
        InfrastructureError: the source distribution or the names in it cannot be read.
    """
    text = stand_in_text(sdist)
    contents = {
        f"{MODULE}.py": text.encode(),
        f"{MODULE}.stand-in.so": _LIBRARY,
        f"{_LOADER}.py": (_HERE / "loader.py").read_bytes(),
        f"{_LOADER}.pth": _PATH_FILE.encode(),
    }
    return plain_wheel.write(folder, PACKAGE, version, contents, metadata=_METADATA, build=BUILD)


def stand_in_text(sdist: Path, within: str = "") -> str:
    """The text of the stand-in module for the extension in a source distribution. Only C++ sources
    with `within` in their paths are read.

    Raises:
        InfrastructureError: the source distribution or the names in it cannot be read.
    """
    try:
        return module_text(bindings.read(sources(sdist, within)))
    except (bindings.UnreadableError, tarfile.TarError, EOFError) as error:
        raise InfrastructureError(
            f"cannot make a stand-in from {sdist.name}: {error}; use the real extension: "
            "--te-extension real"
        ) from error


def sources(sdist: Path, within: str = "") -> dict[str, str]:
    """The C++ files and build scripts of a source distribution: text by path.

    Raises:
        tarfile.TarError, EOFError: the archive is incomplete.
    """
    texts = {}
    with tarfile.open(sdist) as archive:
        for member in archive:
            wanted = within in member.name and member.name.endswith((".cpp", ".h", ".py"))
            file = archive.extractfile(member) if wanted else None
            if file:
                texts[member.name] = file.read().decode(errors="replace")
    return texts


def module_text(bound: bindings.Bindings) -> str:
    """The text of the stand-in: `module.py` with the names of a release filled in."""
    names = pprint.pformat(dataclasses.asdict(bound), width=96, compact=True, sort_dicts=False)
    empty = "NAMES: dict[str, Any] = {}\n"
    text = (_HERE / "module.py").read_text(encoding="utf-8")
    assert empty in text
    return text.replace(empty, f"NAMES: dict[str, Any] = {names}\n")
