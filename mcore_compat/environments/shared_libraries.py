"""Shared libraries of an environment against those that they are linked to, read from the files:
which are missing, which symbols are, and which C++ library is too old."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerDefSection, GNUVerNeedSection

from mcore_compat.environments import scan

TORCH = "torch/lib/libtorch_cuda.so"
CORE = ("transformer_engine/**/libtransformer_engine.so", "libtransformer_engine.so")

EXTENSIONS = {
    "flash_attn_2_cuda*.so": "flash-attn",
    "flash_attn_3/_C*.so": "flash-attn-3",
    "causal_conv1d_cuda*.so": "causal-conv1d",
    "selective_scan_cuda*.so": "mamba-ssm",
    "grouped_gemm_backend*.so": "nv-grouped-gemm",
    "fused_layer_norm_cuda*.so": "apex",
    "amp_C*.so": "apex",
    "torchvision/_C.so": "torchvision",
    "torchaudio/lib/libtorchaudio.so": "torchaudio",
}
"""Compiled parts of the packages around, each built for one torch."""

FAMILIES = {
    "libcublas": re.compile(rb"cublas(?:Lt)?[A-Z]\w*"),
    "libcudnn": re.compile(rb"cudnn[A-Z]\w*"),
    "libnccl": re.compile(rb"(?:p)?nccl[A-Z]\w*"),
    "libnvrtc": re.compile(rb"nvrtc[A-Z]\w*"),
    "libcurand": re.compile(rb"curand[A-Z]\w*"),
}
"""Whose symbols are looked for, by the beginning of their libraries' names."""

_OF_THE_SYSTEM = re.compile(
    r"(?:libc|libm|libdl|librt|libpthread|libutil|libgcc_s|libstdc\+\+|ld-linux.*|libcuda|libgomp.*)"
    r"\.so(?:\.\d+)*"
)
"""Of glibc and the compiler, and the driver's own."""

_SYSTEM = ("/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib", "/lib/x86_64-linux-gnu")
_TOOLKIT = ("/usr/local/cuda/lib64", "/usr/local/cuda/targets/x86_64-linux/lib")
_CXX = "libstdc++.so.6"


@dataclass(frozen=True, kw_only=True)
class LibraryFault:
    """What is wrong with a compiled `file` of `package`.

    One of: `missing`, a library that it needs and that is nowhere; `symbols` that `family`
    (`libnccl`) lacks; `symbols` of torch that torch lacks (`family` is `torch`), where
    `other_strings` tells that they differ by C++'s two kinds of strings; `versions` of the C++
    library that `library` lacks.
    """

    package: str
    file: str
    missing: str = ""
    family: str = ""
    symbols: tuple[str, ...] = ()
    other_strings: bool = False
    versions: tuple[str, ...] = ()
    library: str = ""


def faults(
    places: Sequence[Path], environ: Mapping[str, str], prefix: Path | None = None
) -> tuple[LibraryFault, ...]:
    """All that is wrong with torch's, Transformer Engine's and other compiled parts. `prefix`: of
    the Python, whose `lib` may hold a C++ library, as conda's does."""
    search = _Search(places, environ, prefix)
    files = [*_files(places)]
    return tuple(
        fault
        for package, path in files
        for fault in (
            *search.missing(package, path),
            *search.lacking(package, path),
            *(search.of_torch(package, path) if package not in _OWN else ()),
            *search.cxx(package, path),
        )
    )


_OWN = frozenset({"torch", "transformer-engine"})


def strings_differ(symbols: Sequence[str], torch: Path) -> bool:
    """Whether symbols name C++'s newer strings, and the torch in a folder has the older ones."""
    if not any("__cxx11" in symbol for symbol in symbols):
        return False
    return not any(b"__cxx11" in s for s in scan.symbols(torch / "lib" / "libc10.so", defined=True))


