"""What a ModelOpt configuration asks of a quantizer, read here anew, not as ModelOpt applies it.

Pure. A configuration's `quant_cfg` is a dict of wildcards to settings, with `default` as the
first rule and classes of modules as keys of dicts of their own; in newer releases it is a list of
entries, applied in order. Either way the last rule that matches a quantizer's name decides.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

INDEX = re.compile(r"(weight_quantizer|input_quantizer)s?\.\d+$")
"""Of a quantizer that is one of several for one tensor, or for the experts of a layer."""


@dataclass(frozen=True)
class Rule:
    """Quantizers whose name matches `pattern`, in modules of the class `parent` where one is named.

    `settings` are what it sets, beside which all others return to their defaults; None: it only
    turns quantizers on or off. `enable` is None where it says nothing of that.
    """

    pattern: Any
    parent: str | None
    enable: bool | None
    settings: Mapping[str, Any] | None

    def matches(self, name: str) -> bool:
        if callable(self.pattern):
            return bool(self.pattern(name))
        names = (name, INDEX.sub(r"\1", name))
        return any(fnmatch.fnmatchcase(one, str(self.pattern)) for one in names)


@dataclass(frozen=True)
class Asked:
    """What is asked of one quantizer; `enabled` is None where no rule says."""

    enabled: bool | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


def rules(quant_cfg: Any) -> list[Rule]:
    """The rules of a configuration in the order in which they count.

    Raises:
        ValueError: an entry is of no known form.
    """
    if isinstance(quant_cfg, Mapping):
        first = [("default", quant_cfg["default"])] if "default" in quant_cfg else []
        others = [(key, value) for key, value in quant_cfg.items() if key != "default"]
        return [rule for key, value in first + others for rule in _of_pair(key, value)]
    found: list[Rule] = []
    for entry in quant_cfg:
        plain = _mapping(entry)
        if "quantizer_name" in plain:
            settings = plain.get("cfg")
            enable = plain.get("enable")
            if settings is not None:
                enable, settings = True if enable is None else enable, _settings(settings)
            found.append(Rule(plain["quantizer_name"], plain.get("parent_class"), enable, settings))
        elif len(plain) == 1:
            found += _of_pair(*next(iter(plain.items())))
        else:
            raise ValueError(f"an entry of the configuration is of no known form: {entry!r}")
    return found


def _of_pair(key: Any, value: Any) -> list[Rule]:
    """The rules of a wildcard and its settings, or of a class and its own wildcards."""
    if isinstance(value, Mapping) and value and all(map(_is_settings, value.values())):
        return [
            Rule(pattern, str(key), settings.get("enable", True), _settings(settings))
            for pattern, settings in value.items()
        ]
    pattern = "*" if key == "default" else key
    if isinstance(value, (list, tuple)):  # one after the other: the first says whether
        return [Rule(pattern, None, _mapping(value[0]).get("enable", True), {})]
    plain = _mapping(value)
    return [Rule(pattern, None, plain.get("enable", True), _settings(plain))]


def _is_settings(value: Any) -> bool:
    """Whether it is the settings of a quantizer, rather than one setting: which may be a dict, but
    then of axes of a tensor to sizes."""
    return isinstance(value, Mapping) and all(isinstance(key, str) for key in value)


def _mapping(value: Any) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return value
    if hasattr(value, "model_dump"):  # pydantic's: only what was said, no defaults
        dumped: Mapping[str, Any] = value.model_dump(exclude_unset=True)
        return dumped
    raise ValueError(f"settings of no known form: {value!r}")


def _settings(value: Any) -> Mapping[str, Any]:
    if isinstance(value, (list, tuple)):
        return {}
    return {key: one for key, one in _mapping(value).items() if key != "enable"}


def asked(given: Iterable[Rule], name: str, is_a: Callable[[str], bool]) -> Asked:
    """What `given` rules ask of the quantizer `name`; `is_a` says whether the module that has it
    is of a class that a rule names."""
    found = Asked()
    for rule in given:
        if not rule.matches(name) or (rule.parent is not None and not is_a(rule.parent)):
            continue
        enabled = found.enabled if rule.enable is None else rule.enable
        found = Asked(enabled, found.settings if rule.settings is None else rule.settings)
    return found
