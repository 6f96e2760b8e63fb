"""List the cells of the matrix, one line each, with the last verdict."""

from argparse import Namespace

from mcore_compat.core import combinations, matrix, releases
from mcore_compat.results import verdict


def call(args: Namespace) -> int:
    """Print the list; 0."""
    cells = combinations.cells(matrix.load(), releases.load())
    for name, line in verdict.listing(cells).items():
        print(f"{name}: {line}")
    return 0
