"""Makes wheels from the Python files of a source distribution, as a build without the compiled part
would, but in a second and without a build environment.

The suite provides the stand-in for the compiled part (`suite.preload`).
"""

from __future__ import annotations

import email
import tarfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from mcore_compat.base.errors import InfrastructureError
from mcore_compat.environments import plain_wheel


def make(
    sdist: Path,
    package: str,
    version: str,
    module: str,
    folder: Path,
    more: Mapping[str, bytes] = MappingProxyType({}),
) -> Path:
    """Write the wheel of `module`, a top-level package of the source distribution, into `folder`;
    `more`: further files by path.

    Raises:
        InfrastructureError: it cannot be read, or has no such package.
    """
    try:
        files = _files(sdist)
        contents = _packages(files, module)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise InfrastructureError(f"{sdist.name} cannot be read: {error}") from error
    if not contents:
        raise InfrastructureError(f"{sdist.name} has no package {module}")
    return plain_wheel.write(
        folder, package, version, {**contents, **more}, metadata=_requirements(files)
    )


def _files(sdist: Path) -> dict[PurePosixPath, bytes]:
    """The Python files and metadata of a source distribution, by path below its top folder."""
    texts = {}
    with tarfile.open(sdist) as archive:
        for member in archive:
            wanted = member.name.endswith((".py", "/PKG-INFO", "/requires.txt"))
            file = archive.extractfile(member) if wanted else None
            if file:
                texts[PurePosixPath(*PurePosixPath(member.name).parts[1:])] = file.read()
    return texts


def _requirements(texts: dict[PurePosixPath, bytes]) -> str:
    """Its requirements as lines of metadata; older sources have them only in setuptools'
    requires.txt, with a section for each extra."""
    said = email.message_from_bytes(texts.get(PurePosixPath("PKG-INFO"), b""))
    required = said.get_all("Requires-Dist", [])
    own = next((text for path, text in texts.items() if path.name == "requires.txt"), b"")
    extra = ""
    for line in own.decode().splitlines() if not required else ():
        if line.startswith("["):
            extra = f'; extra == "{line.strip("[]")}"'
        elif line:
            required.append(f"{line}{extra}")
    lines = [f"Requires-Python: {text}\n" for text in said.get_all("Requires-Python", [])]
    lines += [f"Provides-Extra: {text}\n" for text in said.get_all("Provides-Extra", [])]
    return "".join([*lines, *(f"Requires-Dist: {text}\n" for text in required)])


def _packages(texts: dict[PurePosixPath, bytes], module: str) -> dict[str, bytes]:
    """The files in packages: every folder from `module` down has an `__init__.py`."""

    def packaged(path: PurePosixPath) -> bool:
        folders = [folder for folder in path.parents if folder.parts]
        return bool(folders) and all(folder / "__init__.py" in texts for folder in folders)

    return {
        str(path): text
        for path, text in sorted(texts.items())
        if path.parts[0] == module and packaged(path)
    }
