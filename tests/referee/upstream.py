"""Upstream's own test file as a referee of our outcomes (docs/referee.md).

`python tests/referee/upstream.py CHECKOUT TAG CELL... [--markdown] [--limit SECONDS]`

CHECKOUT is a git repository of Megatron-LM, with or without a work tree; TAG one of its tags;
each CELL needs its environment on this machine and a result for the device class `host`.

Exit code: 0 where nothing differs, 1 where something does or a test has no check of ours,
2 where the input is wrong.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from referee import mapping  # noqa: E402

from mcore_compat.base import files, processes  # noqa: E402
from mcore_compat.base.errors import CompatError, UsageError, nearest  # noqa: E402
from mcore_compat.environments import process_variables  # noqa: E402
from mcore_compat.results import evidence  # noqa: E402
from mcore_compat.results.evidence import Evidence  # noqa: E402
from mcore_compat.run import engine  # noqa: E402
from mcore_compat.run import context as run_context  # noqa: E402
from mcore_compat.run.context import Context  # noqa: E402

IN_CELL = Path(__file__).with_name("in_cell.py")
WHOLE_LIMIT_S = 1800.0


@dataclass(frozen=True)
class Place:
    """A cell's environment, and what was published of it."""

    cell: str
    python: Path
    site: Path
    result: Evidence


def git(checkout: Path, *words: str) -> str:
    """What git says.

    Raises:
        UsageError: it fails, since the folder is no repository or has no such tag.
    """
    argv = ["git", "-C", str(checkout), *words]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise UsageError(f"{' '.join(argv)}: {done.stderr.strip()}")
    return done.stdout


def test_file(checkout: Path, tag: str) -> str:
    """The path of upstream's test file of the ModelOpt specs at `tag`.

    Raises:
        UsageError: the tag has none, or more than one.
    """
    names = git(checkout, "ls-tree", "-r", "--name-only", tag, "--", "tests/unit_tests")
    found = [name for name in names.split() if Path(name).name in mapping.FILES]
    if len(found) != 1:
        raise UsageError(f"{tag} has {len(found)} test files called {' or '.join(mapping.FILES)}")
    return found[0]


def place_of(cell: str, context: Context) -> Place:
    """The environment of a cell and its result.

    Raises:
        UsageError: one of the two is not there.
    """
    folder = files.home() / "envs" / cell
    if not (folder / "bin/python").exists():
        known = (path.name for path in folder.parent.glob("compat-*/"))
        raise UsageError(
            f"{cell} has no environment here; make it: nox -s {cell}{nearest(cell, known)}"
        )
    path = evidence.path_of(cell, "host", context.workspace.results)
    if not path.exists():
        raise UsageError(f"{cell} has no result for a machine without a GPU: {path}")
    site = next((folder / "lib").glob("python3*/site-packages"))
    return Place(cell, folder / "bin/python", site, evidence.load(path, whole=False))


def run(file: Path, place: Place, limit: float, context: Context) -> dict[str, Any]:
    """What `in_cell.py` reports of `file` in a cell.

    Raises:
        CompatError: it did not come to its end.
    """
    stub = process_variables.driver_stub(place.site, processes.run)
    tools = engine.tools_of(place.python, context)
    report = file.with_name("report.json")
    report.unlink(missing_ok=True)
    done = processes.run(
        [place.python, "-u", IN_CELL, "--suite", context.workspace.suite, "--tools", tools]
        + ["--file", file, "--report", report, "--limit", str(limit)],
        timeout=WHOLE_LIMIT_S,
        env=process_variables.variables(place.site, stub),
        cwd=file.parent,
    )
    if not report.exists():
        raise CompatError(f"no report from {place.cell}:\n{done.output[-3000:]}")
    told: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return told


def ours_of(result: Evidence) -> dict[str, mapping.Ours]:
    """By check: how it ended."""
    return {
        one.check: mapping.Ours(str(one.outcome.value), one.reason or "") for one in result.checks
    }


def referee(file: Path, tag: str, place: Place, options: argparse.Namespace, context: Context) -> int:
    """Run, compare and print one cell; 1 where something differs."""
    report = run(file, place, options.limit, context)
    pins = ", ".join(f"{name} {version}" for name, version in sorted(place.result.pins.items()))
    heading = f"{place.cell}: tests of {tag} on {pins}"
    about = f"our result is of {place.result.taken}, by the suite {place.result.suite[:12]}"
    lines = mapping.compare(report["tests"], ours_of(place.result))
    counts = {
        word: sum(line.verdict == word for line in lines)
        for word in (mapping.AGREE, mapping.DIFFER, mapping.NOT_COMPARED, mapping.NOT_MAPPED)
    }
    total = ", ".join(f"{word} {count}" for word, count in counts.items() if count) or "no test"
    if options.markdown:
        print(f"### {heading}\n\n{about}; {total}\n\n{mapping.as_markdown(lines)}\n")
    else:
        print(f"{heading}\n{about}\n{mapping.as_text(lines)}\n{total}\n")
    if report["not_collected"]:
        print(f"upstream's test file cannot be loaded:\n{report['not_collected']}\n")
    return int(bool(report["not_collected"]) or mapping.failed(lines))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkout", type=Path, metavar="CHECKOUT")
    parser.add_argument("tag", metavar="TAG")
    parser.add_argument("cells", nargs="+", metavar="CELL")
    parser.add_argument("--markdown", action="store_true", help="print Markdown tables")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds for one test")
    options = parser.parse_args(argv)
    try:
        context = run_context.context()
        path = test_file(options.checkout, options.tag)
        places = [place_of(cell, context) for cell in options.cells]
        with tempfile.TemporaryDirectory(prefix="mcore-compat-referee-") as folder:
            file = Path(folder, Path(path).name)
            file.write_text(git(options.checkout, "show", f"{options.tag}:{path}"))
            # Every cell, also after one that differs.
            codes = [referee(file, options.tag, place, options, context) for place in places]
    except CompatError as error:
        print(f"upstream.py: {error}", file=sys.stderr)
        return error.exit_code
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
