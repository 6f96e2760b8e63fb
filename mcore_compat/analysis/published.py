"""The published data as typed records: `mcore_compat.load()`.

This is the only model of `compatibility.json`: reading, validation and the JSON Schema come from
it. It needs no lock, no result files and no package under test. It ignores unknown keys, so that it
can read newer minor versions.

>>> known = load()
>>> cell = known.cell("compat-0.16-modelopt0.41")
>>> cell.pins["torch"]
'2.9.1'
>>> cell.outcome_of("restore[gpt]")
'works'
>>> [cell.name for cell in known.where(mcore="==0.16.*", modelopt="==0.41.*")][:1]
['compat-0.16-modelopt0.41']
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta, Struct, field
from msgspec.structs import force_setattr

from mcore_compat.analysis.cell_record import (
    CellOutcomes,
    CellRecord,
    CheckTable,
    DeviceClass,
    Fingerprint,
    OverBaseRecord,
)
from mcore_compat.analysis.declarations import Finding
from mcore_compat.analysis.intervals import Interval
from mcore_compat.analysis.rules import Bound, FailureState
from mcore_compat.base import data
from mcore_compat.base.data import DataError
from mcore_compat.base.errors import ResultError, UsageError, nearest
from mcore_compat.core import workspace
from mcore_compat.core.cells import AXES
from mcore_compat.core.matrix import DeclaredReason

if TYPE_CHECKING:
    import pandas

MAJOR = 3
"""The major version of the schema; no other one can be read."""

ByState = Annotated[
    Mapping[str, tuple[str, ...]],
    Meta(extra_json_schema={"propertyNames": {"enum": [state.value for state in FailureState]}}),
]


class PublishedRule(Struct, frozen=True, kw_only=True):
    """Versions with which a failure happens. `text`: the bounds as specifiers; `checks`: the checks
    that the rule is about, if not all of the failure's; `others_within`: by state, cells within the
    bounds in which these checks neither fail with the failure nor work."""

    text: str
    bounds: tuple[Bound, ...] = ()
    contradicted_by: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()
    others_within: ByState = {}


class PublishedCause(Struct, frozen=True, kw_only=True, dict=True):
    """A failure over all cells of a device class. `message`: untrusted text of a package under
    test; `bounded_rules` (`rules` in the file): equally small rules; `wider_rules`: rules that hold
    no cell that works either, but more cells that fail otherwise or are blocked; `next_cell`: the
    untested cell that would narrow this down most."""

    device_class: DeviceClass
    fingerprint: Fingerprint
    type: str
    message: str
    frame: str
    gpu_independent: str | None
    checks: tuple[str, ...]
    cells: tuple[str, ...]
    attributed_to: tuple[str, ...]
    bounded_rules: tuple[PublishedRule, ...] = field(name="rules")
    wider_rules: tuple[PublishedRule, ...] = ()
    next_cell: str | None = None
    suspects: tuple[str, ...] = ()
    """Packages other than axes that it points at: their name is missing, or their code raised
    it."""
    undecided: bool = False
    """Whether the tested cells do not show if one of `suspects` or an axis decides."""
    alike: tuple[str, ...] = ()
    """Other packages whose versions alone separate the cells that fail from those that work."""
    frames: tuple[str, ...] = ()
    """The frames of its traceback, the innermost first: the end of the module's name, and the
    function."""
    files: tuple[str, ...] = ()
    """The files of its tracebacks, and of the names in its message, as paths below `site-packages`.
    If another release has the same files, the failure is inferred to happen there, too."""
    declared: tuple[DeclaredReason, ...] = ()
    """Why it happens, if known."""

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules as specifiers."""
        return tuple(rule.text for rule in self.bounded_rules)

    @cached_property
    def rivals(self) -> tuple[tuple[str, ...], ...]:
        """The texts of the rules, grouped by checks: it is not known which of a group holds."""
        texts: dict[tuple[str, ...], list[str]] = {}
        for rule in self.bounded_rules:
            texts.setdefault(rule.checks, []).append(rule.text)
        return tuple(map(tuple, texts.values()))


@dataclass(frozen=True, kw_only=True)
class PublishedInterval(Interval):
    """A run of releases in which a check works, with the keys of MDN's browser-compat-data."""

    device_class: DeviceClass


class PublishedChange(Struct, frozen=True, kw_only=True):
    """A change in an interface that callers use, from one tested release to the next."""

    package: str
    subject: str
    before: str
    after: str
    kind: str
    breaking: bool
    name: str | None = None
    old: str | None = None
    new: str | None = None
    why: str = ""
    minor: bool = False
    not_tested: tuple[str, ...] = ()
    not_recorded: tuple[str, ...] = ()


