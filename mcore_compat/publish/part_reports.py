"""A part's evidence → its Markdown. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from mcore_compat.core.cells import parsed
from mcore_compat.core.outcomes import FAILURES, CheckOutcome
from mcore_compat.publish import over_base
from mcore_compat.publish.rendering import render
from mcore_compat.results import verdict
from mcore_compat.results.evidence import CheckResult, Evidence, Failure
from mcore_compat.run.check_sets import GPU, RANKS, CheckSet

LONGEST = 400
"""Characters of a message that are shown."""

MEMORY = "peak memory, bytes"
"""What a check of the GPU tier records; the same name as in `suite/gpu/` (a test compares them)."""

IMPLEMENTATION = "implementation"
"""Where a check of a quantization format records what ran: `CUDA extension`, for example."""

Members = Sequence[tuple[Evidence, CheckResult]]


@dataclass(frozen=True, kw_only=True)
class Run:
    """A part in one cell: where it ran, and how it ended. `rows`: by kind of check the symbols of
    `columns` and which implementation ran; `implementations`: whether that is known of any."""

    taken: Evidence
    gpu: str
    incomplete: str
    stale: str
    facts: Sequence[tuple[str, str]]
    columns: tuple[str, ...]
    rows: Mapping[str, tuple[tuple[str, ...], str]]
    implementations: bool


@dataclass(frozen=True, kw_only=True)
class DeviceClass:
    """All runs of a part on one device class; `costs` are the checks that recorded their memory."""

    name: str
    runs: Sequence[Run]
    causes: Sequence[tuple[Failure, Members]]
    reasons: Mapping[tuple[str, str], Members]
    costs: Members


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
    classes = []
    for name in sorted({taken.device_class for taken in found}, reverse=True):
        mine = sorted((taken for taken in found if taken.device_class == name), key=_rank)
        classes.append(_of_class(name, mine, stale))
    return render(
        "part.md",
        part=part,
        texts=TEXTS[part.name],
        never=never_on_a_gpu(found),
        over_intro=over_base.INTRO if any(taken.base for taken in found) else "",
        classes=classes,
        longest=LONGEST,
        memory=MEMORY,
    )


def _rank(taken: Evidence) -> tuple[object, ...]:
    pins = taken.pins
    cell = parsed(pins["megatron-core"]), parsed(pins["nvidia-modelopt"]), taken.cell
    return (*cell, taken.base is not None)


def _of_class(
    name: str, found: Sequence[Evidence], stale: Callable[[Evidence], str]
) -> DeviceClass:
    every = [(taken, check) for taken in found for check in taken.checks]
    return DeviceClass(
        name=name,
        runs=[_run(taken, stale(taken) if taken.base else "") for taken in found],
        causes=_causes(every),
        reasons=_reasons(every),
        costs=[(t, c) for t, c in every if isinstance(c.details.get(MEMORY), int)],
    )


def _run(taken: Evidence, stale: str) -> Run:
    families = sorted({c.family for c in taken.checks if c.family})
    by_kind: dict[str, dict[str, CheckResult]] = {}
    for check in taken.checks:
        by_kind.setdefault(check.kind, {})[check.family or "no family"] = check
    whole = any("no family" in mine for mine in by_kind.values())
    columns = (*families, *(["no family"] if whole else []))
    rows = {}
    for kind, mine in sorted(by_kind.items()):
        outcomes = (mine[f].outcome.value if f in mine else None for f in columns)
        symbols = tuple(verdict.SYMBOLS[outcome] if outcome else "" for outcome in outcomes)
        rows[kind] = symbols, _implementations(mine)
    return Run(
        taken=taken,
        gpu=over_base.gpu(taken.platform) if taken.platform.get("gpu") else "",
        incomplete="" if taken.complete else over_base.incomplete(len(taken.checks)),
        stale=stale,
        facts=over_base.facts(taken.base) if taken.base else (),
        columns=columns,
        rows=rows,
        implementations=any(name for _, name in rows.values()),
    )


def _implementations(mine: Mapping[str, CheckResult]) -> str:
    """Which implementation of a format ran; with its families, where not the same in all."""
    by_text: dict[str, list[str]] = {}
    for family, check in mine.items():
        said = check.details.get(IMPLEMENTATION)
        if said:
            by_text.setdefault(str(said), []).append(family)
    if len(by_text) == 1:
        return next(iter(by_text))
    return "; ".join(f"{', '.join(sorted(f))}: {text}" for text, f in sorted(by_text.items()))


def _causes(every: Members) -> list[tuple[Failure, Members]]:
    """Each failure once, with the checks that it ended."""
    failures: dict[str, Failure] = {}
    members: dict[str, list[tuple[Evidence, CheckResult]]] = {}
    for taken, check in every:
        if check.outcome in FAILURES and check.failure:
            name = check.failure.fingerprint
            failures.setdefault(name, check.failure)
            members.setdefault(name, []).append((taken, check))
    order = sorted(members, key=lambda name: (-len(members[name]), name))
    return [(failures[name], members[name]) for name in order]


def _reasons(every: Members) -> dict[tuple[str, str], Members]:
    """Why something was not asked."""
    members: dict[tuple[str, str], list[tuple[Evidence, CheckResult]]] = {}
    for taken, check in every:
        if _not_asked(check):
            key = (check.outcome.value, check.reason or "")
            members.setdefault(key, []).append((taken, check))
    return {key: members[key] for key in sorted(members)}


def _not_asked(check: CheckResult) -> bool:
    return check.outcome is not CheckOutcome.WORKS and check.outcome not in FAILURES
