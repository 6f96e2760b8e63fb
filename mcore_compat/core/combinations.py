"""Stage matrix → cells: which combinations exist, what each pins, and what forbids it.

Pure: data in, data out.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from mcore_compat.base.errors import MatrixError, UsageError, nearest
from mcore_compat.core.cells import AXES, Cell, Request, Stack, format_name, parse_name, series_of
from mcore_compat.core.matrix import Matrix, Undeclared
from mcore_compat.core.releases import REMAKE, Release, Releases

NAME_FORM = (
    "compat-<mcore>-modelopt<modelopt>[-te<te>][-torch<torch>][-py<python>]"
    "[-with-<package>@<version>]"
)


def cells(matrix: Matrix, releases: Releases) -> tuple[Cell, ...]:
    """Every default pair that is not excluded, then the extra cells that the matrix lists.

    Raises:
        MatrixError: a rule matches no cell, or an extra cell is invalid.
    """
    pairs = [
        cell(Request(mcore=mcore, modelopt=modelopt), matrix, releases)
        for mcore in matrix.mcore_series
        for modelopt in matrix.modelopt_series
    ]
    _check_rules(matrix, pairs, releases)
    kept = [
        c for c in pairs if not any(rule.covers(c.mcore, c.modelopt) for rule in matrix.exclusions)
    ]
    newest = kept[-1].name if kept else ""
    declared = [replace(c, tags=(*c.tags, "newest")) if c.name == newest else c for c in kept]
    names = {c.name for c in declared}
    for name in matrix.extra:
        try:
            extra = named(name, matrix, releases)
        except UsageError as error:
            raise MatrixError(f"matrix.toml: cells.extra: {error}") from None
        if extra.name in names:
            raise MatrixError(f'matrix.toml: cells.extra: "{name}" is a cell already')
        declared.append(extra)
    return tuple(declared)


def _check_rules(matrix: Matrix, pairs: Sequence[Cell], releases: Releases) -> None:
    """Raise MatrixError for a rule that matches no cell: it is a mistake."""
    for kind, rules in (("exclude", matrix.exclusions), ("expect", matrix.expected)):
        for rule in rules:
            if not any(rule.covers(c.mcore, c.modelopt) for c in pairs):
                raise MatrixError(f'matrix.toml: {kind}: "{rule.reason}" matches no cell')
            for axis, spec in (("transformer-engine", rule.te), ("torch", rule.torch)):
                if not any(spec.contains(r.version) for r in releases.of(axis)):
                    raise MatrixError(
                        f'matrix.toml: {kind}: "{rule.reason}" matches no release of {axis}'
                    )
    for need in matrix.undeclared:
        if not any(need.when.contains(c.pins[need.of]) for c in pairs):
            raise MatrixError(f'matrix.toml: undeclared: "{need.of} {need.when}" matches no cell')


def named(name: str, matrix: Matrix, releases: Releases) -> Cell:
    """The cell of a name, which may be any combination.

    Raises:
        UsageError: not the name of a cell, or no such series or release; names the nearest.
    """
    request = parse_name(name)
    if request is None:
        known = [
            format_name(Request(mcore=a, modelopt=b))
            for a in matrix.mcore_series
            for b in matrix.modelopt_series
        ]
        hint = nearest(name, known)
        raise UsageError(f'"{name}" is not the name of a cell ({NAME_FORM}){hint}')
    _refuse_unknown(request, releases)
    return cell(request, matrix, releases)


def _refuse_unknown(request: Request, releases: Releases) -> None:
    """Raise UsageError for a version that does not exist, with the most likely name."""
    words = {f: getattr(request, f) for f in ("mcore", "modelopt", "te", "torch")}
    said = ""
    for (field, word), package in zip(words.items(), AXES, strict=False):
        if word is None or releases.meant(package, word):
            continue
        near = releases.nearest(package, word)
        if near is None:
            return  # `cell` refuses what is not a version
        words[field] = near
        said = said or f"{package} has no release {word}"
    if said:
        meant = format_name(Request(python=request.python, further=request.further, **words))
        raise UsageError(f'{said}; did you mean "{meant}"?')


def stack_for(mcore: str, modelopt: str, matrix: Matrix, releases: Releases) -> Stack:
    """The stack of a pair: that of its megatron-core series, with the first torch that the ModelOpt
    release allows; if it allows none, with the series' torch."""
    stack = matrix.stacks[series_of(mcore)]
    release = releases.get("nvidia-modelopt", modelopt)
    admitted = (v for v in (stack.torch, *stack.newer_torch) if requires(release, "torch", v))
    return replace(stack, torch=next(admitted, stack.torch))


def requires(release: Release, package: str, version: str) -> bool:
    """Whether a version satisfies the requirements of a release on a package, without extras."""
    return all(
        need.specifier.contains(version)
        for need in requirements(release.requires, package)
        if not (need.marker is not None and "extra" in str(need.marker))
    )


