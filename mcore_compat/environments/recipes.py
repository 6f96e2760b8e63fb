"""How each source-only package is built and verified."""

from __future__ import annotations

import shlex
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mcore_compat.environments.toolkits import Toolkit


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One source-only package.

    `variables` control its build. `without_cuda`: it works without its compiled part; then only
    its Python files are used, and a stand-in for the module `stand_in` with the names in its C++
    sources (folder `csrc`). `cuda_headers`: its C++ sources include CUDA's headers.
    `kernels_needed`: a family cannot run on a GPU without its CUDA part. `archs`: the variable from
    which its build reads the architectures; `arch`: the default one without a GPU.
    """

    package: str
    module: str
    variables: Mapping[str, str] = field(default_factory=dict)
    without_cuda: bool = False
    stand_in: str = ""
    csrc: str = ""
    cuda_headers: bool = False
    kernels_needed: bool = False
    archs: str = ""
    arch: str = ""


RECIPES = {
    recipe.package: recipe
    for recipe in (
        Recipe(
            package="flash-attn",  # TE up to 1.11 cannot be imported without it
            module="flash_attn",
            variables={"FLASH_ATTENTION_FORCE_BUILD": "TRUE"},
            without_cuda=True,
            stand_in="flash_attn_2_cuda",
            csrc="/csrc/flash_attn/",
        ),
        Recipe(
            package="transformer-engine-torch",
            module="transformer_engine.pytorch",
            # A proxy that does not exist (RFC 2606): its build would first try to download a wheel,
            # and the option against that makes TE 2.8 and 2.9 build twice and fail.
            variables={
                "NVTE_FRAMEWORK": "pytorch",
                "HTTPS_PROXY": "http://offline.invalid",
                "https_proxy": "http://offline.invalid",
            },
            cuda_headers=True,
            archs="NVTE_CUDA_ARCHS",
            arch="90",
        ),
        Recipe(
            package="causal-conv1d",
            module="causal_conv1d",
            variables={"CAUSAL_CONV1D_FORCE_BUILD": "TRUE"},
            without_cuda=True,
            kernels_needed=True,
        ),
        Recipe(
            package="mamba-ssm",
            module="mamba_ssm",
            variables={"MAMBA_FORCE_BUILD": "TRUE"},
            without_cuda=True,
        ),
    )
}
"""In build order: mamba-ssm imports causal-conv1d, and TE imports flash-attn."""


def header_packages(cuda: str) -> tuple[str, ...]:
    """Packages with the CUDA headers that torch's own requirements lack (crt/, nv/)."""
    if cuda.startswith("12."):
        return (f"nvidia-cuda-nvcc-cu12=={cuda}.*", f"nvidia-cuda-cccl-cu12=={cuda}.*")
    return (f"nvidia-cuda-crt=={cuda}.*", f"nvidia-cuda-cccl=={cuda}.*")


def has_cuda_sources(sdist: Path) -> bool:
    """Whether a source distribution holds `.cu` files, which only nvcc compiles."""
    with tarfile.open(sdist) as archive:
        return any(name.endswith(".cu") for name in archive.getnames())


VERSION_ONLY_NVCC = """\
#!/bin/sh
# Stands in for nvcc where sources have no CUDA code: builds ask it for its version only.
case "$*" in
*-V* | *--version*) echo "Cuda compilation tools, release {cuda}, V{cuda}.0" ;;
*) echo "no CUDA toolkit: this nvcc only tells a version" >&2; exit 1 ;;
esac
"""


def _link(link: Path, path: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.exists():
        link.symlink_to(path)


def header_root(site: Path, root: Path, cuda: str) -> None:
    """Make `root` a CUDA toolkit of exactly torch's version: headers, libraries, no compiler.

    Otherwise a build uses the machine's toolkit. Headers of another major version compile, but
    declare structures with another layout than torch's.
    """
    for kind, target in (("include", "include"), ("lib", "lib64")):
        for source in sorted((site / "nvidia").glob(f"*/{kind}")):
            for path in sorted(p for p in source.rglob("*") if not p.is_dir()):
                _link(root / target / path.relative_to(source), path)
    for library in sorted((root / "lib64").glob("lib*.so.*")):
        plain = library.with_name(library.name.split(".so.")[0] + ".so")
        _link(plain, library.resolve())
    nvcc = root / "bin" / "nvcc"
    nvcc.parent.mkdir(parents=True, exist_ok=True)
    nvcc.write_text(VERSION_ONLY_NVCC.format(cuda=cuda))
    nvcc.chmod(0o755)


ONE_ARCH_NVCC = """\
#!/bin/sh
# Compiles for one GPU architecture, whatever list a build's own code has.
left=$#
while [ "$left" -gt 0 ]; do
    word=$1
    shift
    left=$((left - 1))
    case "$word" in
    -gencode | --generate-code) shift; left=$((left - 1)) ;;
    -gencode=* | --generate-code=* | -arch=* | --gpu-architecture=*) ;;
    -lineinfo | --generate-line-info) ;; # for debuggers; it makes the file longer
    *) set -- "$@" "$word" ;;
    esac
done
exec {nvcc} -gencode arch=compute_{arch},code=sm_{arch} "$@"
"""


def one_arch_root(site: Path, root: Path, toolkit: Toolkit, arch: str) -> None:
    """Make `root` as `header_root` does, with the toolkit's compiler for `arch` (`sm_90`)."""
    header_root(site, root, toolkit.version)
    for path in sorted((toolkit.home / "include").glob("*")):  # torch's packages lack crt/
        _link(root / "include" / path.name, path)
    text = ONE_ARCH_NVCC.format(
        nvcc=shlex.quote(str(toolkit.home / "bin" / "nvcc")), arch=arch.removeprefix("sm_")
    )
    (root / "bin" / "nvcc").write_text(text)
