"""Whether a call fits a signature. Arguments by `*` or `**` are never guessed. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mcore_compat.api.definitions import (
    ARGS,
    KEYWORD,
    KWARGS,
    POSITIONAL,
    POSITIONAL_ONLY,
    FunctionParameter,
)

UNKNOWN_KEYWORD = "parameter not there"
TOO_MANY = "too many by position"
KEYWORD_ONLY = "by keyword only"
POSITIONAL_NOW = "by position only"
TWICE = "given twice"
REQUIRED = "parameter required"


@dataclass(frozen=True, kw_only=True)
class CallShape:
    """The shape of a call: the number of positional arguments and the keywords. `more`,
    `more_keywords`: also by `*` or `**`; `partial`: further arguments come later."""

    positional: int = 0
    keywords: tuple[str, ...] = ()
    more: bool = False
    more_keywords: bool = False
    partial: bool = False


@dataclass(frozen=True, kw_only=True)
class Misfit:
    """A mismatch between a call and a signature; `name`: the parameter."""

    kind: str
    name: str


def misfits(call: CallShape, parameters: Sequence[FunctionParameter]) -> tuple[Misfit, ...]:
    """Why a function does not accept a call; empty if it does, or may."""
    return tuple(_misfits(call, parameters))


def _misfits(call: CallShape, parameters: Sequence[FunctionParameter]) -> Iterator[Misfit]:
    by_position = [p for p in parameters if p.kind in (POSITIONAL_ONLY, POSITIONAL)]
    kinds = {p.kind for p in parameters}
    if call.positional > len(by_position) and ARGS not in kinds:
        keywords = [p.name for p in parameters if p.kind == KEYWORD]
        beyond = call.positional - len(by_position)
        left = [name for name in keywords if name not in call.keywords]
        if left and beyond <= len(left):
            yield Misfit(kind=KEYWORD_ONLY, name=", ".join(left[:beyond]))
        else:
            takes = f"{call.positional} given, {len(by_position)} taken"
            yield Misfit(kind=TOO_MANY, name=takes)
    given = {p.name for p in by_position[: call.positional]}
    by_name = {p.name: p for p in parameters if p.kind in (POSITIONAL, KEYWORD)}
    only = {p.name for p in parameters if p.kind == POSITIONAL_ONLY}
    for keyword in call.keywords:
        if keyword in by_name:
            if keyword in given:
                yield Misfit(kind=TWICE, name=keyword)
        elif KWARGS not in kinds:
            kind = POSITIONAL_NOW if keyword in only else UNKNOWN_KEYWORD
            yield Misfit(kind=kind, name=keyword)
    if call.partial or call.more_keywords:
        return
    for p in parameters:
        filled = p.name in given or p.name in call.keywords
        maybe = call.more and p.kind in (POSITIONAL_ONLY, POSITIONAL)
        if p.required and not filled and not maybe:
            yield Misfit(kind=REQUIRED, name=p.name)


def bindings(call: CallShape, parameters: Sequence[FunctionParameter]) -> tuple[str, ...]:
    """The parameters that the positional arguments go to."""
    names = [p.name for p in parameters if p.kind in (POSITIONAL_ONLY, POSITIONAL)]
    return tuple(names[: call.positional])


def defaulted(call: CallShape, parameters: Sequence[FunctionParameter]) -> dict[str, str]:
    """The defaults that a call uses; empty if it may pass them by `*` or `**`."""
    if call.more or call.more_keywords or call.partial:
        return {}
    given = {*bindings(call, parameters), *call.keywords}
    return {p.name: p.default for p in parameters if p.default is not None and p.name not in given}
