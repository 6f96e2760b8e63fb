"""A part's evidence → its Markdown. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from mcore_compat.base.markup import escape
from mcore_compat.core.cells import parsed
from mcore_compat.core.outcomes import FAILURES, CheckOutcome
from mcore_compat.publish import over_base
from mcore_compat.results import fingerprint, verdict
from mcore_compat.results.evidence import CheckResult, Evidence, Failure
from mcore_compat.run.check_sets import GPU, RANKS, CheckSet

LONGEST = 400
"""Characters of a message that are shown."""

MEMORY = "peak memory, bytes"
"""What a check of the GPU tier records; the same name as in `suite/gpu/` (a test compares them)."""

IMPLEMENTATION = "implementation"
"""Where a check of a quantization format records what ran: `CUDA extension`, for example."""


@dataclass(frozen=True, kw_only=True)
class Texts:
    """`title` and `about` head a report; `never` is said there while no GPU has run it."""

    title: str
    about: str
    never: str


TEXTS = {
    RANKS.name: Texts(
        title="Restore across parallel sizes",
        about=(
            "One rank saves a default-spec model and two load it into a ModelOpt-spec model, and "
            "the other way round: tensor-parallel (`tp`) and pipeline-parallel (`pp`) sizes 1 and "
            "2. Every piece that a rank holds is compared bit for bit with the same piece of what "
            "was saved; `1-to-2` also saves with two ranks what they loaded, and loads that with "
            "one."
        ),
        never=(
            "No rank has spoken NCCL yet: no check made its assertion on a device of the class "
            "`gpu`. Without GPUs the ranks speak gloo, on the CPU."
        ),
    ),
    GPU.name: Texts(
        title="The GPU tier",
        about=(
            "Models on the device in bfloat16 and float32: restore, prefill and decode, logits "
            "against those of the default spec, quantization with calibration, quantized inference "
            "and training. Nothing stands in for a GPU here."
        ),
        never=(
            "**Never run on a GPU.** No check made its assertion on a device of the class `gpu`: "
            "they are written against the packages' sources, nothing is known of what they would "
            "show, and nothing is claimed."
        ),
    ),
}


def _holds(taken: Evidence) -> str:
    return ""


def never_on_a_gpu(found: Iterable[Evidence]) -> bool:
    """Whether no check of a part ever made its assertion on a GPU, over a base or not."""
    on_gpus = (check for taken in found if taken.device_class == "gpu" for check in taken.checks)
    return all(map(_not_asked, on_gpus))


def markdown(
    part: CheckSet, found: Sequence[Evidence], stale: Callable[[Evidence], str] = _holds
) -> str:
    """The whole report of a part: of locked cells, and of what ran over a base. `stale` tells why
    a result over a base does not hold any more."""
    texts = TEXTS[part.name]
    lines = [
        f"# {texts.title}",
        "",
        f"Made by `nox -s report` from the results `{part.name}.*.json` below `reports/results/` "
        "and `reports/over-base/`; not edited by hand.",
        "",
        texts.about,
        "",
    ]
    if never_on_a_gpu(found):
        lines += [texts.never, ""]
    lines += [", ".join(verdict.spelt(outcome) for outcome in CheckOutcome) + ".", ""]
    if not found:
        lines += ["Nothing was asked yet.", ""]
    if any(taken.base for taken in found):
        lines += [over_base.INTRO, ""]
    for device_class in sorted({taken.device_class for taken in found}, reverse=True):
        chosen = [taken for taken in found if taken.device_class == device_class]
        lines += _of_class(sorted(chosen, key=_rank), device_class, stale)
    return "\n".join([*lines, f"To repeat it: `nox -s CELL -- --{part.name} --force`.", ""])


def _rank(taken: Evidence) -> tuple[object, ...]:
    pins = taken.pins
    cell = parsed(pins["megatron-core"]), parsed(pins["nvidia-modelopt"]), taken.cell
    return (*cell, taken.base is not None)


def _name(taken: Evidence) -> str:
    """A locked cell and what ran over a base may have one name."""
    return f"`{taken.cell}`" + (" (over a base)" if taken.base else "")


def _of_class(
    found: Sequence[Evidence], device_class: str, stale: Callable[[Evidence], str]
) -> list[str]:
    lines = [f"## Device class `{device_class}`", "", "### Where it ran", ""]
    for taken in found:
        lines += _where(taken, stale(taken) if taken.base else "")
    lines.append("")
    for taken in found:
        lines += _table(taken)
    return [*lines, *_causes(found), *_reasons(found), *_costs(found)]


def _where(taken: Evidence, stale: str) -> list[str]:
    """On what it was taken, what that differs in, and how far it came."""
    on = taken.platform
    said = [taken.taken[:10]]
    if on.get("gpu"):
        said.append(over_base.gpu(on))
    words = [escape(", ".join(said))]
    if not taken.complete:
        words.append(f"**{over_base.incomplete(len(taken.checks))}**")
    if stale:
        words.append(f"**stale**: {stale}")
    lines = [f"- {_name(taken)}: {'; '.join(words)}"]
    if taken.base:
        lines += [f"  {line}" for line in over_base.markdown_facts(taken.base)]
    return lines


def _table(taken: Evidence) -> list[str]:
    """Each thing that was asked, by family; with which implementation ran, where that is known."""
    families = sorted({c.family for c in taken.checks if c.family})
    cut = "" if taken.complete else f": {over_base.incomplete(len(taken.checks))}"
    lines = [f"### {_name(taken)}{cut}", ""]
    if not taken.checks:
        return [*lines, "No check came to its end.", ""]
    by_kind: dict[str, dict[str | None, CheckResult]] = {}
    for check in taken.checks:
        by_kind.setdefault(check.kind, {})[check.family] = check
    ran = {kind: _implementations(mine) for kind, mine in by_kind.items()}
    head = ["check", *families]
    whole = any(None in mine for mine in by_kind.values())
    head += [*(["no family"] if whole else []), *(["implementation"] if any(ran.values()) else [])]
    lines.append(f"| {' | '.join(head)} |")
    lines.append("| --- |" + " :-: |" * (len(families) + whole) + " --- |" * any(ran.values()))
    for kind, mine in sorted(by_kind.items()):
        row = [kind] + [
            verdict.SYMBOLS[mine[family].outcome.value] if family in mine else ""
            for family in (*families, *([None] if whole else []))
        ]
        row += [ran[kind]] if any(ran.values()) else []
        lines.append(f"| {' | '.join(row)} |")
    return [*lines, ""]


def _implementations(mine: Mapping[str | None, CheckResult]) -> str:
    """Which implementation of a format ran; with its families, where not the same in all."""
    by_text: dict[str, list[str]] = {}
    for family, check in mine.items():
        said = check.details.get(IMPLEMENTATION)
        if said:
            by_text.setdefault(str(said), []).append(family or "")
    if len(by_text) == 1:
        return escape(next(iter(by_text)))
    return "; ".join(f"{', '.join(sorted(f))}: {escape(t)}" for t, f in sorted(by_text.items()))


def _costs(found: Sequence[Evidence]) -> list[str]:
    """Memory and time of the checks that ran on a GPU."""
    rows = [
        f"| {_name(taken)} | {c.check} | {c.details[MEMORY] / 2**20:.0f} | {c.seconds:.1f} |"
        for taken in found
        for c in taken.checks
        if isinstance(c.details.get(MEMORY), int)
    ]
    head = ["### Peak memory and time", "", "| cell | check | MiB | seconds |"]
    return [*head, "| --- | --- | ---: | ---: |", *rows, ""] if rows else []


def _causes(found: Sequence[Evidence]) -> list[str]:
    """Each failure once, with the checks that it ended."""
    told: dict[str, Failure] = {}
    members: dict[str, list[str]] = {}
    for taken in found:
        for check in taken.checks:
            if check.outcome in FAILURES and check.failure:
                name = check.failure.fingerprint
                told.setdefault(name, check.failure)
                members.setdefault(name, []).append(f"{_name(taken)} {check.check}")
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


def _reasons(found: Sequence[Evidence]) -> list[str]:
    """Why something was not asked."""
    told: dict[tuple[str, str], list[str]] = {}
    for taken in found:
        for check in taken.checks:
            if _not_asked(check):
                key = (check.outcome.value, check.reason or "")
                told.setdefault(key, []).append(f"{_name(taken)} {check.check}")
    lines = ["### What could not be asked", ""]
    if not told:
        return [*lines, "Nothing.", ""]
    for (outcome, reason), mine in sorted(told.items()):
        lines.append(f"- {outcome}, {_said(reason)}: {', '.join(mine)}")
    return [*lines, ""]


def _not_asked(check: CheckResult) -> bool:
    return check.outcome is not CheckOutcome.WORKS and check.outcome not in FAILURES