def _files(places: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    """Each compiled part, with its package."""
    for place in places:
        if (place / TORCH).is_file():
            yield "torch", place / TORCH
        for pattern in CORE:
            for path in sorted(place.glob(pattern)):
                yield "transformer-engine", path
        for pattern, package in EXTENSIONS.items():
            for path in sorted(place.glob(pattern))[:1]:
                yield package, path


class _Search:
    """Where libraries are looked for, and what was read of them."""

    def __init__(
        self, places: Sequence[Path], environ: Mapping[str, str], prefix: Path | None
    ) -> None:
        self._places = places
        own = [p for place in places for p in sorted(place.glob("nvidia/*/lib"))]
        own += [place / "torch" / "lib" for place in places if (place / "torch" / "lib").is_dir()]
        given = [Path(p) for p in environ.get("LD_LIBRARY_PATH", "").split(":") if p]
        self._own = own
        self._given = given
        self._prefix = [prefix / "lib"] if prefix else []

    def _shown(self, path: Path) -> str:
        """A file from the folder on that a Python searches."""
        place = next(place for place in self._places if path.is_relative_to(place))
        return path.relative_to(place).as_posix()

    def missing(self, package: str, path: Path) -> Iterator[LibraryFault]:
        """Libraries that a file needs and that are nowhere."""
        for name in needed(path):
            if not _OF_THE_SYSTEM.fullmatch(name) and not self._is_somewhere(name, path.parent):
                yield LibraryFault(package=package, file=self._shown(path), missing=name)

    def _is_somewhere(self, name: str, beside: Path) -> bool:
        folders = [beside, *self._own, *self._given, *self._prefix, *map(Path, _SYSTEM + _TOOLKIT)]
        if any((folder / name).exists() for folder in folders):
            return True
        if any(beside.glob(f"*/{name}")):
            return True
        try:
            return name.encode() in Path("/etc/ld.so.cache").read_bytes()
        except OSError:
            return False

    def lacking(self, package: str, path: Path) -> Iterator[LibraryFault]:
        """Symbols of CUDA's libraries that a file needs and the installed ones do not have."""
        needed = scan.symbols(path, defined=False)
        for family, pattern in FAMILIES.items():
            wanted = {name for name in needed if pattern.fullmatch(name)}
            libraries = (
                [p for folder in self._own for p in sorted(folder.glob(f"{family}*.so.*"))]
                if wanted
                else []
            )
            if not wanted or not libraries:
                continue
            for library in libraries:
                wanted -= scan.symbols(library, defined=True)
            if wanted:
                symbols = tuple(sorted(name.decode("utf-8", "replace") for name in wanted))
                yield LibraryFault(
                    package=package, file=self._shown(path), family=family, symbols=symbols
                )

    def of_torch(self, package: str, path: Path) -> Iterator[LibraryFault]:
        """Symbols of torch that an extension needs and the installed torch does not have."""
        torch = next((p / "torch" for p in self._places if (p / "torch" / "lib").is_dir()), None)
        if torch is None:
            return
        symbols = scan.unresolved(path, torch)
        if symbols:
            yield LibraryFault(
                package=package,
                file=self._shown(path),
                family="torch",
                symbols=symbols,
                other_strings=strings_differ(symbols, torch),
            )

    def cxx(self, package: str, path: Path) -> Iterator[LibraryFault]:
        """Versions of the C++ library's symbols that the one that is found does not have."""
        wanted = _versions(path, GNUVerNeedSection)
        folders = [*self._given, *self._prefix, *map(Path, _SYSTEM)]
        library = next((f / _CXX for f in folders if (f / _CXX).exists()), None)
        if not wanted or library is None:
            return
        lacking = wanted - _versions(library, GNUVerDefSection)
        if lacking:
            yield LibraryFault(
                package=package,
                file=self._shown(path),
                versions=tuple(sorted(lacking)),
                library=str(library),
            )


def needed(path: Path) -> tuple[str, ...]:
    """The libraries that a file names."""
    try:
        with path.open("rb") as file:
            section = next(ELFFile(file).iter_sections("SHT_DYNAMIC"), None)
            if not isinstance(section, DynamicSection):
                return ()
            return tuple(_name(tag) for tag in section.iter_tags("DT_NEEDED"))
    except (OSError, ELFError, UnicodeDecodeError):
        return ()


def _versions(path: Path, kind: type[GNUVerNeedSection] | type[GNUVerDefSection]) -> set[str]:
    """The versions of the C++ library that a file needs, or has."""
    found = set()
    try:
        with path.open("rb") as file:
            type_ = "SHT_GNU_verneed" if kind is GNUVerNeedSection else "SHT_GNU_verdef"
            for section in ELFFile(file).iter_sections(type_):
                if isinstance(section, kind):
                    for one, parts in section.iter_versions():
                        names = [part.name for part in parts]
                        if kind is GNUVerDefSection or one.name == _CXX:
                            found |= {n for n in names if n.startswith(("GLIBCXX_", "CXXABI_"))}
    except (OSError, ELFError, UnicodeDecodeError):
        return set()
    return found


def _name(tag: Any) -> str:
    """The library that a tag names: an attribute which pyelftools makes at run time."""
    return str(tag.needed)
