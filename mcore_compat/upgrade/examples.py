"""Examples of upgrades as Markdown, which `nox -s report` writes into `docs/upgrade/`. Pure, except
that it reads locks."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mcore_compat.core import combinations
from mcore_compat.core.cells import Cell, full_name
from mcore_compat.core.profiles import DEFAULT, Profile
from mcore_compat.core.workspace import Workspace
from mcore_compat.exchange import run
from mcore_compat.publish.collation import Collated
from mcore_compat.resolve import locks
from mcore_compat.results.result import Result
from mcore_compat.run.check_sets import MAIN
from mcore_compat.upgrade import document
from mcore_compat.upgrade.answer import answer
from mcore_compat.upgrade.sides import UpgradeInputs

FOLDER = Path("docs", "upgrade")
"""Below the workspace."""

DEVICE_CLASS = "host"

UPGRADES = {
    ("0.9-modelopt0.21", "0.16-modelopt0.41"): Profile(
        name="", features=("restore",), families=("gpt",)
    ),
    ("0.18-modelopt0.46", "0.19-modelopt0.47"): Profile(
        name="", features=("restore", "quantize-te"), families=("llama4-moe",)
    ),
    ("0.19-modelopt0.45", "0.19-modelopt0.46"): Profile(
        name="", features=("restore", "quantize"), families=("mla-moe",), formats=("fp8",)
    ),
}
"""By FROM and TO: a second, narrower profile for the example. One upgrade goes from the oldest cell
to a widely used one; one is right for some users only; one changes ModelOpt alone and loses
nothing."""

EXAMPLES = tuple(
    (origin, target, profile)
    for (origin, target), narrower in UPGRADES.items()
    for profile in (DEFAULT, narrower)
)
"""FROM, TO and the profile of each example."""


def path_of(origin: str, target: str, profile: Profile = DEFAULT) -> Path:
    """The path of an example, relative to the workspace."""
    words = (*profile.features, *profile.formats, *profile.families)
    whom = "" if profile == DEFAULT else f"-for-{'-'.join(words)}"
    return FOLDER / f"{origin}-to-{target}{whom}.md"


def known(
    all_: Collated,
    device_class: str,
    exchanged: Sequence[Result],
    cells: Sequence[Cell],
    workspace: Workspace,
    profile: Profile = DEFAULT,
) -> UpgradeInputs:
    """The inputs for the answer about two cells and a profile; reads the locks of the cells.

    Raises:
        LockError: a lock is corrupt.
    """
    there = {cell.name: workspace.lock(cell.name) for cell in cells}
    return UpgradeInputs(
        all_=all_,
        device_class=device_class,
        suite=MAIN.digest(workspace.suite),
        checks=run.digest(workspace),
        exchanged=tuple(exchanged),
        locks={name: locks.read(path) for name, path in there.items() if path.exists()},
        profile=profile,
    )


def texts(
    all_: Collated, exchanged: Sequence[Result], workspace: Workspace
) -> Mapping[Path, Callable[[], str]]:
    """By file: the function that makes its text. Examples without results are left out."""

    def text_of(names: Sequence[str], profile: Profile) -> str:
        cells = [combinations.named(name, all_.matrix, all_.releases) for name in names]
        of = known(all_, DEVICE_CLASS, exchanged, cells, workspace, profile)
        origin, target = map(of.side, cells)
        return document.markdown(answer(origin, target, of))

    tested = {e.cell for e in all_.by_class.get(DEVICE_CLASS, ())}
    return {
        workspace.root / path_of(origin, target, profile): functools.partial(
            text_of, names, profile
        )
        for origin, target, profile in EXAMPLES
        if {*(names := (full_name(origin), full_name(target)))} <= tested
    }
