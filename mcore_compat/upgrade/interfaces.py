"""What changes in the public interfaces between two releases of each package. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mcore_compat.analysis.interfaces import changes, recorded, words
from mcore_compat.analysis.interfaces.signatures import InterfaceDifference
from mcore_compat.core.cells import parsed
from mcore_compat.core.profiles import Profile
from mcore_compat.core.releases import Releases
from mcore_compat.results.result import Result


@dataclass(frozen=True, kw_only=True)
class ChangedInterface:
    """One function or layer spec. `what`: what changed, in words; `breaks`: which calls break and
    why, or empty."""

    name: str
    what: str
    breaks: str = ""

    def counts(self, profile: Profile) -> bool:
        """Whether users with this profile call it; a spec only counts for the families in the
        profile."""
        _, spec, family = self.name.partition(" spec of ")
        taken = not spec or not profile.families or family in profile.families
        return "interface" in profile.features and taken

    @property
    def private(self) -> bool:
        """Whether its name marks it as private. Only the packages use it among themselves, and
        whether they still fit is what the checks test."""
        parts = self.name.replace(":", ".").split(".")
        return any(part.startswith("_") and not part.startswith("__") for part in parts)


@dataclass(frozen=True, kw_only=True)
class Interface:
    """A package whose release changes. `back`: it goes to an older release; what that removes is
    not compared. `not_recorded`: which of the two releases no cell recorded an interface of."""

    package: str
    before: str
    after: str
    back: bool = False
    not_recorded: tuple[str, ...] = ()
    changed: tuple[ChangedInterface, ...] = ()

    @property
    def breaking(self) -> tuple[ChangedInterface, ...]:
        """The changes that break calls in users' code."""
        return tuple(c for c in self.changed if c.breaks and not c.private)


PACKAGES = ("megatron-core", "nvidia-modelopt", "transformer-engine", "torch")


def interfaces(
    old: Mapping[str, str], new: Mapping[str, str], results: Sequence[Result], releases: Releases
) -> tuple[Interface, ...]:
    """For each package whose release differs: how the recorded interfaces of its two releases
    differ."""
    rows = []
    for package in PACKAGES:
        before, after = old[package], new[package]
        if before == after:
            continue
        row = Interface(package=package, before=before, after=after)
        if parsed(after) < parsed(before):
            rows.append(replace(row, back=True))
            continue
        # Only these two releases: nobody is affected by what existed between them only.
        both = [e for e in results if e.pins[package] in (before, after)]
        history = {s: by for s, by in recorded.history(both).items() if s.package == package}
        releases_seen = {release for by in history.values() for release in by}
        gone = tuple(version for version in (before, after) if version not in releases_seen)
        if gone:
            rows.append(replace(row, not_recorded=gone))
            continue
        by_name: dict[str, list[InterfaceDifference]] = {}
        for change in changes.of_history(history, releases):
            # Differences in annotations and the like affect no caller.
            if (change.before, change.after) == (before, after) and not change.what.minor:
                by_name.setdefault(change.subject.name, []).append(change.what)
        changed = []
        for name, what in sorted(by_name.items()):
            breaks = words.breaks(what).removeprefix("no")
            changed.append(ChangedInterface(name=name, what=words.summary(what), breaks=breaks))
        rows.append(replace(row, changed=tuple(changed)))
    return tuple(rows)
