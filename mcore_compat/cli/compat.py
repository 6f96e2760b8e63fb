"""Run any combination, also one that the matrix does not declare. Versions that you leave out are
those of the default stack of the megatron-core series. Pins of other packages (--with) become part
of the cell's name."""

from argparse import ArgumentParser, Namespace

from mcore_compat.cli import options
from mcore_compat.cli.registry import VERDICT
from mcore_compat.core import pins
from mcore_compat.core.cells import Request, format_name

ANSWERS = VERDICT


def add_options(parser: ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("mcore", help="megatron-core series or release, e.g. 0.16 or 0.16.1")
    parser.add_argument("modelopt", help="nvidia-modelopt series or release, e.g. 0.41")
    parser.add_argument("--te", help="transformer-engine (default: the default stack's)")
    parser.add_argument("--torch", help="torch (default: the default stack's)")
    parser.add_argument("--python", help="python, e.g. 3.12 (default: the default stack's)")
    options.further(parser)
    options.running(parser)


def call(args: Namespace) -> int:
    """Run the cell; 0 if it is compatible for the profile."""
    args.further = pins.together(args.further)
    return options.run_named([format_name(options.taken(Request, args))], args)
