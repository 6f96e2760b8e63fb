"""Cells, and the name that a cell has in sessions, files, logs and tables.

Pure: no I/O, nothing heavy imported.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from packaging.version import Version

AXES = ("megatron-core", "nvidia-modelopt", "transformer-engine", "torch", "python")
"""The packages whose versions vary, in the order in which tables show them."""

PREFIX = "compat-"

_NAME = re.compile(
    r"compat-(?P<mcore>[^-]+)-modelopt(?P<modelopt>[^-]+)"
    r"(?:-te(?P<te>[^-]+))?(?:-torch(?P<torch>[^-]+))?(?:-py(?P<python>[^-]+))?"
    r"(?:-with-(?P<extra>.+))?"
)
_FURTHER = re.compile(r"(?P<name>[a-z0-9][a-z0-9._]*)@(?P<version>[0-9][0-9a-z.+!]*?)(?P<any>\.x)?")


@dataclass(frozen=True, kw_only=True)
class Stack:
    """python + torch + transformer-engine; `note` names the source.

    `newer_torch`: the torch releases for ModelOpt releases that require a newer one, oldest first.
    `exceptions`: by axis, why the pin deviates from the rule of `core/stack_rule.py`.
    """

    python: str
    torch: str
    te: str
    note: str = ""
    newer_torch: tuple[str, ...] = ()
    exceptions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One combination. Versions are full (`0.16.1`), except python (`3.12`).

    `name` is the identifier, e.g. `compat-0.16-modelopt0.41`; `cuda` is the CUDA major version
    that torch was built for. `default`: on the default stack of its megatron-core series.
    `further`: requested pins of other packages, as requirements (`transformers==4.57.*`), sorted.
    """

    name: str
    mcore: str
    modelopt: str
    te: str
    torch: str
    python: str
    cuda: int
    default: bool = True
    tags: tuple[str, ...] = ()
    further: tuple[str, ...] = ()

    @property
    def pins(self) -> dict[str, str]:
        """Version by axis, in the order of `AXES`."""
        return dict(
            zip(AXES, (self.mcore, self.modelopt, self.te, self.torch, self.python), strict=True)
        )


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a cell's name requests, before series are turned into releases. None: as the stack.
    `further`: as in `Cell`."""

    mcore: str
    modelopt: str
    te: str | None = None
    torch: str | None = None
    python: str | None = None
    further: tuple[str, ...] = ()


def parse_name(name: str) -> Request | None:
    """The request in a cell's name, or None if it is not the name of a cell."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    parts = match.groupdict()
    try:
        further = _further(parts.pop("extra") or "")
        for part in parts.values():
            if part is not None:
                Version(part)
    except ValueError:  # also of numbers that are too long
        return None
    return Request(**parts, further=further)


def _further(text: str) -> tuple[str, ...]:
    """The pins at the end of a name, `flash_attn@2.8.3-transformers@4.57.x`, as requirements.

    Raises:
        ValueError: they are invalid, or not in the canonical spelling.
    """
    pins = []
    for word in text.split("-") if text else ():
        match = _FURTHER.fullmatch(word)
        if match is None:
            raise ValueError(f"invalid pin {word}")
        Version(match["version"])
        any_patch = ".*" if match["any"] else ""
        name = match["name"].replace("_", "-")
        if is_axis(name):
            raise ValueError(f"{name} is an axis")
        pins.append(f"{name}=={match['version']}{any_patch}")
    names = [name_of_pin(pin) for pin in pins]
    if sorted(set(names)) != names:
        raise ValueError(f"{text} is not in order")
    return tuple(pins)


def is_axis(name: str) -> bool:
    """Whether a package is an axis, a part of one, or pinned to one version by one."""
    return name in {*AXES, "triton"} or name.startswith("transformer-engine")


def name_of_pin(pin: str) -> str:
    """The package of `transformers==4.57.*`, by which further pins are ordered."""
    return pin.partition("==")[0]


def is_series(pin: str) -> bool:
    """Whether a further pin allows all releases of a series, as `transformers==4.57.*` does."""
    return pin.endswith(".*")


def full_name(text: str) -> str:
    """A cell's name from one that may lack the prefix: `0.16-modelopt0.41`."""
    return text if text.startswith(PREFIX) else PREFIX + text


def format_name(request: Request) -> str:
    """The name of a cell; the inverse of `parse_name`."""
    name = f"compat-{request.mcore}-modelopt{request.modelopt}"
    for word, value in (("te", request.te), ("torch", request.torch), ("py", request.python)):
        if value is not None:
            name += f"-{word}{value}"
    # Package names contain dashes, and file names must not contain a star.
    words = (pin.replace("-", "_").replace("==", "@") for pin in request.further)
    further = "-".join(words).replace(".*", ".x")
    return f"{name}-with-{further}" if further else name


def plain_name(name: str) -> str:
    """A cell's name without its further pins."""
    return name.partition("-with-")[0]


def has_further(name: str) -> bool:
    """Whether a cell's name has further pins: tables of the axes leave such cells out."""
    return plain_name(name) != name


def names_a_stack(name: str) -> bool:
    """Whether a cell's name has a TE, torch or Python: it is not on its series' default stack."""
    asked = parse_name(name)
    return bool(asked and (asked.te or asked.torch or asked.python))


@functools.cache
def parsed(version: str) -> Version:
    """A parsed version, cached: thousands of cells compare the same few."""
    return Version(version)


def is_version(text: str) -> bool:
    """Whether a text is a version: metadata of others, and outdated formats, may have any."""
    try:
        return bool(parsed(text))
    except ValueError:  # also a number with too many digits
        return False


@functools.cache
def series_of(version: str) -> str:
    """`0.16` for `0.16.1`."""
    return f"{parsed(version).major}.{parsed(version).minor}"


def moved(cell: Cell, pins: Mapping[str, str]) -> tuple[str, ...]:
    """The axes on which `pins` have another patch release of a series in the cell's name.

    A series stands for its newest patch: a lock or result with these pins is for an older one.
    """
    asked = parse_name(cell.name)
    if asked is None:
        return ()
    words = dict(zip(AXES, (asked.mcore, asked.modelopt, asked.te, asked.torch), strict=False))
    return tuple(
        axis
        for axis, word in words.items()
        if word == series_of(cell.pins[axis])
        and pins.get(axis, cell.pins[axis]) != cell.pins[axis]
        and series_of(pins[axis]) == word
    )
