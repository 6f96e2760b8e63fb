"""Compares code with releases of the packages: what does not fit, since when, and what replaces it.
Pure, over a Codebase."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mcore_compat.api import calls, guards, judgement, lives, packages, uses
from mcore_compat.api.codebase import Codebase, UnreadableFile
from mcore_compat.api.definitions import FunctionParameter
from mcore_compat.api.interface_index import InterfaceIndex
from mcore_compat.api.judgement import Problem
from mcore_compat.api.resolution import Found, InterfaceView, Missing
from mcore_compat.api.uses import Use

FAILURE, GUARDED, NOTE = "failure", "guarded", "note"

DEFAULT_CHANGED, ORDER_CHANGED, NOT_THERE_TO_SET = "default changed", "order changed", "set only"

_LABELS = {
    uses.IMPORT: guards.TRY_IMPORT,
    uses.ATTRIBUTE: guards.TRY_ATTRIBUTE,
    uses.PATCH: guards.TRY_ATTRIBUTE,
    uses.CALL: guards.TRY_CALL,
}
INSTEAD = "after another import failed"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A place in code that does not fit a release, or a note on one that does.

    `path`: the missing or called name; `name`: the parameter. `last` and `changed`: the newest
    older release that it fits, and the one after; `first`: the first later release that it fits, if
    no older one does. `moved`: the new place of the name.
    """

    file: str
    line: int
    column: int
    level: str
    package: str
    release: str
    kind: str
    path: str
    name: str = ""
    last: str = ""
    changed: str = ""
    first: str = ""
    moved: str = ""
    guard: str = ""


@dataclass(frozen=True, kw_only=True)
class PackageFit:
    """How code fits a package: `failures` of its `uses` do not fit the `release`; `newest` is the
    newest release that all fit, empty if there is none."""

    package: str
    release: str
    uses: int
    failures: int
    newest: str


@dataclass(frozen=True, kw_only=True)
class ScanReport:
    """The result of a scan."""

    findings: tuple[Finding, ...]
    fits: tuple[PackageFit, ...]
    unreadable: tuple[UnreadableFile, ...]
    files: int
    lines: int
    own: Mapping[str, int]

    @property
    def failures(self) -> tuple[Finding, ...]:
        """The failures, without guarded uses and notes."""
        return tuple(f for f in self.findings if f.level == FAILURE)


@dataclass
class _Judge:
    """Judges each distinct use once for each release."""

    index: InterfaceIndex
    known: dict[tuple[int, int], tuple[Problem, ...]] = field(default_factory=dict)
    kinds: dict[Use, int] = field(default_factory=dict)
    views: dict[int, InterfaceView] = field(default_factory=dict)

    def view(self, place: int) -> InterfaceView:
        return self.views.setdefault(place, InterfaceView(self.index, place))

    def placed(self, file: str, use: Use) -> _Placed:
        """A use in its file, with a number shared by all equivalent uses."""
        alike = replace(use, line=0, column=0, guard=guards.NONE, attempt=0, instead_of=0)
        return _Placed(file=file, use=use, kind=self.kinds.setdefault(alike, len(self.kinds)))

    def problems(self, p: _Placed, place: int) -> tuple[Problem, ...]:
        key = place, p.kind
        if key not in self.known:
            self.known[key] = judgement.problems(p.use, self.view(place))
        return self.known[key]

    def fits(self, p: _Placed, problem: Problem, place: int) -> bool:
        """Whether a release certainly does not have the problem."""
        view = self.view(place)
        if not any(_is_certain(view.resolve(target)) for target in p.use.targets):
            return False
        return all(_cause(other) != _cause(problem) for other in self.problems(p, place))


def _is_certain(resolved: tuple[Found, ...] | Missing) -> bool:
    return not isinstance(resolved, Missing) and all(not found.open for found in resolved)


