"""What README, CONTRIBUTING and the pages of `docs/` say: it is short, it is there, it is so."""

from __future__ import annotations

import ast
import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docs_support
import pytest
from docs_support import DOCS
from markdown_it import MarkdownIt
from support import ROOT

from mcore_compat.cli import registry
from mcore_compat.cli.parsing import parser_of
from mcore_compat.core import matrix

README = ROOT / "README.md"
PAGES = docs_support.written_by_people()


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def test_the_readme_is_read_in_three_minutes() -> None:
    assert len(README.read_text(encoding="utf-8").split()) <= 600


def test_ci_runs_the_command_of_the_readme() -> None:
    setup = "python3 -m venv .venv && .venv/bin/pip install -q -e . && .venv/bin/nox -s tests"
    assert setup in README.read_text(encoding="utf-8")
    assert setup in (ROOT / ".ci/run").read_text(encoding="utf-8")


# Links


def slug(title: str) -> str:
    """The anchor that GitHub and MyST give a title."""
    return re.sub(r"[^\w\- ]", "", title.lower().strip()).replace(" ", "-")


def anchors(text: str) -> set[str]:
    named = set(re.findall(r"^\(([\w-]+)\)=$", text, re.M))
    return named | {slug(title) for title in re.findall(r"^#+ (.+)$", text, re.M)}


def links(text: str) -> Iterator[str]:
    for token in MarkdownIt().enable("table").parse(text):
        for child in token.children or ():
            target = child.attrs.get("href") or child.attrs.get("src")
            if target and not re.match(r"[a-z]+:", str(target)):
                yield str(target)


def leads_nowhere(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    file = (page.parent / path).resolve() if path else page
    if (ROOT / "reports/site") in file.parents:  # made by `nox -s report`
        return False
    if not file.exists():
        return True
    return bool(anchor) and anchor not in anchors(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert [link for link in links(text) if leads_nowhere(page, link)] == []


def test_a_link_that_leads_nowhere_is_noticed() -> None:
    text = "[a](docs/none.md), [b](docs/tutorial.md#none), ![c](none.svg), [d](docs/tutorial.md)"
    bad = [link for link in links(text) if leads_nowhere(README, link)]
    assert bad == ["docs/none.md", "docs/tutorial.md#none", "none.svg"]


# Commands


def sessions() -> set[str]:
    """The sessions of the noxfile that are no command of the program."""
    tree = ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8"))
    return {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and any(ast.unparse(mark) == "nox.session" for mark in node.decorator_list)
    }


def parse(command: str, argv: list[str]) -> Any:
    of = registry.command(command)
    return parser_of(of, importlib.import_module(f"mcore_compat.cli.{command}")).parse_args(argv)


def try_to_parse(words: list[str]) -> None:
    """Parse what a reader would type; whatever is wrong with it is raised."""
    program = words[0].rpartition("/")[2]
    if program == "mcore-compat":
        parse(words[1], words[2:])
    elif program == "nox" and "-s" in words:
        session = words[words.index("-s") + 1]
        rest = words[words.index("--") + 1 :] if "--" in words else []
        if session.startswith("compat-") or session == "CELL":
            parse("run", [session, *rest])
        elif session not in sessions():
            assert registry.command(session).session, f"no session {session}"
            parse(session, rest)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_are_taken_as_they_are_written(page: Path) -> None:
    for block in docs_support.blocks(page):
        for command in block.commands:
            for words in docs_support.words(command):
                try_to_parse(words)


@pytest.mark.parametrize(
    "command",
    ["mcore-compat show", "mcore-compat recommend --fro x", "nox -s nonesuch", "nox -s lock -- -x"],
)
def test_a_command_that_is_none_is_noticed(command: str) -> None:
    with pytest.raises((Exception, SystemExit)):
        try_to_parse(command.split())


def test_the_reference_has_every_command_and_option() -> None:
    text = docs_support.extension("generated_reference").commands()
    for command in registry.COMMANDS:
        section = text.partition(f"### `{command.name}`\n")[2].partition("\n### ")[0]
        module = importlib.import_module(f"mcore_compat.cli.{command.name}")
        for action in parser_of(command, module)._actions:
            options = {*action.option_strings} - {"-h", "--help", "--workspace"}
            assert [option for option in options if option not in section] == [], command.name


def test_exit_codes_that_commands_name_are_in_the_table() -> None:
    rows = (DOCS / "reference/exit-codes.md").read_text(encoding="utf-8")
    for command in registry.COMMANDS:
        module = importlib.import_module(f"mcore_compat.cli.{command.name}")
        if hasattr(module, "ANSWERS"):
            assert re.search(rf"^\| .*`{command.name}[` ].* \|", rows, re.M), command.name


# What is listed is all there is


def test_every_key_of_the_matrix_is_explained() -> None:
    def unexplained(part: Any, path: str = "") -> Iterator[str]:
        if isinstance(part, dict):
            for key, value in part.get("properties", {}).items():
                if "description" not in value:
                    yield f"{path}/{key}"
            for key, value in part.items():
                yield from unexplained(value, f"{path}/{key}")

    schema = json.loads(matrix.SCHEMA.read_text(encoding="utf-8"))
    assert list(unexplained(schema)) == []
    text = docs_support.extension("generated_reference").schema(
        str(matrix.SCHEMA.relative_to(ROOT))
    )
    for key in schema["properties"]:
        assert f"`{key}`" in text


def kinds() -> Iterator[str]:
    """The kinds of the suite's checks; a part that varies is `…`."""
    for file in sorted((ROOT / "suite").rglob("check_*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("check_"):
                marks = " ".join(ast.unparse(mark) for mark in node.decorator_list)
                said = re.search(r"mark\.kind\('([^']+)'\)", marks)
                yield said[1] if said else node.name.removeprefix("check_").replace("_", "-")


def test_every_check_is_listed() -> None:
    page = (DOCS / "reference/checks.md").read_text(encoding="utf-8")
    missing = []
    for kind in kinds():
        begins = re.split(r"[{\[]", kind)[0]
        if not re.search(rf"`{re.escape(begins)}", page):
            missing.append(kind)
    assert missing == []


# Words


def refused() -> dict[str, str]:
    """What is said in place of what, by CONTRIBUTING's table."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text.partition("| say | not |\n| --- | --- |\n")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()]
    return {word.strip(): say for say, words in rows for word in words.split(",")}


def refused_in(text: str) -> list[str]:
    return [word for word in refused() if re.search(rf"\b{re.escape(word)}\b", text, re.I)]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_words_are_plain(page: Path) -> None:
    text = re.sub(r"^<!--.*-->$", "", docs_support.prose(page), flags=re.M)
    before, _, table = text.partition("| say | not |\n")
    assert refused_in(before + table.partition("\n\n")[2]) == []


def test_a_word_that_is_refused_is_noticed() -> None:
    assert refused_in("What was asked of the surroundings") == ["asked", "surroundings"]
    assert refused_in("Evidence that does not come over") == ["evidence", "come over"]
    assert refused_in("A result is out of date") == []
