"""The real Slurm of `slurm_support.py` with real accounting: slurmdbd over a MariaDB of its own."""

from __future__ import annotations

import socket
import subprocess
import time

from slurm_support import Cluster, free_ports, programs, wait_for

PROGRAMS = ("mariadbd", "mariadb-install-db", "mariadb", "slurmdbd", "sacct")
DEBIAN = "apt-get install slurmdbd mariadb-server"

SLURM = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={port}
AccountingStoragePass={folder}/munge.socket
"""

SLURMDBD = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={port}
SlurmUser={user}
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={storage}
StorageUser=slurm
StoragePass=stand-in
StorageLoc=accounting
PidFile={folder}/slurmdbd.pid
"""

GRANTS = "".join(
    f"create user 'slurm'@'{host}' identified by 'stand-in'; grant all on *.* to 'slurm'@'{host}';"
    for host in ("127.0.0.1", "localhost")
)


class Accounted(Cluster):
    """As `Cluster`; what has ended is known to sacct after squeue has forgotten it."""

    def __init__(self, nodes: int, min_job_age: int = 300) -> None:
        programs(PROGRAMS, DEBIAN)
        super().__init__(nodes, min_job_age)
        self._port, self._storage = free_ports(2)
        text = self.config.read_text()
        before = "AccountingStorageType=accounting_storage/none\n"
        assert before in text
        ours = SLURM.format(port=self._port, folder=self.folder)
        self.config.write_text(text.replace(before, ours))

    def _before_the_controller(self) -> None:
        data, opened = self.folder / "data", self.folder / "db.socket"
        made = ["mariadb-install-db", "--no-defaults", f"--user={self.user}", f"--datadir={data}"]
        made += ["--auth-root-authentication-method=normal"]
        subprocess.run(made, env=self.environ, capture_output=True, timeout=120, check=True)
        self._daemon(
            "mariadbd",
            "--no-defaults",
            f"--user={self.user}",
            f"--datadir={data}",
            f"--socket={opened}",
            f"--port={self._storage}",
            "--bind-address=127.0.0.1",
            "--innodb-buffer-pool-size=64M",
        )
        wait_for("the database listens", opened.exists)
        asked = ["mariadb", "--no-defaults", f"--socket={opened}", "-u", "root", "-e", GRANTS]
        wait_for("the database answers", lambda: subprocess.run(
            asked, env=self.environ, capture_output=True, timeout=30, check=False
        ).returncode == 0)  # fmt: skip
        config = self.folder / "slurmdbd.conf"  # beside slurm.conf, where it is looked for
        config.write_text(
            SLURMDBD.format(
                folder=self.folder,
                host=socket.gethostname().partition(".")[0],
                port=self._port,
                user=self.user,
                storage=self._storage,
            )
        )
        config.chmod(0o600)  # slurmdbd wants it to be so
        self._daemon("slurmdbd", "-D")
        time.sleep(1)
        wait_for("slurmdbd listens", self._listens)

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self._port), 1).close()
        except OSError:
            return False
        return True
