"""`scan` of 100,000 generated lines, which use real names of the packages, against a cell."""

from __future__ import annotations

import ast
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import HERE, Row
from mcore_compat.api import interface_index, packages
from mcore_compat.api.definitions import read
from mcore_compat.base import processes

LINES = 100_000
FILES = 500
REPEATS = 3
CELL = "0.16-modelopt0.41"


def scanning() -> list[Row]:
    """The whole command, compared with parsing the same code."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_code(folder)
        argv = [sys.executable, "-m", "mcore_compat.cli", "scan", folder, "--against", CELL]
        seconds, parsing = [], []
        for _ in range(REPEATS + 1):
            done = processes.run(argv, timeout=600, cwd=HERE.root)
            if done.returncode != 1 or f"{LINES:,} lines" not in done.output:
                raise SystemExit(f"scan failed:\n{done.output[-2000:]}")
            seconds.append(done.seconds)
            started = time.monotonic()
            for file in folder.iterdir():
                ast.parse(file.read_bytes())
            parsing.append(time.monotonic() - started)
    return [
        Row(
            name="scan",
            what=f"mcore-compat scan of {LINES:,} lines in {FILES} files",
            value=statistics.median(seconds[1:]),
            unit="s",
            limit=5.0,
            alternative="to parse them",
            alternative_value=statistics.median(parsing[1:]),
        )
    ]


def write_code(folder: Path) -> None:
    """Files as callers have them: every other one imports names of the newest releases and calls
    them, some of them wrongly; a use comes every dozen lines, as in the densest real caller."""
    chance = random.Random(100_000)
    known = list(_functions())
    for number in range(FILES):
        lines: list[str] = []
        while len(lines) < LINES // FILES:
            made = _function(known, chance, len(lines))
            lines += made if number % 2 else [line for line in made if " import " not in line]
        text = "\n".join(lines[: LINES // FILES])
        (folder / f"code{number}.py").write_text(_whole(text) + "\n")


def _functions() -> Iterator[tuple[str, str, list[str]]]:
    """Module, name, and the parameters that a call must give."""
    for package in packages.PACKAGES:
        index = interface_index.load(package, HERE.interfaces)
        for module, names in index.names(len(index.releases) - 1).items():
            for name, text in names.items():
                if text.startswith("def(") and "." not in name and " | " not in text:
                    required = [p.name for p in read(text)[0].parameters if p.required]
                    yield module, name, required


def _function(
    known: list[tuple[str, str, list[str]]], chance: random.Random, number: int
) -> list[str]:
    module, name, required = chance.choice(known)
    given = ", ".join(f"{p}={p}" for p in required[chance.randrange(20) == 0 :])
    more = (f"    total_{n} = settings.size * {n} + offset" for n in range(20))
    other = (f"    print(total_{n}, 'step', total_{n} + 1)" for n in range(20))
    return [
        f"def step_{number}({', '.join(required)}):",
        f'    """Calls {name}."""',
        f"    from {module} import {name} as wanted",
        f"    import {module} as place",
        *more,
        f"    if total_1 == {number}:",
        f"        return place.{name}({given})",
        f"    result = wanted({given})",
        *other,
        "    for step in (1, 2, 3):",
        "        result += step",
        "    return result",
        "",
    ]


def _whole(text: str) -> str:
    """A text whose last function is cut, as Python that parses."""
    lines = text.split("\n")
    while True:
        try:
            ast.parse("\n".join(lines))
            break
        except SyntaxError:
            lines.pop()
    return "\n".join([*lines, *["# cut"] * (text.count("\n") + 1 - len(lines))])
