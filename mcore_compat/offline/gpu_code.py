"""Makes a wheel with the GPU code of one architecture only, for limits on the transfer size.

nvcc puts what it compiles for every architecture one after another into an ELF section,
`.nv_fatbin`: containers, each of a header (magic 0xBA55ED50, u16 version, u16 size of the header,
u64 size of what follows) and of entries: u16 kind (1 PTX, 2 machine code), u16 version, u32 size of
the entry's header, u64 size of its code, and at byte 28 u32 architecture (90). NVIDIA documents no
such layout; it was derived from libraries, and agrees with what its cuobjdump lists and extracts.

A container keeps its offset and becomes shorter: the entries of other architectures are removed,
and the rest is filled with zeros, which compress to nothing. Nothing else in the library changes.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mcore_compat.base.errors import UsageError

MAGIC = 0xBA55ED50
MACHINE_CODE = 2

LIBRARY = re.compile(r"(.*/)?libtransformer_engine\.so")
"""The library that is reduced: TE's core, hundreds of megabytes of GPU code."""


@dataclass(frozen=True, kw_only=True)
class CodeEntry:
    """One entry: `arch` as a number (90), its offset, and its size including its header."""

    kind: int
    arch: int
    start: int
    size: int


@dataclass(frozen=True, kw_only=True)
class Container:
    """One container: its offset, the size of its header, its entries, and its end."""

    start: int
    head: int
    entries: tuple[CodeEntry, ...]
    end: int


def number(arch: str) -> int:
    """90 for `sm_90`.

    Raises:
        UsageError: it is not an architecture.
    """
    match = re.fullmatch(r"sm_(\d{2,3})", arch)
    if match is None:
        raise UsageError(f'--gpu-arch: "{arch}" is not an architecture; write e.g. sm_90')
    return int(match[1])


def containers(data: bytes | bytearray) -> Iterator[Container]:
    """The containers of an ELF library's GPU code."""
    start, size = _section(data)
    place, end = start, start + size
    while place + 16 <= end:
        magic, _, head, length = struct.unpack_from("<IHHQ", data, place)
        if magic != MAGIC:
            place += 8  # containers are aligned to 8 bytes
            continue
        entries = tuple(_entries(data, place + head, place + head + length))
        yield Container(start=place, head=head, entries=entries, end=place + head + length)
        place += head + length


def _entries(data: bytes | bytearray, place: int, end: int) -> Iterator[CodeEntry]:
    while place < end:
        kind, _, head, size = struct.unpack_from("<HHIQ", data, place)
        (arch,) = struct.unpack_from("<I", data, place + 28)
        yield CodeEntry(kind=kind, arch=arch, start=place, size=head + size)
        place += head + size


def _section(data: bytes | bytearray) -> tuple[int, int]:
    """Offset and size of `.nv_fatbin` in a library; zeros if there is none."""
    from elftools.elf.elffile import ELFFile

    section = ELFFile(io.BytesIO(data)).get_section_by_name(".nv_fatbin")
    return (int(section["sh_offset"]), int(section["sh_size"])) if section else (0, 0)


def keep_only(data: bytearray, arch: int) -> int:
    """Remove the code of all other architectures; returns the bytes of code that are left.

    A container without machine code for `arch` is kept: the device then needs its PTX.

    Raises:
        UsageError: there is no machine code for `arch`; names the existing architectures.
    """
    all_containers = [*containers(data)]
    archs = {code.arch for c in all_containers for code in c.entries if code.kind == MACHINE_CODE}
    if arch not in archs:
        has = ", ".join(f"sm_{number}" for number in sorted(archs)) or "none"
        raise UsageError(f"--only-arch: TE's core has no code for sm_{arch}; it has {has}")
    total = 0
    for container in all_containers:
        entries = [c for c in container.entries if (c.arch, c.kind) == (arch, MACHINE_CODE)]
        spans = [(code.start, code.start + code.size) for code in entries or container.entries]
        code_left = b"".join(bytes(data[begin:end]) for begin, end in spans)
        begin = container.start + container.head
        data[begin : container.end] = code_left.ljust(container.end - begin, b"\0")
        struct.pack_into("<Q", data, container.start + 8, len(code_left))
        total += len(code_left)
    return total


def reduced(wheel: Path, arch: int, into: Path) -> Path:
    """Write a wheel of the same name to `into` whose library has only the code of `arch`;
    reproducible.

    Raises:
        UsageError: as `keep_only`, or the wheel does not have the library.
    """
    into.mkdir(parents=True, exist_ok=True)
    part = into / f".{wheel.name}.part"
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(part, "w") as out:
        names = [name for name in source.namelist() if LIBRARY.fullmatch(name)]
        if not names:
            raise UsageError(f"--only-arch: {wheel.name} has no libtransformer_engine.so")
        lines: dict[str, str] = {}
        # RECORD last: it has the digest of the changed library.
        for info in sorted(source.infolist(), key=lambda i: i.filename.endswith("/RECORD")):
            data = source.read(info)
            if info.filename in names:
                library = bytearray(data)
                keep_only(library, arch)
                data = bytes(library)
                digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=")
                lines[info.filename] = f"{info.filename},sha256={digest.decode()},{len(data)}"
            elif info.filename.endswith(".dist-info/RECORD"):
                rows = data.decode("utf-8").splitlines()
                data = "".join(f"{lines.get(r.split(',')[0], r)}\n" for r in rows).encode()
            out.writestr(info, data, zipfile.ZIP_DEFLATED, 6)
    part.replace(into / wheel.name)
    return into / wheel.name
