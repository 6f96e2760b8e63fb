"""A real Slurm on loopback: munged, slurmctld and one slurmd a node, started and stopped by tests.

No systemd, no cgroups, no accounting; its own ports, key and socket in a folder of its own.
"""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

import pytest

from mcore_compat.base import process_tree

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol")
DEBIAN = "apt-get install munge slurmctld slurmd slurm-client"

CONFIG = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SchedulerParameters=sched_interval=2,batch_sched_delay=0,bf_interval=2
SlurmdParameters=config_overrides
ReturnToService=0
KillWait=10
MinJobAge={min_job_age}
GresTypes=gpu
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""

PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def programs(names: Sequence[str] = PROGRAMS, where: str = DEBIAN) -> None:
    """Fail, with one clear line, where Slurm is not installed."""
    missing = [name for name in names if shutil.which(name, path=PATH) is None]
    if missing:
        pytest.fail(f"not on PATH: {', '.join(missing)}; {where}", pytrace=False)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on; each is free for whoever takes it first."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def wait_for(what: str, is_so: Callable[[], object], limit: float = 60.0) -> None:
    """Wait until something is so; fail after `limit` seconds."""
    deadline = time.monotonic() + limit
    while not is_so():
        assert time.monotonic() < deadline, f"not in {limit:.0f} s: {what}"
        time.sleep(0.2)


class Cluster:
    """`with Cluster(3) as slurm:` has nodes n1 to n3 of one CPU and one stand-in GPU each.

    The GPUs are entries that Slurm counts; no device is behind them.
    """

    def __init__(self, nodes: int, min_job_age: int = 300) -> None:
        programs()
        # Short: a socket's path may have no more than 107 characters.
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
        self.folder.chmod(0o755)  # munge wants its socket to be reachable
        self.nodes = [f"n{number}" for number in range(1, nodes + 1)]
        self.user = getpass.getuser()
        host = socket.gethostname().partition(".")[0]
        first, *ports = free_ports(nodes + 1)
        lines = [
            f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=1 Gres=gpu:1"
            for name, port in zip(self.nodes, ports, strict=True)
        ]
        self.config = self.folder / "slurm.conf"
        self.config.write_text(
            CONFIG.format(
                host=host,
                port=first,
                user=self.user,
                folder=self.folder,
                min_job_age=min_job_age,
                nodes="\n".join(lines),
            )
        )
        gres = [f"NodeName={name} Name=gpu File=/dev/null" for name in self.nodes]
        (self.folder / "gres.conf").write_text("\n".join(gres) + "\n")
        self.environ = {**os.environ, "SLURM_CONF": str(self.config), "PATH": PATH}
        self._daemons: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Cluster:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()

    def _start(self) -> None:
        for name in ("state", *(f"spool-{node}" for node in self.nodes)):
            (self.folder / name).mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        named = {
            "key-file": key,
            "socket": self.folder / "munge.socket",
            "pid-file": self.folder / "munged.pid",
            "seed-file": self.folder / "munged.seed",
            "log-file": self.folder / "munged.log",
        }
        self._daemon("munged", "--foreground", *(f"--{k}={v}" for k, v in named.items()))
        wait_for("munged listens", (self.folder / "munge.socket").exists)
        self._before_the_controller()
        self._daemon("slurmctld", "-D", "-f", str(self.config))
        for node in self.nodes:
            self._daemon("slurmd", "-D", "-N", node, "-f", str(self.config), log=node)
        idle = " ".join(["idle"] * len(self.nodes))
        wait_for(
            f"all nodes idle; logs in {self.folder}",
            lambda: " ".join(self.ask("sinfo", "-hN", "-o", "%T").split()) == idle,
        )

    def _before_the_controller(self) -> None:
        """What a cluster with more than this one has starts here."""

    def _daemon(self, program: str, *words: str, log: str | None = None) -> None:
        with (self.folder / f"{log or program}.out").open("wb") as out:
            self._daemons.append(
                subprocess.Popen(  # ends with this process, however that ends
                    process_tree.argv(program, *words),
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    env=self.environ,
                    start_new_session=True,
                )
            )

    def ask(self, *argv: str) -> str:
        """What a client of Slurm prints; nothing where it fails."""
        done = subprocess.run(
            argv, env=self.environ, capture_output=True, text=True, timeout=30, check=False
        )
        return done.stdout if done.returncode == 0 else ""

    def tell(self, *argv: str) -> None:
        """Run a client of Slurm that must not fail."""
        subprocess.run(argv, env=self.environ, capture_output=True, timeout=30, check=True)

    def node_of(self, job: str) -> str:
        """The node that a job runs on; nothing while it does not."""
        return self.ask("squeue", "-h", "-t", "RUNNING", "-j", job, "-o", "%N").strip()

    def of_job(self, job: str) -> dict[int, list[bytes]]:
        """The command lines of the processes of a job of an array."""
        array, _, place = job.partition("_")
        wanted = {f"SLURM_ARRAY_JOB_ID={array}".encode(), f"SLURM_ARRAY_TASK_ID={place}".encode()}
        found = {}
        for pid in self.left():
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                environ = set(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))
            except OSError:
                continue
            if wanted <= environ:
                found[pid] = words
        return found

    def worker_of(self, job: str, module: bytes = b"submitit.core._submit") -> int:
        """The process of submitit that waits for the command of a job, or that of a module."""
        for pid, words in self.of_job(job).items():
            if b"python" in words[0] and module in words:
                return pid
        raise LookupError(f"no worker of job {job}")

    def take_down(self, job: str) -> None:
        """Have the node of a running job fail, come back, and the job start again.

        By itself Slurm waits two minutes before it starts such a job again; here no longer than
        until nothing of it runs any more, for a node refuses what it still has.
        """
        node = self.node_of(job)
        self.tell("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
        wait_for(f"job {job} is queued again", lambda: not self.node_of(job))
        wait_for(f"nothing of job {job} runs", lambda: not self.of_job(job))
        time.sleep(5)
        self.tell("scontrol", "update", f"nodename={node}", "state=resume")
        self.tell("scontrol", "update", f"jobid={job}", "starttime=now")

    def left(self) -> dict[int, str]:
        """The processes that are of this cluster: its daemons, jobs and clients."""
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            try:
                text = (path / "environ").read_bytes() + (path / "cmdline").read_bytes()
            except OSError:
                continue
            pid = int(path.name)
            if os.fsencode(self.folder) in text and pid != os.getpid():
                found[pid] = (path / "comm").read_text().strip()
        return found

    def _stop(self) -> None:
        self.ask("scancel", "--user", str(os.getuid()))
        deadline = time.monotonic() + 30
        while self.ask("squeue", "-h") and time.monotonic() < deadline:
            time.sleep(0.5)
        for daemon in reversed(self._daemons):
            daemon.terminate()
        for daemon in self._daemons:
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait(10)
        for pid in self.left():  # by their ids, and only those of this folder
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                continue
        wait_for("nothing of the cluster is left", lambda: not self.left(), 10)
        shutil.rmtree(self.folder)
