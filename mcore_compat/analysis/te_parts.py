"""Faults of Transformer Engine's three distributions in an environment, two of which have compiled
code. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from mcore_compat.analysis.package_origin import EXTENSION, TE, VERSION, PackageOrigin
from mcore_compat.analysis.remarks import Remark, fault
from mcore_compat.environments.scan import Installed

CORES = ("transformer-engine-cu11", "transformer-engine-cu12", "transformer-engine-cu13")
MOST = 3
"""The number of missing symbols that a message names."""


def faults(there: Installed, origin: PackageOrigin) -> Iterator[Remark]:
    """Yield all faults; `origin` says where to get the parts that the remedies name."""
    yield from _parts(there, origin)
    yield from _cuda(there, origin)
    yield from _abi(there, origin)


def _parts(there: Installed, origin: PackageOrigin) -> Iterator[Remark]:
    """Yield missing parts, and parts of different versions."""
    parts = {n: v for n, v in there.versions.items() if n in (TE, EXTENSION, *CORES)}
    if not parts:
        return
    core = next((n for n in CORES if n in parts), None)
    wanted = parts.get(core or TE) or next(iter(parts.values()))
    if EXTENSION not in parts and not there.extension:
        yield fault(
            f"{core or TE} {wanted} is installed without its extension for torch",
            origin.part(wanted, f"pip install --no-build-isolation {EXTENSION}=={wanted}"),
        )
    elif EXTENSION in parts and not there.extension:
        yield fault(
            f"{EXTENSION} {parts[EXTENSION]} is installed, but its compiled file is missing",
            origin.part(
                parts[EXTENSION],
                f"pip install --force-reinstall --no-deps {EXTENSION}=={parts[EXTENSION]}",
            ),
        )
    if core is None and not there.extension:
        yield fault(
            f"{TE} {wanted} is installed without its core library",
            origin.part(
                wanted,
                f"install {CORES[1]}=={wanted} or {CORES[2]}=={wanted}, to match torch's CUDA",
            ),
        )
    other = {n: v for n, v in parts.items() if v.partition("+")[0] != wanted.partition("+")[0]}
    if other:
        versions = ", ".join(f"{n} {v}" for n, v in sorted(parts.items()))
        yield fault(
            f"the parts of Transformer Engine have different versions: {versions}",
            origin.part(wanted, f"install all of them at {wanted}"),
        )


def _cuda(there: Installed, origin: PackageOrigin) -> Iterator[Remark]:
    """Yield a core library that is built for another major version of CUDA than torch."""
    cores = [name for name in CORES if name in there.versions]
    if len(cores) > 1:
        yield fault(
            f"{' and '.join(cores)} are installed, and overwrite each other's files",
            "uninstall all of them, then install the one for torch's CUDA",
        )
    if "torch" not in there.versions or not cores or there.unread:
        return  # the CUDA of one of the two is not known
    if there.cuda is None:
        yield fault(
            f"torch {there.versions['torch']} is built without CUDA, and Transformer Engine's "
            f"core library is {', '.join(cores)}",
            "install a torch that is built for CUDA",
        )
        return
    major, version = there.cuda.partition(".")[0], there.versions[cores[0]]
    if not any(name.endswith(f"cu{major}") for name in cores):
        yield fault(
            f"torch {there.versions.get('torch', '')} is built for CUDA {there.cuda}, and "
            f"Transformer Engine's core library is {', '.join(cores)}",
            origin.part(version, f"replace it with transformer-engine-cu{major}=={version}"),
        )


def _abi(there: Installed, origin: PackageOrigin) -> Iterator[Remark]:
    if there.unresolved:
        more = f" and {len(there.unresolved) - MOST} more" if len(there.unresolved) > MOST else ""
        version = there.versions.get(EXTENSION) or there.versions.get(TE, VERSION)
        yield fault(
            "Transformer Engine's extension was built for another torch than "
            f"{there.versions.get('torch', 'the installed one')}, which lacks "
            f"{', '.join(there.unresolved[:MOST])}{more}",
            origin.part(
                version,
                "pip install --force-reinstall --no-deps --no-build-isolation --no-binary :all: "
                f"{EXTENSION}=={version}",
            ),
        )