def _cause(problem: Problem) -> tuple[str, str]:
    """The identity of a problem in different releases."""
    if problem.kind in (calls.TOO_MANY, calls.KEYWORD_ONLY):
        return calls.TOO_MANY, ""
    return problem.kind, problem.name


@dataclass(frozen=True, kw_only=True)
class _Placed:
    """A use in its file."""

    file: str
    use: Use
    kind: int


def scan(
    code: Codebase,
    against: Mapping[str, str],
    indexes: Mapping[str, InterfaceIndex],
    withdrawn: Mapping[str, frozenset[str]],
    written_for: Mapping[str, str] | None = None,
) -> ScanReport:
    """Compare code with releases, by package; with `written_for`, also note silent changes since
    those. `withdrawn`: yanked releases, which are never recommended.

    Raises:
        UsageError: the interface of a release is unknown.
    """
    findings: list[Finding] = []
    fits = []
    for package, version in against.items():
        judge = _Judge(indexes[package])
        placed = [
            judge.placed(file, use)
            for file, every in code.uses.items()
            for use in every
            if _is_of(use, package)
        ]
        place = judge.index.place(version)
        mine = list(_findings(placed, judge, place))
        before = (written_for or {}).get(package)
        if before is not None:
            mine += _notes(placed, judge, judge.index.place(before), place)
        failing = sum(f.level == FAILURE for f in mine)
        newest = _newest(placed, judge, withdrawn.get(package, frozenset()))
        fits.append(
            PackageFit(
                package=package, release=version, uses=len(placed), failures=failing, newest=newest
            )
        )
        findings += mine
    order = sorted(set(findings), key=lambda f: (f.file, f.line, f.column, f.kind, f.path, f.name))
    return ScanReport(
        findings=tuple(order),
        fits=tuple(fits),
        unreadable=tuple(code.unreadable),
        files=code.looked_at,
        lines=code.lines,
        own=dict(code.own),
    )


def _is_of(use: Use, package: str) -> bool:
    owner = packages.owner(use.targets[0].module)
    return owner is not None and owner.name == package


def _failing(
    placed: Sequence[_Placed], judge: _Judge, place: int
) -> Iterator[tuple[_Placed, Problem, str]]:
    """The uses that do not fit a release, with their guard; empty without one."""
    attempts: dict[tuple[str, int], bool] = {}
    for p in placed:
        if p.use.attempt:
            key = p.file, p.use.attempt
            attempts[key] = attempts.get(key, False) or bool(judge.problems(p, place))
    at_import = set()
    late = []
    for p in placed:
        failed = attempts.get((p.file, p.use.instead_of)) if p.use.instead_of else None
        if failed is False:
            continue  # never run: the import that it replaces works
        for problem in judge.problems(p, place):
            guard = _guard(p.use, problem, judge.view(place))
            if p.use.instead_of and failed is None:
                guard = guard or INSTEAD
            if p.use.kind == uses.IMPORT:
                at_import.add(problem.path)
                yield p, problem, guard
            else:
                late.append((p, problem, guard))
    for p, problem, guard in late:
        if problem.path not in at_import:
            yield p, problem, guard


def _guard(use: Use, problem: Problem, view: InterfaceView) -> str:
    labels = use.guard.labels
    for label in (guards.TYPES_ONLY, _LABELS[use.kind], guards.VERSION, guards.LOOKED):
        if label in labels:
            return label
    names = {problem.name, problem.path.rpartition(".")[2], problem.path}
    if names & use.guard.strings or not all(_goes_on(look, view) for look in use.guard.looks):
        return guards.LOOKED
    return ""


def _goes_on(look: guards.Look, view: InterfaceView) -> bool:
    """Whether code that checks for a name continues in a release; checks of other packages are
    ignored."""
    owner = packages.owner(look.target.module)
    if owner is None or owner != view.index.package:
        return True
    resolved = view.resolve(look.target.below(look.name))
    if isinstance(resolved, Missing):
        return not look.answer
    return look.answer and _is_certain(resolved)


