"""Can the packages be imported, and is what they import really there and alive?"""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from suite import adapter, elf, failures, preload, requirements, stand_in, te_classes
from suite.outcomes import FAMILIES, NeedsGpu, Unsupported
from suite.record import Record

PACKAGES = ("torch", "transformer_engine.pytorch", "megatron.core", "modelopt.torch")
OPTIONAL = {"mamba-ssm": "mamba_ssm", "causal-conv1d": "causal_conv1d", "einops": "einops"}
"""Imported where they are installed, and recorded; `import-modules` tells who needs them."""

UNDER_TEST = {
    "megatron-core": "megatron.core",
    "nvidia-modelopt": "modelopt",
    "transformer-engine": "transformer_engine",
}

pytestmark = [pytest.mark.bare, pytest.mark.feature("install")]
"""Nothing stands in for CUDA here: an import has to get by without."""


def imported(names: list[str], record: Record) -> dict[str, ModuleType]:
    """The modules of `names`; all are tried and recorded before the first failure is raised."""
    found: dict[str, ModuleType] = {}
    told: dict[str, str] = {}
    first: BaseException | None = None
    for name in names:
        try:
            found[name] = importlib.import_module(name)
            told[name] = "ok"
        except Exception as error:
            told[name] = f"{type(error).__name__}: {error}"
            first = first or error
    record("modules", told)
    if first is not None:
        raise first
    return found


def attempted(name: str) -> str:
    """How importing `name` ends, in words."""
    try:
        importlib.import_module(name)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "ok"


def installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


@pytest.mark.limit(240)
def check_import_packages(record: Record) -> None:
    record("preload", preload.OUTCOMES)
    record("warnings", preload.WARNINGS)
    compiled = [*preload.stand_in_for_compiled(), *preload.stand_in_for_te()]
    record("standing in", [*compiled, *stand_in.installed_for()])
    record("optional", {name: attempted(OPTIONAL[name]) for name in OPTIONAL if installed(name)})
    imported(list(PACKAGES), record)


@pytest.mark.limit(240)
def check_import_modules(family: str, record: Record) -> None:
    imported(list(adapter.modules(family)), record)


@pytest.mark.limit(240)
def check_import_undeclared(record: Record) -> None:
    missing = []
    path = {name for family in FAMILIES for name in path_of(family)}
    for name in [*PACKAGES, *sorted(path)]:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            # Only what is missing is this check's question; `import-modules` asks the rest.
            missing.append(absent(name, error))
        except Exception as error:
            record(f"not looked into: {name}", f"{type(error).__name__}: {error}")
    owners = importlib.metadata.packages_distributions()
    found = [entry for entry in missing if entry.module not in requirements.declared(entry.package)]
    for package, prefix in UNDER_TEST.items():
        modules = {name: sys.modules[name] for name in list(sys.modules) if under_test(name)}
        found += requirements.undeclared(package, prefix, modules, owners, [*PACKAGES, *path])
    record("undeclared", [entry.plain() for entry in sorted(set(found))])
    broken = unmet(found)
    assert not broken, "; ".join(broken)


def under_test(module: str) -> bool:
    return any(f"{module}.".startswith(f"{prefix}.") for prefix in UNDER_TEST.values())


def path_of(family: str) -> tuple[str, ...]:
    return adapter.modules(family) if adapter.has_family(family) is None else ()


def absent(importing: str, error: ModuleNotFoundError) -> requirements.Undeclared:
    """The finding that a module on the path cannot be imported for want of another."""
    named = [frame["module"] for frame in failures.describe(error, None)["frames"]]
    raising = [name for name in named if name.startswith(tuple(UNDER_TEST.values()))]
    by = raising[-1] if raising else importing
    package = next((p for p, prefix in UNDER_TEST.items() if by.startswith(prefix)), by)
    top = (error.name or str(error)).partition(".")[0]
    return requirements.Undeclared(package, top, by, guarded=False, installed=False)


def unmet(found: list[requirements.Undeclared]) -> list[str]:
    """In words, the undeclared imports that fail: nobody catches it, and nothing is installed."""
    return [
        f"{entry.imported_by} imports {entry.module}, which {entry.package} does not declare"
        " and which is not installed"
        for entry in sorted(set(found))
        if not entry.guarded and not entry.installed
    ]


_OF_THE_DRIVER = re.compile(r"(?:cu|nvml)[A-Z]")
"""Functions of CUDA's driver and of NVML, whose libraries are empty ones where there is no GPU."""


