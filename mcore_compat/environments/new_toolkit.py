"""Makes a CUDA toolkit from packages, without root and without changes to the system.

Headers and libraries come from the package index, and from CUDA 13 on also the compiler. Older
compilers come from a Debian package, which apt fetches and verifies.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from mcore_compat.base import files, temporary
from mcore_compat.base.errors import InfrastructureError, UsageError
from mcore_compat.base.processes import Completed, Runner
from mcore_compat.environments import toolkits
from mcore_compat.environments.build_log import last_line, line_that_matters
from mcore_compat.environments.toolkits import Toolkit
from mcore_compat.index import package_index

INDEX = "cuda-toolkit"
"""The index's package whose extras are the parts of a toolkit, in fitting versions."""

PARTS = ("cccl", "crt", "cudart", "nvcc", "nvrtc", "nvtx", "nvvm", "profiler")
FIRST_WITH_NVCC = 13
"""The first CUDA whose compiler is on the index."""

DEBIAN = "nvidia-cuda-toolkit"
SUITES = ("oldstable", "stable", "testing", "unstable")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

COMPILER = {
    "usr/lib/nvidia-cuda-toolkit/bin/nvcc": "bin",  # the one in usr/bin is a wrapper
    "usr/lib/nvidia-cuda-toolkit/bin/crt": "bin/crt",
    "usr/lib/nvidia-cuda-toolkit/bin/cicc": "nvvm/bin",
    "usr/lib/nvidia-cuda-toolkit/libdevice": "nvvm/libdevice",
    "usr/bin/cudafe++": "bin",
    "usr/bin/fatbinary": "bin",
    "usr/bin/nvlink": "bin",
    "usr/bin/ptxas": "bin",
}
"""The files of the compiler in Debian's package, and the folders where nvcc looks for them."""

PROFILE = """\
TOP              = $(_HERE_)/..
CICC_PATH        = $(TOP)/nvvm/bin
NVVMIR_LIBRARY_DIR = $(TOP)/nvvm/libdevice
LD_LIBRARY_PATH += $(TOP)/lib64:
PATH            += $(CICC_PATH):$(_HERE_):
INCLUDES        += "-I$(TOP)/include" "-I$(TOP)/include/cccl" $(_SPACE_)
LIBRARIES       =+ $(_SPACE_) "-L$(TOP)/lib64"
CUDAFE_FLAGS    +=
PTXAS_FLAGS     +=
"""
"""The `nvcc.profile` beside nvcc; Debian's names system folders."""

PROBE = """\
#include <cub/cub.cuh>
#include <cuda_bf16.h>
#include <cuda_fp8.h>
__global__ void sum(const float *in, __nv_fp8_e4m3 *out) {
    using Reduce = cub::BlockReduce<float, 128>;
    __shared__ typename Reduce::TempStorage storage;
    const float total = Reduce(storage).Sum(in[threadIdx.x]);
    if (threadIdx.x == 0) out[0] = __nv_fp8_e4m3(total);
}
"""
"""A test program for a new toolkit, with the headers that Transformer Engine includes."""


def folder_of(cuda: str) -> Path:
    """The default folder of a new toolkit, where `toolkits` finds it."""
    return toolkits.made() / f"cuda-{cuda}"


def make(
    cuda: str,
    into: Path,
    run: Runner,
    uv: Path,
    say: Callable[[str], None],
    archive: str | None = None,
) -> Toolkit:
    """Make and verify the toolkit of a CUDA version (`12.4`) in the folder `into`, unless it exists
    already. `archive`: the URL of a Debian archive; None: the one of this machine's apt.

    Raises:
        UsageError: there are no packages for this CUDA (names the nearest), or `into` is not empty.
        InfrastructureError: something is missing on this machine, the network or the disk failed,
            or the new toolkit cannot compile.
    """
    if there := toolkits.at(into, run):
        if there.version == cuda:
            return there
        raise UsageError(f"--into: {into} already has a toolkit of CUDA {there.version}")
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise UsageError(f"--into: {into} exists and is not a toolkit; name a new folder")
    whole = _on_index(cuda)
    with files.disk_errors(into):
        into.parent.mkdir(parents=True, exist_ok=True)
    with files.disk_errors(into), temporary.folder(into.parent) as work:
        fresh = work / "toolkit"
        names = []
        if cuda not in whole:
            names.append(_compiler(cuda, whole, work, fresh, run, say, archive))
        names += _packages(cuda, work, fresh, run, uv, say)
        (fresh / "bin" / "nvcc.profile").write_text(PROFILE)
        files.write_text(fresh / "packages.txt", "".join(f"{name}\n" for name in sorted(names)))
        _verify(fresh, work, run, say)
        if into.exists():
            into.rmdir()
        os.replace(fresh, into)
    return Toolkit(home=into, version=cuda)


