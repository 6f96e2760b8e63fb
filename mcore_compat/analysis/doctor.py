"""Diagnose an environment from its installed packages and the published results. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence

from packaging.requirements import Requirement

from mcore_compat.analysis import recommend, te_parts, untested_releases
from mcore_compat.analysis.around import code, libraries, metadata
from mcore_compat.analysis.around.reading import NOTHING_AROUND, Around
from mcore_compat.analysis.around.versions import meets
from mcore_compat.analysis.cell_record import CellRecord
from mcore_compat.analysis.grades import Graded, Grades
from mcore_compat.analysis.nearest_cell import nearest
from mcore_compat.analysis.package_origin import ANYWHERE, EXTENSION, TE, PackageOrigin
from mcore_compat.analysis.published import Compatibility
from mcore_compat.analysis.recommend import CORE
from mcore_compat.analysis.remarks import FAULT, KNOWN, NOTE, UNTESTED, Remark, fault
from mcore_compat.analysis.te_parts import CORES
from mcore_compat.core.cells import AXES, has_further, is_version, series_of
from mcore_compat.core.matrix import Matrix
from mcore_compat.core.outcomes import FAILS, HOLDS
from mcore_compat.core.profiles import Profile
from mcore_compat.core.source_digests import NO_DIGESTS, SourceDigests
from mcore_compat.environments import plain_import
from mcore_compat.environments.scan import Installed
from mcore_compat.results import verdict

MOST = 3


def diagnose(
    there: Installed,
    matrix: Matrix,
    known: Compatibility,
    environ: Mapping[str, str] | None = None,
    profile: Profile | None = None,
    origin: PackageOrigin = ANYWHERE,
    around: Around = NOTHING_AROUND,
    digests: SourceDigests = NO_DIGESTS,
    *,
    verbose: bool = False,
) -> tuple[Remark, ...]:
    """Return all remarks on an environment, faults first; empty if nothing is wrong.

    `environ`: the environment's variables, none by default. `profile`: report every failure of this
    profile, declared or not; without one, report undeclared failures, and failures to restore a
    checkpoint. `origin`: where its packages come from. `around`: facts read from files of other
    packages. `digests`: digests of source files, from which failures of untested combinations are
    inferred. `verbose`: also list imports without a feature's name.
    """
    pins = pins_of(there)
    others = [
        *metadata.remarks(there, matrix, around, pins, profile),
        *libraries.remarks(there, around, pins),
        *code.remarks(there, matrix, around, pins, profile, verbose=verbose),
    ]
    faults = [
        *_missing(there, known, profile),
        *_invalid(there),
        *te_parts.faults(there, origin),
        *(remark for remark in others if remark.kind == FAULT),
    ]
    unset = _unset(there, known, environ or {})
    return (
        *faults,
        *(remark for remark in others if remark.kind != FAULT),
        *_container(there, origin),
        *_unread(there),
        *unset,
        *(of_results(there, known, profile) or _untested(there, known, matrix, origin, digests)),
    )


def _container(there: Installed, origin: PackageOrigin) -> Iterator[Remark]:
    """Name the container that the environment is in."""
    if origin.container:
        short = origin.container.short
        ask = f"mcore-compat recommend --container {short} prints tested combinations for it"
        text = origin.container.text(there.versions.get("torch"))
        yield Remark(kind=NOTE, text=text, help=ask if short else "")


def _unset(there: Installed, known: Compatibility, environ: Mapping[str, str]) -> Iterator[Remark]:
    """Note unset variables that every tested cell with this TE, torch and CUDA needed to import TE.

    It is only a note: the loader may find a CUDA toolkit elsewhere, which needs no variable.
    """
    pins, axes = pins_of(there), (TE, "torch", "python")
    site = next((place for place in there.places if (place / "nvidia").is_dir()), None)
    cuda = (there.cuda or "").partition(".")[0]
    same = [
        c
        for c in known.cells
        if c.variables is not None
        and _alike(c.pins, pins, axes)
        and (there.unread or str(c.cuda) == cuda)
    ]
    cell = min(same, key=lambda c: len(c.variables or ()), default=None)
    if cell is None or not cell.variables or site is None:
        return
    missing = plain_import.lacking(cell.variables, environ, site)
    if missing:
        text = f"{TE} {pins[TE]} beside torch {pins['torch']} was imported only with "
        lines = plain_import.exports({name: cell.variables[name] for name in missing})
        yield Remark(
            kind=NOTE,
            text=f"{text}{' and '.join(missing)} set, as in {cell.name}",
            help="; ".join(lines),
            cell=cell,
        )


def _alike(pins: Mapping[str, str], other: Mapping[str, str], axes: Sequence[str]) -> bool:
    return all(pins[axis] == other.get(axis) for axis in axes)


def pins_of(there: Installed) -> dict[str, str]:
    """Return version by axis, without the local part (after `+`), for the installed axes. If only
    TE's core library is installed, its version counts as TE's."""
    pins = {axis: there.versions[axis].partition("+")[0] for axis in AXES if axis in there.versions}
    cores = [there.versions[name] for name in CORES if name in there.versions]
    if cores:
        pins.setdefault(TE, cores[0].partition("+")[0])
    return {**pins, "python": series_of(there.python)}


def _missing(there: Installed, known: Compatibility, profile: Profile | None) -> Iterator[Remark]:
    """Name each axis that is not installed, and the release of it that fits the installed ones."""
    pins = pins_of(there)
    missing = [axis for axis in AXES if axis not in pins]
    if not missing:
        return
    have = [axis for axis in AXES if axis in pins and is_version(pins[axis])]
    texts = [f"{axis} {pins[axis]}" for axis in have]
    near = recommend.closest_to({axis: pins[axis] for axis in have}, known.cells, profile)
    whole = f"mcore-compat recommend {shlex.quote(', '.join(texts))} prints tested combinations"
    for axis in missing:
        if near is None:
            yield fault(f"{axis} is not installed", whole)
            continue
        version = near.cell.pins[axis]
        name, options = axis, ""
        if axis == TE:
            name, options = f"{TE}[pytorch]", "--no-build-isolation "
        command = f"pip install {options}'{name}=={version}', as in {near.cell.name}"
        more = f"; {whole}" if axis == missing[0] else ""
        yield fault(f"{axis} is not installed", f"{command}{more}")


def _invalid(there: Installed) -> Iterator[Remark]:
    """Report versions that cannot be parsed; the other remarks leave these packages out."""
    for name in (*AXES[:-1], EXTENSION, *CORES):
        version = there.versions.get(name)
        if version is not None and not is_version(version):
            text = f'{name} has no valid version: "{version}"'
            yield fault(text, f"install {name} again")


def _unread(there: Installed) -> Iterator[Remark]:
    """Note a torch whose CUDA is unknown, because its files are elsewhere (an editable install)."""
    if there.unread and "torch" in there.versions:
        text = f"the CUDA of torch {there.versions['torch']} is not known: {there.unread}"
        ask = "python -c 'import torch; print(torch.version.cuda)' prints it"
        yield Remark(kind=NOTE, text=text, help=ask)


def of_results(
    there: Installed, known: Compatibility, profile: Profile | None = None
) -> list[Remark]:
    """Return remarks from published results of exactly this combination; empty without a result."""
    pins = pins_of(there)
    if _whole(pins) and (same := _run(pins, known)):
        best = min(
            same, key=lambda c: (bool(c.unsure), has_further(c.name), c.device_class != "gpu")
        )
        unsure = [remark for cell in same for remark in _of_unsure(cell)]
        return [*unsure, *_repair(best, there, KNOWN), *_of_cell(best, known, profile)]
    return []


def _of_unsure(cell: CellRecord) -> Iterator[Remark]:
    """Name the failures because of which a cell has no verdict, although it ran."""
    for failure in cell.unsure:
        text = f"{cell.name} has no verdict: it ended in {verdict.unsure_text(failure)}"
        how = f"mcore-compat explain {cell.name}"
        yield Remark(kind=NOTE, text=text, help=how, cell=cell)


def _untested(
    there: Installed,
    known: Compatibility,
    matrix: Matrix,
    origin: PackageOrigin,
    digests: SourceDigests,
) -> list[Remark]:
    """Return remarks on a combination without a result: the nearest tested one, and failures that
    are inferred or likely."""
    pins = pins_of(there)
    if not _whole(pins) or _run(pins, known):
        return []
    ask = untested_releases.command(pins, matrix, origin.releases) if origin.releases else ""
    remarks = [_not_tested(pins, known, ask)]
    pair = AXES[:2]
    beside = [c for c in known.cells if c.repair and _series(c.pins, pair) == _series(pins, pair)]
    if near := nearest(pins, beside):
        remarks += _repair(near, there, NOTE)
    builds = [name for name, version in there.versions.items() if "+" in version]
    others = {name: version for name, version in there.versions.items() if is_version(version)}
    for graded in Grades(known, digests, builds).of({**others, **pins}):
        remarks += _of_graded(graded, pins, known)
    return remarks


def _series(pins: Mapping[str, str], axes: Sequence[str]) -> list[str]:
    return [series_of(pins[axis]) for axis in axes]


def _repair(cell: CellRecord, there: Installed, kind: str) -> Iterator[Remark]:
    """Name the pin that repairs a cell, if the installed version is outside of it."""
    have = there.versions.get(cell.repair.package) if cell.repair else None
    if cell.repair is None or have is None:
        return
    need = Requirement(cell.repair.requirement)
    if not meets(need.specifier, have):
        text = f"{_listed(cell.repair.checks)} fail in {cell.name} with {cell.repair.package} "
        text += f"{cell.repair.locked}; {have} is installed, and they work with {need}"
        yield Remark(kind=kind, text=text, help=f"install '{need}'", cell=cell)


def _whole(pins: Mapping[str, str]) -> bool:
    """Whether every axis is installed, with a valid version."""
    return set(pins) == set(AXES) and all(map(is_version, pins.values()))


def _run(pins: Mapping[str, str], known: Compatibility) -> list[CellRecord]:
    """Return the cells of exactly these releases."""
    return [c for c in known.cells if _alike(c.pins, pins, AXES)]


def _of_graded(graded: Graded, pins: Mapping[str, str], known: Compatibility) -> Iterator[Remark]:
    """Report a cause for a combination without a result: each check as in the nearest cell in which
    it fails from this cause, labelled with the grade."""
    cause = graded.cause
    fails = graded.checks
    wrong = sorted(c for c in fails if c.startswith(CORE) or c in fails[c].unexpected)
    seen = f"{cause.type} in {cause.frame}; {graded.why}"
    how = f"see cause {cause.fingerprint}"
    if wrong:
        near = fails[wrong[0]]
        text = f"{_listed(wrong)}: {seen}"
        kind = UNTESTED[graded.grade]
        yield Remark(kind=kind, text=text, help=f"as in {near.name}; {how}", cell=near)
    others = [check for check in fails if check not in wrong]
    for checks, where, help_ in _elsewhere(pins, cause.device_class, others, known):
        text = f"{UNTESTED[graded.grade]}: {checks}: {seen}; {where}"
        yield Remark(kind=NOTE, text=text, help=f"{help_}; {how}")


def _of_cell(
    cell: CellRecord, known: Compatibility, profile: Profile | None = None
) -> Iterator[Remark]:
    """Report a cell's failures, declared or not.

    A check that works in no other cell of this megatron-core is left out, because no other version
    would change it; a check of the profile is always reported.
    """
    if cell.reason:
        text = f"{cell.name} is {cell.outcome}: {cell.reason}"
        yield Remark(kind=KNOWN, text=text, cell=cell)
    fails = [check for check, o in cell.checks.items() if o in FAILS]
    core = [check for check in fails if check.startswith(CORE)]
    wrong = sorted({*core, *cell.unexpected})
    verdict = cell.outcome
    if profile is not None:
        mine = {check.check for check in cell.asked if profile.takes(check)}
        fails = [check for check in fails if check in mine]
        wrong, verdict = fails, f"{cell.outcome_for(profile)} for {profile.text()}"
    how = f"mcore-compat explain {cell.name}"
    spelt = f"{cell.name} is {verdict} ({cell.device_class}, {cell.taken[:10]})"
    if wrong:
        text = f"{spelt}: {_listed(wrong)} fail"
        yield Remark(kind=KNOWN, text=text, help=how, cell=cell)
    # A condition is not a fault of the environment: reported only for a profile that relies on it.
    asked = {c.check for c in cell.asked if profile.takes(c)} if profile is not None else set()
    conditions: dict[str, list[str]] = {}
    repaired = cell.repair.checks if cell.repair else ()  # `_repair` reports these
    for check, condition in cell.conditions.items():
        if check not in repaired and check in asked:
            conditions.setdefault(condition, []).append(check)
    for condition, held in conditions.items():
        text = f"{spelt}: {_listed(held)} work only with {condition}"
        yield Remark(kind=NOTE, text=text, help=how, cell=cell)
    others = [check for check in fails if check not in wrong]
    suite = cell.digests.get("suite")
    for checks, where, help_ in _elsewhere(cell.pins, cell.device_class, others, known, suite):
        text = f"{spelt}: {checks} fail, and {where}"
        yield Remark(kind=NOTE, text=text, help=f"{help_}; {how}", cell=cell)


def _listed(checks: Sequence[str]) -> str:
    more = f" and {len(checks) - MOST} more" if len(checks) > MOST else ""
    return f"{', '.join(checks[:MOST])}{more}"


def _elsewhere(
    pins: Mapping[str, str],
    device_class: str,
    fails: Sequence[str],
    known: Compatibility,
    suite: str | None = None,
) -> Iterator[tuple[str, str, str]]:
    """Yield which of the failing checks work in other cells of this megatron-core, as texts: the
    checks, where they work, and the nearest such cell of the first; nothing if none works.

    `suite`: use only results of this suite's digest, because a check may differ between suites.
    """
    version = pins["megatron-core"]
    same = [c for c in known.cells if c.pins["megatron-core"] == version]
    same = [c for c in same if c.device_class == device_class]
    same = [c for c in same if suite in (None, c.digests.get("suite"))]
    cells = {f: nearest(pins, [c for c in same if c.checks.get(f) in HOLDS]) for f in fails}
    better = sorted((check, cell.name) for check, cell in cells.items() if cell is not None)
    if better:
        check, cell_name = better[0]
        where = f"work in other cells of megatron-core {version}"
        yield _listed([c for c, _ in better]), where, f"{check} works in {cell_name}"


def _not_tested(pins: Mapping[str, str], known: Compatibility, ask: str) -> Remark:
    versions = ", ".join(f"{axis} {pins[axis]}" for axis in AXES)
    near = nearest(pins, known.cells)
    text = f"nearest tested: {near.name} ({near.outcome})" if near else "no tested combination"
    said = f"this combination was not tested: {versions}"
    more = f"; test it in a minute or two: {ask}" if ask else ""
    return Remark(kind=NOTE, text=said, help=f"{text}{more}", cell=near)
