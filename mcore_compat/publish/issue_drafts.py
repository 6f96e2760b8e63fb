"""Stage findings → texts that can be sent to a package's maintainers as they are. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from mcore_compat.analysis.declarations import KEPT, NOT, OUT, Finding
from mcore_compat.core.outcomes import FAILS
from mcore_compat.publish.rendering import render
from mcore_compat.results.evidence import CheckResult, Evidence
from mcore_compat.results.verdict import failing, gist

FOLDER = "upstream"
"""Beside the report."""

REPEAT = """\
# in a checkout of this project; makes an environment from a lock with hashes
nox -s {} -- --force"""

MOST_CELLS = 12


def path(one: Finding) -> str:
    """The name of a finding's file: the same for the same cause."""
    subject = re.sub(r"[^a-z0-9.]+", "-", one.subject.lower()).strip("-")
    return f"{subject}-{one.fingerprint}.md" if one.fingerprint else f"{subject}.md"


def texts(found: Sequence[Finding], by_name: Mapping[str, Evidence]) -> dict[str, str]:
    """The text of every finding that somebody should hear of, by file name."""
    return {path(one): text(one, by_name) for one in found if one.kind != KEPT}


def text(one: Finding, by_name: Mapping[str, Evidence]) -> str:
    """The issue's text, Markdown: title, versions, how to repeat it, what is seen, the rule."""
    e = by_name[one.cells[0]]
    check = next(
        (c for c in e.checks if c.failure and c.failure.fingerprint == one.fingerprint), None
    )
    inside = [r for r in one.relations if r.admits(e.pins[r.on])]
    return render(
        "issue_draft.md",
        one=one,
        e=e,
        check=check,
        kinds={"none": NOT, "out": OUT},
        title=_title(one, e, check),
        repeat=REPEAT.format(e.cell) + (f" --only '{check.check}'" if check else ""),
        failing=[c.check for c in e.checks if c.outcome in FAILS],
        most_cells=MOST_CELLS,
        inside=inside,
        outside=[r for r in one.relations if r not in inside],
    )


def _title(one: Finding, e: Evidence, check: CheckResult | None) -> str:
    if one.kind == OUT:
        relation = one.relations[0]
        which = "with which every default-spec checkpoint restores" if failing(e) else "which works"
        other = f"{relation.on} {e.pins[relation.on]}"
        return f"{relation.package} {relation.version} rules out {other}, {which}"
    if one.imported_in:
        return f"{one.subject}, which no requirement asks for"
    if check is None or check.failure is None:
        return one.subject
    message = gist(check.failure.message).splitlines()[0]
    return f"{one.subject}: {check.failure.type}: {message}"
