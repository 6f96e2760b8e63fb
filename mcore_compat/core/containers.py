"""The versions in NVIDIA's containers (`constraints/containers.toml`), and lookup by name. A tag
is identified by its year and month: `25.09.02` and `25.09-py3` are 25.09."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
from msgspec import Struct, field

from mcore_compat.base import data
from mcore_compat.base.data import DataError
from mcore_compat.base.errors import MatrixError, UsageError, slip
from mcore_compat.core.cells import AXES

IMAGES = {"pytorch": "nvidia/pytorch", "nemo": "nvidia/nemo"}

_NAME = re.compile(
    r"(?:docker://)?(?P<path>[^@\s]*?)(?P<image>[\w.-]+):(?P<tag>[\w.-]+)(?:@sha256:[0-9a-f]+)?"
)
_MONTH = re.compile(r"(?P<month>\d\d\.\d\d)(?P<rest>[.-].+)?")
_PLAIN = re.compile(r"py3(-igpu)?")
_UPSTREAM = re.compile(r"(?P<torch>\d+\.\d+\.\d+)-cuda(?P<cuda>\d+\.\d+)-.+")
"""A tag of the PyTorch project's own images, which names its versions."""


class ContainerSource(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the versions were looked up, and when."""

    text: str
    looked: str
    link: str = ""

    def line(self) -> str:
        return f"{self.text}{': ' if self.link else ''}{self.link} (looked up {self.looked})"


class _Row(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A container in the file."""

    sources: tuple[str, ...]
    cuda: str = ""
    python: str = ""
    torch: str = ""
    te: str = field(name="transformer-engine", default="")
    mcore: str = field(name="megatron-core", default="")
    modelopt: str = field(name="nvidia-modelopt", default="")
    base: str = ""
    branch: str = ""


class _File(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file."""

    source: Mapping[str, ContainerSource]
    pytorch: Mapping[str, _Row]
    nemo: Mapping[str, _Row]


@dataclass(frozen=True, kw_only=True)
class ContainerImage:
    """The versions in an image. `pins`: the known versions by axis as the image spells them, with
    build tag; `cuda`: empty if unknown. `base`: the PyTorch image that it is built on; `branch`:
    the branch of its megatron-core, unless that is a release. `note`: how the name was
    interpreted."""

    name: str
    pins: Mapping[str, str]
    cuda: str = ""
    base: str = ""
    branch: str = ""
    sources: tuple[ContainerSource, ...] = ()
    note: str = ""

    def text(self) -> str:
        """Its name and its known versions."""
        held = [f"{axis} {self.pins[axis]}" for axis in AXES if axis in self.pins]
        held += [f"CUDA {self.cuda}"] if self.cuda else []
        built = f", built on {self.base}" if self.base else ""
        return f"{self.name}{built}: {', '.join(held)}"


@dataclass(frozen=True, kw_only=True)
class Containers:
    """All known containers, by image and month."""

    rows: Mapping[tuple[str, str], ContainerImage]

    def get(self, image: str, month: str) -> ContainerImage | None:
        """NVIDIA's image `pytorch` or `nemo` of a month; None if unknown."""
        return self.rows.get((image, month))

    def named(self, text: str) -> ContainerImage:
        """The container of a short or full name: `pytorch:25.06`, `nvidia/nemo:25.09.02`.

        Raises:
            UsageError: not an image name with a tag, or an unknown image; names the nearest.
        """
        match = _NAME.fullmatch(text.strip())
        if match is None:
            raise UsageError(f'"{text}" is not an image name with a tag; write e.g. pytorch:25.06')
        path, image, tag = match["path"], match["image"], match["tag"]
        upstream = _UPSTREAM.fullmatch(tag)
        if upstream and image == "pytorch":
            pins = {"torch": upstream["torch"]}
            return ContainerImage(name=f"{path}{image}:{tag}", pins=pins, cuda=upstream["cuda"])
        if image not in IMAGES:
            known = ", ".join(f"{name}:YY.MM" for name in IMAGES.values())
            raise UsageError(f'unknown image "{path}{image}"; known: {known}')
        month = _MONTH.fullmatch(tag)
        found = self.get(image, month["month"]) if month else None
        if month is None or found is None:
            near = self._nearest(image, tag)
            raise UsageError(f"unknown image {IMAGES[image]}:{tag}{near}")
        rest = (month["rest"] or "")[1:]
        return found if not rest or _PLAIN.fullmatch(rest) else _taken(found, tag)

    def between(self, one: ContainerImage, other: ContainerImage) -> tuple[ContainerImage, ...]:
        """All that are known of an image from one release of it to another, oldest first.

        Raises:
            UsageError: they are of two images, one of none that is known here, or the same.
        """
        first, second = (container.name.partition(":") for container in (one, other))
        short = {name: short for short, name in IMAGES.items()}
        if first[0] != second[0] or first[0] not in short:
            raise UsageError(f"{one.name} and {other.name}: name two containers of one image")
        if first == second:
            raise UsageError(f"{one.name} is named twice: name two containers")
        oldest, newest = sorted(tag[:5] for _, _, tag in (first, second))
        return tuple(
            row
            for (image, month), row in sorted(self.rows.items())
            if image == short[first[0]] and oldest <= month <= newest
        )

    def _nearest(self, image: str, tag: str) -> str:
        known = [month for name, month in self.rows if name == image]
        if not _MONTH.fullmatch(tag):
            return f"; the newest known one: {image}:{max(known)}"
        swapped = [month for month in known if slip(tag[:5], month)[:2] == (1, False)]
        near = min(swapped or known, key=lambda month: (abs(_months(month) - _months(tag)), month))
        return f"; the nearest known one: {image}:{near}"


def _taken(container: ContainerImage, tag: str) -> ContainerImage:
    note = f"{tag} is a patch of {container.name.rpartition(':')[2]}; its versions are used"
    return replace(container, note=note)


def _months(month: str) -> int:
    return int(month[:2]) * 12 + int(month[3:5])


def load(path: Path) -> Containers:
    """Read the versions of all known containers.

    Raises:
        MatrixError: the file is missing, is not TOML, or does not follow its schema.
    """
    try:
        file = msgspec.convert(data.toml_of(data.text_of(path)), _File)
    except FileNotFoundError:
        raise MatrixError(f"{path.name} does not exist") from None
    except (DataError, msgspec.ValidationError) as error:
        raise MatrixError(f"{path.name} is not valid: {error}") from None
    rows = {}
    for image, by_month in (("pytorch", file.pytorch), ("nemo", file.nemo)):
        for month, row in by_month.items():
            if not row.sources or not set(row.sources) <= set(file.source):
                raise MatrixError(f"{path.name}: {image} {month}: no or unknown sources")
            rows[image, month] = _container(image, month, row, file.source)
    return Containers(rows=rows)


def _container(
    image: str, month: str, row: _Row, sources: Mapping[str, ContainerSource]
) -> ContainerImage:
    versions = (row.mcore, row.modelopt, row.te, row.torch, row.python)
    return ContainerImage(
        name=f"{IMAGES[image]}:{month}" + ("-py3" if image == "pytorch" else ""),
        pins={axis: version for axis, version in zip(AXES, versions, strict=True) if version},
        cuda=row.cuda,
        base=f"{IMAGES['pytorch']}:{row.base}-py3" if row.base else "",
        branch=row.branch,
        sources=tuple(sources[name] for name in row.sources),
    )
