"""Further pins: requested versions of packages that are not axes. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from mcore_compat.base.errors import UsageError
from mcore_compat.core.cells import AXES, is_axis, name_of_pin

OPTIONS = dict(zip(AXES[2:], ("--te", "--torch", "--python"), strict=True))
"""The options that choose other releases of the stack."""


def further(text: str) -> str:
    """A pin in its canonical form: `Transformers == 4.57.*` becomes `transformers==4.57.*`.

    Raises:
        UsageError: it is not a pin, or pins an axis; says what to write.
    """
    example = "write e.g. 'transformers==4.57.*' or 'flash-attn==2.8.3'"
    try:
        need = Requirement(text)
    except InvalidRequirement:
        raise UsageError(f'--with: "{text}" is not a valid requirement; {example}') from None
    name = canonicalize_name(need.name)
    if is_axis(name):
        how = OPTIONS.get(name) or OPTIONS.get(name.removesuffix("-torch"))
        how = f"use {how} VERSION" if how else "the cell's name already gives its version"
        raise UsageError(f"--with: {name} is an axis, or a part of one; {how}")
    pin = re.fullmatch(r"==([0-9][0-9a-z.]*?)(\.\*)?", str(need.specifier))
    if need.extras or need.marker or need.url or pin is None:
        raise UsageError(f'--with: "{text}" does not pin one release or series; {example}')
    return f"{name}{need.specifier}"


def together(pins: Iterable[str]) -> tuple[str, ...]:
    """The pins of one cell, sorted.

    Raises:
        UsageError: two different pins of one package.
    """
    by_name: dict[str, str] = {}
    for pin in pins:
        name = name_of_pin(pin)
        if by_name.setdefault(name, pin) != pin:
            raise UsageError(f"--with: {by_name[name]} and {pin} contradict each other; give one")
    return tuple(by_name[name] for name in sorted(by_name))