def _on_index(cuda: str) -> tuple[str, ...]:
    """The CUDA versions for which the index has a complete toolkit.

    Raises:
        UsageError: the index has no package for this version.
    """
    releases = package_index.listed(package_index.files_of(INDEX, package_index.client()))
    known = {".".join(str(row["version"]).split(".")[:2]) for row in releases}
    if not known:
        raise InfrastructureError(f"the index has no package {INDEX}, which is needed")
    if cuda not in known:
        raise UsageError(f"--cuda: there is no CUDA {cuda}; the nearest is {_nearest(cuda, known)}")
    return tuple(sorted(v for v in known if _numbers(v)[0] >= FIRST_WITH_NVCC))


def _numbers(cuda: str) -> tuple[int, ...]:
    return tuple(int(part) for part in cuda.split("."))


def _nearest(cuda: str, known: Iterable[str]) -> str:
    """The nearest of some CUDA versions, of the same major version if possible."""
    major, minor = _numbers(cuda)

    def distance(other: str) -> tuple[int, int]:
        beside, after = _numbers(other)
        majors = beside - major
        return abs(majors), abs(10 * majors + after - minor)  # a major version has some ten

    return min(sorted(known), key=distance)


def _compiler(
    cuda: str,
    whole: Sequence[str],
    work: Path,
    fresh: Path,
    run: Runner,
    say: Callable[[str], None],
    archive: str | None,
) -> str:
    """Install Debian's compiler into `fresh`; returns the file name of its package."""
    for program in ("apt-get", "apt-cache", "dpkg-deb"):
        if shutil.which(program) is None:
            raise InfrastructureError(
                f"{program} was not found on PATH; it is needed because only Debian has nvcc "
                f"{cuda} (the package index has {', '.join(whole)})"
            )
    apt = work / "apt"
    words = _options(apt, archive or _archive(run))
    say("looking for compilers in Debian's archive")
    update = run(["apt-get", "-q", *words, "update"], timeout=600)
    listed = run(["apt-cache", *words, "madison", DEBIAN], timeout=60)
    versions = re.findall(rf"^ *{DEBIAN} \| ((\d+\.\d+)\.\S+) \|", listed.output, re.MULTILINE)
    if not versions:
        raise InfrastructureError(f"Debian's archive cannot be read: {_complaint(update)}")
    matching = [version for version, of in versions if of == cuda]
    if not matching:
        can = {*whole, *(of for _, of in versions)}
        raise UsageError(
            f"--cuda: no package has nvcc {cuda}; toolkits can be made for "
            f"{', '.join(sorted(can, key=_numbers))}, the nearest is {_nearest(cuda, can)}"
        )
    say(f"fetching {DEBIAN} {matching[-1]}")
    argv = ["apt-get", "-q", *words, "download", f"{DEBIAN}={matching[-1]}"]  # newest first
    fetched = run(argv, timeout=1800, cwd=apt)
    package = next(apt.glob("*.deb"), None)
    if package is None:
        raise InfrastructureError(f"fetching {DEBIAN} failed: {_complaint(fetched)}")
    unpacked = run(["dpkg-deb", "-x", package, work / "deb"], timeout=600)
    if not unpacked.ok:
        raise InfrastructureError(f"unpacking {package.name} failed: {last_line(unpacked)}")
    for source, target in COMPILER.items():
        _copy(work / "deb" / source, fresh / target)
    return package.name


