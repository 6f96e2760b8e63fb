"""Stage findings → issue texts for a package's maintainers, ready to send. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from mcore_compat.analysis.declarations import KEPT, NOT, OUT, Finding, versions_of
from mcore_compat.core.outcomes import FAILS
from mcore_compat.publish.rendering import render
from mcore_compat.results.result import CheckResult, Result
from mcore_compat.results.verdict import failing, gist

FOLDER = "upstream"
"""The folder of the issue texts, beside the report."""

REPEAT = """\
# in a checkout of this project; makes an environment from a lock with hashes
nox -s {} -- --force"""

MOST_CELLS = 12


def path(finding: Finding) -> str:
    """The name of a finding's file; the same cause always has the same name."""
    subject = re.sub(r"[^a-z0-9.]+", "-", finding.subject.lower()).strip("-")
    return f"{subject}-{finding.fingerprint}.md" if finding.fingerprint else f"{subject}.md"


def texts(findings: Sequence[Finding], by_name: Mapping[str, Result]) -> dict[str, str]:
    """By file name: the issue text of every finding that maintainers should know of. A finding has
    no text until it is known whether an axis or another package causes it."""
    return {path(finding): text(finding, by_name) for finding in findings if wanted(finding)}


def wanted(finding: Finding) -> bool:
    """Whether a finding has an issue text."""
    return finding.kind != KEPT and not finding.undecided


def text(finding: Finding, by_name: Mapping[str, Result]) -> str:
    """The issue text in Markdown: title, versions, how to reproduce it, what happens, the rule."""
    e = by_name[finding.cells[0]]
    check = next(
        (c for c in e.checks if c.failure and c.failure.fingerprint == finding.fingerprint), None
    )
    inside = [r for r in finding.relations if r.admits(versions_of(e)[r.on])]
    return render(
        "issue_draft.md",
        one=finding,
        e=e,
        versions=versions_of(e),
        others=[axis for axis in finding.pins if axis in e.installed],
        check=check,
        kinds={"none": NOT, "out": OUT},
        title=_title(finding, e, check),
        repeat=REPEAT.format(e.cell) + (f" --only '{check.check}'" if check else ""),
        failing=[c.check for c in e.checks if c.outcome in FAILS],
        most_cells=MOST_CELLS,
        inside=inside,
        outside=[r for r in finding.relations if r not in inside],
    )


def _title(finding: Finding, e: Result, check: CheckResult | None) -> str:
    if finding.kind == OUT:
        relation = finding.relations[0]
        which = "with which every default-spec checkpoint restores" if failing(e) else "which works"
        other = f"{relation.on} {e.pins[relation.on]}"
        return f"{relation.package} {relation.version} excludes {other}, {which}"
    if finding.imported_in:
        return f"{finding.subject}, which no requirement declares"
    if check is None or check.failure is None:
        return finding.subject
    message = (gist(check.failure.message).splitlines() or ["no message"])[0]
    return f"{finding.subject}: {check.failure.type}: {message}"
