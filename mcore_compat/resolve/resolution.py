"""Stage cell → lock: runs the resolver, and checks its refusals against the index."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomllib
from packaging.requirements import Requirement

from mcore_compat.base import exhaustion, files, temporary
from mcore_compat.base.errors import InfrastructureError
from mcore_compat.base.processes import Completed, Runner
from mcore_compat.core.cells import Cell
from mcore_compat.core.combinations import te_core, undeclared_for
from mcore_compat.core.extras import bounds_of_extras, torch_extra
from mcore_compat.core.matrix import Matrix, SourceOnly
from mcore_compat.core.releases import Releases
from mcore_compat.index import package_index
from mcore_compat.index.package_index import Client
from mcore_compat.resolve import refusal
from mcore_compat.resolve import wishes as wishing
from mcore_compat.resolve.dates import exclude_newer, of_pin
from mcore_compat.resolve.locks import PLATFORM, Lock, head, parse
from mcore_compat.resolve.wishes import Wish

RESOLVE_LIMIT_S = 300.0

_NETWORK = re.compile(
    r"error sending request|dns error|failed to fetch|could not connect"
    r"|connection (?:refused|reset)|timed out|network is unreachable"
    r"|temporary failure in name resolution",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class Unresolvable:
    """There is no solution: `reason` is the resolver's explanation made readable, `words` its full
    output."""

    reason: str
    words: str = field(default="", compare=False)


def requirements(cell: Cell, matrix: Matrix, releases: Releases) -> tuple[str, ...]:
    """The resolver's input: the axes, TE's parts, undeclared requirements. Sorted."""
    extra = torch_extra(releases.get("nvidia-modelopt", cell.modelopt).requires)
    wanted = {
        f"megatron-core=={cell.mcore}",
        f"nvidia-modelopt{extra}=={cell.modelopt}",
        f"torch=={cell.torch}",
        f"transformer-engine=={cell.te}",
        f"{te_core(cell)}=={cell.te}",
        f"transformer-engine-torch=={cell.te}",
    }
    for rule in undeclared_for(cell, matrix):
        wanted.update(rule.requires)
    wanted.update(cell.further)
    return tuple(sorted(wanted))


def settings(cell: Cell, matrix: Matrix) -> str:
    """A uv configuration with metadata of source-only packages, so that uv does not build them."""
    tables = (
        f'[[dependency-metadata]]\nname = "{rule.package}"\n'
        f"requires-dist = {json.dumps(rule.requires)}"
        for rule in overrides(cell, matrix)
    )
    return "\n".join(tables) + "\n"


def overrides(cell: Cell, matrix: Matrix) -> tuple[SourceOnly, ...]:
    """The matrix's requirements of packages without wheels, for this cell."""
    te = "transformer-engine-torch"
    return tuple(r for r in matrix.source_only if r.package != te or r.when.contains(cell.te))


def asked_for(cell: Cell, matrix: Matrix, releases: Releases) -> str:
    """Digest of the resolver's input: the same digest means the same answer, unless the cell has a
    further pin of a whole series, whose date only the index knows."""
    bounds = bounds_of_extras(cell, releases)
    inputs = [
        PLATFORM,
        cell.python,
        exclude_newer(cell, releases),
        settings(cell, matrix),
        *requirements(cell, matrix, releases),
        *(text for package in sorted(bounds) for text in bounds[package]),
    ]
    return files.sha256_bytes("\n".join(inputs).encode())


@dataclass(frozen=True, kw_only=True)
class _Asking:
    """How to run uv, and a client for the index that it uses."""

    uv: Path
    run: Runner
    offline: bool
    client: Callable[[], Client]
    near: Lock | None = None

    def __call__(self, argv: Sequence[str | Path]) -> Completed:
        offline = ["--offline"] if self.offline else []
        return self.run([*argv, *offline], timeout=RESOLVE_LIMIT_S)


def make(
    cell: Cell,
    matrix: Matrix,
    releases: Releases,
    *,
    uv: Path,
    run: Runner,
    offline: bool = False,
    client: Callable[[], Client] = package_index.resolvers_client,
    near: Lock | None = None,
) -> Lock | Unresolvable:
    """Resolve a cell; returns the lock without writing it. `near`: a lock from which it should
    differ as little as possible.

    The preferences in `wishes` are followed as far as possible: they are optional and cannot make
    a cell unresolvable. A refusal is checked against the index, unless `offline`.

    Raises:
        UsageError: a further pin matches no release; names the nearest.
        InfrastructureError: the index did not answer or lacks known releases, or the disk is full.
    """
    asking = _Asking(uv=uv, run=run, offline=offline, client=client, near=near)
    date = exclude_newer(cell, releases)
    if cell.further and not offline:  # a pin of a later release needs a later date
        date = max(date, *(of_pin(pin, client()) for pin in cell.further))
    every = () if near else wishing.wishes(cell, matrix, releases, date)

    def ask(wishes: Sequence[Wish]) -> str | Unresolvable:
        return _resolve(cell, matrix, releases, (date, wishes), asking)

    try:
        kept = wishing.as_many_as_can_be(
            every, ask, lambda a: None if isinstance(a, str) else a.words
        )
    except OSError as error:
        raise InfrastructureError(f"{cell.name} could not be resolved: {error}") from error
    if isinstance(kept.answer, Unresolvable):
        return kept.answer
    packages = {line.partition("==")[0] for line in kept.answer.splitlines() if "==" in line}
    told = wishing.told(kept.wishes, kept.given_up, packages)
    if near:
        told = f"as {near.cell}", f"as {near.cell}"
    sources = [name for name in _sources(matrix) if name in packages]
    text = head(cell, date, sources, told=told, body=kept.answer) + kept.answer
    return parse(text, f"{cell.name}.txt")


