"""Remarks on faults of an environment's shared libraries. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from packaging.specifiers import SpecifierSet

from mcore_compat.analysis.around.code import FROM_SOURCE, build
from mcore_compat.analysis.around.reading import Around
from mcore_compat.analysis.around.versions import meets, needs
from mcore_compat.analysis.remarks import Remark, fault
from mcore_compat.core.cells import series_of
from mcore_compat.core.combinations import machine
from mcore_compat.environments.scan import Installed
from mcore_compat.environments.shared_libraries import LibraryFault

MOST = 3
"""The number of missing symbols that a message names."""


def remarks(there: Installed, around: Around, pins: Mapping[str, str]) -> Iterator[Remark]:
    """Yield a fault with its remedy for each library fault."""
    for one in around.libraries:
        version = there.versions.get(one.package, "")
        what = " ".join(filter(None, (one.package, version)))
        if one.missing:
            text = f"{one.file} of {what} needs {one.missing}, which is not installed"
            yield fault(text, _wheel(one.missing, there))
        elif one.versions:
            yield _of_cxx(one, what)
        elif one.family == "torch":
            yield _of_torch(one, what, there, around)
        else:
            yield _of_family(one, what, there, around, pins)


def _listed(symbols: tuple[str, ...]) -> str:
    more = f" and {len(symbols) - MOST} more" if len(symbols) > MOST else ""
    return f"{', '.join(symbols[:MOST])}{more}"


def _asked(there: Installed, part: str) -> dict[str, SpecifierSet]:
    """Return the wheels of one CUDA library that torch requires, with their ranges."""
    where = machine(series_of(there.python))
    return {
        need.name: need.specifier
        for need in needs(there.requires.get("torch", ()), where)
        if need.name.startswith(f"nvidia-{part}")
    }


def _wheel(library: str, there: Installed) -> str:
    """Return the command that installs a library, from the wheel that torch requires."""
    part = library.removeprefix("lib").partition(".")[0].partition("_")[0]
    part = {"cudart": "cuda-runtime", "nvrtc": "cuda-nvrtc", "cublasLt": "cublas"}.get(part, part)
    for name, specifier in _asked(there, part).items():
        return f"pip install --force-reinstall --no-deps '{name}{specifier}'"
    return f"no command: torch requires no wheel with {library}; the system must provide it"


def _of_family(
    one: LibraryFault, what: str, there: Installed, around: Around, pins: Mapping[str, str]
) -> Remark:
    """Report symbols that cuBLAS, cuDNN or NCCL lacks."""
    part = one.family.removeprefix("lib")
    part = {"nvrtc": "cuda-nvrtc"}.get(part, part)
    wheels = {n: v for n, v in there.versions.items() if n.startswith(f"nvidia-{part}")}
    have = " and ".join(f"{n} {v}" for n, v in wheels.items()) or one.family
    text = f"{one.file} of {what} needs {_listed(one.symbols)}, which {have} does not have"
    for name, specifier in _asked(there, part).items():
        if name in wheels and not meets(specifier, wheels[name]):
            return fault(text, f"pip install --no-deps '{name}{specifier}'")
    for name in wheels:
        locked = around.locked.of(name, pins, (one.package,))
        torch = around.locked.of("torch", pins, (one.package,))
        if locked and torch and locked.version != wheels[name]:
            return fault(
                text,
                f"no command keeps torch {there.versions.get('torch', '')}, which requires "
                f"{name} {wheels[name]}: {locked.cell} was run with {name} {locked.version}, which "
                f"torch {torch.version} requires; mcore-compat recommend "
                f"'torch {pins.get('torch', '')}' prints which {one.package} works with yours",
            )
    return fault(
        text,
        f"no command: no {part} is known to have it; mcore-compat recommend "
        f"'torch {pins.get('torch', '')}' prints tested combinations with your torch",
    )


def _of_torch(one: LibraryFault, what: str, there: Installed, around: Around) -> Remark:
    """Report an extension that was built for another torch."""
    torch = f"torch {there.versions.get('torch', '')}".strip()
    text = f"{one.file} of {what} was built for another torch than {torch}, which lacks "
    text += _listed(one.symbols)
    if one.other_strings:
        text += "; it was built with the new C++11 string ABI, and this torch with the old one"
    version = there.versions.get(one.package)
    if one.package in ("torchvision", "torchaudio"):
        exact = there.versions.get("torch", "").partition("+")[0]
        return fault(text, f"pip install --upgrade {one.package} 'torch=={exact}'")
    if version is None or one.package not in FROM_SOURCE:
        return fault(text, f"no command: {one.package} must be built from source for {torch}")
    command = build(one.package, f"=={version}", there, around)
    return fault(text, command.replace("pip install", "pip install --force-reinstall", 1))


def _of_cxx(one: LibraryFault, what: str) -> Remark:
    """Report a C++ library that is too old."""
    text = f"{one.file} of {what} needs {_listed(one.versions)}, which {one.library} does not have"
    if "/lib/" in one.library and not one.library.startswith(("/usr", "/lib")):
        return fault(text, "conda install -c conda-forge libstdcxx-ng installs a newer one")
    return fault(
        text,
        "no pip command: libstdc++ comes with the Linux distribution; use a newer distribution (or "
        f"its image), or build {one.package} on this one",
    )
