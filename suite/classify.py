"""Tells, on a machine without a GPU, a fault of the packages from a question for a GPU.

`broken` is claimed only where the cause would be the same with a GPU, and the text that
comes with it says why. What cannot be told is `needs-gpu`, and says that, too.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from suite import preload
from suite.failures import headline, innermost, relative
from suite.outcomes import BROKEN, NEEDS_GPU, UNSUPPORTED, NeedsGpu, Unsupported

_NO_GPU = re.compile(
    r"libcuda\.so|libnvidia-ml|NVML|NVIDIA driver|CUDA driver"
    r"|not compiled with CUDA|CUDA is not available|CUDA is required|without CUDA"
    r"|No CUDA GPUs|no CUDA-capable device|CUDA_ERROR|cudaError|CUDA error|CUDNN_STATUS|cuBLAS"
    r"|cudaGetDevice|cuInit|initiali[sz]e CUDA|torch\._C.+_cuda|_cuda_\w+'"
    r"|0 active drivers|No GPU|GPU (?:device )?(?:is )?not (?:found|available)"
    r"|[Ee]xpected.+CUDA.+(?:tensor|device)|must be (?:a )?CUDA|must be on (?:a )?(?:CUDA|GPU)"
    r"|CUDA tensor|from the '(?:Sparse)?CUDA' backend|Invalid device.*cuda"
    r"|[Cc]annot access accelerator device|device type cuda|device kernel image"
    r"|reached a kernel of \w+: "  # what stands in for an extension module says so
    r"|TransformerEngine needs CUDA|not supported on CPU|not implemented for 'CPU'",
)
"""What packages say where they miss a GPU or its driver."""

_PLAIN = {
    AttributeError: "a name that the release's own code does not have",
    ImportError: "an import that fails before any device is asked",
    KeyError: "a key that plain Python data does not hold",
    NameError: "a name that the release's own code does not bind",
    TypeError: "a call that does not fit its callee's signature or types",
    IndexError: "a lookup in plain Python data",
    ValueError: "an argument that the release's own Python code refuses",
    NotImplementedError: "the release's own code says that it is not implemented",
    SystemExit: "the release's own code ends the process",
    FileNotFoundError: "a file that was not written",
}

_RUNTIME = (
    (
        re.compile(r"cannot open shared object file"),
        "the dynamic linker misses a library that is not the driver's",
    ),
    (
        re.compile(r"Error\(s\) in loading state_dict"),
        "names and shapes of parameters are compared by Python code, on no device",
    ),
    (
        re.compile(
            r"Missing key in checkpoint|Size mismatch between saved|size mismatch for"
            r"|Failed to validate global plan"
        ),
        "keys and shapes of the checkpoint are compared by Python code, on no device",
    ),
    (
        re.compile(r"undefined symbol"),
        "the dynamic linker resolves symbols before any device is asked",
    ),
)


_QUOTED = re.compile(r"'([\w.]+)'")
"""A module, or a name, in what an exception says."""


def classify(error: BaseException, *, host: bool, stated: str | None = None) -> tuple[str, str]:
    """`(outcome, why)` of a check that ended with `error`.

    `stated` is the check's own reason why its question does not depend on a GPU. For
    `broken` on a host, `why` is why it would be the same with a GPU; for `broken` with a GPU,
    it is empty; for all else it is the reason to show.
    """
    if isinstance(error, Unsupported):
        return UNSUPPORTED, str(error)
    if isinstance(error, NeedsGpu):
        return NEEDS_GPU, str(error)
    if not host:
        return BROKEN, ""
    missing = _missing_gpu(error)
    if missing:
        return NEEDS_GPU, missing
    if stated:
        return BROKEN, stated
    reason = _plain_reason(error)
    if reason:
        return BROKEN, reason
    return NEEDS_GPU, (
        f"cannot be told from a missing GPU: {type(error).__name__}: {headline(error)}"
    )


def _missing_gpu(error: BaseException) -> str | None:
    """Why `error`, or what caused it, comes from the missing GPU or from our stand-in."""
    for cause in _chain(error):
        if _asserted_here(cause):
            continue
        if _NO_GPU.search(str(cause)):
            return f"{type(cause).__name__}: {headline(cause)}"
        half = _half_imported(cause)
        if half:
            return half
        short = _stand_in_short(cause)
        if short:
            return f"{short}: {type(cause).__name__}: {headline(cause)}"
        if isinstance(cause, NameError) and _reads_is_available(cause):
            return (
                f"the module asks for a GPU while it is imported: {type(cause).__name__}: {cause}"
            )
    return None


def _half_imported(error: BaseException) -> str | None:
    """Why `error` only follows from an import that asked for a GPU: it misses what that module, or
    a package that it is in, would have had; another module of the package may lack what it likes.
    """
    if not isinstance(error, (AttributeError, ImportError)):
        return None
    about = [f"{module}." for module in _QUOTED.findall(str(error))]
    for name, outcome in preload.OUTCOMES.items():
        within = any(f"{name}.".startswith(module) for module in about)
        if outcome != "ok" and within and _NO_GPU.search(outcome):
            return f"{name} asks for a GPU while it is imported: {outcome[:300]}"
    return None


def _plain_reason(error: BaseException) -> str | None:
    if _asserted_here(error):
        return "the check's own assertion, about structure or about tensors on the CPU"
    for kind, reason in _PLAIN.items():
        if isinstance(error, kind):
            return f"{type(error).__name__}: {reason}"
    if isinstance(error, AssertionError):
        return "an assertion of the release's own Python code that names no device"
    for pattern, reason in _RUNTIME:
        if pattern.search(str(error)):
            return reason
    if type(error).__module__.startswith(("megatron.core.dist_checkpointing", "modelopt.")):
        return f"{type(error).__name__}: raised by the package's own checks, on no device"
    if error.__cause__ is not None:  # what a worker process failed with, raised anew
        passed_on = _plain_reason(error.__cause__)
        return passed_on and f"{type(error).__name__} raised from {passed_on}"
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """`error`, then what caused it."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        hidden = current.__suppress_context__
        current = current.__cause__ or (None if hidden else current.__context__)


def _asserted_here(error: BaseException) -> bool:
    """Whether a check of this suite made the assertion, rather than a package."""
    if not isinstance(error, AssertionError):
        return False
    frames = innermost(error)
    return bool(frames) and "check_" in Path(frames[-1].filename).name


def _stand_in_short(error: BaseException) -> str | None:
    """Whether `error` comes out of our CUDA stand-in, or is about one of its objects."""
    short = "our CUDA stand-in falls short"
    frames = innermost(error)
    if frames and relative(frames[-1].filename).startswith("suite/stand_in"):
        return short
    about = getattr(error, "obj", None)
    if about is not None and "suite.stand_in" in (
        getattr(about, "__module__", ""),
        type(about).__module__,
        getattr(about, "__name__", ""),
    ):
        return short
    module = sys.modules.get("suite.stand_in")
    names = (
        [
            name
            for name, value in vars(module).items()
            if isinstance(value, type) and value.__module__ == "suite.stand_in"
        ]
        if module
        else []
    )
    if any(re.search(rf"\b{re.escape(name)}\b", str(error)) for name in names):
        return short
    return None


def _reads_is_available(error: BaseException) -> bool:
    """Whether the module that misses a name binds names only where there is a GPU."""
    frames = innermost(error)
    if not frames:
        return False
    try:
        source = Path(frames[-1].filename).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return "is_available()" in source