@functools.cache
def requirements(requires: tuple[str, ...], package: str) -> tuple[Requirement, ...]:
    """Those requirements that are on one package."""
    every = map(requirement, requires)
    return tuple(need for need in every if canonicalize_name(need.name) == package)


def cell(request: Request, matrix: Matrix, releases: Releases) -> Cell:
    """The cell for a request: series become releases, the rest comes from the stack.

    Its name depends on nothing else, in particular not on the machine.

    Raises:
        UsageError: a series or release that does not exist; names the nearest.
    """
    mcore = releases.newest("megatron-core", request.mcore).version
    modelopt = releases.newest("nvidia-modelopt", request.modelopt).version
    series = series_of(mcore)
    if series not in matrix.stacks:
        raise UsageError(
            f"megatron-core {request.mcore} has no stack{nearest(series, matrix.mcore_series)}"
        )
    stack = stack_for(mcore, modelopt, matrix, releases)
    te = releases.newest("transformer-engine", request.te).version if request.te else stack.te
    torch = releases.newest("torch", request.torch).version if request.torch else stack.torch
    python = request.python or stack.python
    if not re.fullmatch(r"\d+\.\d+", python):
        series = ".".join(f"{part}" for part in Version(python).release[:2])
        meant = series if "." in series else f"3.{series}"
        raise UsageError(f'python "{python}" is not a series; did you mean "{meant}"?')
    # One combination, one name: leave out what equals the stack.
    spelt = replace(
        request,
        te=None if te == stack.te else request.te,
        torch=None if torch == stack.torch else request.torch,
        python=None if python == stack.python else request.python,
    )
    on_default = (te, torch, python) == (stack.te, stack.torch, stack.python)
    default = on_default and not request.further
    return Cell(
        name=format_name(spelt),
        mcore=mcore,
        modelopt=modelopt,
        te=te,
        torch=torch,
        python=python,
        cuda=int(cuda_of(torch, matrix, releases).split(".")[0]),
        default=default,
        tags=(
            f"mcore-{series}",
            f"modelopt-{series_of(modelopt)}",
            "stack-default" if default else "stack-other",
        ),
        further=request.further,
    )


def product(matrix: Matrix, releases: Releases) -> Iterator[Cell]:
    """Every combination of the declared axes except excluded pairs, with the newest release of each
    series and the python of the pair's stack."""
    tes = [releases.newest("transformer-engine", s).version for s in matrix.te_series]
    torches = [releases.newest("torch", s).version for s in matrix.torch_series]
    cuda = {t: int(cuda_of(t, matrix, releases).split(".")[0]) for t in torches}
    for mcore, modelopt in itertools.product(matrix.mcore_series, matrix.modelopt_series):
        pair = cell(Request(mcore=mcore, modelopt=modelopt), matrix, releases)
        if any(rule.covers(pair.mcore, pair.modelopt) for rule in matrix.exclusions):
            continue
        for te, torch in itertools.product(tes, torches):
            yield _off_stack(pair, te, torch, cuda[torch])


def _off_stack(pair: Cell, te: str, torch: str, cuda: int) -> Cell:
    """A pair with another TE and torch, under the name that `cell` would give it."""
    default = (te, torch) == (pair.te, pair.torch)
    request = Request(
        mcore=series_of(pair.mcore),
        modelopt=series_of(pair.modelopt),
        te=None if te == pair.te else series_of(te),
        torch=None if torch == pair.torch else series_of(torch),
    )
    tags = (*pair.tags[:2], "stack-default" if default else "stack-other")
    return replace(
        pair,
        name=format_name(request),
        te=te,
        torch=torch,
        cuda=cuda,
        default=default,
        tags=tags,
    )


def cuda_of(torch: str, matrix: Matrix, releases: Releases) -> str:
    """`12.8`: the CUDA that the index's torch was built with, from torch's metadata or the matrix.

    Raises:
        MatrixError: neither has it.
    """
    known = releases.cuda_of_torch(torch)
    if known:
        return known
    for specifier, version in matrix.cuda:
        if specifier.contains(torch):
            return version
    raise MatrixError(f"matrix.toml: cuda: no entry says which CUDA torch {torch} was built with")


def undeclared_for(of: Cell, matrix: Matrix) -> tuple[Undeclared, ...]:
    """The undeclared requirements of the releases that a cell pins."""
    return tuple(rule for rule in matrix.undeclared if rule.when.contains(of.pins[rule.of]))


def machine(python: str) -> dict[str, str]:
    """The values for evaluating markers: a python series on x86-64 Linux."""
    return {
        "implementation_name": "cpython",
        "os_name": "posix",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": "linux",
    }


