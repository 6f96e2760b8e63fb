"""What tests of the documentation share: its commands, as a reader would type them."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from support import ROOT

DOCS = ROOT / "docs"
GENERATED = {"faults.md", "mutants.md", "referee.md", "suite-audit.md", "upstream-asserts.md"}
"""Pages that a program writes, or that quote what one said once."""

FENCE = re.compile(r"^( *)```(?P<info>[^\n]*)\n(?P<body>.*?)^\1```$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """A fenced block: `console`, `text`, `{transcript} show CELL`."""

    info: str
    body: str

    @property
    def commands(self) -> tuple[str, ...]:
        """Its commands: those after a `$`, continued lines joined; without one, all lines."""
        if self.info.startswith("{transcript}"):
            return (f"mcore-compat {self.info.removeprefix('{transcript}').strip()}",)
        if self.info != "console":
            return ()
        joined = re.sub(r"\\\n\s*", "", self.body)
        lines = [line.strip() for line in joined.splitlines()]
        typed = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        return tuple(typed or [line for line in lines if line and not line.startswith("#")])

    @property
    def codes(self) -> set[int]:
        """Of a transcript: the exit codes that are meant."""
        said = re.search(r"^:codes: (.+)$", self.body, re.M)
        return {int(word) for word in said[1].split(",")} if said else {0}


def blocks(file: Path) -> list[Block]:
    """The fenced blocks of a page."""
    found = FENCE.finditer(file.read_text(encoding="utf-8"))
    return [Block(match["info"].strip(), match["body"]) for match in found]


def prose(file: Path) -> str:
    """A page without code."""
    text = FENCE.sub("", file.read_text(encoding="utf-8"))
    return re.sub(r"`[^`]*`|\]\([^)]*\)", "", text)


def words(command: str) -> Iterator[list[str]]:
    """The simple commands of a line: `a && b  # why` has two."""
    line: list[str] = []
    for word in [*shlex.split(command, comments=True), "&&"]:
        if word in ("&&", "||", ";"):
            if line:
                yield line
            line = []
        else:
            line.append(word)


def written_by_people() -> list[Path]:
    """README, CONTRIBUTING and the pages, but for those that a program writes or quotes."""
    pages = [p for p in sorted(DOCS.rglob("*.md")) if p.name not in GENERATED]
    pages = [p for p in pages if "upgrade" not in p.relative_to(DOCS).parts]
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *pages]


def extension(name: str) -> ModuleType:
    """One of the site's extensions."""
    spec = importlib.util.spec_from_file_location(name, DOCS / "_extensions" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