def _sources(matrix: Matrix) -> list[str]:
    return sorted({rule.package for rule in matrix.source_only})


def _resolve(
    cell: Cell,
    matrix: Matrix,
    releases: Releases,
    world: tuple[str, Sequence[Wish]],
    asking: _Asking,
) -> str | Unresolvable:
    """A cell's packages in the form of `body_of`, as of a date and with preferences."""
    date, wishes = world
    dates = {wish.name: wish.before for wish in wishes if wish.before}
    wanted = requirements(cell, matrix, releases)
    with temporary.folder() as folder:
        names = ("requirements.in", "constraints.in", "uv.toml", "pylock.toml")
        asked, constraints, config, out = (folder / name for name in names)
        asked.write_text("".join(f"{line}\n" for line in wanted))
        constraints.write_text("".join(f"{w.text}\n" for w in wishes if not w.before))
        config.write_text(settings(cell, matrix))
        if asking.near:  # uv prefers the pins in an existing output file
            out.write_text(_as_output(asking.near))
        # pylock.toml has only the files for the platform; requirements.txt would have the hashes of
        # all platforms, ten times as much.
        argv: list[str | Path] = [asking.uv, "pip", "compile", asked, "--output-file", out]
        argv += ["--constraints", constraints, "--quiet", "--no-header", "--no-annotate"]
        argv += ["--no-emit-index-url", "--no-emit-find-links", "--config-file", config]
        argv += ["--exclude-newer", f"{date}T00:00:00Z", "--python-platform", PLATFORM]
        for name, day in dates.items():
            argv += ["--exclude-newer-package", f"{name}={day}T00:00:00Z"]
        argv += ["--python-version", cell.python, "--no-python-downloads"]
        argv += ["--only-binary", ":all:", "--no-build-isolation"]
        for name in _sources(matrix):
            argv += ["--no-binary", name]
        completed = asking(argv)
        if _doubt(cell, completed, wanted, (date, dates), releases, asking):
            # The resolver's cache of the index may be outdated.
            completed = asking([*argv, "--refresh"])
            doubt = _doubt(cell, completed, wanted, (date, dates), releases, asking)
            if doubt:
                raise InfrastructureError(f"{cell.name} could not be resolved: {doubt}")
        if not completed.ok:
            return Unresolvable(reason=readable(completed.output), words=completed.output)
        return body_of(out.read_text(encoding="utf-8"))


def _doubt(
    cell: Cell,
    completed: Completed,
    wanted: Iterable[str],
    until: tuple[str, Mapping[str, str]],
    releases: Releases,
    asking: _Asking,
) -> str | None:
    """Why the resolver's answer is not reliable; None if it is. `until`: the date of all packages,
    and separate dates of some.

    Raises:
        InfrastructureError: the resolver gave no answer, or the index none to compare it with.
    """
    if completed.ok:
        return None
    _check_refusal(cell, completed)
    if asking.offline:
        return None
    packages = [name for text in wanted if releases.of(name := Requirement(text).name)]
    try:
        return refusal.contradiction(completed.output, packages, until, releases, asking.client())
    except InfrastructureError as error:
        raise InfrastructureError(f"{cell.name} could not be resolved: {error}") from error


def _as_output(lock: Lock) -> str:
    """The pins of a lock as a `pylock.toml`."""
    rows = [f'[[packages]]\nname = "{p.name}"\nversion = "{p.version}"\n' for p in lock.all_pins]
    return 'lock-version = "1.0"\ncreated-by = "mcore-compat"\n\n' + "\n".join(rows)


def body_of(pylock: str) -> str:
    """The packages of a `pylock.toml` (PEP 751) as requirements with hashes, sorted by name.

    The file itself is not kept, because it contains URLs of the index.

    Raises:
        InfrastructureError: it is not complete, or the index has no sha256 for a file.
    """
    try:
        return _body(tomllib.loads(pylock)["packages"])
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise InfrastructureError(
            f"the resolver's lock is incomplete, or the index has no hashes ({error}); try again"
        ) from error


def _body(packages: Iterable[Mapping[str, Any]]) -> str:
    rows = []
    for package in sorted(packages, key=lambda p: str(p["name"])):
        files_ = [*package.get("wheels", ()), *filter(None, [package.get("sdist")])]
        hashes = sorted({file["hashes"]["sha256"] for file in files_})
        lines = [f"{package['name']}=={package['version']}"]
        lines += [f"    --hash=sha256:{digest}" for digest in hashes]
        rows.append(" \\\n".join(lines) + "\n")
    return "".join(rows)


def _check_refusal(cell: Cell, completed: Completed) -> None:
    """Raise InfrastructureError if the resolver failed for another reason than the packages."""
    output = completed.output
    if completed.timed_out:
        raise InfrastructureError(f"resolving {cell.name} took over {RESOLVE_LIMIT_S:.0f} s")
    if _NETWORK.search(output) and "No solution found" not in output:
        raise InfrastructureError(f"the index did not answer while resolving {cell.name}")
    what = exhaustion.ran_out(output)
    if what:
        raise InfrastructureError(f"{what}: {cell.name} could not be resolved")
    if "No solution found" not in output or "network was disabled" in output:
        last = (output.strip().splitlines() or ["it printed nothing"])[-1].strip()
        raise InfrastructureError(f"{cell.name} could not be resolved: {last[:300]}")


def readable(output: str) -> str:
    """The resolver's "Because … we can conclude …" as one paragraph, without line graphics."""
    text = " ".join(re.sub(r"[╰─▶│\u00d7├]", " ", output).split())
    text = re.sub(r"^.*No solution found when resolving dependencies(?: cause)?: ", "", text)
    text = text.split(" hint: ")[0]
    return text.removeprefix("error: ")[:600]