def _findings(placed: Sequence[_Placed], judge: _Judge, place: int) -> Iterator[Finding]:
    assigned = {t for p in placed if p.use.kind == uses.PATCH for t in map(str, p.use.targets)}
    for p, problem, guard in _failing(placed, judge, place):
        patched = p.use.kind == uses.PATCH
        if not patched and problem.path in assigned:
            continue  # the code itself sets it
        level = NOTE if patched else GUARDED if guard else FAILURE
        kind = NOT_THERE_TO_SET if patched else problem.kind
        yield replace(_finding(p, problem, judge, place), level=level, guard=guard, kind=kind)


def _finding(p: _Placed, problem: Problem, judge: _Judge, place: int) -> Finding:
    releases = judge.index.releases
    older = next((j for j in range(place - 1, -1, -1) if judge.fits(p, problem, j)), None)
    newer = next((j for j in range(place + 1, len(releases)) if judge.fits(p, problem, j)), None)
    moved = ""
    if older is not None and problem.kind in (judgement.MISSING, judgement.MODULE_MISSING):
        moved = lives.moved_to(judge.index, problem.path, older, place)
    return Finding(
        file=p.file,
        line=p.use.line,
        column=p.use.column,
        level=FAILURE,
        package=judge.index.package.name,
        release=releases[place],
        kind=problem.kind,
        path=problem.path,
        name=problem.name,
        last="" if older is None else releases[older],
        changed="" if older is None else releases[older + 1],
        first=releases[newer] if older is None and newer is not None else "",
        moved=moved,
    )


def _notes(placed: Sequence[_Placed], judge: _Judge, before: int, place: int) -> Iterator[Finding]:
    """Calls that both releases accept with a different meaning."""
    old, new = judge.view(before), judge.view(place)
    for p in placed:
        call = p.use.call
        if call is None or judge.problems(p, place) or judge.problems(p, before):
            continue
        first, second = (_signature(p.use, view) for view in (old, new))
        if first is None or second is None:
            continue
        (path, a), (_, b) = first, second
        row = _finding(p, Problem(kind="", path=path), judge, place)
        row = replace(row, level=NOTE, last=judge.index.releases[before], changed="", first="")
        was, now = calls.bindings(call, a), calls.bindings(call, b)
        for one, other in zip(was, now, strict=False):
            if one != other and one in {x.name for x in b}:
                yield replace(row, kind=ORDER_CHANGED, name=f"{one} → {other}")
                break
        left, since = calls.defaulted(call, a), calls.defaulted(call, b)
        for name in left.keys() & since.keys():
            if left[name] != since[name]:
                yield replace(
                    row, kind=DEFAULT_CHANGED, name=f"{name}: {left[name]} → {since[name]}"
                )


def _signature(use: Use, view: InterfaceView) -> tuple[str, Sequence[FunctionParameter]] | None:
    """The path and parameters of the one function that a call refers to; None if it is not one."""
    resolved = view.resolve(use.targets[0])
    if len(use.targets) != 1 or isinstance(resolved, Missing) or len(resolved) != 1:
        return None
    parameters = judgement.signature(resolved[0], view, bound=use.bound)
    return None if parameters is None else (resolved[0].path, parameters)


def _newest(placed: Sequence[_Placed], judge: _Judge, withdrawn: frozenset[str]) -> str:
    """The newest release without failures."""
    assigned = {t for p in placed if p.use.kind == uses.PATCH for t in map(str, p.use.targets)}
    read = [p for p in placed if p.use.kind != uses.PATCH]
    if not read:
        return judge.index.releases[-1]
    for place in range(len(judge.index.releases) - 1, -1, -1):
        if judge.index.releases[place] in withdrawn:
            continue
        failing = _failing(read, judge, place)
        if not any(not guard and problem.path not in assigned for _, problem, guard in failing):
            return judge.index.releases[place]
    return ""
