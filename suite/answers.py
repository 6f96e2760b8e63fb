"""Answers what packages ask about the GPU while they are imported, from what a child read.

To ask the device starts CUDA, and children that are forked afterwards cannot use it. Answered are
`torch.cuda`'s questions alone: Triton's driver and torch's own helpers ask those, too. Whatever
else starts CUDA still does.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

QUESTIONS = (
    "is_available",
    "device_count",
    "current_device",
    "get_device_name",
    "get_device_capability",
    "get_device_properties",
)
"""Functions of `torch.cuda` that are answered."""

ASKED: dict[str, list[str]] = {}
"""By question that was answered in the device's place: the modules that asked it."""


def read() -> list[dict[str, Any]]:
    """What each device answers, as plain data; starts CUDA: call it in a child only."""
    from torch import cuda

    return [
        {
            "get_device_name": cuda.get_device_name(place),
            "get_device_capability": list(cuda.get_device_capability(place)),
            "get_device_properties": _plain(cuda.get_device_properties(place)),
        }
        for place in range(cuda.device_count() if cuda.is_available() else 0)
    ]


def _plain(properties: Any) -> dict[str, Any]:
    values = {name: getattr(properties, name) for name in dir(properties) if name[0] != "_"}
    return {name: value for name, value in values.items() if isinstance(value, (int, float, str))}


class Properties:
    """A device's properties as they were read; what was not read is asked of the device."""

    def __init__(self, values: Mapping[str, Any], real: Callable[[], Any]) -> None:
        self.__dict__.update(values)
        self._real = real

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what copying and pickling look for
            raise AttributeError(name)
        return getattr(self._real(), name)


class Answers:
    """Stands in `torch.cuda`'s place for `QUESTIONS` from its making until `withdraw`.

    Who keeps a reference to an answering function gets the device's own answers from it
    afterwards.
    """

    def __init__(self, devices: Sequence[Mapping[str, Any]]) -> None:
        """`devices`: what `read` returned; of none, everything is asked of torch."""
        self.devices = devices
        self.active = True
        self.cuda = sys.modules["torch"].cuda
        self.real = {question: getattr(self.cuda, question) for question in QUESTIONS}
        self.ours = {question: self._answering(question) for question in QUESTIONS}
        for question, answer in self.ours.items():
            setattr(self.cuda, question, answer)

    def withdraw(self) -> None:
        """From now on the device is asked."""
        self.active = False
        for question, real in self.real.items():
            if getattr(self.cuda, question) is self.ours[question]:
                setattr(self.cuda, question, real)

    def _answering(self, question: str) -> Callable[..., Any]:
        real = self.real[question]

        @functools.wraps(real)
        def answer(*arguments: Any, **named: Any) -> Any:
            place = _place(*arguments, **named)
            if not self.active or place not in range(len(self.devices)):
                return real(*arguments, **named)
            _note(question)
            return self._answer(question, place)

        return answer

    def _answer(self, question: str, place: int) -> Any:
        if question == "is_available":
            return True
        if question == "device_count":
            return len(self.devices)
        if question == "current_device":
            return 0
        said = self.devices[place][question]
        if question == "get_device_capability":
            return tuple(said)
        if question == "get_device_properties":
            return Properties(said, lambda: self.real[question](place))
        return said


def _place(device: Any = None) -> int:
    """The number of a device that is given in any way that torch takes; -1: none that CUDA has."""
    if device is None:
        return 0
    if isinstance(device, int):
        return device
    kind, _, number = str(device).partition(":")  # also a torch.device: `cuda`, `cuda:1`
    return int(number or 0) if kind == "cuda" and (number or "0").isdigit() else -1


def _note(question: str) -> None:
    """Note which module asks: the nearest one that is neither this nor torch's."""
    frame = sys._getframe(2)
    name = str(frame.f_globals.get("__name__"))
    while name.partition(".")[0] == "torch" and frame.f_back is not None:
        frame = frame.f_back
        name = str(frame.f_globals.get("__name__"))
    modules = ASKED.setdefault(question, [])
    if name not in modules:
        modules.append(name)
