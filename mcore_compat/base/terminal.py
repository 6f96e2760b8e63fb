"""The terminal that tables are printed to."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def console(**options: Any) -> Console:
    """A rich console without automatic highlighting. On a closed pipe it raises BrokenPipeError, as
    `print` does; rich itself would end the process with code 1."""
    import rich.console  # slow to import, and most commands print no table

    class Piped(rich.console.Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    return Piped(highlight=False, **options)
