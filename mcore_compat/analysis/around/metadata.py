"""Requirements that an environment does not meet: declared in metadata, undeclared, and of extras.
Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mcore_compat.analysis.around.reading import Around
from mcore_compat.analysis.around.versions import meets, needs, requirement
from mcore_compat.analysis.package_origin import EXTENSION
from mcore_compat.analysis.remarks import NOTE, Remark, fault
from mcore_compat.analysis.te_parts import CORES
from mcore_compat.core import extras
from mcore_compat.core.cells import AXES, is_version, series_of
from mcore_compat.core.combinations import machine
from mcore_compat.core.matrix import Matrix
from mcore_compat.core.profiles import Profile
from mcore_compat.environments.scan import Installed

TESTED = (*AXES[:-1], EXTENSION)
"""The distributions under test."""

AROUND = (
    "accelerate",
    "causal-conv1d",
    "diffusers",
    "flash-attn",
    "huggingface-hub",
    "mamba-ssm",
    "nvidia-resiliency-ext",
    "peft",
    "tokenizers",
    "torchaudio",
    "torchvision",
    "transformers",
)
"""Other packages whose requirements are checked: if such a package is broken, a guarded import of
it fails, and a plugin is off."""

_PARTS = frozenset({*CORES, EXTENSION, *AXES})
"""`doctor` and `te_parts` report these if they are missing."""


def remarks(
    there: Installed,
    matrix: Matrix,
    around: Around,
    pins: Mapping[str, str],
    profile: Profile | None,
) -> Iterator[Remark]:
    """Yield all remarks on requirements."""
    yield from _undeclared(there, matrix, profile)
    yield from _declared(there)
    yield from _of_extras(there, matrix, around, pins)


def _undeclared(there: Installed, matrix: Matrix, profile: Profile | None) -> Iterator[Remark]:
    """Report packages that are imported without being required, if they are missing or too old."""
    declared = {of: {need.name for need in _needs(there, of)} for of in TESTED}
    for rule in matrix.undeclared:
        version = there.versions.get(rule.of)
        if version is None or not is_version(version):
            continue
        if not rule.when.contains(version.partition("+")[0]):
            continue
        if not rule.concerns(profile.families if profile else ()):
            continue
        for text in rule.requires:
            need = Requirement(text)
            name = canonicalize_name(need.name)
            have = there.versions.get(name)
            if (have is not None and meets(need.specifier, have)) or name in declared[rule.of]:
                continue  # `_declared` reports it
            state = f"{name} {have} is installed" if have else f"{name} is not installed"
            said = f"{rule.of} {version} imports {need.name} (in {rule.imported_by}) and "
            said += f"does not require it; {state}"
            if rule.families and profile is None:
                only = f"only {', '.join(rule.families)} models need it"
                yield Remark(kind=NOTE, text=f"{said}; {only}", help=f"pip install '{text}'")
            else:
                yield fault(said, f"pip install '{text}'")


def _needs(there: Installed, package: str) -> Iterator[Requirement]:
    """Yield the requirements of an installed package that apply on this Python and machine."""
    return needs(there.requires.get(package, ()), machine(series_of(there.python)))


def _declared(there: Installed) -> Iterator[Remark]:
    """Report requirements that an installed version does not meet; for the packages under test also
    requirements that are not installed."""
    for package in (*TESTED, *AROUND):
        for need in _needs(there, package):
            have = there.versions.get(need.name)
            said = f"{package} {there.versions[package]} requires {need.name}{need.specifier}"
            if have is None and package in TESTED and need.name not in _PARTS and not need.url:
                text = f"{need.name}{need.specifier}"
                yield fault(f"{said}, which is not installed", f"pip install '{text}'")
            elif have is not None and not meets(need.specifier, have):
                yield fault(f"{said}; {need.name} {have} is installed", _command(need, there))


def _command(need: Requirement, there: Installed) -> str:
    """Return the command that installs a version within all ranges that packages require."""
    every = need.specifier
    for package in there.requires:
        for other in _needs(there, package):
            if other.name == need.name and package in (*TESTED, *AROUND):
                every &= other.specifier
    return f"pip install '{need.name}{every}'"


def _of_extras(
    there: Installed, matrix: Matrix, around: Around, pins: Mapping[str, str]
) -> Iterator[Remark]:
    """Report installed packages outside of a range that an extra declares, even if the extra was
    not installed. Left out if the code has a range, too, which is reported instead, or if a cell of
    the same releases was tested with that version."""
    told = {(r.guard.of, canonicalize_name(r.guard.subject)) for r in around.ranges}
    for package in TESTED:
        version = there.versions.get(package)
        if version is None:
            continue
        readable = tuple(filter(requirement, there.requires.get(package, ())))
        for name, text, of in extras.ranges_of_extras(readable, series_of(there.python)):
            have = there.versions.get(name)
            if have is None or (package, name) in told:
                continue
            if all(extras.DEVELOPING.fullmatch(extra) for extra in of):
                continue
            tested = around.locked.of(name, pins) if set(pins) == set(AXES) else None
            if tested and tested.version == have:
                continue
            if not meets(Requirement(text).specifier, have):
                words = f"{package} {version} declares {text} in its extra {', '.join(of)}"
                yield of_range(
                    f"{words}; {name} {have} is installed",
                    f"pip install '{text}'",
                    is_needed=needs_undeclared(there.versions, package, name, matrix),
                )


def of_range(text: str, remedy: str, *, is_needed: bool) -> Remark:
    """Return a remark on a package out of a range: a fault if it is always needed, else a note."""
    return fault(text, remedy) if is_needed else Remark(kind=NOTE, text=text, help=remedy)


def needs_undeclared(versions: Mapping[str, str], package: str, name: str, matrix: Matrix) -> bool:
    """Whether an installed package imports another one without a guard."""
    version = versions[package].partition("+")[0]
    return is_version(version) and any(
        rule.of == package
        and rule.when.contains(version)
        and not rule.families
        and name in {canonicalize_name(Requirement(text).name) for text in rule.requires}
        for rule in matrix.undeclared
    )
