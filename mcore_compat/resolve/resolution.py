"""Stage cell → lock: asks the resolver, and believes it only as far as the index agrees."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomllib
from packaging.requirements import Requirement

from mcore_compat.base import exhaustion, files, temporary
from mcore_compat.base.errors import InfrastructureError, MatrixError
from mcore_compat.base.processes import Completed, Runner
from mcore_compat.core.cells import Cell
from mcore_compat.core.combinations import bounds_of_extras, te_core, undeclared_for
from mcore_compat.core.matrix import Matrix, SourceOnly
from mcore_compat.core.releases import Releases
from mcore_compat.index import package_index
from mcore_compat.index.package_index import Client
from mcore_compat.resolve import refusal
from mcore_compat.resolve.locks import PLATFORM, Lock, head, parse

SETTLE = datetime.timedelta(days=21)
"""How long after its newest pin a cell's world stands still."""

RESOLVE_LIMIT_S = 300.0

_NETWORK = re.compile(
    r"error sending request|dns error|failed to fetch|could not connect"
    r"|connection (?:refused|reset)|timed out|network is unreachable"
    r"|temporary failure in name resolution",
    re.IGNORECASE,
)
_IN_EXTRA_TORCH = re.compile(r"""extra == ['"]torch['"]""")


@dataclass(frozen=True, kw_only=True)
class Unresolvable:
    """The index says no: `reason` in the resolver's words, made readable."""

    reason: str


def exclude_newer(cell: Cell, releases: Releases) -> str:
    """The date of a cell's world: `SETTLE` after the upload of the newest release it pins.

    Raises:
        MatrixError: nothing says when any of them was uploaded.
    """
    packages = ("megatron-core", "nvidia-modelopt", "transformer-engine", "torch")
    newest = max(releases.get(name, cell.pins[name]).uploaded for name in packages)
    if not newest:
        raise MatrixError(
            f"releases.json does not say when the releases of {cell.name} were uploaded; "
            "remake it from an index that does: nox -s refresh"
        )
    moment = datetime.datetime.fromisoformat(newest.replace("Z", "+00:00")) + SETTLE
    return moment.strftime("%Y-%m-%d")


def requirements(cell: Cell, matrix: Matrix, releases: Releases) -> tuple[str, ...]:
    """What is asked of the resolver: the axes, TE's parts, undeclared requirements. Sorted."""
    # Later releases have no such extra, as they always require torch; asking for it is a warning.
    modelopt = releases.get("nvidia-modelopt", cell.modelopt)
    extra = "[torch]" if any(_IN_EXTRA_TORCH.search(text) for text in modelopt.requires) else ""
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
    return tuple(sorted(wanted))


def settings(cell: Cell, matrix: Matrix) -> str:
    """A uv configuration with the metadata of source-only packages, so that none is built."""
    tables = (
        f'[[dependency-metadata]]\nname = "{rule.package}"\n'
        f"requires-dist = {json.dumps(rule.requires)}"
        for rule in overrides(cell, matrix)
    )
    return "\n".join(tables) + "\n"


def overrides(cell: Cell, matrix: Matrix) -> tuple[SourceOnly, ...]:
    """The requirements that the matrix gives for packages without wheels, for this cell."""
    te = "transformer-engine-torch"
    return tuple(r for r in matrix.source_only if r.package != te or r.when.contains(cell.te))


def asked_for(cell: Cell, matrix: Matrix, releases: Releases) -> str:
    """Digest of everything that the resolver is asked: the same, and so is its answer."""
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
    """What a resolution needs: how uv is started, and the index that it asks."""

    uv: Path
    run: Runner
    offline: bool
    client: Callable[[], Client]

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
) -> Lock | Unresolvable:
    """Resolve a cell; the lock is returned, not written.

    Ranges that the releases declare in extras are kept to, unless the packages contradict one
    another there: nobody asked for the extras, so they cannot make a cell unresolvable.
    A refusal is held against what the index lists, unless `offline`.

    Raises:
        InfrastructureError: the index did not answer, or not as an index that knows the releases;
            or the disk is full.
    """
    asking = _Asking(uv=uv, run=run, offline=offline, client=client)
    answer: Lock | Unresolvable
    for bounds, words in choices(bounds_of_extras(cell, releases)):
        try:
            answer = _resolve(cell, matrix, releases, (bounds, words), asking)
        except OSError as error:
            raise InfrastructureError(f"{cell.name} could not be resolved: {error}") from error
        if isinstance(answer, Lock):
            break
    return answer


