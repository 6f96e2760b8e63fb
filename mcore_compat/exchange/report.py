"""Results of exchanges → `reports/EXCHANGE.md`: saved with ↓, loaded with →. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mcore_compat.core.cells import PREFIX, parsed, series_of
from mcore_compat.exchange.loading import NOT_SAVED
from mcore_compat.exchange.plan import STATE, WAYS
from mcore_compat.exchange.transfer_results import UNDER, answers, gist
from mcore_compat.publish.rendering import render
from mcore_compat.results import comparison, verdict
from mcore_compat.results.result import CheckResult, Failure, Result

NAME = "EXCHANGE.md"
"""The file's name in the folder of published files."""

HEADS: Mapping[str, str] = {
    "default": "default spec → default spec",
    "modelopt": "ModelOpt spec → ModelOpt spec",
    "default-to-modelopt": "default spec → ModelOpt spec (upgrade and change of spec at once)",
    "quantized": "quantized fp8 → ModelOpt spec, with ModelOpt's state",
}

LONGEST = 400
"""The number of characters of a message that are shown."""

Ends = tuple[str, str, str]
"""The megatron-core and ModelOpt of a cell, and its name in the report."""

FEW = 6
"""The number of recorded entries that are shown."""


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """One check of a load, with its cells, family and way."""

    origin: Ends
    target: Ends
    family: str
    way: str
    answer: CheckResult


def transfers(found: Iterable[Result]) -> Iterator[Transfer]:
    """Every load in the results."""
    for result in found:
        for name, by_key in answers(result).items():
            for key, answer in by_key.items():
                family, _, way = key.partition(":")
                yield Transfer(
                    origin=_ends(name, result.sources[name].pins),
                    target=_ends(result.cell, result.pins),
                    family=family,
                    way=way,
                    answer=answer,
                )


def _ends(cell: str, pins: Mapping[str, str]) -> Ends:
    called = cell.removeprefix(PREFIX).replace("-modelopt", " / ", 1).replace("-", " ")
    return pins["megatron-core"], pins["nvidia-modelopt"], called


def _rank(ends: Ends) -> tuple[object, ...]:
    return parsed(ends[0]), parsed(ends[1]), ends[2]


Place = tuple[list[str], list[str], dict[str, str]]
"""Transfers between the same cells, those that loaded and those that saved; last, the ways of the
families that share them."""


def markdown(found: Sequence[Result], outdated: Sequence[str] = ()) -> str:
    """The whole report; `outdated`: in words, which results are out of date."""
    classes = sorted({one.device_class for one in found}) or ["host"]
    return render(
        "exchange.md",
        outdated=outdated,
        ways=HEADS,
        longest=LONGEST,
        classes={name: _of_class([e for e in found if e.device_class == name]) for name in classes},
    )


def _of_class(found: Sequence[Result]) -> dict[str, Any]:
    every = list(transfers(found))
    main = _main([t for t in every if t.way != STATE])
    shown: set[int] = set()
    grids = []
    for way in WAYS:
        chosen = [t for t in every if t.way == way and {t.origin, t.target} <= {*main}]
        grids += [_grid(HEADS[way], chosen, main)] if chosen else []
        shown.update(map(id, chosen))
    for series in sorted({series_of(t.origin[0]) for t in every}, key=parsed):
        same = [
            t
            for t in every
            if t.way == STATE and {series_of(t.origin[0]), series_of(t.target[0])} == {series}
        ]
        if any(t.origin != t.target for t in same):
            ends = sorted({end for t in same for end in (t.origin, t.target)}, key=_rank)
            head = f"{HEADS[STATE]}, over ModelOpt series with megatron-core {series}"
            grids.append(_grid(head, same, ends))
            shown.update(map(id, same))
    others = [t for t in every if id(t) not in shown]
    return {
        "asked": bool(every),
        "counts": {way: Counter(t.answer.outcome for t in every if t.way == way) for way in WAYS},
        "grids": grids,
        "families": sorted({t.family for t in others}),
        "others": list(_others(others)),
        "causes": list(_causes(every)),
        "conditions": _conditions(every),
        "notes": _notes(every),
        "reasons": list(_reasons(every)),
    }


