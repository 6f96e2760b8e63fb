"""A toolkit of CUDA 12.4 is made of real packages, and compiles; it needs the network."""

from pathlib import Path

import pytest

from mcore_compat.base import processes
from mcore_compat.environments import new_toolkit, toolkits
from mcore_compat.run import context

pytestmark = pytest.mark.real


def test_a_toolkit_is_made_and_still_compiles_where_it_was_moved_to(tmp_path: Path) -> None:
    into = tmp_path / "cuda"
    made = new_toolkit.make("12.4", into, processes.run, context.find_uv(), print)
    assert toolkits.at(into, processes.run) == made
    probe = tmp_path / "probe.cu"
    probe.write_text(new_toolkit.PROBE)
    moved = into.rename(tmp_path / "moved")
    argv = [moved / "bin" / "nvcc", "-arch=sm_90", "-std=c++17", "-c", probe, "-o", tmp_path / "o"]
    done = processes.run(argv, timeout=300)
    assert done.ok, done.output
    assert (tmp_path / "o").stat().st_size > 0
