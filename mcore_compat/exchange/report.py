"""Exchange evidence → `reports/EXCHANGE.md`: saved with ↓, loaded with →. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mcore_compat.base.markup import escape
from mcore_compat.core.cells import PREFIX, parsed, series_of
from mcore_compat.core.outcomes import CheckOutcome
from mcore_compat.exchange.evidence import Answer, Exchanged, gist
from mcore_compat.exchange.loading import NOT_SAVED
from mcore_compat.exchange.plan import STATE, WAYS
from mcore_compat.results import verdict
from mcore_compat.results.evidence import Failure

NAME = "EXCHANGE.md"
"""In the folder of all that is published."""

HEADS: Mapping[str, str] = {
    "default": "default spec → default spec",
    "modelopt": "ModelOpt spec → ModelOpt spec",
    "default-to-modelopt": "default spec → ModelOpt spec (upgrade and change of spec at once)",
    "quantized": "quantized fp8 → ModelOpt spec, with ModelOpt's state",
}

LONGEST = 400
"""Characters of a message that are shown."""

Ends = tuple[str, str, str]
"""Megatron-core and ModelOpt of a cell, and what it is called."""

FEW = 6
"""Of what was recorded, so much is shown."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One answer, with what it is an answer to."""

    origin: Ends
    target: Ends
    family: str
    way: str
    answer: Answer


def rows(found: Iterable[Exchanged]) -> Iterator[Row]:
    """Every answer of the evidence, one by one."""
    for one in found:
        for name, source in one.sources.items():
            for key, answer in source.answers.items():
                family, _, way = key.partition(":")
                yield Row(
                    origin=_ends(name, source.pins),
                    target=_ends(one.cell, one.pins),
                    family=family,
                    way=way,
                    answer=answer,
                )


def _ends(cell: str, pins: Mapping[str, str]) -> Ends:
    called = cell.removeprefix(PREFIX).replace("-modelopt", " / ", 1).replace("-", " ")
    return pins["megatron-core"], pins["nvidia-modelopt"], called


def _rank(ends: Ends) -> tuple[object, ...]:
    return parsed(ends[0]), parsed(ends[1]), ends[2]


def label(ends: Ends) -> str:
    """`0.16 / 0.41`: megatron-core and ModelOpt as the cell's name has them, and what of its stack
    is not the series' own."""
    return escape(ends[2])


def markdown(found: Sequence[Exchanged], outdated: Sequence[str] = ()) -> str:
    """The whole report; `outdated`: in words, what does not hold any more."""
    lines = [
        "# Checkpoints across releases",
        "",
        "Made by `nox -s exchange` from `reports/exchange/`; not edited by hand.",
        "",
        "Each cell saved tiny checkpoints with a manifest of every tensor; each other cell filled",
        "a model with a sentinel, loaded them with all defaults, and compared every tensor bit",
        "for bit. Cells are named megatron-core / ModelOpt; torch and TE are the series' own where",
        "the name says nothing else.",
        "",
        ", ".join(verdict.spelt(outcome) for outcome in CheckOutcome)
        + ", · untested. `blocked`: it could not be saved.",
        "",
    ]
    if outdated:
        lines += ["Does not hold any more, until `nox -s exchange` is run again:", ""]
        lines += [*(f"- {escape(text)}" for text in outdated), ""]
    for device_class in sorted({one.device_class for one in found}) or ["host"]:
        chosen = [one for one in found if one.device_class == device_class]
        lines += _of_class(chosen, device_class)
    return "\n".join(lines)


def _of_class(found: Sequence[Exchanged], device_class: str) -> list[str]:
    every = list(rows(found))
    lines = [f"## Device class `{device_class}`", ""]
    if not every:
        return [*lines, "Nothing was exchanged yet.", ""]
    main = _main([r for r in every if r.way != STATE])
    lines += _counts(every)
    shown: set[int] = set()
    for way in WAYS:
        chosen = [r for r in every if r.way == way and {r.origin, r.target} <= {*main}]
        lines += _tables(chosen, main, HEADS[way])
        shown.update(map(id, chosen))
    for series in sorted({series_of(r.origin[0]) for r in every}, key=parsed):
        same = [
            r
            for r in every
            if r.way == STATE and {series_of(r.origin[0]), series_of(r.target[0])} == {series}
        ]
        ends = sorted({end for r in same for end in (r.origin, r.target)}, key=_rank)
        if any(r.origin != r.target for r in same):
            head = f"{HEADS[STATE]}, over ModelOpt series with megatron-core {series}"
            lines += _tables(same, ends, head)
            shown.update(map(id, same))
    lines += _others([r for r in every if id(r) not in shown])
    return [*lines, *_causes(found, every), *_recorded(every), *_reasons(every)]


