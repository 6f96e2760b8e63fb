"""Real upgrades as Markdown, kept in `docs/upgrade/` and made anew by `nox -s report`. Pure but for
reading locks."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mcore_compat.base import files
from mcore_compat.core import combinations
from mcore_compat.core.cells import full_name
from mcore_compat.exchange.evidence import Exchanged
from mcore_compat.publish.collation import Collated
from mcore_compat.upgrade import document, text
from mcore_compat.upgrade.answer import UpgradeAnswer, answer
from mcore_compat.upgrade.run import inputs_of

FOLDER = files.ROOT / "docs" / "upgrade"

DEVICE_CLASS = "host"

PAIRS = (
    ("0.9-modelopt0.21", "0.16-modelopt0.41"),
    ("0.18-modelopt0.46", "0.19-modelopt0.47"),
    ("0.19-modelopt0.45", "0.19-modelopt0.46"),
)
"""From the oldest to one that many run; one that is not to be done, and what instead; one of
ModelOpt alone, in which nothing is lost."""


def path_of(origin: str, target: str) -> Path:
    """Where the example lies."""
    return FOLDER / f"{origin}-to-{target}.md"


def example(all_: Collated, loads: Sequence[Exchanged], origin: str, target: str) -> UpgradeAnswer:
    """The answer to one example."""
    cells = [combinations.named(full_name(n), all_.matrix, all_.releases) for n in (origin, target)]
    inputs = inputs_of(all_, DEVICE_CLASS, loads, cells)
    return answer(inputs.side(cells[0]), inputs.side(cells[1]), inputs)


def markdown(answer: UpgradeAnswer) -> str:
    """As `--format markdown` gives it."""
    return text.markdown(document.sections(answer))


def texts(all_: Collated, loads: Sequence[Exchanged]) -> Mapping[Path, Callable[[], str]]:
    """By file: how its text is made. An example of which nothing is known is left out."""

    def text_of(origin: str, target: str) -> str:
        return markdown(example(all_, loads, origin, target))

    tested = {e.cell for e in all_.by_class.get(DEVICE_CLASS, ())}
    return {
        path_of(*pair): functools.partial(text_of, *pair)
        for pair in PAIRS
        if {full_name(name) for name in pair} <= tested
    }
