"""Upstream's own test file as a referee of our outcomes (docs/referee.md).

`python tests/referee/upstream.py CHECKOUT TAG CELL... [--fresh] [--markdown | --summary]`

CHECKOUT is a git repository of Megatron-LM, with or without a work tree; TAG one of its tags.
Each CELL needs its environment on this machine and a result for the device class `host`; with
`--fresh` the suite runs instead. A path in place of a CELL is an environment of your own, which
has no result: `--fresh` is implied.

Exit code: 0 if nothing differs, 1 if something does, a test has no check of ours, or nothing was
compared, 2 if the input is wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from mcore_compat.base import files, processes  # noqa: E402
from mcore_compat.base.errors import CompatError, UsageError, nearest  # noqa: E402
from mcore_compat.environments import process_variables  # noqa: E402
from mcore_compat.results import store  # noqa: E402
from mcore_compat.results.result import result_path  # noqa: E402
from mcore_compat.run import context as run_context  # noqa: E402
from mcore_compat.run import engine  # noqa: E402
from mcore_compat.run.check_sets import MAIN  # noqa: E402
from mcore_compat.run.context import Context  # noqa: E402
from referee import mapping, repository  # noqa: E402

IN_CELL = Path(__file__).with_name("in_cell.py")
WHOLE_LIMIT_S = 1800.0


@dataclass(frozen=True)
class Place:
    """An environment, what it is called, and where its result lies, if it has one."""

    name: str
    folder: Path
    result: Path | None

    @property
    def python(self) -> Path:
        return self.folder / "bin/python"

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables of a cell's processes, no GPU among them."""
        site = next((self.folder / "lib").glob("python3*/site-packages"))
        stub = process_variables.driver_stub(site, processes.run)
        return {**process_variables.variables(site, stub), "CUDA_VISIBLE_DEVICES": ""}


def place_of(cell: str, context: Context, *, fresh: bool) -> Place:
    """The environment of a cell, or the one in a folder.

    Raises:
        UsageError: there is none, or it has no result and the suite is not run.
    """
    if "/" in cell:
        place = Place(Path(cell).name, Path(cell).absolute(), None)
    else:
        result = result_path(cell, "host", context.workspace.results)
        place = Place(cell, files.home() / "envs" / cell, None if fresh else result)
    if not place.python.exists():
        known = [path.name for path in (files.home() / "envs").glob("compat-*/")]
        raise UsageError(f"{cell} has no environment here: nox -s CELL{nearest(cell, known)}")
    if place.result and not place.result.exists():
        raise UsageError(f"{cell} has no result for a machine without a GPU, but for --fresh")
    return place


def run(file: Path, place: Place, limit: float, context: Context) -> dict[str, Any]:
    """What `in_cell.py` reports of `file` in a cell.

    Raises:
        CompatError: it did not come to its end.
    """
    tools = engine.tools_of(place.python, context)
    report = file.with_name("report.json")
    report.unlink(missing_ok=True)
    argv: list[str | Path] = [place.python, "-u", IN_CELL, "--suite", context.workspace.suite]
    argv += ["--tools", tools, "--file", file, "--report", report, "--limit", str(limit)]
    done = processes.run(
        argv,
        timeout=WHOLE_LIMIT_S,
        env=place.variables,
        cwd=file.parent,
    )
    if not report.exists():
        raise CompatError(f"no report from {place.name}:\n{done.output[-3000:]}")
    told: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return told


def published(path: Path) -> tuple[str, dict[str, mapping.Ours]]:
    """What a result is of, in words, and how each check ended."""
    result = store.load(path, whole=False)
    checks = {one.check: mapping.Ours(str(one.outcome), one.reason or "") for one in result.checks}
    return f"the result of {result.taken}, by the suite {result.suite[:12]}", checks


def asked_now(folder: Path, place: Place, context: Context) -> tuple[str, dict[str, mapping.Ours]]:
    """As `published`, of the suite run now, for the checks that upstream's tests have, too.

    Raises:
        CompatError: it did not come to its end.
    """
    suite, events = context.workspace.suite, folder / "events.jsonl"
    events.unlink(missing_ok=True)
    argv: list[str | Path] = [place.python, "-u", suite / "run.py", "--events", events]
    argv += ["--tools", engine.tools_of(place.python, context), "--gpu", "never"]
    argv += ["--only", ",".join(mapping.KINDS)]
    done = processes.run(argv, timeout=WHOLE_LIMIT_S, env=place.variables, cwd=folder)
    said = events.read_text(encoding="utf-8").splitlines() if events.exists() else []
    told = [json.loads(line) for line in said]
    if not told or told[-1]["event"] != "end":
        raise CompatError(f"the suite did not end in {place.name}:\n{done.output[-3000:]}")
    checks = {
        one["check"]: mapping.Ours(one["outcome"], one["reason"] or "")
        for one in told
        if one["event"] == "check"
    }
    return f"run now, by the suite {MAIN.digest(suite)[:12]}", checks


def referee(
    file: Path, tag: str, place: Place, options: argparse.Namespace, context: Context
) -> int:
    """Run, compare and print one cell; 1 where something differs or nothing was compared."""
    report = run(file, place, options.limit, context)
    if place.result:
        about, results = published(place.result)
    else:
        about, results = asked_now(file.parent, place, context)
    pins = ", ".join(f"{name} {version}" for name, version in report["installed"].items())
    lines = mapping.compare(report["tests"], results)
    total = mapping.total(lines)
    heading = f"{place.name}: tests of {tag} on {pins}"
    if options.summary:
        print(mapping.as_row((place.name, tag, pins, about), lines))
    elif options.markdown:
        print(f"### {heading}\n\nOurs: {about}; {total}.\n\n{mapping.as_markdown(lines)}\n")
    else:
        print(f"{heading}\nours: {about}\n{mapping.as_text(lines)}\n{total}\n")
    if report["not_collected"]:
        print(f"upstream's test file cannot be loaded:\n{report['not_collected']}\n")
    sys.stdout.flush()
    return int(bool(report["not_collected"]) or mapping.failed(lines))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkout", type=Path, metavar="CHECKOUT")
    parser.add_argument("tag", metavar="TAG")
    parser.add_argument("cells", nargs="+", metavar="CELL")
    parser.add_argument("--fresh", action="store_true", help="run the suite now")
    parser.add_argument("--markdown", action="store_true", help="print Markdown tables")
    parser.add_argument("--summary", action="store_true", help="print a row of Markdown a cell")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds for one test")
    options = parser.parse_args(argv)
    try:
        context = run_context.context()
        path = repository.test_file(options.checkout, options.tag)
        places = [place_of(cell, context, fresh=options.fresh) for cell in options.cells]
        with tempfile.TemporaryDirectory(prefix="mcore-compat-referee-") as folder:
            file = Path(folder, Path(path).name)
            file.write_text(repository.source(options.checkout, options.tag), encoding="utf-8")
            # Every cell, also after one that differs.
            codes = [referee(file, options.tag, place, options, context) for place in places]
    except CompatError as error:
        print(f"upstream.py: {error}", file=sys.stderr)
        return error.exit_code
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