def _main(every: Sequence[Row]) -> list[Ends]:
    """The cells of the large tables: those that were asked with at least a third as many others as
    the one that was asked with the most. A pair asked by itself would be a row of gaps."""
    with_: dict[Ends, set[Ends]] = {}
    for row in every:
        with_.setdefault(row.origin, set()).add(row.target)
        with_.setdefault(row.target, set()).add(row.origin)
    most = max(map(len, with_.values()), default=0)
    return sorted((end for end, others in with_.items() if 3 * len(others) >= most), key=_rank)


def _others(every: Sequence[Row]) -> list[str]:
    """What stands in no large table, a pair and a way a line."""
    if not every:
        return []
    families = sorted({r.family for r in every})
    lines = ["### Pairs that were asked by themselves", ""]
    lines.append("| saved with | loaded with | way | " + " | ".join(families) + " |")
    lines.append("| --- | --- | --- |" + " :-: |" * len(families))
    found = {(r.origin, r.target, r.way, r.family): r.answer.outcome.value for r in every}
    pairs = {(r.origin, r.target) for r in every}
    for origin, target in sorted(pairs, key=lambda pair: (_rank(pair[0]), _rank(pair[1]))):
        for way in WAYS:
            ended = [found.get((origin, target, way, family)) for family in families]
            if any(ended):
                symbols = " | ".join(verdict.SYMBOLS[o or "untested"] for o in ended)
                lines.append(f"| {label(origin)} | {label(target)} | {HEADS[way]} | {symbols} |")
    return [*lines, ""]


def _counts(every: Sequence[Row]) -> list[str]:
    lines = ["| way | " + " | ".join(o.value for o in CheckOutcome) + " |"]
    lines.append("| --- |" + " ---: |" * len(CheckOutcome))
    for way in WAYS:
        count = Counter(r.answer.outcome for r in every if r.way == way)
        said = " | ".join(str(count[outcome]) for outcome in CheckOutcome)
        lines.append(f"| {HEADS[way]} | {said} |")
    return [*lines, ""]


def _tables(every: Sequence[Row], ends: Sequence[Ends], head: str) -> list[str]:
    """One table for each family that was asked."""
    lines: list[str] = []
    for family in sorted({r.family for r in every}):
        mine = {(r.origin, r.target): r.answer.outcome for r in every if r.family == family}
        lines += [f"### {head}: {family}", ""]
        lines.append("| saved with ↓, loaded with → | " + " | ".join(map(label, ends)) + " |")
        lines.append("| --- |" + " :-: |" * len(ends))
        for origin in ends:
            cells = (mine.get((origin, target)) for target in ends)
            symbols = (verdict.SYMBOLS[o.value if o else "untested"] for o in cells)
            lines.append(f"| {label(origin)} | " + " | ".join(symbols) + " |")
        lines.append("")
    return lines


def _causes(found: Sequence[Exchanged], every: Sequence[Row]) -> list[str]:
    """Each failure once, those first that stand in most ways."""
    told: dict[str, Failure] = {}
    for one in sorted(found, key=lambda e: _rank(_ends(e.cell, e.pins))):
        for name, failure in sorted(one.failures.items()):
            told.setdefault(name, failure)
    members: dict[str, list[Row]] = {}
    for row in every:
        if row.answer.cause is not None:
            members.setdefault(row.answer.cause, []).append(row)
    lines = ["### What is broken, and why", ""]
    if not members:
        return [*lines, "Nothing that was asked.", ""]
    for name, mine in sorted(members.items(), key=lambda g: (-len(g[1]), g[0])):
        failure = told[name]
        message = gist(failure)
        cut = message[:LONGEST] + ("…" if len(message) > LONGEST else "")
        lines += [
            f"#### {escape(failure.type)} in {escape(failure.frame or 'unknown')}",
            "",
            f"- message: {escape(cut)}",
            f"- fingerprint: `{name}`; {len(mine)} loads",
        ]
        if failure.gpu_independent:
            lines.append(f"- the same with a GPU: {escape(failure.gpu_independent)}")
        lines += [f"- {line}" for line in _where(mine)]
        lines.append("")
    return lines


