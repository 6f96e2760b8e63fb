"""List the cells of the matrix, newest first, one line each: its latest verdict and its stack."""

from argparse import Namespace

from mcore_compat.base.errors import MatrixError
from mcore_compat.core import combinations, matrix, releases, workspace
from mcore_compat.results import verdict_index


def call(args: Namespace) -> int:
    """Print the list; 0."""
    place = workspace.find()
    cells = combinations.cells(matrix.load(place.matrix), releases.load(place.releases))
    if not cells:
        raise MatrixError(f"{place.matrix.name} has no cell: all pairs are excluded")
    for name, line in verdict_index.listing(cells, place.verdicts).items():
        print(f"{name}: {line}")
    return 0
