"""Stage findings → texts that can be sent to a package's maintainers as they are. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from mcore_compat.analysis.declarations import KEPT, NOT, OUT, Finding, Relation
from mcore_compat.base.markup import escape
from mcore_compat.core.cells import AXES
from mcore_compat.core.outcomes import FAILS
from mcore_compat.results.evidence import CheckResult, Evidence
from mcore_compat.results.fingerprint import plain
from mcore_compat.results.verdict import failing, gist

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
        "What releases declare of one another (Requires-Dist, extras, Requires-Python, and guards",
        "in their sources on the way to a failure), beside what the evidence shows. A line links a",
        "text that can be sent upstream as it is, but for failures outside of what is declared.",
        "",
        "| finding | whose version decides | what | cells |",
        "| --- | --- | --- | ---: |",
    ]
    for one in sorted(found, key=lambda f: (f.kind, -len(f.cells), f.subject)):
        subject = escape(one.subject)
        linked = subject if one.kind == KEPT else f"[{subject}]({FOLDER}/{slug(one)}.md)"
        said.append(f"| {one.kind} | {escape(one.package)} | {linked} | {len(one.cells)} |")
    return [*said, ""]


def texts(found: Sequence[Finding], by_name: Mapping[str, Evidence]) -> dict[str, str]:
    """The text of every finding that somebody should hear of, by file name."""
    return {f"{slug(one)}.md": text(one, by_name) for one in found if one.kind != KEPT}


def text(one: Finding, by_name: Mapping[str, Evidence]) -> str:
    """The issue's text, Markdown: title, versions, how to repeat it, what is seen, the rule."""
    e = by_name[one.cells[0]]
    check = next(
        (c for c in e.checks if c.failure and c.failure.fingerprint == one.fingerprint), None
    )
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
        lines += ["## What is seen", "", *_works(e), ""]
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
            f"{e.pins[relation.on]}, {_which(e)}"
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


def _which(e: Evidence) -> str:
    return "with which every default-spec checkpoint restores" if failing(e) else "which works"


def _works(e: Evidence) -> list[str]:
    """What was seen of versions that a range leaves out: what works, and what does not."""
    said = ["Every family's default-spec checkpoint restores into its ModelOpt spec, by tensor."]
    wrong = [c.check for c in e.checks if c.outcome in FAILS]
    if not wrong:
        return [*said, "No other check fails."]
    said.append(
        "These checks fail, by what was tested none because of these two releases together:"
    )
    return [*said, "", *(f"- `{check}`" for check in wrong)]


def _declared(one: Finding, e: Evidence) -> list[str]:
    if one.imported_in:
        return ["No requirement of the release names it, in no extra."]
    if one.kind == NOT:
        return ["The releases that decide declare nothing of one another."]
    if one.kind == OUT:
        return ["Declared, and too narrow by what was seen:", *_listed(one.relations, e)]
    inside = [r for r in one.relations if r.admits(e.pins[r.on])]
    outside = [r for r in one.relations if r not in inside]
    said = ["These versions are within:", *_listed(inside, e)]
    return [*said, "", "They are outside of:", *_listed(outside, e)] if outside else said


def _listed(relations: Sequence[Relation], e: Evidence) -> list[str]:
    return [f"- {plain(r.text())}; here: {e.pins[r.on]}" for r in relations]


def _quoted(lines: Sequence[str]) -> list[str]:
    """A code block that no line can end early."""
    plain_lines = [plain(line) for text in lines for line in text.splitlines()]
    runs = [len(run) for line in plain_lines for run in re.findall(r"`+", line)]
    fence = "`" * max(3, max(runs, default=0) + 1)
    return [fence, *plain_lines, fence]
