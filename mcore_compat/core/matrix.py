"""Loads and validates the declared matrix, `constraints/matrix.toml`."""

from __future__ import annotations

import collections
import datetime
import fnmatch
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet

from mcore_compat.base import data as data_files
from mcore_compat.base.data import DataError
from mcore_compat.base.errors import MatrixError, nearest
from mcore_compat.core import profiles
from mcore_compat.core.cells import Stack
from mcore_compat.core.profiles import Profile

SCHEMA = Path(__file__).with_name("matrix.schema.json")

T = TypeVar("T")

_FIELDS = {
    "megatron-core": "mcore",
    "nvidia-modelopt": "modelopt",
    "transformer-engine": "te",
    "imported-by": "imported_by",
    "newer-torch": "newer_torch",
    "check": "checks",
}
"""Keys of the file whose fields below have another name."""


@dataclass(frozen=True, kw_only=True)
class Undeclared:
    """Packages that releases of `of` within `when` import (in `imported_by`) but do not require;
    `families`: those whose models alone need them, if not all."""

    of: str
    when: SpecifierSet
    requires: tuple[str, ...]
    imported_by: str
    reason: str
    families: tuple[str, ...] = ()

    def concerns(self, families: Collection[str]) -> bool:
        """Whether somebody needs it who relies on these families, none: on all."""
        return not self.families or not families or bool({*self.families} & {*families})


@dataclass(frozen=True, kw_only=True)
class SourceOnly:
    """A package without wheels, and its run-time requirements for versions within `when`; `nvcc`:
    these have CUDA sources, which only the nvcc of torch's CUDA compiles."""

    package: str
    when: SpecifierSet
    requires: tuple[str, ...]
    nvcc: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)  # by identity: caches have rules as keys
class Pairs:
    """A rule for cells within version specifiers, up to and including the day `expires`: of
    megatron-core and nvidia-modelopt, for an expected failure optionally also of TE and torch.

    `checks`: empty for an exclusion, for an expected failure the ids of its checks; `*` and `?`
    match any text and any character, a family's brackets match themselves. `message`: if not empty,
    a part of the failure's message, `*` for any text, to distinguish two causes of one check.
    `owner`: the package whose maintainers can fix it; `upstream`: where it is discussed
    (`owner/repository#number`), or `not reported`; `looked`: the date of the last search for a
    thread.
    """

    mcore: SpecifierSet
    modelopt: SpecifierSet
    reason: str
    expires: datetime.date
    checks: tuple[str, ...] = ()
    message: str = ""
    te: SpecifierSet = field(default_factory=SpecifierSet)
    torch: SpecifierSet = field(default_factory=SpecifierSet)
    owner: str = ""
    upstream: str = ""
    looked: datetime.date | None = None

    @property
    def key(self) -> str:
        """The rule's table in the file."""
        return "expect" if self.checks else "exclude"

    @property
    def check(self) -> str:
        """The checks in one line."""
        return ", ".join(self.checks)

    def naming(self, check: str) -> tuple[str, ...]:
        """Those of `checks` that match a check's id."""
        known = self._named.get(check)
        if known is None:
            known = self._named[check] = tuple(t for t in self.checks if _means(t, check))
        return known

    def says(self, message: str) -> bool:
        """Whether the rule matches a failure's message."""
        pattern = self.message.replace("[", "[[]").replace("?", "[?]")
        return not self.message or fnmatch.fnmatchcase(message, f"*{pattern}*")

    def covers(self, mcore: str, modelopt: str) -> bool:
        """Whether the rule matches a pair."""
        return self.mcore.contains(mcore) and self.modelopt.contains(modelopt)

    @cached_property
    def _specifiers(self) -> dict[str, SpecifierSet]:
        return {
            "megatron-core": self.mcore,
            "nvidia-modelopt": self.modelopt,
            "transformer-engine": self.te,
            "torch": self.torch,
        }

    def covers_pins(self, pins: Mapping[str, str]) -> bool:
        """Whether the rule matches a cell, given its version of each axis."""
        return all(self._holds(axis, pins[axis]) for axis in self._specifiers)

    def _holds(self, axis: str, version: str) -> bool:
        known = self._known.get((axis, version))
        if known is None:
            known = self._known[axis, version] = self._specifiers[axis].contains(version)
        return known

    @cached_property
    def _named(self) -> dict[str, tuple[str, ...]]:
        """A cache: thousands of cells have the same checks."""
        return {}

    @cached_property
    def _known(self) -> dict[tuple[str, str], bool]:
        """A cache: thousands of cells have the same few versions."""
        return {}

    def interval(self) -> str:
        """The cells as specifiers: `megatron-core>=0.16 nvidia-modelopt<0.42`."""
        return " ".join(f"{axis}{spec}" for axis, spec in self._specifiers.items() if str(spec))