def check_import_te_abi(record: Record) -> None:
    import torch  # brings the libraries that the extension's symbols are in

    files = extension_files()
    if not files:
        if installed("transformer-engine-torch") or installed("transformer-engine"):
            raise AssertionError("Transformer Engine is installed without its torch extension")
        raise Unsupported("Transformer Engine is not installed")
    if preload.stand_in_for_te():
        record("left_out", preload.stand_in_for_te())
        raise NeedsGpu("a stand-in takes the place of TE's torch extension, and has no ABI")
    record("cxx11_abi", bool(torch._C._GLIBCXX_USE_CXX11_ABI))
    # First as TE does: before its core it may open libraries that the core does not name (NVRTC).
    record("opened by TE", attempted("transformer_engine.common"))
    driver = []
    missing: dict[str, list[str]] = {}
    late: dict[str, list[str]] = {}
    for path in files:
        library = elf.read(path)
        try:
            # The core library must be global: the extension finds its symbols there.
            ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL | 2)  # 2: RTLD_NOW, all symbols at once
            failure = None
        except OSError as error:
            failure = str(error)
        record(path.name, {"needed": library.needed, "undefined": len(library.undefined)})
        if failure is None:
            # One that TE has opened with symbols bound when they are called is not bound again.
            symbols = missing_symbols(library)
            late[path.name] = [name for name in symbols if not _OF_THE_DRIVER.match(name)]
            continue
        if "libcuda.so" in failure or "libnvidia-ml.so" in failure:
            driver.append(failure)
            continue
        missing[path.name] = unresolved(library, failure)
    record("missing", missing)
    record("missing when called", {name: symbols for name, symbols in late.items() if symbols})
    assert not missing, abi_text(missing, torch.__version__)
    if driver:
        raise NeedsGpu(f"the driver's library is not on this machine: {driver[0]}")


def extension_files() -> list[Path]:
    """TE's core library, then its torch extension; those that are there."""
    found = []
    for root in map(Path, sys.path):
        for pattern in (
            "transformer_engine/libtransformer_engine*.so",
            "transformer_engine/wheel_lib/libtransformer_engine*.so",
            "transformer_engine_torch*.so",
            "transformer_engine/transformer_engine_torch*.so",
            "transformer_engine/wheel_lib/transformer_engine_torch*.so",
        ):
            found += sorted(root.glob(pattern)) if root.is_dir() else []
    return found if any("transformer_engine_torch" in path.name for path in found) else []


def unresolved(library: elf.Library, failure: str) -> list[str]:
    """The symbols of `library` that no loaded library has; else the linker's own words."""
    return missing_symbols(library) or [failure]


def missing_symbols(library: elf.Library) -> list[str]:
    """The symbols of `library` that no loaded library has."""
    handles = [ctypes.CDLL(None), *loaded_libraries()]
    names = [
        symbol for symbol in library.undefined if not any(has(handle, symbol) for handle in handles)
    ]
    return [elf.demangle(name) for name in names]


def loaded_libraries() -> list[ctypes.CDLL]:
    """A handle to each shared library that this process has mapped."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    paths = {line.split(maxsplit=5)[5] for line in maps if line.endswith(".so") or ".so." in line}
    handles = []
    for path in sorted(paths):
        try:
            handles.append(ctypes.CDLL(path, mode=4))  # 4: RTLD_NOLOAD, only if it is loaded
        except OSError:  # mapped as data, or gone from the disk: holds no symbols for anybody
            continue
    return handles


def has(handle: ctypes.CDLL, symbol: str) -> bool:
    try:
        handle[symbol]
    except AttributeError:
        return False
    return True


def abi_text(missing: dict[str, list[str]], torch_version: str) -> str:
    """One line: which file does not fit, whom it does not fit, for want of which symbols."""
    parts = []
    blamed = "the libraries that it was installed with"
    for name, symbols in missing.items():
        # Torch's own first: the others may only be missing because a library did not load.
        first = sorted(symbols, key=lambda symbol: not of_torch(symbol))
        if of_torch(first[0]):
            blamed = f"torch {torch_version}"
        more = f" and {len(first) - 3} more" if len(first) > 3 else ""
        parts.append(f"{name} misses {', '.join(first[:3])}{more}")
    return f"ABI mismatch with {blamed}: {'; '.join(parts)}"


def of_torch(symbol: str) -> bool:
    """Whether a demangled symbol is of one of torch's own namespaces."""
    return re.search(r"\b(at|c10|caffe2|torch)::", symbol) is not None


