"""What a cell is, and its one name in sessions, files, logs and tables.

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
    """python + torch + transformer-engine; `note` says from where it is known.

    `newer_torch`: oldest first, the torches of the pairs whose ModelOpt asks for a newer one.
    `exceptions`: by axis, why the pin is another than `core/stack_rule.py` says.
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
    that torch was built for. `default` tells a cell on its series' own stack. `further`: pins that
    were asked for beside the axes, as requirements (`transformers==4.57.*`), sorted.
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
    """What a cell's name asks for, before series are turned into releases. None: the stack's.
    `further`: pins beside the axes, as `Cell` has them."""

    mcore: str
    modelopt: str
    te: str | None = None
    torch: str | None = None
    python: str | None = None
    further: tuple[str, ...] = ()


def parse_name(name: str) -> Request | None:
    """The request that a cell's name spells, or None where it is not a cell's name."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    parts = match.groupdict()
    try:
        further = _further(parts.pop("extra") or "")
        for part in parts.values():
            if part is not None:
                Version(part)
    except ValueError:  # of numbers that are too long, too
        return None
    return Request(**parts, further=further)


def _further(text: str) -> tuple[str, ...]:
    """The pins that a name ends with, `flash_attn@2.8.3-transformers@4.57.x`, as requirements.

    Raises:
        ValueError: it is none, or not in the one way that such a name is spelt.
    """
    pins = []
    for word in text.split("-") if text else ():
        match = _FURTHER.fullmatch(word)
        if match is None:
            raise ValueError(f"{word} is no pin")
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
    """Whether a package is an axis, a part of one, or comes with one in one version only."""
    return name in {*AXES, "triton"} or name.startswith("transformer-engine")


def name_of_pin(pin: str) -> str:
    """The package of `transformers==4.57.*`, by which further pins are ordered."""
    return pin.partition("==")[0]


def full_name(text: str) -> str:
    """A cell's name, of which the first word may be left out: `0.16-modelopt0.41`."""
    return text if text.startswith(PREFIX) else PREFIX + text


def format_name(request: Request) -> str:
    """The name of a cell; the inverse of `parse_name`."""
    name = f"compat-{request.mcore}-modelopt{request.modelopt}"
    for word, value in (("te", request.te), ("torch", request.torch), ("py", request.python)):
        if value is not None:
            name += f"-{word}{value}"
    # Names of packages have dashes, and no cell's file may have a star in its name.
    words = (pin.replace("-", "_").replace("==", "@") for pin in request.further)
    further = "-".join(words).replace(".*", ".x")
    return f"{name}-with-{further}" if further else name


def plain_name(name: str) -> str:
    """A cell's name without the pins beside the axes that it asks for."""
    return name.partition("-with-")[0]


def has_further(name: str) -> bool:
    """Whether a cell's name asks for pins beside the axes: it is then in no table of the axes."""
    return plain_name(name) != name


@functools.cache
def parsed(version: str) -> Version:
    """A version, parsed once: thousands of cells compare the same few."""
    return Version(version)


@functools.cache
def series_of(version: str) -> str:
    """`0.16` for `0.16.1`."""
    return f"{parsed(version).major}.{parsed(version).minor}"


def moved(cell: Cell, pins: Mapping[str, str]) -> tuple[str, ...]:
    """The axes on which `pins` hold another patch of a series that the cell's name spells.

    A series stands for its newest patch: a lock or evidence with these pins is of an older one.
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
