"""Stage findings → texts that can be sent to a package's maintainers as they are. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from mcore_compat.cells import AXES
from mcore_compat.declared import FINE, NOT, OUT, Finding
from mcore_compat.evidence import CheckResult, Evidence
from mcore_compat.fingerprint import plain
from mcore_compat.markup import escape
from mcore_compat.verdict import gist

FOLDER = "upstream"
"""Beside the report."""

MOST_CELLS = 12
TRACEBACK = 40
"""Lines of a traceback that are quoted, from its end."""


def slug(one: Finding) -> str:
    """The name of a finding's file: the same for the same cause."""
    subject = re.sub(r"[^a-z0-9.]+", "-", one.subject.lower()).strip("-")
    return f"{subject}-{one.fingerprint}" if one.fingerprint else subject


def lines(found: Sequence[Finding]) -> list[str]:
    """The report's section: what was declared, beside what was seen, a line a finding."""
    said = ["## Declared, and observed", ""]
    if not found:
        return [*said, "Nothing to tell.", ""]
    said += [
        "What releases declare of one another (Requires-Dist, extras, Requires-Python), beside",
        "what the evidence shows. Each line links a text that can be sent upstream as it is.",
        "",
        "| finding | whose version decides | what | cells |",
        "| --- | --- | --- | ---: |",
    ]
    for one in sorted(found, key=lambda f: (f.kind, -len(f.cells), f.subject)):
        said.append(
            f"| {one.kind} | {escape(one.package)} | "
            f"[{escape(one.subject)}]({FOLDER}/{slug(one)}.md) | {len(one.cells)} |"
        )
    return [*said, ""]


def texts(found: Sequence[Finding], by_name: Mapping[str, Evidence]) -> dict[str, str]:
    """Every finding's text, by file name."""
    return {f"{slug(one)}.md": text(one, by_name) for one in found}


def text(one: Finding, by_name: Mapping[str, Evidence]) -> str:
    """The issue's text, Markdown: title, versions, how to repeat it, what is seen, the rule."""
    e = by_name[one.cells[0]]
    check = next((c for c in e.checks if c.check in one.checks and c.failure), None)
    lines = [f"# {_title(one, e, check)}", ""]
    lines += ["## Versions", ""]
    lines += [f"- {axis} {e.pins[axis]}" for axis in AXES]
    lines += [f"- CUDA of torch: {e.cuda}; device class: {e.device_class}", ""]
    lines += ["## To repeat it", "", *_repeat(e, check), ""]
    if check is not None and check.failure is not None:
        tail = check.failure.traceback.rstrip().splitlines()[-TRACEBACK:]
        lines += ["## What is seen", "", *_quoted([gist(check.failure.message)]), ""]
        lines += ["Traceback:", "", *_quoted(tail), ""]
        if check.failure.gpu_independent:
            lines += [f"The same with a GPU: {plain(check.failure.gpu_independent)}.", ""]
    elif one.imported_in:
        lines += ["## What is seen", "", "Imported while the module is, without a guard, in:", ""]
        lines += [*(f"- `{plain(module)}`" for module in one.imported_in), ""]
    else:
        lines += [
            "## What is seen",
            "",
            "Every family's checkpoint restores, tensor by tensor.",
            "",
        ]
    if check is not None or one.kind == OUT:
        lines += ["## Where", "", _where(one), ""]
    shown = one.cells[:MOST_CELLS]
    more = f" and {len(one.cells) - len(shown)} more" if len(one.cells) > len(shown) else ""
    lines += [f"Seen in {len(one.cells)} combinations: {', '.join(shown)}{more}.", ""]
    lines += ["## What is declared", "", *_declared(one, e), ""]
    return "\n".join(lines)


def _title(one: Finding, e: Evidence, check: CheckResult | None) -> str:
    if one.kind == OUT:
        relation = one.relations[0]
        return (
            f"{relation.package} {relation.version} rules out {relation.on} "
            f"{e.pins[relation.on]}, which works"
        )
    if one.imported_in:
        return f"{one.subject}, which no requirement asks for"
    what = gist(check.failure.message).splitlines()[0] if check and check.failure else one.subject
    kind = check.failure.type if check and check.failure else ""
    return _short(plain(f"{one.subject}: {kind}: {what}"))


def _short(line: str, most: int = 140) -> str:
    line = " ".join(line.split())
    return line if len(line) <= most else line[: most - 1] + "…"


def _repeat(e: Evidence, check: CheckResult | None) -> list[str]:
    only = f" --only '{check.check}'" if check else ""
    return _quoted(
        [
            "# in a checkout of this project; makes an environment from a lock with hashes",
            f"nox -s {e.cell} -- --force{only}",
        ]
    )


def _where(one: Finding) -> str:
    if not one.rule:
        return "No version was seen in which it works, so that no boundary can be stated."
    return f"`{one.rule}` (bounds are releases that were tested, nothing is said of others)."


def _declared(one: Finding, e: Evidence) -> list[str]:
    if one.imported_in:
        first = "No requirement of the release names it, in no extra."
    elif one.kind == NOT:
        first = "The releases that decide declare nothing of one another."
    elif one.kind == FINE:
        first = "These versions are within what is declared:"
    else:
        first = "Declared, and too narrow by what was seen:"
    return [first, *(f"- {r.text()}; here: {e.pins[r.on]}" for r in one.relations)]


def _quoted(lines: Sequence[str]) -> list[str]:
    """A code block that no line can end early."""
    plain_lines = [plain(line) for text in lines for line in text.splitlines()]
    runs = [len(run) for line in plain_lines for run in re.findall(r"`+", line)]
    fence = "`" * max(3, max(runs, default=0) + 1)
    return [fence, *plain_lines, fence]
