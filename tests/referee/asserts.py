"""Whether the table of upstream's assertions (asserts.toml) is complete, and its Markdown.

`python tests/referee/asserts.py CHECKOUT`             every assertion of every tag is in the table
`python tests/referee/asserts.py CHECKOUT --list TAG`  the assertions of one tag, with digests
`python tests/referee/asserts.py --markdown`           the table, from asserts.toml alone

Exit code: 0 if the table is complete and has nothing that no tag has, 1 if not, 2 if the input is
wrong.
"""

from __future__ import annotations

import argparse
import ast
import itertools
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tomllib

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from mcore_compat.base.errors import CompatError  # noqa: E402
from referee import extraction, mapping, repository  # noqa: E402

TABLE = Path(__file__).with_name("asserts.toml")
ASKED, PARTLY, NOT = "asked", "partly", "not"

Table = Mapping[str, Any]
ByTag = Mapping[str, Sequence[extraction.Assertion]]


def load(path: Path = TABLE) -> Table:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def rows_of(table: Table) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each row, with the name of its group."""
    for group in table["group"]:
        for row in group["row"]:
            yield group["name"], row


def series(tag: str) -> str:
    """`0.9` for `core_v0.9.0`."""
    return ".".join(tag.removeprefix("core_v").split(".")[:2])


def ranges(wanted: Iterable[str], tags: Sequence[str]) -> str:
    """`0.9–0.11, 0.13`: the series of the tags `wanted`, in runs of `tags`."""
    chosen = set(wanted)
    runs = itertools.groupby(tags, key=lambda tag: tag in chosen)
    spelt = []
    for inside, members in runs:
        if inside:
            names = [series(tag) for tag in members]
            spelt.append(names[0] if len(names) == 1 else f"{names[0]}–{names[-1]}")
    return ", ".join(spelt)


def problems(table: Table, found: ByTag) -> list[str]:
    """The differences between the table and the tags' test files, in words; empty if none."""
    tags = [tag["name"] for tag in table["tag"]]
    said = []
    by_id: dict[str, list[str]] = {}
    for tag in table["tag"]:
        name, there = tag["name"], found[tag["name"]]
        if len(there) != tag["assertions"]:
            said.append(f"{name}: {len(there)} assertions, the table says {tag['assertions']}")
        for one in there:
            by_id.setdefault(one.id, []).append(name)
    rows: dict[str, str] = {}
    for group, row in rows_of(table):
        what = f"{group}: {row['what']}"
        for digest in row["ids"]:
            if digest in rows:
                said.append(f"{digest} is in two rows: {rows[digest]} | {what}")
            if digest not in by_id:
                said.append(f"{digest} is in no tag: {what}")
            rows[digest] = what
        is_in = ranges((tag for digest in row["ids"] for tag in by_id.get(digest, ())), tags)
        if is_in != row["tags"]:
            said.append(f"{what}: in {is_in}, the table says {row['tags']}")
        how = row.get("how", ASKED)
        if how not in (ASKED, PARTLY, NOT) or (how == NOT) == bool(row.get("check")):
            said.append(f"{what}: {how!r} does not go with check {row.get('check')!r}")
        if how != ASKED and not row.get("ours"):
            said.append(f"{what}: no reason why it is not covered as a whole")
    for name in tags:
        said += [
            f"{name}: not in the table: {one.id} {one.where} {one.kind} {one.text}"
            for one in found[name]
            if one.id not in rows
        ]
    return said


def problems_of_files(table: Table, found: Mapping[str, Sequence[str]]) -> list[str]:
    """In words, where `[[file]]` does not name the test files of each tag that name ModelOpt."""
    tags = [tag["name"] for tag in table["tag"]]
    named = {path: one for one in table["file"] for path in one["paths"]}
    said = []
    for tag, paths in found.items():
        others = [path for path in paths if Path(path).name not in mapping.FILES]
        said += [f"{tag}: {path} is not in the table" for path in others if path not in named]
    for one in table["file"]:
        is_in = ranges((t for t, paths in found.items() if set(paths) & set(one["paths"])), tags)
        if is_in != one["tags"]:
            said.append(f"{one['paths'][-1]}: in {is_in}, the table says {one['tags']}")
    return said


