"""The published data as typed records: `mcore_compat.load()`.

Reads `compatibility.json` alone: no lock, no evidence, no package under test is needed.

>>> known = load()
>>> cell = known.cell("compat-0.16-modelopt0.41")
>>> cell.pins["torch"]
'2.9.1'
>>> cell.outcome_of("restore[gpt]")
'works'
>>> [one.name for one in known.where(mcore="==0.16.*", modelopt="==0.41.*")][:1]
['compat-0.16-modelopt0.41']
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcore_compat.base import files
from mcore_compat.base.errors import EvidenceError, UsageError, nearest

if TYPE_CHECKING:
    import pandas

PATH = files.ROOT / "reports" / "compatibility.json"
MAJOR = 1
"""Of the schema: another one cannot be read."""


@dataclass(frozen=True, kw_only=True)
class CellRecord:
    """One cell on one device class.

    `pins`: version by axis. `checks`: outcome by check. `causes`: fingerprint by failed check.
    `restores`: families whose checkpoint restores. `unexpected`: failures that nothing declares.
    """

    name: str
    device_class: str
    outcome: str
    reason: str | None
    pins: Mapping[str, str]
    cuda: int
    taken: str
    checks: Mapping[str, str]
    causes: Mapping[str, str]
    reasons: Mapping[str, str]
    restores: tuple[str, ...]
    unexpected: tuple[str, ...]

    def outcome_of(self, check: str) -> str:
        """The outcome of one check.

        Raises:
            UsageError: the cell was not asked that; names the nearest.
        """
        if check not in self.checks:
            raise UsageError(f'{self.name} has no check "{check}"{nearest(check, self.checks)}')
        return self.checks[check]


@dataclass(frozen=True, kw_only=True)
class PublishedCause:
    """A failure over all cells of a device class; `rules` are specifiers, in words. `rivals`: those
    together that cannot be told apart; where there are several, each is about other checks."""

    device_class: str
    fingerprint: str
    type: str
    message: str
    frame: str
    checks: tuple[str, ...]
    cells: tuple[str, ...]
    attributed_to: tuple[str, ...]
    rules: tuple[str, ...]
    rivals: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Compatibility:
    """Everything that was published."""

    schema: str
    cells: tuple[CellRecord, ...]
    causes: tuple[PublishedCause, ...]

    @cached_property
    def _by_name(self) -> dict[tuple[str, str], CellRecord]:
        return {(one.name, one.device_class): one for one in self.cells}

    def cell(self, name: str, device_class: str = "host") -> CellRecord:
        """One cell's record.

        Raises:
            UsageError: there is none; names the nearest.
        """
        found = self._by_name.get((name, device_class))
        if found is None:
            names = [one.name for one in self.cells if one.device_class == device_class]
            raise UsageError(f'no evidence of "{name}" on {device_class}{nearest(name, names)}')
        return found

    def cause(self, fingerprint: str, device_class: str = "host") -> PublishedCause:
        """One failure.

        Raises:
            UsageError: there is none of that fingerprint.
        """
        for one in self.causes:
            if (one.fingerprint, one.device_class) == (fingerprint, device_class):
                return one
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
        """The cells within PEP 440 specifiers (`>=2.9,<2.12`), of an outcome, of a device class.

        Raises:
            UsageError: not a specifier.
        """
        from packaging.specifiers import InvalidSpecifier, SpecifierSet

        wanted = {
            "megatron-core": mcore,
            "nvidia-modelopt": modelopt,
            "transformer-engine": te,
            "torch": torch,
            "python": python,
        }
        try:
            ranges = {axis: SpecifierSet(text) for axis, text in wanted.items() if text}
        except InvalidSpecifier as error:
            raise UsageError(f"{error}; write e.g. '>=0.14' or '==0.41.*'") from None
        return tuple(
            one
            for one in self.cells
            if all(spec.contains(one.pins[axis]) for axis, spec in ranges.items())
            and outcome in (None, one.outcome)
            and device_class in (None, one.device_class)
        )

    def frame(self) -> pandas.DataFrame:
        """A row for each check of each cell: its versions, the check, kind, family, outcome and
        fingerprint. Needs pandas.

        Raises:
            UsageError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise UsageError("a frame needs pandas; install it: pip install pandas") from None
        rows = [
            {
                "cell": one.name,
                "device_class": one.device_class,
                "cell_outcome": one.outcome,
                **one.pins,
                "check": check,
                "kind": check.partition("[")[0],
                "family": check.partition("[")[2].removesuffix("]") or None,
                "outcome": outcome,
                "fingerprint": one.causes.get(check),
            }
            for one in self.cells
            for check, outcome in one.checks.items()
        ]
        return pandas.DataFrame(rows)


def load(path: Path | str | None = None) -> Compatibility:
    """The published data; without a path, that of this checkout.

    Raises:
        EvidenceError: not there, not JSON, or of a schema that this version cannot read.
    """
    place = Path(path) if path is not None else PATH
    try:
        data = json.loads(place.read_text(encoding="utf-8"))
        schema = str(data["schema"])
        if schema.partition(".")[0] != str(MAJOR):
            raise EvidenceError(f"{place.name} has schema {schema}; this version reads {MAJOR}.x")
        return Compatibility(
            schema=schema,
            cells=tuple(record(row) for row in data["cells"]),
            causes=tuple(_cause(row) for row in data["causes"]),
        )
    except FileNotFoundError:
        raise EvidenceError(f"{place.name} is not there; make it: nox -s report") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EvidenceError(
            f"{place.name} is not valid ({error!r}); make it: nox -s report"
        ) from None


def record(row: Mapping[str, Any]) -> CellRecord:
    """A cell's record from its row of the data."""
    outcomes = {check: o for o, checks in row["checks"].items() for check in checks}
    return CellRecord(
        name=row["cell"],
        device_class=row["device_class"],
        outcome=row["outcome"],
        reason=row["reason"],
        pins=row["pins"],
        cuda=row["cuda"],
        taken=row["taken"],
        checks={check: outcomes[check] for check in sorted(outcomes)},
        causes=row["causes"],
        reasons=row["reasons"],
        restores=tuple(row["restores"]),
        unexpected=tuple(row["unexpected"]),
    )


def _cause(row: Mapping[str, Any]) -> PublishedCause:
    rivals: dict[tuple[str, ...], list[str]] = {}
    for rule in row["rules"]:
        rivals.setdefault(tuple(rule.get("checks", ())), []).append(rule["text"])
    return PublishedCause(
        device_class=row["device_class"],
        fingerprint=row["fingerprint"],
        type=row["type"],
        message=row["message"],
        frame=row["frame"],
        checks=tuple(row["checks"]),
        cells=tuple(row["cells"]),
        attributed_to=tuple(row["attributed_to"]),
        rules=tuple(rule["text"] for rule in row["rules"]),
        rivals=tuple(map(tuple, rivals.values())),
    )
