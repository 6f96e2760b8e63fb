"""The image that a Dockerfile starts from: its last known image. What the Dockerfile installs on
top of it is not interpreted. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from mcore_compat.analysis import inventory
from mcore_compat.analysis.inventory import Inventory
from mcore_compat.base.errors import UsageError
from mcore_compat.core.containers import ContainerImage, Containers

_FROM = re.compile(
    r"^[ \t]*FROM:?[ \t]+(?:--\w+=\S+[ \t]+)*(?P<image>\S+)(?:[ \t]+AS[ \t]+(?P<stage>\S+))?",
    re.I | re.M,
)
_ARG = re.compile(r"^[ \t]*ARG[ \t]+(?P<name>\w+)=(?P<value>\S+)", re.I | re.M)
_VARIABLE = re.compile(r"\$(?:\{(?P<braced>\w+)(?::-(?P<default>[^}]*))?\}|(?P<plain>\w+))")
_INSTALL = re.compile(r"\bpip3?\s+install\b")


def is_one(text: str) -> bool:
    """Whether a text is a Dockerfile or an Apptainer definition (`From:`)."""
    return bool(_FROM.search(text))


def of_text(text: str, path: Path, known: Containers) -> Inventory:
    """Return the inventory of the image that a Dockerfile starts from.

    Raises:
        UsageError: none of its images is known; says why for the last.
    """
    image = _image(text, path, known)
    there = inventory.of_container(image)
    installs = len(_INSTALL.findall(text))
    times = "once" if installs == 1 else f"{installs} times"
    more = [f"{path}: its pip install ({times}) is not interpreted"] if installs else []
    return replace(there, notes=(f"{path} starts from {image.name}", *there.notes, *more))


def _image(text: str, path: Path, known: Containers) -> ContainerImage:
    why = ""
    for name in reversed([*_images(text)]):
        try:
            return known.named(name)
        except UsageError as error:
            why = why or str(error)
    raise UsageError(f"{path}: {why}")


def _images(text: str) -> Iterator[str]:
    """Yield the images that a Dockerfile starts from, without its stages; variables have the values
    that it sets."""
    values = {match["name"]: match["value"].strip("\"'") for match in _ARG.finditer(text)}

    def value(match: re.Match[str]) -> str:
        name = match["braced"] or match["plain"]
        return values.get(name) or match["default"] or match[0]

    stages: set[str] = set()
    for match in _FROM.finditer(text):
        image = _VARIABLE.sub(value, match["image"])
        if image.lower() not in stages:
            yield image
        if match["stage"]:
            stages.add(match["stage"].lower())
