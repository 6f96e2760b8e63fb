"""What packages ask of a GPU while they are imported is answered without starting CUDA; with a
toy torch, whose CUDA is lost to children that are forked after it started, as the real one's is."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from .conftest import ROOT, command, read, write

TORCH = """
import os
from types import SimpleNamespace
from torch import cuda
__version__ = "2.0"
version = SimpleNamespace(cuda="13.0")
def zeros(count, device): cuda._start()
"""

CUDA = """
import os
from types import SimpleNamespace
started, lost = False, False
def _start():
    global started
    if lost:
        raise RuntimeError("Cannot re-initialize CUDA in forked subprocess")
    started = True
def _forked():
    global lost
    lost = started
os.register_at_fork(after_in_child=_forked)
def _asked(answer):
    _start()
    return answer
def is_available(): return _asked(True)
def device_count(): return _asked(2)
def current_device(): return _asked(0)
def get_device_name(device=None): return _asked(f"Toy {device or 0}")
def get_device_capability(device=None): return _asked((9, device or 0))
def get_device_properties(device=None):
    return _asked(SimpleNamespace(major=9, total_memory=80, uuid=object()))
def mem_get_info(): return _asked((1, 2))
"""

ASKS = """
import os
with open(os.path.join(os.environ["SUITE_TEST"], "imports"), "a") as file:
    file.write("asks\\n")
from torch import cuda
from torch.cuda import get_device_capability as kept
assert cuda.is_available() and cuda.device_count() == 2 and cuda.current_device() == 0
SAID = [cuda.get_device_capability(), cuda.get_device_capability("cuda:1"), cuda.get_device_name(1)]
SAID.append(cuda.get_device_properties(device=0).total_memory)
"""

CHECKS = """
def check_one(record):
    import torch, toy_asks
    record("said", toy_asks.SAID)
    record("started by then", torch.cuda.started)
    assert toy_asks.kept() == torch.cuda.get_device_capability() == (9, 0)
    record("device asked", torch.cuda.started)
def check_two():
    import torch, toy_asks
    torch.zeros(1, device="cuda")
"""

START = """
import sys
sys.path.append({root!r})
from suite import machine, run
machine.driver_present = lambda: True
sys.exit(run.main(sys.argv[1:]))
"""


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the toy torch, for toys that ask it."""
    folder = tmp_path / "modules"
    (folder / "torch").mkdir(parents=True)
    (folder / "torch" / "__init__.py").write_text(TORCH)
    (folder / "torch" / "cuda.py").write_text(CUDA)
    (folder / "toy_asks.py").write_text(ASKS)
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
    return folder


def ask(folder: Path, source: str, preload: str) -> list[dict[str, Any]]:
    """The events of checks that are asked as where there is a driver."""
    write(folder, textwrap.dedent(source))
    argv = [sys.executable, "-c", START.format(root=str(ROOT)), *command(folder)[2:]]
    argv += ["--preload", preload]
    done = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "SUITE_TEST": str(folder)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return read(folder)


def test_a_module_that_asks_the_device_is_imported_once_for_all_checks(
    tmp_path: Path, modules: Path
) -> None:
    start, *events = ask(tmp_path, CHECKS, "torch,toy_asks")
    assert start["preload"] == {"torch": "ok", "toy_asks": "ok"}
    assert start["device_class"] == "gpu"
    assert (tmp_path / "imports").read_text() == "asks\n"
    one, two = (event for event in events if event["event"] == "check")
    assert one["outcome"] == two["outcome"] == "works", (one, two)
    assert one["details"]["said"] == [[9, 0], [9, 1], "Toy 1", 80]
    assert one["details"]["started by then"] is False
    assert one["details"]["device asked"] is True


def test_what_was_answered_and_to_whom_is_in_the_result(tmp_path: Path, modules: Path) -> None:
    start = ask(tmp_path, "def check_it(): pass", "torch,toy_asks")[0]
    told = start["platform"]["answered while importing"]
    assert told["get_device_capability"] == ["toy_asks"]
    assert set(told) > {"is_available", "device_count", "get_device_properties"}
    assert (start["platform"]["gpu"], start["platform"]["gpus"]) == ("Toy 0", 2)


@pytest.mark.parametrize(
    "starts", ["cuda.mem_get_info()", "cuda.get_device_properties().uuid", "cuda._start()"]
)
def test_a_module_that_starts_cuda_otherwise_is_dropped(
    starts: str, tmp_path: Path, modules: Path
) -> None:
    (modules / "toy_starts.py").write_text(f"from torch import cuda\n{starts}\n")
    source = """
    def check_it():
        import torch, toy_starts
        torch.zeros(1, device="cuda")
    """
    start, *events = ask(tmp_path, source, "torch,toy_asks,toy_starts")
    assert start["preload"]["toy_asks"] == "ok"
    assert "starts CUDA" in start["preload"]["toy_starts"]
    (check,) = (event for event in events if event["event"] == "check")
    assert check["outcome"] == "works", check
