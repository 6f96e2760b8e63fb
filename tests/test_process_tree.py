"""A process that ends with its parent, and takes with it what it started."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from mcore_compat.base import processes

PARENT = """\
import subprocess, sys, time
from mcore_compat.base import process_tree
child = subprocess.Popen(process_tree.argv(sys.executable, "-c", "import time; time.sleep(600)"))
print(child.pid, flush=True)
time.sleep(600)
"""


def test_a_tied_child_ends_with_its_killed_parent() -> None:
    pids: list[int] = []

    def line(text: str) -> None:
        pids.append(int(text))
        os.kill(int(Path(f"/proc/{text}/stat").read_text().split()[3]), signal.SIGKILL)

    done = processes.run([sys.executable, "-c", PARENT], timeout=30, on_line=line)
    assert done.returncode == -signal.SIGKILL
    stat = Path(f"/proc/{pids[0]}/stat")
    deadline = time.monotonic() + 10
    while stat.exists() and " Z " not in stat.read_text():
        assert time.monotonic() < deadline, "the child lives"
        time.sleep(0.05)


ORPHANS = """\
import subprocess, sys
from mcore_compat.base import process_tree
process_tree.adopt_orphans()
# A grandchild in a session of its own, whose parent has ended.
inner = "import subprocess; subprocess.Popen(['sleep', '600'], start_new_session=True)"
subprocess.run([sys.executable, "-c", inner])
print(process_tree.end_children(), process_tree.end_children())
"""


def test_what_a_dead_child_leaves_behind_is_ended() -> None:
    done = processes.run([sys.executable, "-c", ORPHANS], timeout=30)
    assert done.output.split() == ["1", "0"]
