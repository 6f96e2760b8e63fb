"""Reads the dynamic symbols of a shared library, with the standard library alone."""

from __future__ import annotations

import ctypes
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

_SHT_DYNAMIC, _SHT_DYNSYM = 6, 11
_DT_NEEDED = 1
_WEAK = 2


@dataclass(frozen=True)
class Library:
    """What a shared library needs of others: `needed` sonames, `undefined` symbols.

    Weak undefined symbols are left out: the linker lets them be missing.
    """

    needed: tuple[str, ...]
    undefined: tuple[str, ...]


def read(path: Path) -> Library:
    """The dynamic section of a 64-bit little-endian ELF file.

    Raises:
        ValueError: the file is none.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[:6] != b"\x7fELF\x02\x01":
            raise ValueError(f"{path.name} is no 64-bit little-endian ELF file")
        start = struct.unpack_from("<Q", data, 0x28)[0]
        size, count = struct.unpack_from("<HH", data, 0x3A)
        sections = [
            struct.unpack_from("<IIQQQQIIQQ", data, start + index * size) for index in range(count)
        ]
        needed: list[str] = []
        undefined: list[str] = []
        for _, kind, _, _, offset, length, link, _, _, _ in sections:
            if kind == _SHT_DYNAMIC:
                strings = sections[link][4]
                for tag, value in struct.iter_unpack("<QQ", data[offset : offset + length]):
                    if tag == _DT_NEEDED:
                        needed.append(_text(data, strings + value))
            elif kind == _SHT_DYNSYM:
                strings = sections[link][4]
                rows = struct.iter_unpack("<IBBHQQ", data[offset : offset + length])
                for name, info, _, section, _, _ in rows:
                    if name and section == 0 and info >> 4 != _WEAK:
                        undefined.append(_text(data, strings + name))
    return Library(tuple(needed), tuple(sorted(undefined)))


def _text(data: mmap.mmap, offset: int) -> str:
    return data[offset : data.find(b"\0", offset)].decode("utf-8", "replace")


def demangle(symbol: str) -> str:
    """The C++ name of `symbol`, or `symbol` where it is none or libstdc++ is not there."""
    try:
        function = ctypes.CDLL("libstdc++.so.6").__cxa_demangle
    except (OSError, AttributeError):
        return symbol
    function.restype = ctypes.c_void_p
    status = ctypes.c_int()
    address = function(symbol.encode(), None, None, ctypes.byref(status))
    if status.value != 0 or not address:
        return symbol
    try:
        return ctypes.string_at(address).decode("utf-8", "replace")
    finally:
        free = ctypes.CDLL(None).free
        free.argtypes = [ctypes.c_void_p]
        free(address)