def select(
    known: Sequence[Cell],
    *,
    mcore: str | None = None,
    modelopt: str | None = None,
    tags: Iterable[str] = (),
) -> tuple[Cell, ...]:
    """The cells within version specifiers and with every tag.

    Raises:
        UsageError: no cell matches; for an unknown tag it names the nearest.
    """
    wanted = tuple(tags)
    every = {tag for c in known for tag in c.tags}
    for tag in wanted:
        if tag not in every:
            raise UsageError(f'no cell has the tag "{tag}"{nearest(tag, every)}')
    chosen = tuple(
        c
        for c in known
        if (mcore is None or SpecifierSet(mcore).contains(c.mcore))
        and (modelopt is None or SpecifierSet(modelopt).contains(c.modelopt))
        and all(tag in c.tags for tag in wanted)
    )
    if not chosen:
        raise UsageError(
            f"no cell matches mcore {mcore or 'any'}, modelopt {modelopt or 'any'}, "
            f"tags {', '.join(wanted) or 'any'}"
        )
    return chosen


def te_core(of: Cell) -> str:
    """The package of Transformer Engine's core library for the CUDA of the cell's torch."""
    return f"transformer-engine-cu{of.cuda}"


def violations(of: Cell, releases: Releases) -> tuple[str, ...]:
    """Why a cell cannot be installed, for reasons that the resolver does not see or report.

    - the upper bound of Requires-Python (resolvers may ignore it)
    - the CUDA of torch against TE's core library
    - no wheel for the cell's python
    - requirements of megatron-core and modelopt on the other pins, from `releases.json`
    """
    reasons: list[str] = []
    pinned = [
        releases.get("megatron-core", of.mcore),
        releases.get("nvidia-modelopt", of.modelopt),
        releases.get("torch", of.torch),
    ]
    for release in pinned:
        admitted = release.requires_python
        if not _admits(admitted, of.python):
            reasons.append(
                f"{release.package} {release.version} requires python {admitted}, "
                f"the cell has {of.python}"
            )
        elif not _runs(release.wheels, of.python):
            reasons.append(
                f"{release.package} {release.version} has no wheel for python {of.python} on "
                "x86-64 Linux"
            )
    reasons += [line for release in pinned[:2] for line in _contradicted(release, of)]
    cores = releases.of(te_core(of))
    if of.te not in {r.version for r in cores}:
        since = f"; its first is {cores[0].version}" if cores else ""
        reasons.append(
            f"torch {of.torch} is built for CUDA {of.cuda}, and transformer-engine {of.te} has no "
            f"core library for it ({te_core(of)} {of.te}{since})"
        )
    return tuple(reasons)


@functools.cache
def requirement(text: str) -> Requirement:
    """A parsed requirement, cached: thousands of cells are compared with the same few hundred.

    Raises:
        MatrixError: it is invalid.
    """
    try:
        return Requirement(text)
    except (ValueError, RecursionError) as error:
        why = str(error).partition("\n")[0]
        raise MatrixError(
            f'releases.json: "{text[:80]}" is not a valid requirement ({why}); {REMAKE}'
        ) from None


def _contradicted(release: Release, of: Cell) -> Iterator[str]:
    """The requirements of a release, without extras, that the cell's other pins do not satisfy."""
    for name, version in of.pins.items():
        for specifier in _unsatisfied(release.requires, name, version, of.python):
            yield (
                f"{release.package} {release.version} requires {name}{specifier}, "
                f"the cell has {version}"
            )


@functools.cache
def _unsatisfied(
    requires: tuple[str, ...], name: str, version: str, python: str
) -> tuple[str, ...]:
    """The ranges of requirements on a package that exclude a version."""
    where = {**machine(python), "extra": ""}
    return tuple(
        str(need.specifier)
        for need in requirements(requires, name)
        if not need.specifier.contains(version, prereleases=True)
        if need.marker is None or need.marker.evaluate(where)
    )


@functools.cache
def _admits(requires_python: str, python: str) -> bool:
    """Whether a release's Python range contains a version; an invalid range contains all, as for
    pip."""
    try:
        return SpecifierSet(requires_python).contains(f"{python}.0")
    except ValueError:
        return True


@functools.cache
def _runs(wheels: tuple[str, ...], python: str) -> bool:
    """Whether one of the wheels with these tags runs with a python."""
    exact = "cp" + python.replace(".", "")
    for tag in wheels:
        interpreters, abis, *_ = (*tag.split("-", 2), "", "")
        if exact in interpreters.split(".") or "py3" in interpreters.split("."):
            return True
        # A stable-ABI wheel of an older python serves newer ones.
        oldest = re.match(r"cp3([0-9]+)", interpreters)
        if "abi3" in abis and oldest and int(oldest[1]) <= int(exact[3:]):
            return True
    return False
