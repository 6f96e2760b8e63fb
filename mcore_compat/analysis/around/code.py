"""Remarks on what the packages' code decides at import: versions that it refuses, and features that
it switches off because an import fails. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from packaging.utils import canonicalize_name

from mcore_compat.analysis.around.locked import LockedVersions
from mcore_compat.analysis.around.metadata import needs_undeclared, of_range
from mcore_compat.analysis.around.reading import Around
from mcore_compat.analysis.around.versions import within
from mcore_compat.analysis.remarks import Remark
from mcore_compat.core.cells import is_version
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

ON_BLACKWELL = "on GPUs of compute capability 10.0 and newer"

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
        if refuses(found, there.versions):
            brings = _brings(found, there, around, pins)
            yield refused(found, there.versions, matrix, "is installed", brings)
    yield from _off(there, around, pins, profile or DEFAULT, verbose=verbose)


def accepted(ranges: Sequence[VersionRange], versions: Mapping[str, str]) -> tuple[str, ...]:
    """Return a sentence on each version that the code accepts."""
    return tuple(
        f"{name} {versions[name]} is within what {found.guard.of} {versions[found.guard.of]} "
        f"accepts, {found.specifier} ({found.where}){_blackwell(found, versions[name])}"
        for found in ranges
        if (name := _subject(found)) in versions
        and is_version(versions[name])
        and found.guard.of in versions
        and not refuses(found, versions)
    )


def _blackwell(found: VersionRange, version: str) -> str:
    if within(version, least=found.blackwell):
        return ""
    return f"; {ON_BLACKWELL} only from {found.blackwell} on"


def refuses(found: VersionRange, versions: Mapping[str, str]) -> bool:
    """Whether the code of a package does not accept the version of another one."""
    name = _subject(found)
    return found.guard.of in versions and name in versions and not accepts(found, versions[name])


def refused(
    found: VersionRange, versions: Mapping[str, str], matrix: Matrix, state: str, remedy: str
) -> Remark:
    """Report a version that the code does not accept; `state`: `is installed`."""
    guard, name = found.guard, _subject(found)
    text = f"{name} {versions[name]} {state}, but {guard.of} {versions[guard.of]} accepts "
    text += f"{found.specifier} ({found.where}): {guard.effect}"
    needed = guard.fatal or needs_undeclared(versions, guard.of, name, matrix)
    return of_range(text, remedy, is_needed=needed)


def _subject(found: VersionRange) -> str:
    return canonicalize_name(found.guard.subject)


def accepts(found: VersionRange, version: str) -> bool:
    """Whether the code accepts a version."""
    return within(version, least=found.least, most=found.most, below=found.below)


def version_within(
    found: VersionRange, pins: Mapping[str, str], locked: LockedVersions
) -> tuple[str, str]:
    """Return the specifier of a version that the code accepts, and the cell that was run with it;
    empty without one."""
    tested = locked.of(_subject(found), pins, (found.guard.of,))
    if tested and accepts(found, tested.version):
        return f"=={tested.version}", tested.text()
    return f"=={found.most}" if found.most else found.specifier, ""


def _brings(found: VersionRange, there: Installed, around: Around, pins: Mapping[str, str]) -> str:
    """Return the command that installs a version within the range."""
    name = _subject(found)
    if found.guard.without:
        return (
            f"pip uninstall -y {name}: {found.guard.without}; or pip install "
            f"'{name}{found.specifier}', if your index has one"
        )
    exact, tested = version_within(found, pins, around.locked)
    command = build(name, exact, there, around)
    return f"{command}; {tested}" if tested else command


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
