"""Makes the wheel of the stand-in from a release's source distribution, in about a second."""

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
"""The wheel's build tag: by it, its file name tells what it is."""

_HERE = Path(__file__).parent
_LOADER = f"_{MODULE}_loader"
_LIBRARY = b"Not a library: Transformer Engine looks for a file of this name.\n"
_PATH_FILE = f"import {_LOADER}; {_LOADER}.install()\n"
_METADATA = "Summary: Stand-in for the torch extension of Transformer Engine: no kernels\n"


def make(sdist: Path, version: str, folder: Path) -> Path:
    """Write the wheel into `folder`.

    Raises:
        InfrastructureError: the source distribution cannot be read, or does not tell its names.
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
    """The text of the module that stands in for the extension of a source distribution, whose C++
    sources have `within` in their paths.

    Raises:
        InfrastructureError: it cannot be read, or does not tell its names.
    """
    try:
        return module_text(bindings.read(sources(sdist, within)))
    except (bindings.UnreadableError, tarfile.TarError, EOFError) as error:
        raise InfrastructureError(
            f"no stand-in can be made of {sdist.name}: {error}; take the real extension: "
            "--te-extension real"
        ) from error


def sources(sdist: Path, within: str = "") -> dict[str, str]:
    """The C++ files and build scripts of a source distribution: text by path.

    Raises:
        tarfile.TarError, EOFError: it is not whole.
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
    """The stand-in's text: `module.py` with the names of a release."""
    names = pprint.pformat(dataclasses.asdict(bound), width=96, compact=True, sort_dicts=False)
    empty = "NAMES: dict[str, Any] = {}\n"
    text = (_HERE / "module.py").read_text(encoding="utf-8")
    assert empty in text
    return text.replace(empty, f"NAMES: dict[str, Any] = {names}\n")
