"""Show the published results of a cell: its verdict on each device class (host: without a GPU, or
gpu), a table of features, the sets of checks that ran separately, and whether this machine's own
run agrees. Runs nothing."""

from argparse import ArgumentParser, Namespace

from mcore_compat.cli import options
from mcore_compat.cli.registry import VERDICT
from mcore_compat.core import combinations
from mcore_compat.publish import one_cell
from mcore_compat.results import citation
from mcore_compat.run import cells, own
from mcore_compat.run.check_sets import ON_A_GPU
from mcore_compat.run.context import context

ANSWERS = VERDICT


def add_options(parser: ArgumentParser) -> None:
    """What the command takes."""
    options.cell(parser)
    options.profile(parser)
    parser.add_argument("--checks", action="store_true", help="also show the outcome of each check")


def call(args: Namespace) -> int:
    """Print them; 0 if every verdict is `compatible`."""
    here = context(profile=options.profile_of(args))
    cell = combinations.named(args.cell, here.matrix, here.releases)
    results = one_cell.results_of(cell, here.workspace)
    parts = one_cell.results_of(cell, here.workspace, ON_A_GPU)
    place = own.workspace(here.workspace)
    mine = one_cell.results_of(cell, place)
    citations = [citation.of_result(r, here.workspace.results) for r in (*results, *parts)]
    citations += [citation.of_result(r, place.results) for r in mine]
    results = results or mine
    if not results and not parts:
        print(one_cell.without_result(cell, here))
        return 1
    for result in results:
        cells.show(result, here, every=args.checks)
        print(
            f"taken {result.taken}; causes and affected versions: mcore-compat explain {cell.name}"
        )
    for part in parts:
        print("\n".join(cells.part_lines(part)))
    for result in mine:
        published = own.published_result(cell.name, result.device_class, here.workspace)
        first, *more = own.compared(result, published)
        print("\n".join([f"this machine's own run of {result.taken}: {first}", *more]))
    print("\n".join(citation.lines(citations)))
    return cells.together([cells.verdict_code(result, here) for result in results])
