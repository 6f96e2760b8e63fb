"""Asks the checks of this folder where it was named and there is a GPU; notes what they took."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from suite import noise
from suite.outcomes import NeedsGpu
from suite.record import Record

HERE = Path(__file__).resolve().parent

MEMORY = "peak memory, bytes"
"""What is recorded of each check beside its time; the host's report reads it under this name."""

NO_GPU = "asked on a device only, and nothing stands in for it: there is no GPU that can be used"


def pytest_configure(config: pytest.Config) -> None:
    """ModelOpt compiles extensions into a folder that torch shares between all environments of one
    Python: one that another torch compiled must not be taken for this one's."""
    if config.rootpath.resolve() == HERE:
        name = hashlib.sha256(sys.prefix.encode()).hexdigest()[:16]
        place = Path(tempfile.gettempdir(), f"mcore-compat-extensions-{name}")
        os.environ.setdefault("TORCH_EXTENSIONS_DIR", str(place))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    inside = HERE in collection_path.resolve().parents
    return True if inside and config.rootpath.resolve() != HERE else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """A kernel that a wheel was built without is not asked: our empty module falls short there."""
    try:
        return (yield)
    except (AttributeError, ImportError) as error:
        from suite.gpu import models

        why = models.left_out(error)
        if why is None:
            raise
        raise NeedsGpu(f"{why}: there was no nvcc for it") from error


@pytest.fixture(autouse=True)
def device(request: pytest.FixtureRequest, on_host: bool, record: Record) -> Iterator[None]:
    """Raises NeedsGpu without one; with one, records the most memory that the check held."""
    request.getfixturevalue("family")  # first: what a release lacks, no GPU gives it
    if on_host:
        raise NeedsGpu(NO_GPU)
    noise.exact()  # before the device is touched; all that is float32 is compared as such
    import torch

    torch.cuda.reset_peak_memory_stats()
    yield
    record(MEMORY, torch.cuda.max_memory_allocated())