def problems_of_tests(found: Mapping[str, Iterable[str]]) -> list[str]:
    """In words, where `mapping.CHECKS` does not name each test of each tag, and no others."""
    there = {test for tests in found.values() for test in tests}
    said = [
        f"{tag}: {test} has no check in mapping.py"
        for tag, tests in found.items()
        for test in tests
        if test not in mapping.CHECKS
    ]
    return said + [f"no tag has {test}" for test in mapping.CHECKS if test not in there]


def counted(source: str) -> int:
    """How many test functions a test file has."""
    return sum(
        isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
        for node in ast.walk(ast.parse(source))
    )


def as_markdown(table: Table) -> str:
    """The whole table, without its digests."""
    counts = [f"{series(tag['name'])}: {tag['assertions']}" for tag in table["tag"]]
    lines = [f"Assertions by tag: {', '.join(counts)}.", ""]
    for group in table["group"]:
        lines += [
            f"## {group['name']}",
            "",
            "| upstream requires | tags | our check | what ours adds or lacks |",
        ]
        lines.append("| --- | --- | --- | --- |")
        lines += [_line(row) for row in group["row"]]
        lines.append("")
    lines += ["## Other test files that name ModelOpt", ""]
    lines += ["| file | tags | tests | what they require of ModelOpt | our check |"]
    lines.append("| --- | --- | --- | --- | --- |")
    for one in table["file"]:
        path = one["paths"][-1].removeprefix("tests/unit_tests/")
        cells = (f"`{path}`", one["tags"], str(one["tests"]), one["asks"], one["ours"])
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _line(row: Mapping[str, Any]) -> str:
    checks = ", ".join(f"`{name}`" for name in row.get("check", "").split(", ") if name)
    how = {ASKED: "", PARTLY: "**partly**", NOT: "**not covered**"}[row.get("how", ASKED)]
    ours = ": ".join(part for part in (how, row.get("ours", "")) if part)
    return f"| {row['what']} | {row['tags']} | {checks} | {ours} |"


def check(checkout: Path, table: Table) -> list[str]:
    """What is wrong with the table beside the repository `checkout`.

    Raises:
        UsageError: it is no repository, or lacks a tag.
    """
    tags = [tag["name"] for tag in table["tag"]]
    sources = {tag: repository.source(checkout, tag) for tag in tags}
    found = {tag: extraction.assertions(source) for tag, source in sources.items()}
    named = {tag: repository.naming_modelopt(checkout, tag) for tag in tags}
    for tag in tags:
        kinds = [sum(one.kind == kind for one in found[tag]) for kind in extraction.KINDS]
        parts = ", ".join(f"{kind} {n}" for kind, n in zip(extraction.KINDS, kinds, strict=True))
        print(f"{tag}: {len(found[tag])} ({parts})")
    said = problems(table, found) + problems_of_files(table, named)
    said += problems_of_tests({tag: extraction.tests(source) for tag, source in sources.items()})
    for one in table["file"]:
        path = one["paths"][-1]
        number = counted(repository.git(checkout, "show", f"{tags[-1]}:{path}"))
        if number != one["tests"]:
            said.append(f"{path}: {number} tests, the table says {one['tests']}")
    return said


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkout", type=Path, nargs="?", metavar="CHECKOUT")
    parser.add_argument("--list", metavar="TAG")
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args(argv)
    if options.checkout is None and not options.markdown:
        parser.error("name a repository of Megatron-LM, or --markdown")
    table = load()
    if options.markdown:
        print(as_markdown(table), end="")
        return 0
    try:
        if options.list:
            for one in extraction.assertions(repository.source(options.checkout, options.list)):
                print(one.id, one.where, one.kind, one.text)
            return 0
        said = check(options.checkout, table)
    except CompatError as error:
        print(f"asserts.py: {error}", file=sys.stderr)
        return error.exit_code
    print("\n".join(said) if said else "the table is complete")
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
