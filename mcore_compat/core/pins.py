"""Pins beside the axes: how they are asked for, and which there can be. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from mcore_compat.base.errors import UsageError
from mcore_compat.core.cells import AXES, is_axis, name_of_pin

OPTIONS = dict(zip(AXES[2:], ("--te", "--torch", "--python"), strict=True))
"""How another release of the stack is asked for."""


def further(text: str) -> str:
    """A pin as cells have it: `Transformers == 4.57.*` is `transformers==4.57.*`.

    Raises:
        UsageError: it is no pin, or one of an axis; names what would be one.
    """
    example = "write e.g. 'transformers==4.57.*' or 'flash-attn==2.8.3'"
    try:
        need = Requirement(text)
    except InvalidRequirement:
        raise UsageError(f'--with: "{text}" is no requirement; {example}') from None
    name = canonicalize_name(need.name)
    if is_axis(name):
        how = OPTIONS.get(name) or OPTIONS.get(name.removesuffix("-torch"))
        how = f"say {how} VERSION" if how else "it is given by the cell's own versions"
        raise UsageError(f"--with: {name} is an axis, or a part of one: {how}")
    pin = re.fullmatch(r"==([0-9][0-9a-z.]*?)(\.\*)?", str(need.specifier))
    if need.extras or need.marker or need.url or pin is None:
        raise UsageError(f'--with: "{text}" is no pin of one release, or series; {example}')
    return f"{name}{need.specifier}"


def together(pins: Iterable[str]) -> tuple[str, ...]:
    """Pins of one cell, sorted.

    Raises:
        UsageError: two are of one package.
    """
    by_name: dict[str, str] = {}
    for pin in pins:
        name = name_of_pin(pin)
        if by_name.setdefault(name, pin) != pin:
            raise UsageError(f"--with: {by_name[name]} and {pin} contradict each other; give one")
    return tuple(by_name[name] for name in sorted(by_name))
