"""Slots: each cell gets its own GPU, by a lock that the kernel frees when its holder ends."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from mcore_compat.base import files
from mcore_compat.base.errors import InfrastructureError
from mcore_compat.base.processes import Runner
from mcore_compat.run import machine
from mcore_compat.run.machine import VISIBLE

QUERY = ("--query-gpu=index,uuid,name,memory.total,memory.free", "--format=csv,noheader,nounits")

WAIT_S = 12 * 3600.0
"""Seconds that a cell waits for a device."""

POLL_S = 2.0


@dataclass(frozen=True)
class Device:
    """A GPU as reported by nvidia-smi; memory in MiB, None if unknown."""

    index: str
    uuid: str
    name: str
    total: int | None
    free: int | None

    def never(self, need: int) -> str | None:
        """Why it can never have `need` MiB; None if it can."""
        if self.total is None or self.total >= need:
            return None
        return f"{self.name} has {self.total} MiB"

    def short(self, need: int) -> str | None:
        """Why it has no `need` MiB now; None if it has."""
        if self.free is None or self.free >= need:
            return None
        return f"{self.name} ({self.uuid}) has {self.free} of {self.total} MiB free"


def parse(text: str) -> tuple[Device, ...]:
    """The devices in nvidia-smi's output for `QUERY`.

    Raises:
        InfrastructureError: unexpected output; has its first line.
    """
    devices = []
    for line in text.strip().splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) < 5 or not parts[0].isdigit() or not parts[1].startswith("GPU-"):
            raise InfrastructureError(f"nvidia-smi printed no list of devices, but: {line.strip()}")
        index, uuid, *name, total, free = parts
        # `[N/A]` and the like: the device has no memory of its own.
        memory = (int(mib) if mib.isdigit() else None for mib in (total, free))
        devices.append(Device(index, uuid, ", ".join(name), *memory))
    return tuple(devices)


def visible(devices: Sequence[Device], environ: Mapping[str, str]) -> tuple[Device, ...]:
    """The visible devices: those in CUDA_VISIBLE_DEVICES, by index or UUID, in its order.

    If it is not set: all of them, but none in a job of Slurm, which sets it to the devices of the
    job. A part of a device (MIG) is used as it is named; its memory is unknown.
    """
    if machine.lent_none(environ):
        return ()
    named = environ.get(VISIBLE)
    if named is None:
        return tuple(devices)
    chosen: list[Device] = []
    for word in (part.strip() for part in named.split(",")):
        if word.startswith("MIG-"):
            chosen.append(Device(index="", uuid=word, name="MIG", total=None, free=None))
            continue
        same = [d for d in devices if d.index == word or (word and d.uuid.startswith(word))]
        if len(same) != 1:
            break  # as CUDA does: ignore all after an invalid one
        chosen += same
    return tuple(chosen)


@dataclass(frozen=True, kw_only=True)
class Slots:
    """The devices of a machine; `query` lists them, `folder` has a lock file for each."""

    query: Callable[[], Sequence[Device]]
    folder: Path
    say: Callable[[str], None]
    wait: float = WAIT_S
    poll: float = POLL_S

    @contextlib.contextmanager
    def taken(self, need: int, count: int = 1) -> Iterator[tuple[Device, ...]]:
        """`count` devices with `need` MiB of free memory each, for the `with` block; fewer if the
        machine has fewer.

        Raises:
            InfrastructureError: no device can ever have that much, or too few had in time.
        """
        never = [device.never(need) for device in self.query()]
        if all(never):
            has = "; ".join(str(why) for why in never)
            raise InfrastructureError(
                f"no GPU of this machine has the {need} MiB that a cell needs: {has}"
            )
        wanted = min(count, never.count(None))
        self.folder.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + self.wait
        reasons: set[str] = set()
        while True:
            with contextlib.ExitStack() as held:
                mine: list[Device] = []
                for device in self.query():
                    if device.never(need) or len(mine) == wanted:
                        continue
                    why = self._refused(device, need, held)
                    if why is None:
                        mine.append(device)
                    elif why not in reasons:
                        reasons.add(why)
                        self.say(why)
                # All or none: two runs that wait for each other's devices would wait for ever.
                if len(mine) == wanted:
                    yield tuple(mine)
                    return
            if time.monotonic() > deadline:
                last = "; ".join(sorted(reasons))
                raise InfrastructureError(f"no GPU was free for {self.wait:.0f} s: {last}")
            time.sleep(self.poll)

    def _refused(self, device: Device, need: int, held: contextlib.ExitStack) -> str | None:
        """Why a device is not free now; None if it is taken, until `held` releases it."""
        lock = FileLock(self.folder / f"{device.uuid}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return f"{device.name} ({device.uuid}) is in use by another cell"
        # Query again: the previous holder of the device has ended by now.
        now = next((d for d in self.query() if d.uuid == device.uuid), None)
        why = f"{device.uuid} is gone" if now is None else now.short(need)
        if why is None:
            held.callback(lock.release)
            return None
        lock.release()
        return f"{why}, {need} MiB are needed: not used"


def _ask(run: Runner) -> tuple[Device, ...]:
    done = run(["nvidia-smi", *QUERY], timeout=60)
    if not done.ok:
        last = done.output.strip().splitlines()[-1:] or ["it printed nothing"]
        raise InfrastructureError(f"nvidia-smi failed: {last[0]}")
    return parse(done.output)


@contextlib.contextmanager
def slot(
    need: int, run: Runner, say: Callable[[str], None], *, gpu: bool, count: int = 1
) -> Iterator[dict[str, str]]:
    """The variables that bind a cell to its own devices for the `with` block: to `count` of them,
    or to all if the machine has fewer.

    Empty if there is no GPU or no nvidia-smi; names no device if none is visible to this process.

    Raises:
        InfrastructureError: as `Slots.taken`; or nvidia-smi failed, or a visible device is missing.
    """
    if machine.lent_none(os.environ):
        if machine.driver():
            say(f"no GPU is visible to this process ({VISIBLE}): running without")
        yield {VISIBLE: ""}
        return
    if not gpu or shutil.which("nvidia-smi") is None:
        if gpu:
            say("nvidia-smi was not found: running without a lock on a device")
        yield {}
        return

    def query() -> tuple[Device, ...]:
        return visible(_ask(run), os.environ)

    if not query():
        raise InfrastructureError(
            f"{VISIBLE} is {os.environ.get(VISIBLE)}, but nvidia-smi lists no such device"
            if VISIBLE in os.environ
            else "nvidia-smi lists no device"
        )
    there = Slots(query=query, folder=files.home() / "slots", say=say)
    with there.taken(need, count) as devices:
        for device in devices:
            say(f"on {device.name} ({device.uuid})")
        yield {VISIBLE: ",".join(device.uuid for device in devices)}
