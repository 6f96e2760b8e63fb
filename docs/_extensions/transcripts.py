"""Transcripts of `mcore-compat`: made when the site is built, and kept up to date in the README.

In a page, a directive runs the command and shows what it printed, so that no page says what the
program does not:

    ```{transcript} show 0.19-modelopt0.46
    :lines: 4
    :codes: 0, 1
    ```

In the README, which is read as it is written, a block whose first line is `$ mcore-compat ...` is
such a transcript, but for `doctor`'s, which is of an environment (tests/real/test_tutorial.py):

    python docs/_extensions/transcripts.py README.md            # is each as printed now? 1: not
    python docs/_extensions/transcripts.py README.md --renew    # writes what is printed now
"""

from __future__ import annotations

import argparse
import functools
import itertools
import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[2]
CUT = "[…]"
"""Stands where lines were left out."""

WIDTH = 100
"""Of a line that is shown; a longer one is folded."""

BLOCK = re.compile(
    r"^```console\n\$ mcore-compat (?P<words>(?!doctor).+)\n(?P<shown>(?:.*\n)*?)```$", re.M
)


@functools.cache
def printed(command: str) -> tuple[int, tuple[str, ...]]:
    """The exit code of a command, `show 0.19-modelopt0.46`, and the lines that it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "mcore_compat.cli", *shlex.split(command)],
        cwd=ROOT,
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": str(WIDTH), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    text = done.stdout.replace(f"{os.environ.get('MCORE_COMPAT_WORKSPACE', ROOT)}/", "")
    return done.returncode, tuple(line.rstrip() for line in text.splitlines())


def cut(lines: Sequence[str], most: int | None) -> list[str]:
    """The first lines, and that there are more."""
    if most is None or len(lines) <= most:
        return list(lines)
    return [*lines[:most], CUT]


def _folded(line: str) -> list[str]:
    indent = " " * (len(line) - len(line.lstrip()) + 4)
    how = {"subsequent_indent": indent, "break_long_words": False, "break_on_hyphens": False}
    return textwrap.wrap(line, WIDTH, **how) or [""]  # type: ignore[arg-type]


def _fitting(lines: Sequence[str], most: int | None) -> list[str]:
    """The first lines, folded, as many as fit whole; the first in any case."""
    shown: list[str] = []
    for number, line in enumerate(lines):
        fold = _folded(line)
        if most is not None and number and len(shown) + len(fold) > most:
            return [*shown, CUT]
        shown += fold
    return shown


def renewed(text: str) -> str:
    """A README with each transcript as it is printed now, as many lines of each as before."""

    def block(match: re.Match[str]) -> str:
        before = match["shown"].splitlines()
        most = before.index(CUT) if CUT in before else None
        _, lines = printed(match["words"])
        shown = _fitting(lines, most)
        return "\n".join(["```console", f"$ mcore-compat {match['words']}", *shown, "```"])

    return BLOCK.sub(block, text)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    from docutils import nodes
    from docutils.parsers.rst import directives
    from sphinx.util.docutils import SphinxDirective

    class Transcript(SphinxDirective):
        """What a command prints. `lines`: how many of them; `codes`: exit codes that are meant."""

        required_arguments = 1
        final_argument_whitespace = True
        option_spec = {  # noqa: RUF012 (as docutils has it)
            "lines": directives.positive_int,
            "codes": directives.unchanged,
        }

        def run(self) -> list[nodes.Node]:
            command = self.arguments[0]
            code, lines = printed(command)
            meant = [int(word) for word in self.options.get("codes", "0").split(",")]
            if code not in meant:
                raise self.error(f"mcore-compat {command} ended with {code}: {lines[:1]}")
            shown = cut(lines, self.options.get("lines"))
            folded = itertools.chain.from_iterable(map(_folded, shown))
            text = "\n".join([f"$ mcore-compat {command}", *folded])
            block = nodes.literal_block(text, text, language="console")
            return [nodes.container("", block, classes=["transcript"])]

    app.add_directive("transcript", Transcript)
    return {"version": "1", "parallel_read_safe": True}


def main() -> int:
    """See whether a file's transcripts are as printed now, or write them."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--renew", action="store_true")
    args = parser.parse_args()
    before = args.file.read_text(encoding="utf-8")
    now = renewed(before)
    if before == now:
        return 0
    if args.renew:
        args.file.write_text(now, encoding="utf-8")
        print(f"{args.file}: written as printed now")
        return 0
    print(f"{args.file}: a transcript is out of date; nox -s docs -- --renew", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