def thread(upstream: str) -> str:
    """The URL of `owner/repository#number`; empty for other text."""
    match = re.fullmatch(r"([\w.-]+/[\w.-]+)#(\d+)", upstream)
    return f"https://github.com/{match[1]}/issues/{match[2]}" if match else ""


@dataclass(frozen=True, kw_only=True)
class DeclaredReason:
    """Why something fails, from an expected failure."""

    reason: str
    owner: str
    upstream: str

    def link(self) -> str:
        """The thread's URL, else the text of `upstream`."""
        return thread(self.upstream) or self.upstream


def _means(text: str, check: str) -> bool:
    return fnmatch.fnmatchcase(check, text.replace("[", "[[]"))


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """`constraints/matrix.toml`, validated."""

    mcore_series: tuple[str, ...]
    modelopt_series: tuple[str, ...]
    stacks: Mapping[str, Stack]
    te_series: tuple[str, ...] = ()
    torch_series: tuple[str, ...] = ()
    cuda: tuple[tuple[SpecifierSet, str], ...] = ()
    source_only: tuple[SourceOnly, ...] = ()
    undeclared: tuple[Undeclared, ...] = ()
    extra: tuple[str, ...] = ()
    exclusions: tuple[Pairs, ...] = ()
    expected: tuple[Pairs, ...] = ()
    expired: tuple[Pairs, ...] = ()
    """Rules past their date: they are in neither of the two above, so they have no effect."""

    state_over: str | None = None
    """The megatron-core series on which ModelOpt state is exchanged between all ModelOpt series."""

    profiles: Mapping[str, Profile] = field(default_factory=dict)
    """Declared profiles by name; the built-in ones are not included."""

    gpu_memory: int = 0
    """MiB of free memory that a cell needs on its GPU; 0: not checked."""

    def needs_nvcc(self, package: str, version: str) -> bool:
        """Whether a release of a source-only package has CUDA sources."""
        rows = (row for row in self.source_only if row.package == package and row.nvcc)
        return any(row.when.contains(version) for row in rows)


def load(path: Path, today: datetime.date | None = None) -> Matrix:
    """Read and validate the matrix.

    Raises:
        MatrixError: not TOML, a violation of the schema, a series without a stack. One line: the
            key, what is wrong, the nearest valid choice.
    """
    try:
        text = data_files.text_of(path)
    except FileNotFoundError:
        raise MatrixError(f"{path.name} does not exist") from None
    except DataError as error:
        raise MatrixError(f"{path.name} cannot be read: {error}") from None
    return parse(text, path.name, today or datetime.date.today())


def profiles_in(path: Path) -> Mapping[str, Profile]:
    """The profiles of a separate file, with the same `[profile.NAME]` tables as the matrix.

    Raises:
        MatrixError: it cannot be read, or contains anything else.
    """
    try:
        data = data_files.toml_of(data_files.text_of(path))
    except FileNotFoundError:
        raise MatrixError(f"{path} does not exist") from None
    except DataError as error:
        raise MatrixError(f"{path} cannot be read: {error}") from None
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    alone = {"profile": schema["properties"]["profile"]}
    _validate(data, str(path), {**schema, "properties": alone, "required": ["profile"]})
    return profiles.of_tables(data["profile"])


def parse(text: str, where: str, today: datetime.date) -> Matrix:
    """The matrix from TOML text; `where` is its name in errors. Raises MatrixError as `load`."""
    try:
        data = data_files.toml_of(text)
    except DataError as error:
        raise MatrixError(f"{where} is not valid TOML: {error}") from None
    _validate(data, where, json.loads(SCHEMA.read_text(encoding="utf-8")))
    counted = collections.Counter(series for row in data["stack"] for series in row["for"])
    for series in (series for series, number in counted.items() if number > 1):
        raise MatrixError(f"{where}: megatron-core {series} has more than one [[stack]]")
    matrix = _build(data, today)
    _check(matrix, where)
    return matrix