def _options(apt: Path, address: str) -> list[str]:
    """apt options to work in a separate folder with one archive."""
    for name in ("lists/partial", "cache/archives/partial"):
        (apt / name).mkdir(parents=True)
    (apt / "status").touch()
    lines = (f"deb [signed-by={KEYRING}] {address} {suite} non-free\n" for suite in SUITES)
    (apt / "sources.list").write_text("".join(lines))
    options = {
        "Dir::State::lists": f"{apt}/lists",
        "Dir::State::status": f"{apt}/status",
        "Dir::Cache": f"{apt}/cache",
        "Dir::Etc::sourcelist": f"{apt}/sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::Etc::preferencesparts": "-",
        "APT::Sandbox::User": "",  # folders of this user alone
    }
    return [word for name, value in options.items() for word in ("-o", f"{name}={value}")]


def _complaint(done: Completed) -> str:
    """apt's first error, else its last line; without URLs, which may contain a password."""
    marks = ("E: ", "W: Failed", "W: GPG error")
    errors = [line[3:] for line in done.output.splitlines() if line.startswith(marks)]
    return re.sub(r"\S+://\S+ *", "", errors[0] if errors else last_line(done))[:300]


def _archive(run: Runner) -> str:
    """The URL of the Debian archive that this machine's apt uses.

    Raises:
        InfrastructureError: it uses none.
    """
    try:
        system = platform.freedesktop_os_release()
    except OSError:  # there is no os-release file
        system = {}
    name = system.get("VERSION_CODENAME", "")
    told = run(["apt-get", "update", "--print-uris"], timeout=60).output
    match = re.search(rf"'(\S+)/dists/{re.escape(name)}/InRelease'", told)
    if system.get("ID") != "debian" or not match:
        raise InfrastructureError(
            "this machine's apt has no Debian archive, which has the compiler; name one with "
            "--archive (and install debian-archive-keyring)"
        )
    return match[1]


def _packages(
    cuda: str, work: Path, fresh: Path, run: Runner, uv: Path, say: Callable[[str], None]
) -> list[str]:
    """Install the index's parts into `fresh`; returns the names of the packages."""
    say(f"fetching the parts of CUDA {cuda} from the index")
    site = work / "site"
    argv: list[str | Path] = [uv, "pip", "install", "--quiet", "--target", site]
    argv.append(f"{INDEX}[{','.join(PARTS)}]=={cuda}.*")
    done = run(argv, timeout=1800)
    if not done.ok:
        raise InfrastructureError(f"fetching the parts of CUDA {cuda} failed: {last_line(done)}")
    folders = {"bin": "bin", "include": "include", "lib": "lib64", "nvvm": "nvvm"}
    for part in sorted((site / "nvidia").glob("*")):
        for name, target in folders.items():
            if (part / name).is_dir():
                _copy(part / name, fresh / target)
    for library in sorted((fresh / "lib64").glob("lib*.so.*")):
        plain = library.with_name(library.name.split(".so.")[0] + ".so")
        if not plain.exists():
            plain.symlink_to(library.name)
    return [path.name.removesuffix(".dist-info") for path in site.glob("*.dist-info")]


def _copy(source: Path, target: Path) -> None:
    """Copy a file, or the content of a folder, into a folder, without overwriting files."""
    paths = [p for p in source.rglob("*") if p.is_file()] if source.is_dir() else [source]
    top = source if source.is_dir() else source.parent
    for path in paths:
        place = target / path.relative_to(top)
        if place.exists() or path.name == "__init__.py":
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, place)


def _verify(fresh: Path, work: Path, run: Runner, say: Callable[[str], None]) -> None:
    """Compile PROBE."""
    say("compiling a test program with the new toolkit")
    probe = work / "probe.cu"
    probe.write_text(PROBE)
    argv: list[str | Path] = [fresh / "bin" / "nvcc", "-std=c++17", "-c", probe]
    argv += ["-o", work / "probe.o"]
    done = run(argv, timeout=600)
    if not done.ok:
        line = line_that_matters(done.output).replace(f"{fresh}/bin/../", "")
        raise InfrastructureError(f"the new toolkit cannot compile a test program: {line}")
