"""Several files that belong together: all of them are written, or none."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from mcore_compat.base import files


def write_all(texts: Mapping[Path, str | None]) -> None:
    """Write each text to its path, in this order; None takes the file away.

    All are on the disk, beside their places, before the first is renamed. Where a rename fails,
    those before it are taken back. A process that is killed between two leaves the later as they
    were: the order is the caller's.

    Raises:
        InfrastructureError: the disk is full or not writable; every file is then as it was.
    """
    new: dict[Path, Path] = {}
    before: dict[Path, bytes | None] = {}
    with contextlib.ExitStack() as stack:
        for path, text in texts.items():
            stack.enter_context(files.disk_errors(path))
            path.parent.mkdir(parents=True, exist_ok=True)
            folder = tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.")
            staged = Path(stack.enter_context(folder)) / path.name
            before[path] = path.read_bytes() if path.exists() else None
            if text is not None:
                files.write_text(staged, text)
                new[path] = staged
        try:
            for path in texts:
                if path in new:
                    os.replace(new[path], path)
                else:
                    path.unlink(missing_ok=True)
        except BaseException:
            for path, content in before.items():
                _put_back(path, content)
            raise


def _put_back(path: Path, content: bytes | None) -> None:
    if content is None:
        path.unlink(missing_ok=True)
    elif not path.exists() or path.read_bytes() != content:
        files.write_text(path, content.decode())