def _validate(data: Mapping[str, Any], where: str, schema: Mapping[str, Any]) -> None:
    """Raise MatrixError for the first violation of the schema, in one line."""
    from jsonschema import Draft202012Validator

    validator = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
    errors = sorted(validator.iter_errors(data), key=lambda e: e.json_path)
    if not errors:
        return
    error = errors[0]
    at = error.json_path.removeprefix("$").removeprefix(".") or "top level"
    if error.validator == "additionalProperties":
        known = error.schema["properties"]
        key = next(k for k in error.instance if k not in known)
        raise MatrixError(f'{where}: {at}: unknown key "{key}"{nearest(key, known)}')
    if error.validator == "enum":
        hint = nearest(str(error.instance), error.validator_value)
        raise MatrixError(f'{where}: {at}: unknown value "{error.instance}"{hint}')
    raise MatrixError(f"{where}: {at}: {error.message}")


def _build(data: Mapping[str, Any], today: datetime.date) -> Matrix:
    axes = data["axes"]
    rules = [tuple(_row(Pairs, row) for row in data.get(key, ())) for key in ("exclude", "expect")]
    exclusions, expected = (tuple(r for r in each if r.expires >= today) for each in rules)
    stacks = {series: _row(Stack, row) for row in data["stack"] for series in row["for"]}
    return Matrix(
        mcore_series=tuple(axes["megatron-core"]),
        modelopt_series=tuple(axes["nvidia-modelopt"]),
        stacks=stacks,
        te_series=tuple(axes.get("transformer-engine", ())),
        torch_series=tuple(axes.get("torch", ())),
        cuda=tuple((SpecifierSet(row["torch"]), row["version"]) for row in data.get("cuda", ())),
        source_only=tuple(_row(SourceOnly, row) for row in data.get("source-only", ())),
        undeclared=tuple(_row(Undeclared, row) for row in data.get("undeclared", ())),
        extra=tuple(data.get("cells", {}).get("extra", ())),
        exclusions=exclusions,
        expected=expected,
        expired=tuple(rule for each in rules for rule in each if rule.expires < today),
        state_over=data.get("exchange", {}).get("state-over"),
        profiles=profiles.of_tables(data.get("profile", {})),
        gpu_memory=data.get("gpu", {}).get("memory-mib", 0),
    )


def _row(kind: type[T], row: Mapping[str, Any]) -> T:
    """A table of the file as the class `kind`, whose fields are its keys."""
    fields = {_FIELDS.get(key, key): value for key, value in row.items()}
    if isinstance(fields.get("checks"), str):
        fields["checks"] = [fields["checks"]]
    return msgspec.convert(fields, kind, dec_hook=lambda specifier, text: specifier(text))


def _check(matrix: Matrix, where: str) -> None:
    """Check what a schema cannot express."""
    needs: tuple[SourceOnly | Undeclared, ...] = (*matrix.source_only, *matrix.undeclared)
    for need in needs:
        for text in need.requires:
            try:
                Requirement(text)
            except InvalidRequirement as error:
                why = str(error).splitlines()[0]
                raise MatrixError(f'{where}: "{text}" is not a requirement: {why}') from None
    for name in profiles.BUILT_IN.keys() & matrix.profiles:
        raise MatrixError(f"{where}: profile.{name} is built in; give yours another name")
    for series in matrix.mcore_series:
        if series not in matrix.stacks:
            raise MatrixError(f"{where}: megatron-core {series} has no [[stack]]")
    for series in matrix.stacks:
        if series not in matrix.mcore_series:
            hint = nearest(series, matrix.mcore_series)
            raise MatrixError(f'{where}: stack.for: "{series}" is not on the axis{hint}')
    if matrix.state_over not in (None, *matrix.mcore_series):
        hint = nearest(str(matrix.state_over), matrix.mcore_series)
        raise MatrixError(
            f'{where}: exchange.state-over: "{matrix.state_over}" is not on the axis{hint}'
        )
