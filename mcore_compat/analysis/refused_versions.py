"""A message that a version of another package is not accepted → which releases accept it. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from mcore_compat.analysis.around import code
from mcore_compat.analysis.around.release_ranges import ReleaseRanges
from mcore_compat.analysis.error_text import SeenError
from mcore_compat.analysis.known_errors import Answer
from mcore_compat.environments.version_guards import GUARDS, VersionGuard, VersionRange

BOUNDS = ("least", "most", "below")


def is_one(error: SeenError) -> bool:
    """Whether an error says that a version is not accepted."""
    return next(_said(error), None) is not None


def _said(error: SeenError) -> Iterator[tuple[VersionGuard, Mapping[str, str | None]]]:
    for message in error.messages:
        for guard in GUARDS:
            if guard.message and (match := re.search(guard.message, message)):
                yield guard, match.groupdict()


def answer(error: SeenError, known: ReleaseRanges) -> Answer | None:
    """Which releases say this, and which accept the version that was found; None where an error is
    another one, or no release is known to say it."""
    guard, said = next(_said(error), (None, {}))
    if guard is None:
        return None
    releases = known.releases(guard.of)
    ranges = {v: found for v in releases if (found := _of(guard, known, v))}
    on_blackwell = {v: r for v, r in ranges.items() if r.blackwell}
    gpus = ""
    if said.get("least") in {found.blackwell for found in on_blackwell.values()}:
        gpus = f" {code.ON_BLACKWELL}"
        ranges = {v: replace(found, least=found.blackwell) for v, found in on_blackwell.items()}
    saying = {v: r for v, r in ranges.items() if r.guard == guard and _says(r, said)}
    if not saying:
        return None
    subject, have = guard.subject, said.get("found")
    specifiers = " or ".join(dict.fromkeys(found.specifier for found in saying.values()))
    who = f"{guard.of} {_listed(releases, saying)}"
    first = f"{who} accepts {subject} {specifiers}{gpus}"
    takes = [f"{subject} {specifiers}"]
    if have:
        accepting = [v for v, found in ranges.items() if code.accepts(found, have)]
        where = f"{guard.of} {_listed(releases, accepting)}" if accepting else "no release"
        first += f"; {subject} {have} is accepted by {where}"
        takes += [where] if accepting else []
    last, found = list(saying.items())[-1]
    return Answer(
        first,
        (
            f"otherwise: {guard.effect}",
            f"take: {', or '.join(takes)}",
            f"read from: {found.where} of {guard.of} {last}; more: mcore-compat doctor -v "
            "--requirements FILE compares your pins",
        ),
    )


def _of(guard: VersionGuard, known: ReleaseRanges, version: str) -> VersionRange | None:
    ranges = known.of(guard.of, version)
    return next((found for found in ranges if found.guard.subject == guard.subject), None)


def _says(found: VersionRange, said: Mapping[str, str | None]) -> bool:
    """Whether code with these bounds prints these, and refuses the version that was found."""
    have = said.get("found")
    if have and code.accepts(found, have):
        return False
    return all(said.get(kind) in (None, getattr(found, kind)) for kind in BOUNDS)


def _listed(releases: Sequence[str], some: Collection[str]) -> str:
    """`2.1.0 to 2.5.0 and 2.7.0`, of releases in order."""
    runs: list[list[str]] = []
    for place, version in enumerate(releases):
        if version in some:
            if not place or releases[place - 1] not in some:
                runs.append([])
            runs[-1].append(version)
    return " and ".join(run[0] if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)