def _where(mine: Sequence[Row]) -> Iterator[str]:
    """Which families and ways, into which cells, from which: a line for each of those that share
    all else."""
    what: dict[tuple[Ends, tuple[Ends, ...]], set[str]] = {}
    for target in {r.target for r in mine}:
        asked = {(r.family, r.way) for r in mine if r.target == target}
        for family, way in asked:
            origins = {
                r.origin for r in mine if (r.target, r.family, r.way) == (target, family, way)
            }
            key = (target, tuple(sorted(origins, key=_rank)))
            what.setdefault(key, set()).add(f"{family}:{way}")
    for key in sorted(what, key=lambda k: (_rank(k[0]), [_rank(o) for o in k[1]])):
        names = ", ".join(f"`{name}`" for name in sorted(what[key]))
        yield f"into {label(key[0])} from {', '.join(map(label, key[1]))}: {names}"


RECORDED: Mapping[str, str] = {
    "other keys": "the same tensor under another key than TO asks for",
    "other names": "the same key, and another name of the parameter",
    "disabled quantizers": "quantizers that do nothing, and are not the same",
    "load with defaults": "a load with all defaults raises",
    "lenient load loses": "what a lenient load loses",
}
"""What checks noted of a load, whatever its outcome."""


def _recorded(every: Sequence[Row]) -> list[str]:
    """What is renamed, and what else was seen of loads that may have worked."""
    told: dict[tuple[str, str], list[Row]] = {}
    for row in every:
        for name, value in row.answer.notes.items():
            told.setdefault((name, "; ".join(_entries(value))), []).append(row)
    lines = ["### What is renamed, and what else was noted", ""]
    if not told:
        return [*lines, "Nothing.", ""]
    for (name, text), mine in sorted(told.items(), key=lambda t: (t[0][0], -len(t[1]), t[0][1])):
        lines.append(f"- {RECORDED.get(name, name)}: {escape(text)}")
        lines += [f"  - {line}" for line in _where(mine)]
    return [*lines, ""]


def _entries(value: object) -> list[str]:
    """What was noted, as short texts."""
    if isinstance(value, Mapping):
        entries = [f"{name}: {_plain(one)}" for name, one in sorted(value.items())]
    else:
        entries = list(map(str, value)) if isinstance(value, list) else [str(value)]
    rest = len(entries) - FEW
    return [*entries[:FEW], f"and {rest} more"] if rest > 0 else entries


def _plain(value: object) -> str:
    return ", ".join(map(str, value[:FEW])) if isinstance(value, list) else str(value)


def _reasons(every: Sequence[Row]) -> list[str]:
    """Why something was not asked."""
    told: dict[tuple[str, str], list[Row]] = {}
    for row in every:
        if row.answer.reason:
            told.setdefault((row.answer.outcome.value, row.answer.reason), []).append(row)
    lines = ["### What could not be asked", ""]
    if not told:
        return [*lines, "Nothing.", ""]
    for (outcome, reason), mine in sorted(told.items()):
        names = sorted({f"`{r.family}:{r.way}`" for r in mine})
        side = "saved" if reason.startswith(NOT_SAVED) else "loaded"
        ends = {r.origin if side == "saved" else r.target for r in mine}
        where = ", ".join(map(label, sorted(ends, key=_rank)))
        lines.append(f"- {outcome}, {side} with {where}: {', '.join(names)}: {escape(reason)}")
    return [*lines, ""]


def texts(found: Sequence[Exchanged], outdated: Sequence[str] = ()) -> dict[str, str]:
    """The published file and its text; none where nothing was exchanged."""
    return {NAME: markdown(found, outdated)} if found else {}
