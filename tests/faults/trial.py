"""One injection: a fault is put in place, a command is run under it, and both are judged."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from faults import judging, tree
from faults.judging import Column, Finding, Golden, Seen
from faults.tree import FILLER
from faults.workshop import Ended, Launch, Workshop

ATTEMPTS = 3
"""How often a fault is tried that came too late: the command had ended."""

BLOCK = 4096


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of fault. `place` puts one in place, and takes it away again.

    `codes`: what a command may end with beside its own and that of infrastructure. `killed`: the
    fault ends processes. `stuck`: it hinders removing. `needs`: what this machine must offer.
    `share`: how many of the injections it gets, compared with others. `also`: commands that run at
    the same time.
    """

    name: str
    what: str
    commands: Sequence[str]
    place: Callable[[Trial], AbstractContextManager[Launch]]
    codes: Sequence[int] = ()
    killed: bool = False
    stuck: bool = False
    needs: Sequence[str] = ()
    share: float = 1.0
    also: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What an injection showed. Not `placed`: the command had always ended before. `error`: why the
    injection could not be made."""

    kind: str
    number: int
    command: str
    findings: tuple[Finding, ...]
    placed: bool = True
    error: str = ""

    @property
    def columns(self) -> frozenset[Column]:
        """Where it counts."""
        return frozenset(finding.column for finding in self.findings)


def nothing(process: subprocess.Popen[bytes]) -> None:
    """The fault is in place from the beginning."""


@dataclass
class Trial:
    """One injection on its way."""

    shop: Workshop
    random: random.Random
    golden: Golden
    during: Callable[[subprocess.Popen[bytes]], None] = nothing
    placed: bool = True
    at_once: bool = False
    """The same command follows without a pause."""
    others: list[tuple[str, subprocess.Popen[bytes], int]] = field(default_factory=list)

    def moment(self) -> float:
        """Seconds after the start, anywhere in the command."""
        return self.random.uniform(0.02, self.golden.seconds)

    @contextlib.contextmanager
    def edited(self, path: Path, content: bytes) -> Iterator[None]:
        """A file of another content meanwhile; what the program writes instead stays."""
        former = path.read_bytes() if path.exists() else None
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        yield
        if path.is_file() and path.read_bytes() == content:
            path.write_bytes(former) if former is not None else path.unlink()

    @contextlib.contextmanager
    def instead(self, path: Path, make: Callable[[Path], object]) -> Iterator[None]:
        """Something else at a path meanwhile."""
        kept = self.shop.folder / "kept"
        there = path.exists()
        if there:
            path.rename(kept)
        make(path)
        yield
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        if there:
            kept.rename(path)

    def small(self, folder: Path, *, spare: int = 0, inodes: int = 0) -> None:
        """Put a folder on a file system of its own, with little room or few inodes to spare."""
        folder.mkdir(parents=True, exist_ok=True)
        kept = self.shop.folder / "kept"
        shutil.copytree(folder, kept, symlinks=True)
        count = sum(1 + len(f) for _, d, f in os.walk(kept) for f in [[*d, *f]])
        used = subprocess.run(["du", "-sk", kept], capture_output=True, text=True, check=True)
        size = int(used.stdout.split()[0]) * 2 + 256
        size += spare // 1024
        limits = f"size={size}k" + (f",nr_inodes={count + 2 + inodes}" if inodes else "")
        subprocess.run(["mount", "-t", "tmpfs", "-o", limits, "tmpfs", folder], check=True)
        self.shop.mounts.append(folder)
        shutil.copytree(kept, folder, symlinks=True, dirs_exist_ok=True)
        shutil.rmtree(kept)

    @contextlib.contextmanager
    def readonly(self, folder: Path) -> Iterator[None]:
        """A folder that cannot be written to meanwhile, by root neither."""
        folder.mkdir(parents=True, exist_ok=True)
        make_readonly(folder)
        yield
        subprocess.run(["umount", "-l", folder], check=True)


def make_readonly(folder: Path) -> None:
    """Have the kernel refuse all writing below a folder."""
    subprocess.run(["mount", "--bind", folder, folder], check=True)
    subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)


def fill(folder: Path, room: int = 0) -> None:
    """Use up all room of a file system but so many bytes."""
    filler = folder / FILLER
    with contextlib.suppress(OSError), filler.open("ab", buffering=0) as out:
        while True:
            out.write(bytes(BLOCK))
    with contextlib.suppress(OSError):
        os.truncate(filler, max(0, filler.stat().st_size - room))


def use_inodes(folder: Path) -> None:
    """Use up all inodes of a file system."""
    filler = folder / FILLER
    with contextlib.suppress(OSError):
        filler.mkdir()
        for number in range(100_000):
            (filler / str(number)).touch()


def unfill(folder: Path) -> None:
    """Make room again, as much as there is on another day."""
    filler = folder / FILLER
    shutil.rmtree(filler) if filler.is_dir() else filler.unlink(missing_ok=True)
    more = "remount,size=2g,nr_inodes=1m"
    subprocess.run(["mount", "-o", more, folder], check=True)


def wait(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait for a moment of a command; False: it ended before."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return True
    return False


def inject(kind: Kind, number: int, seed: int, shop: Workshop) -> Verdict:
    """Put a fault in place and judge what the command does; the same for the same numbers, as far
    as the moments of processes can be."""
    choice = random.Random(f"{seed}:{kind.name}:{number}")
    name = choice.choice(list(kind.commands))
    golden = shop.golden_of(name)
    for other in kind.also:
        shop.golden_of(other)  # before the project is put back, for it is run for that
    for _ in range(ATTEMPTS):
        shop.reset()
        shop.commands[name].make(shop)
        trial = Trial(shop=shop, random=choice, golden=golden)
        found = list(_tried(kind, name, trial))
        if trial.placed:
            break
    findings = tuple(dict.fromkeys(found)) if trial.placed else ()
    verdict = Verdict(
        kind=kind.name, number=number, command=name, findings=findings, placed=trial.placed
    )
    return verdict


def _tried(kind: Kind, name: str, trial: Trial) -> Iterator[Finding]:
    shop, words = trial.shop, trial.shop.commands[name].words
    with kind.place(trial) as launch:
        before = tree.read(shop.toy.folder)
        process = shop.start(words, launch)
        number = shop.number
        try:
            with contextlib.suppress(ProcessLookupError):
                trial.during(process)
        finally:
            ended = shop.ended(process, launch, number)
        others = [(of, shop.ended(other, launch, its)) for of, other, its in trial.others]
        also = [shop.golden_of(of) for of in kind.also]
        if not trial.at_once:
            left = shop.left()
            after = tree.read(shop.toy.folder)
    if not trial.at_once:
        seen = Seen(
            code=ended.code,
            out=ended.out,
            err=ended.err,
            before=before,
            after=after,
            codes=kind.codes,
            left=left,
            temporary=shop.temporaries(),
            killed=kind.killed,
            stuck=kind.stuck,
            mute=launch.out is not None or bool(launch.closed),
            also=also,
        )
        yield from judging.judged(seen, trial.golden)
        yield from _others(others, seen, shop)
    # Who finds its work done needs no temporary folder, and sweeps none.
    done = kind.stuck and ended.code == trial.golden.code
    yield from _after(words, trial, also, swept=not done)


def _others(others: list[tuple[str, Ended]], seen: Seen, shop: Workshop) -> Iterator[Finding]:
    for of, ended in others:
        own = Seen(
            code=ended.code,
            out=ended.out,
            err=ended.err,
            before=seen.before,
            after=seen.before,
            codes=seen.codes,
            killed=True,
        )
        yield from judging.judged(own, shop.golden_of(of))


def _after(
    words: Sequence[str], trial: Trial, also: Sequence[Golden], *, swept: bool
) -> Iterator[Finding]:
    """The same command once more, undisturbed and on another day: nothing may be poisoned."""
    shop = trial.shop
    shop.age()
    ended = shop.run(words, Launch())
    names = shop.names() - trial.golden.home if not also else set()
    seen = Seen(
        code=ended.code,
        out=ended.out,
        err=ended.err,
        before={},
        after=tree.read(shop.toy.folder),
        left=shop.left(),
        temporary=[
            *(shop.temporaries() if swept else ()),
            *sorted(f"home/{name}" for name in names),
        ],
        also=also,
    )
    yield from judging.judged_after(seen, trial.golden)


def send(pid: int, number: int, *, group: bool = False) -> None:
    """Signal a process; one that has ended is no error."""
    with contextlib.suppress(ProcessLookupError):
        (os.killpg if group else os.kill)(pid, number)


def stop_for(pid: int, seconds: float) -> None:
    """Have a process stand still for a while."""
    send(pid, signal.SIGSTOP)
    time.sleep(seconds)
    send(pid, signal.SIGCONT)