class Compatibility(Struct, frozen=True, kw_only=True, dict=True):
    """Published compatibility of megatron-core, ModelOpt, Transformer Engine and torch.

    `schema`: the version of this format; a new key raises the minor version, a key that is removed
    or changes its meaning raises the major one. Readers must ignore keys that they do not know.
    `axes`: the series of the declared matrix, oldest first. `findings`: declared requirements
    compared with results. `outcomes`: how the checks of a cell ended, by the key that its cells
    have. `features`: checks by feature. `formats`: checks by quantization format.
    """

    schema: Annotated[str, Meta(pattern=rf"^{MAJOR}\.[0-9]+\.[0-9]+$")]
    made_by: str
    axes: Annotated[
        Mapping[str, tuple[str, ...]], Meta(extra_json_schema={"required": [*AXES[:2]]})
    ]
    cells: tuple[CellRecord, ...]
    causes: tuple[PublishedCause, ...]
    findings: tuple[Finding, ...]
    intervals: tuple[PublishedInterval, ...]
    drift: tuple[PublishedChange, ...]
    over_base: tuple[OverBaseRecord, ...] = ()
    outcomes: Mapping[str, CellOutcomes] = {}
    features: Mapping[str, tuple[str, ...]] = {}
    formats: Mapping[str, tuple[str, ...]] = {}

    def __post_init__(self) -> None:
        # A cell's verdict needs these, and the file has them only once for many cells.
        tables = {
            key: CheckTable(ended, self.features, self.formats)
            for key, ended in self.outcomes.items()
        }
        for cell in (*self.cells, *self.over_base):
            if cell.outcomes:
                if cell.outcomes not in self.outcomes:
                    raise ValueError(f"{cell.name}: no outcomes {cell.outcomes}")
                for name in CellOutcomes.__struct_fields__:
                    force_setattr(cell, name, getattr(self.outcomes[cell.outcomes], name))
            if not cell.features:
                force_setattr(cell, "features", self.features)
                force_setattr(cell, "formats", self.formats)
                if cell.outcomes:
                    vars(cell)["table"] = tables[cell.outcomes]

    @cached_property
    def _by_name(self) -> dict[tuple[str, str], CellRecord]:
        return {(cell.name, cell.device_class): cell for cell in self.cells}

    def cell(self, name: str, device_class: str = "host") -> CellRecord:
        """Return one cell's record.

        Raises:
            UsageError: the cell has no result; names the nearest.
        """
        record = self._by_name.get((name, device_class))
        if record is None:
            names = [cell.name for cell in self.cells if cell.device_class == device_class]
            raise UsageError(f'no result of "{name}" on {device_class}{nearest(name, names)}')
        return record

    def cause(self, fingerprint: str, device_class: str = "host") -> PublishedCause:
        """Return one failure.

        Raises:
            UsageError: no failure has that fingerprint.
        """
        for cause in self.causes:
            if (cause.fingerprint, cause.device_class) == (fingerprint, device_class):
                return cause
        raise UsageError(f'no failure "{fingerprint}" on {device_class}')

    def where(
        self,
        *,
        mcore: str = "",
        modelopt: str = "",
        te: str = "",
        torch: str = "",
        python: str = "",
        outcome: str | None = None,
        device_class: str | None = None,
    ) -> tuple[CellRecord, ...]:
        """Return the cells within PEP 440 specifiers (`>=2.9,<2.12`), of an outcome, of a device
        class.

        Raises:
            UsageError: an invalid specifier.
        """
        from packaging.specifiers import InvalidSpecifier, SpecifierSet

        texts = zip(AXES, (mcore, modelopt, te, torch, python), strict=True)
        try:
            ranges = {axis: SpecifierSet(text) for axis, text in texts if text}
        except InvalidSpecifier as error:
            raise UsageError(f"{error}; write e.g. '>=0.14' or '==0.41.*'") from None
        return tuple(
            cell
            for cell in self.cells
            if all(spec.contains(cell.pins[axis]) for axis, spec in ranges.items())
            and outcome in (None, cell.outcome)
            and device_class in (None, cell.device_class)
        )

    def frame(self) -> pandas.DataFrame:
        """Return a row for each check of each cell: its versions, the check, kind, family, outcome
        and fingerprint. Needs pandas.

        Raises:
            UsageError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise UsageError("pandas is not installed: pip install pandas") from None
        rows = [
            {
                "cell": cell.name,
                "device_class": cell.device_class,
                "cell_outcome": cell.outcome,
                **cell.pins,
                "check": check,
                "kind": check.partition("[")[0],
                "family": check.partition("[")[2].removesuffix("]") or None,
                "outcome": outcome,
                "fingerprint": cell.causes.get(check),
            }
            for cell in self.cells
            for check, outcome in cell.checks.items()
        ]
        return pandas.DataFrame(rows)


class _Version(Struct):
    """The schema's version, read first: another version has another format."""

    schema: str


def load(path: Path | str | None = None) -> Compatibility:
    """Return the published data of a file; without a path, of the current workspace.

    Raises:
        ResultError: the file does not exist, is not JSON, or has a schema of another version.
    """
    place = Path(path) if path is not None else workspace.find().published
    try:
        text = data.text_of(place)
        schema: str = data.json_of(text, _Version).schema
        if schema.partition(".")[0] != str(MAJOR):
            raise ResultError(f"{place.name} has schema {schema}; this version reads {MAJOR}.x")
        found: Compatibility = data.json_of(text, Compatibility)
        return found
    except FileNotFoundError:
        raise ResultError(f"{place.name} does not exist; make it: nox -s report") from None
    except DataError as error:
        raise ResultError(
            f"{place.name} is not valid ({error}); make it again: nox -s report"
        ) from None


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of `compatibility.json`."""
    draft = "https://json-schema.org/draft/2020-12/schema"
    found = msgspec.json.schema(Compatibility)
    for part in found["$defs"].values():
        if "description" in part:  # msgspec before 0.23 leaves a docstring's indentation
            part["description"] = inspect.cleandoc(part["description"])
    return {"$schema": draft, **found}
