"""Writes wheels of files that need no build; equal files give equal wheels, byte by byte."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path

_TIME = (1980, 1, 1, 0, 0, 0)
"""Of every file in it: a wheel depends on nothing but its files."""

_KIND = """\
Wheel-Version: 1.0
Generator: mcore-compat
Root-Is-Purelib: true
Tag: py3-none-any
"""


def write(
    folder: Path,
    package: str,
    version: str,
    contents: Mapping[str, bytes],
    *,
    metadata: str = "",
    build: str = "",
) -> Path:
    """Write a wheel into `folder`; `contents` by path below site-packages.

    `metadata`: what its METADATA has beside name and version; `build`: a build tag (PEP 427), which
    begins with a digit.
    """
    name = package.replace("-", "_")
    tag = f"-{build}" if build else ""
    path = folder / f"{name}-{version}{tag}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    said = f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n{metadata}"
    kind = f"{_KIND}Build: {build}\n" if build else _KIND
    whole = {**contents, f"{info}/METADATA": said.encode(), f"{info}/WHEEL": kind.encode()}
    rows = [f"{place},{_hash(text)},{len(text)}\n" for place, text in sorted(whole.items())]
    whole[f"{info}/RECORD"] = "".join([*rows, f"{info}/RECORD,,\n"]).encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for place, text in whole.items():
            entry = zipfile.ZipInfo(place, _TIME)
            entry.external_attr, entry.compress_type = 0o644 << 16, zipfile.ZIP_DEFLATED
            archive.writestr(entry, text)
    return path


def _hash(text: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(text).digest())
    return f"sha256={digest.decode().rstrip('=')}"
