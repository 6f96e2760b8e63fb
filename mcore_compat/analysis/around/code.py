"""Remarks on what the packages' code decides at import: versions that it refuses, and features that
it switches off because an import fails. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from packaging.utils import canonicalize_name

from mcore_compat.analysis.around.metadata import needs_undeclared, of_range
from mcore_compat.analysis.around.reading import Around
from mcore_compat.analysis.around.versions import within
from mcore_compat.analysis.remarks import Remark
from mcore_compat.core.matrix import Matrix
from mcore_compat.core.profiles import DEFAULT, Profile
from mcore_compat.environments.guarded_imports import SwitchedOff
from mcore_compat.environments.scan import Installed
from mcore_compat.environments.version_guards import VersionRange

FROM_SOURCE = frozenset({"flash-attn", "mamba-ssm", "causal-conv1d"})
"""Packages that the index has only as source, with CUDA code."""

DISTRIBUTIONS = {
    "megatron": "megatron-core",
    "modelopt": "nvidia-modelopt",
    "transformer_engine": "transformer-engine",
    "flash_attn": "flash-attn",
    "mamba_ssm": "mamba-ssm",
    "causal_conv1d": "causal-conv1d",
    "nvidia_resiliency_ext": "nvidia-resiliency-ext",
    "grouped_gemm": "nv-grouped-gemm",
    "fla": "flash-linear-attention",
}
"""The distribution of each package whose import name differs from it."""

FEATURES = (
    (r"fused_qkv_rotary", "the fused rotary embedding of joint QKV (fused_single_qkv_rope)"),
    (r"rotary|rope|RoPE", "the fused rotary embedding (apply_rope_fusion)"),
    (r"permute_and_pad", "the fused permutation of experts that pads them"),
    (r"moe_permute|permutation", "the fused permutation of experts (moe_permute_fusion)"),
    (r"parallel_cross_entropy", "Transformer Engine's fused cross entropy"),
    (r"Fp8Padding", "padding of experts for FP8"),
    (r"cpu_offload", "offloading of activations to the CPU"),
    (r"nvfp4", "parameters in NVFP4"),
    (r"Float8Tensor|mxfp8", "parameters in FP8"),
    (r"mamba_ssm|causal_conv1d", "Mamba layers"),
    (r"flash_attn|flashattn", "flash-attn"),
)
"""Patterns of imported names, and the feature that is off if their import fails."""

_CORE_PLUGINS = re.compile(r"modelopt/torch/(?:quantization|opt)/plugins/")
"""Without these plugins, ModelOpt does not quantize megatron-core's and TE's layers as it
should."""


def remarks(
    there: Installed,
    matrix: Matrix,
    around: Around,
    pins: Mapping[str, str],
    profile: Profile | None,
    *,
    verbose: bool = False,
) -> Iterator[Remark]:
    """Yield all remarks on code; `verbose`: also failing imports without a name in FEATURES."""
    for found in around.ranges:
        yield from _of_version(found, there, matrix, around, pins)
    yield from _off(there, around, pins, profile or DEFAULT, verbose=verbose)


def _of_version(
    found: VersionRange,
    there: Installed,
    matrix: Matrix,
    around: Around,
    pins: Mapping[str, str],
) -> Iterator[Remark]:
    """Report a package whose installed version the code refuses."""
    guard, name = found.guard, canonicalize_name(found.guard.subject)
    have = there.versions.get(name, "")
    if guard.of not in there.versions or within(
        have, least=found.least, most=found.most, below=found.below
    ):
        return
    text = f"{name} {have} is installed, but {guard.of} {there.versions[guard.of]} accepts "
    text += f"{found.specifier} ({found.where}): {guard.effect}"
    needed = guard.fatal or needs_undeclared(there.versions, guard.of, name, matrix)
    yield of_range(text, _brings(name, found, there, around, pins), is_needed=needed)


def _brings(
    name: str, found: VersionRange, there: Installed, around: Around, pins: Mapping[str, str]
) -> str:
    """Return the command that installs a version within the range."""
    if found.guard.fatal:
        return (
            f"pip uninstall -y {name}: megatron-core then writes checkpoints itself; or pip "
            f"install '{name}{found.specifier}', if your index has one"
        )
    locked = around.locked.of(name, pins, (found.guard.of,))
    if locked and within(locked.version, least=found.least, most=found.most, below=found.below):
        return f"{build(name, f'=={locked.version}', there, around)}; {locked.text()}"
    exact = f"=={found.most}" if found.most else found.specifier
    return build(name, exact, there, around)


def build(name: str, specifier: str, there: Installed, around: Around) -> str:
    """Return the command that installs a package; if nvcc builds it, also how to get an nvcc."""
    if name not in FROM_SOURCE:
        return f"pip install '{name}{specifier}'"
    command = f"pip install --no-build-isolation --no-deps '{name}{specifier}'"
    if around.nvcc:
        return command
    series = ".".join((there.cuda or "").split(".")[:2])
    cuda = f" of CUDA {series}" if series else ""
    make = f": mcore-compat toolkit --cuda {series} makes one" if series else ""
    return f"{command}; if it has no wheel for your torch it needs an nvcc{cuda}{make}"


def _off(
    there: Installed,
    around: Around,
    pins: Mapping[str, str],
    profile: Profile,
    *,
    verbose: bool,
) -> Iterator[Remark]:
    """Report features that are off because an installed package lacks an imported name."""
    seen = set()
    for off in around.switched_off:
        feature = _feature(off)
        if off.unmet.absent or (off.unmet.missing, feature) in seen:
            continue
        if not feature and not verbose:
            continue
        seen.add((off.unmet.missing, feature))
        package = _distribution(off.unmet.package)
        version = there.versions.get(package, "")
        what = feature or off.wanted
        text = f"{off.where} continues without {what}: {package} {version} has no "
        text += off.unmet.missing
        text += f" (imported at {off.unmet.where})" if off.plugin else ""
        quantizes = {"quantize", "quantize-te"} & {*profile.features}
        is_core = _CORE_PLUGINS.match(off.where) and package in ("megatron-core", _TE)
        remedy = _remedy(package, off, around, pins)
        yield of_range(text, remedy, is_needed=bool(quantizes and is_core))


_TE = "transformer-engine"


def _feature(off: SwitchedOff) -> str:
    """Return the name of the feature that is off; empty if FEATURES has none."""
    if off.plugin:
        part = off.where.removeprefix("modelopt/torch/").partition("/")[0]
        return f"ModelOpt's plugin {off.plugin} of modelopt.torch.{part}"
    wanted = f"{off.wanted} {off.unmet.missing}"
    return next((words for pattern, words in FEATURES if re.search(pattern, wanted)), "")


def _distribution(package: str) -> str:
    return DISTRIBUTIONS.get(package, canonicalize_name(package))


def _remedy(package: str, off: SwitchedOff, around: Around, pins: Mapping[str, str]) -> str:
    """Return the command for a version that has the missing name: the one in the locks of tested
    cells with the same release of the importing package."""
    of = _distribution(off.where.partition("/")[0])
    if package in pins:
        name = off.unmet.missing.partition(" of ")[0].rpartition(".")[2]
        return (
            f"mcore-compat api {name} prints which releases of {package} have it; mcore-compat "
            f"recommend '{of} {pins.get(of, '')}' prints which works with {of}"
        )
    locked = around.locked.of(package, pins, (of,))
    if locked:
        return f"pip install '{package}=={locked.version}'; {locked.text()}"
    return f"no command: no tested cell of {of} {pins.get(of, '')} has {package}"