def choices(bounds: Mapping[str, Sequence[str]]) -> Iterator[tuple[tuple[str, ...], str]]:
    """The ranges of extras to keep to, best first, each with the words for the lock's head."""
    ranges = {text for texts in bounds.values() for text in texts}
    yield tuple(sorted(ranges)), "kept to"
    names = [{Requirement(text).name for text in texts} for texts in bounds.values()]
    disputed = {name for name in set().union(*names) if sum(name in n for n in names) > 1}
    if disputed:
        undisputed = {text for text in ranges if Requirement(text).name not in disputed}
        yield tuple(sorted(undisputed)), f"kept to, but for {', '.join(sorted(disputed))}"
    if ranges:
        yield (), "not kept to: they contradict one another"


def _resolve(
    cell: Cell,
    matrix: Matrix,
    releases: Releases,
    bounds: tuple[tuple[str, ...], str],
    asking: _Asking,
) -> Lock | Unresolvable:
    sources = sorted({rule.package for rule in matrix.source_only})
    date = exclude_newer(cell, releases)
    wanted = requirements(cell, matrix, releases)
    with temporary.folder() as folder:
        names = ("requirements.in", "constraints.in", "uv.toml", "pylock.toml")
        asked, constraints, config, out = (folder / name for name in names)
        asked.write_text("".join(f"{line}\n" for line in wanted))
        constraints.write_text("".join(f"{line}\n" for line in bounds[0]))
        config.write_text(settings(cell, matrix))
        # In this form the resolver tells the files that the platform takes; as requirements, the
        # hashes of every other platform's files too, ten times as much.
        argv: list[str | Path] = [asking.uv, "pip", "compile", asked, "--output-file", out]
        argv += ["--constraints", constraints, "--quiet", "--no-header", "--no-annotate"]
        argv += ["--no-emit-index-url", "--no-emit-find-links", "--config-file", config]
        argv += ["--exclude-newer", f"{date}T00:00:00Z", "--python-platform", PLATFORM]
        argv += ["--python-version", cell.python, "--no-python-downloads"]
        argv += ["--only-binary", ":all:", "--no-build-isolation"]
        for name in sources:
            argv += ["--no-binary", name]
        completed = asking(argv)
        if _doubt(cell, completed, wanted, date, releases, asking):
            # What the resolver keeps of the index may be of another moment.
            completed = asking([*argv, "--refresh"])
            doubt = _doubt(cell, completed, wanted, date, releases, asking)
            if doubt:
                raise InfrastructureError(f"resolving {cell.name} came to no answer: {doubt}")
        if not completed.ok:
            return Unresolvable(reason=readable(completed.output))
        body = body_of(out.read_text(encoding="utf-8"))
        text = head(cell, date, sources, extras=bounds[1], body=body) + body
    return parse(text, f"{cell.name}.txt")


def _doubt(
    cell: Cell,
    completed: Completed,
    wanted: Iterable[str],
    date: str,
    releases: Releases,
    asking: _Asking,
) -> str | None:
    """Why an answer of the resolver is not to be believed; None of one that is.

    Raises:
        InfrastructureError: it is no answer, or the index gives none to hold it against.
    """
    if completed.ok:
        return None
    _check_refusal(cell, completed)
    if asking.offline:
        return None
    packages = [name for text in wanted if releases.of(name := Requirement(text).name)]
    try:
        return refusal.contradiction(completed.output, packages, date, releases, asking.client())
    except InfrastructureError as error:
        raise InfrastructureError(f"resolving {cell.name} came to no answer: {error}") from error


def body_of(pylock: str) -> str:
    """The packages of a `pylock.toml` (PEP 751) as requirements with hashes, sorted by name.

    The file itself is not kept: it names addresses of the index.

    Raises:
        InfrastructureError: it is not whole, or the index gave no sha256 for a file.
    """
    try:
        return _body(tomllib.loads(pylock)["packages"])
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise InfrastructureError(
            f"the resolver wrote no whole lock, or the index gives no hashes ({error}); try again"
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
    """Raise InfrastructureError where the resolver came to no answer."""
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
        raise InfrastructureError(f"resolving {cell.name} came to no answer: {last[:300]}")


def readable(output: str) -> str:
    """The resolver's "Because … we can conclude …" as one paragraph, without its drawing."""
    text = " ".join(re.sub(r"[╰─▶│\u00d7├]", " ", output).split())
    text = re.sub(r"^.*No solution found when resolving dependencies(?: cause)?: ", "", text)
    text = text.split(" hint: ")[0]
    return text.removeprefix("error: ")[:600]