@pytest.mark.after("import-packages")
def check_import_modelopt_megatron_plugin(record: Record) -> None:
    plugin = "modelopt.torch.quantization.plugins.megatron"
    registry = quantised_modules()
    told = warnings_about("megatron")
    record("warnings", told)
    loaded(plugin, told)
    layers = importlib.import_module("megatron.core.tensor_parallel.layers")
    alive = {name: getattr(layers, name) in registry for name in PARALLEL}
    record("registered", alive)
    dead = sorted(name for name, there in alive.items() if not there)
    assert not dead, f"ModelOpt does not quantize Megatron's {', '.join(dead)}: {says(told)}"
    loaded("modelopt.torch.opt.plugins.mcore_dist_checkpointing", told)
    checkpointing = importlib.import_module("modelopt.torch.opt.plugins")
    functions = {name: hasattr(checkpointing, name) for name in SHARDED}
    record("sharded_state", functions)
    gone = sorted(name for name, there in functions.items() if not there)
    assert not gone, f"ModelOpt's checkpoint plugin lacks {', '.join(gone)}: {says(told)}"


PARALLEL = ("ColumnParallelLinear", "RowParallelLinear")
SHARDED = ("restore_sharded_modelopt_state", "save_sharded_modelopt_state")


@pytest.mark.after("import-packages")
def check_import_modelopt_te_plugin(record: Record) -> None:
    plugin = "modelopt.torch.quantization.plugins.transformer_engine"
    registry = quantised_modules()
    if importlib.util.find_spec(plugin) is None:
        raise Unsupported(f"this ModelOpt has no {plugin}")
    told = warnings_about("transformer_engine", "transformer engine")
    record("warnings", told)
    loaded(plugin, told)
    te = importlib.import_module("transformer_engine.pytorch")
    there = {f"te.{name}": holds(registry, te, name) for name in te_classes.LINEARS}
    wanted = {f"te.{name}" for name in {"Linear", *claimed_of_te(te)}}
    extensions = importlib.import_module("megatron.core.extensions.transformer_engine")
    for name in sorted(te_classes.claimed(te_classes.MEGATRON)):
        base = te_classes.base_of(getattr(extensions, name, object))
        if base is not None:  # Megatron's class is quantized by way of TE's
            there[name] = holds(registry, extensions, name)
            wanted.add(f"te.{base.__name__}")
    record("registered", there)
    dead = sorted(name for name in wanted if not there[name])
    assert not dead, f"ModelOpt does not quantize {', '.join(dead)}: {says(told)}"


def claimed_of_te(te: ModuleType) -> set[str]:
    """Those of TE's linears that the release registers, going by its source."""
    claimed = te_classes.claimed(te_classes.TE)
    return {name for name in te_classes.LINEARS if name in claimed and hasattr(te, name)}


def quantised_modules() -> Any:
    """ModelOpt's registry of module classes that it knows how to quantize."""
    return importlib.import_module("modelopt.torch.quantization.nn").QuantModuleRegistry


def holds(registry: Any, module: ModuleType, name: str) -> bool:
    """Whether ModelOpt quantizes the class `name` of `module`; false where there is no such."""
    return hasattr(module, name) and getattr(module, name) in registry


def warnings_about(*words: str) -> list[str]:
    """The texts that ModelOpt gave instead of an error when a plugin did not load."""
    return [
        warning["message"]
        for warning in preload.WARNINGS
        if "Failed to import" in warning["message"]
        and any(word in warning["message"].lower() for word in words)
    ]


def says(told: list[str]) -> str:
    return told[0] if told else "ModelOpt gave no warning"


def loaded(plugin: str, told: list[str]) -> None:
    """See that `plugin` was loaded with ModelOpt; if not, raise what kept it from loading.

    ModelOpt's own message is the truth: loading again, half of it is registered already and
    other things may fail.
    """
    if plugin in sys.modules:
        return
    try:
        importlib.import_module(plugin)
    except Exception as error:
        if not told or repr(error)[:200] in told[0]:
            raise
        raise AssertionError(f"{plugin} is not loaded: {says(told)}") from error
    raise AssertionError(f"{plugin} is not loaded with ModelOpt: {says(told)}")