def _main(every: Sequence[Transfer]) -> list[Ends]:
    """The cells of the large tables: those that ran with at least a third as many others as the
    cell that ran with the most. A single pair would be a row of gaps."""
    with_: dict[Ends, set[Ends]] = {}
    for one in every:
        with_.setdefault(one.origin, set()).add(one.target)
        with_.setdefault(one.target, set()).add(one.origin)
    most = max(map(len, with_.values()), default=0)
    return sorted((end for end, others in with_.items() if 3 * len(others) >= most), key=_rank)


def _grid(head: str, every: Sequence[Transfer], ends: Sequence[Ends]) -> dict[str, Any]:
    """One way between cells: in `rows`, by the cell that saved, the symbols of `families` for each
    of `ends`, the cells that loaded; one symbol where all families ended alike."""
    families = sorted({t.family for t in every})
    outcomes = {(t.origin, t.target, t.family): t.answer.outcome.value for t in every}

    def square(origin: Ends, target: Ends) -> str:
        ended = (outcomes.get((origin, target, family), "untested") for family in families)
        symbols = [verdict.SYMBOLS[outcome] for outcome in ended]
        return symbols[0] if len({*symbols}) == 1 else "".join(symbols)

    rows = {origin[2]: [square(origin, target) for target in ends] for origin in ends}
    return {"head": head, "families": families, "ends": [end[2] for end in ends], "rows": rows}


def _others(every: Sequence[Transfer]) -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    """The loads in no large table, a pair and a way a line, with the symbols of its families."""
    families = sorted({t.family for t in every})
    outcomes = {(t.origin, t.target, t.way, t.family): t.answer.outcome.value for t in every}
    pairs = {(t.origin, t.target) for t in every}
    for origin, target in sorted(pairs, key=lambda pair: (_rank(pair[0]), _rank(pair[1]))):
        for way in WAYS:
            ended = [outcomes.get((origin, target, way, family)) for family in families]
            if any(ended):
                symbols = tuple(verdict.SYMBOLS[outcome or "untested"] for outcome in ended)
                yield origin[2], target[2], HEADS[way], symbols


def _causes(every: Sequence[Transfer]) -> Iterator[tuple[Failure, str, int, list[Place]]]:
    """Each failure once, the most frequent first: its message, how many loads it failed, and where.
    Includes loads that were blocked by a save with that failure."""
    members: dict[str, list[tuple[Failure, Transfer]]] = {}
    for transfer in sorted(every, key=lambda t: _rank(t.target)):
        failure = transfer.answer.failure
        if failure and not transfer.answer.condition:
            members.setdefault(failure.fingerprint, []).append((failure, transfer))
    for _, mine in sorted(members.items(), key=lambda g: (-len(g[1]), g[0])):
        failure = mine[0][0]
        yield failure, gist(failure), len(mine), _places([transfer for _, transfer in mine])


def _conditions(every: Sequence[Transfer]) -> dict[str, list[Place]]:
    """By condition: the loads that lose nothing under it, but fail with all defaults."""
    members: dict[str, list[Transfer]] = {}
    for transfer in every:
        if transfer.answer.condition:
            members.setdefault(transfer.answer.condition, []).append(transfer)
    return {condition: _places(members[condition]) for condition in sorted(members)}


