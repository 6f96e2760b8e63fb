"""Explain why a cell fails: each cause, whether it is declared, and over which versions it was
seen. Runs nothing."""

from argparse import ArgumentParser, Namespace

from mcore_compat.cli import options
from mcore_compat.core import combinations
from mcore_compat.publish import one_cell
from mcore_compat.results import repairs, store
from mcore_compat.run import own
from mcore_compat.run.context import context


def add_options(parser: ArgumentParser) -> None:
    """What the command takes."""
    options.cell(parser)


def call(args: Namespace) -> int:
    """Print the causes; 0, whatever they are."""
    here = context()
    cell = combinations.named(args.cell, here.matrix, here.releases)
    stored = store.load_all(here.workspace.results)
    every, _ = repairs.applied_to_all(stored, here.workspace.results)
    mine = [result for result in every if result.cell == cell.name]
    mine = mine or [*one_cell.results_of(cell, own.workspace(here.workspace))]
    for result in mine:
        if len(mine) > 1:
            print(f"{result.device_class}:")
        alike = [other for other in every if other.device_class == result.device_class]
        alike += () if result in alike else (result,)
        print("\n".join(one_cell.causes(result, alike, here)))
    if not mine:
        print(one_cell.without_result(cell, here))
    return 0
