"""A part's evidence → its Markdown. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mcore_compat import fingerprint, verdict
from mcore_compat.cells import parsed
from mcore_compat.evidence import CheckResult, Failure
from mcore_compat.markup import escape
from mcore_compat.outcomes import FAILURES, CheckOutcome
from mcore_compat.parts.evidence import Taken
from mcore_compat.parts.part import Part

LONGEST = 400
"""Characters of a message that are shown."""

MEMORY = "peak memory, bytes"
"""What a check of the GPU tier records; the same name as in `suite/gpu/` (a test compares them)."""


def never_on_a_gpu(found: Iterable[Taken]) -> bool:
    """Whether no check of a part ever made its assertion on a GPU."""
    on_gpus = (check for taken in found if taken.device_class == "gpu" for check in taken.checks)
    return all(map(_not_asked, on_gpus))


def markdown(part: Part, found: Sequence[Taken]) -> str:
    """The whole report of a part."""
    lines = [
        f"# {part.title}",
        "",
        f"Made by `nox -s report` from `reports/{part.name}/`; not edited by hand.",
        "",
        part.about,
        "",
    ]
    if never_on_a_gpu(found):
        lines += [part.never, ""]
    lines += [", ".join(verdict.spelt(outcome) for outcome in CheckOutcome) + ".", ""]
    if not found:
        lines += ["Nothing was asked yet.", ""]
    for device_class in sorted({taken.device_class for taken in found}, reverse=True):
        chosen = [taken for taken in found if taken.device_class == device_class]
        lines += _of_class(sorted(chosen, key=_rank), device_class)
    return "\n".join([*lines, f"To repeat it: `nox -s CELL -- --{part.name} --force`.", ""])


def _rank(taken: Taken) -> tuple[object, ...]:
    pins = taken.pins
    return parsed(pins["megatron-core"]), parsed(pins["nvidia-modelopt"]), taken.cell


def _of_class(found: Sequence[Taken], device_class: str) -> list[str]:
    lines = [f"## Device class `{device_class}`", ""]
    lines += _machines(found)
    kinds = sorted({c.kind for taken in found for c in taken.checks})
    families = list(dict.fromkeys(c.family for t in found for c in t.checks if c.family))
    lines += ["| cell | family | " + " | ".join(kinds) + " |"]
    lines += ["| --- | --- |" + " :-: |" * len(kinds)]
    for taken in found:
        for family in (*sorted(families), None):
            mine = {c.kind: c.outcome for c in taken.checks if c.family == family}
            if mine:
                row = (verdict.SYMBOLS[mine[k].value] if k in mine else "" for k in kinds)
                lines.append(f"| `{taken.cell}` | {family or ''} | " + " | ".join(row) + " |")
    return [*lines, "", *_costs(found), *_causes(found), *_reasons(found)]


def _machines(found: Sequence[Taken]) -> list[str]:
    """On what it was taken, where that is a GPU."""
    lines = []
    for taken in found:
        on = taken.platform
        if on.get("gpu"):
            said = f"{on['gpu']}, capability {on.get('capability')}, driver {on.get('driver')}"
            lines.append(f"- `{taken.cell}`: {escape(said)}, {on.get('gpus', 1)} of them")
    return [*lines, ""] if lines else []


def _costs(found: Sequence[Taken]) -> list[str]:
    """Memory and time of the checks that ran on a GPU."""
    rows = [
        f"| `{taken.cell}` | {c.check} | {c.details[MEMORY] / 2**20:.0f} | {c.seconds:.1f} |"
        for taken in found
        for c in taken.checks
        if isinstance(c.details.get(MEMORY), int)
    ]
    head = ["### Peak memory and time", "", "| cell | check | MiB | seconds |"]
    return [*head, "| --- | --- | ---: | ---: |", *rows, ""] if rows else []


def _causes(found: Sequence[Taken]) -> list[str]:
    """Each failure once, with the checks that it ended."""
    told: dict[str, Failure] = {}
    members: dict[str, list[str]] = {}
    for taken in found:
        for check in taken.checks:
            if check.outcome in FAILURES and check.failure:
                name = check.failure.fingerprint
                told.setdefault(name, check.failure)
                members.setdefault(name, []).append(f"`{taken.cell}` {check.check}")
    lines = ["### What is broken, and why", ""]
    if not members:
        return [*lines, "Nothing that was asked.", ""]
    for name, mine in sorted(members.items(), key=lambda g: (-len(g[1]), g[0])):
        failure = told[name]
        lines += [f"#### {escape(failure.type)} in {escape(failure.frame or 'unknown')}", ""]
        lines += [f"- message: {_said(failure.message)}", f"- fingerprint: `{name}`"]
        if failure.gpu_independent:
            lines.append(f"- the same with a GPU: {escape(failure.gpu_independent)}")
        lines += [f"- {', '.join(mine)}", ""]
    return lines


def _said(text: str) -> str:
    line = fingerprint.plain(" ".join(text.split()))
    return escape(line[:LONGEST]) + ("…" if len(line) > LONGEST else "")


def _reasons(found: Sequence[Taken]) -> list[str]:
    """Why something was not asked."""
    told: dict[tuple[str, str], list[str]] = {}
    for taken in found:
        for check in taken.checks:
            if _not_asked(check):
                key = (check.outcome.value, check.reason or "")
                told.setdefault(key, []).append(f"`{taken.cell}` {check.check}")
    lines = ["### What could not be asked", ""]
    if not told:
        return [*lines, "Nothing.", ""]
    for (outcome, reason), mine in sorted(told.items()):
        lines.append(f"- {outcome}, {_said(reason)}: {', '.join(mine)}")
    return [*lines, ""]


def _not_asked(check: CheckResult) -> bool:
    return check.outcome is not CheckOutcome.WORKS and check.outcome not in FAILURES