def _places(mine: Sequence[Transfer]) -> list[Place]:
    """Where it occurs; targets with the same families, ways and origins together."""
    asked_of: dict[tuple[Ends, str, str], set[Ends]] = {}
    for t in mine:
        asked_of.setdefault((t.target, t.family, t.way), set()).add(t.origin)
    what: dict[tuple[Ends, tuple[Ends, ...]], set[tuple[str, str]]] = {}
    for (target, family, way), origins in asked_of.items():
        key = target, tuple(sorted(origins, key=_rank))
        what.setdefault(key, set()).add((family, way))
    targets: dict[tuple[tuple[Ends, ...], tuple[tuple[str, str], ...]], list[Ends]] = {}
    for target, from_ in sorted(what, key=lambda k: (_rank(k[0]), [_rank(end) for end in k[1]])):
        asked = tuple(sorted(what[target, from_]))
        targets.setdefault((from_, asked), []).append(target)
    return [
        ([end[2] for end in into], [end[2] for end in from_], _by_ways(asked))
        for (from_, asked), into in targets.items()
    ]


def _by_ways(asked: Iterable[tuple[str, str]]) -> dict[str, str]:
    """By families that share them: ways."""
    ways: dict[str, list[str]] = {}
    for family, way in asked:
        ways.setdefault(family, []).append(way)
    families: dict[str, list[str]] = {}
    for family, mine in ways.items():
        families.setdefault(", ".join(mine), []).append(family)
    return {", ".join(alike): mine for mine, alike in families.items()}


RECORDED: Mapping[str, str] = {
    "other keys": "the same tensor under another key than TO asks for",
    "other names": "the same key, and another name of the parameter",
    "disabled quantizers": "quantizers that do nothing, and are not the same",
    "with defaults": "a load with all defaults raises",
    "load with defaults": "a load with all defaults raises",
    "lenient load loses": "what a lenient load loses",  # in older results
}
"""Descriptions of the details that checks recorded of a load, whatever its outcome."""


def _notes(every: Sequence[Transfer]) -> list[tuple[str, str, list[Place]]]:
    """Renamed tensors and other recorded details, also of loads that worked."""
    members: dict[tuple[str, str], list[Transfer]] = {}
    for transfer in every:
        for name, value in transfer.answer.details.items():
            members.setdefault((name, "; ".join(_entries(value))), []).append(transfer)
    order = sorted(members, key=lambda key: (key[0], -len(members[key]), key[1]))
    return [(_recorded(name), text, _places(members[name, text])) for name, text in order]


def _recorded(name: str) -> str:
    if name.startswith(UNDER):
        return f"a load with {comparison.one_line(name.removeprefix(UNDER))} raises"
    return RECORDED.get(name, name)


def _entries(value: object) -> list[str]:
    """A recorded detail as short texts."""
    if isinstance(value, Mapping):
        entries = [f"{name}: {_plain(one)}" for name, one in sorted(value.items())]
    else:
        entries = list(map(str, value)) if isinstance(value, list) else [str(value)]
    rest = len(entries) - FEW
    return [*entries[:FEW], f"and {rest} more"] if rest > 0 else entries


def _plain(value: object) -> str:
    return ", ".join(map(str, value[:FEW])) if isinstance(value, list) else str(value)


def _reasons(
    every: Sequence[Transfer],
) -> Iterator[tuple[str, str, list[str], dict[str, str], str]]:
    """Why loads did not run: outcome, side, the cells of that side, the loads, and the reason."""
    members: dict[tuple[str, str], list[Transfer]] = {}
    for transfer in every:
        if transfer.answer.reason:
            key = transfer.answer.outcome.value, transfer.answer.reason
            members.setdefault(key, []).append(transfer)
    for (outcome, reason), mine in sorted(members.items()):
        side = "saved" if reason.startswith(NOT_SAVED) else "loaded"
        ends = {t.origin if side == "saved" else t.target for t in mine}
        cells = [end[2] for end in sorted(ends, key=_rank)]
        yield outcome, side, cells, _by_ways(sorted({(t.family, t.way) for t in mine})), reason


def texts(found: Sequence[Result], outdated: Sequence[str] = ()) -> dict[str, str]:
    """The published file and its text; empty without results."""
    return {NAME: markdown(found, outdated)} if found else {}
