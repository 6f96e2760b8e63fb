"""Which injections are made, by how many workers, and what each showed."""

from __future__ import annotations

import compileall
import queue
import random
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from minimatrix import project

from faults import workshop
from faults.trial import Kind, Verdict, inject
from faults.workshop import Make, Workshop

Say = Callable[[str], None]

Todo = Sequence[tuple[Kind, int]]
"""Kinds, each with the number of one of its injections."""


def planned(kinds: Iterable[Kind], total: int, seed: int) -> Todo:
    """As many injections as wanted, spread over the kinds by their shares and shuffled; at least
    one of each kind where there are enough of them."""
    chosen = sorted(kinds, key=lambda kind: kind.name)
    choice = random.Random(seed)
    if total < len(chosen):
        return [(kind, 0) for kind in choice.sample(chosen, total)]
    every = sum(kind.share for kind in chosen)
    counts = {kind.name: max(1, int(total * kind.share / every)) for kind in chosen}
    by_share = sorted(chosen, key=lambda kind: -kind.share)
    missing = total - sum(counts.values())
    for number in range(max(0, missing)):
        counts[by_share[number % len(by_share)].name] += 1
    todo = [(kind, number) for kind in chosen for number in range(counts[kind.name])]
    choice.shuffle(todo)
    return todo


@dataclass
class Session:
    """Injections by several workers, each with a workshop of its own."""

    seed: int
    jobs: int
    say: Say
    make: Make = Workshop

    def run(self, todo: Todo) -> list[Verdict]:
        """All injections.

        Raises:
            RuntimeError: a command does not come to its end undisturbed, or a process cannot be
                ended: then nothing that follows would say anything.
        """
        waiting: queue.SimpleQueue[tuple[Kind, int]] = queue.SimpleQueue()
        for one in todo:
            waiting.put(one)
        done: list[Verdict] = []
        shops: list[Workshop] = []
        ended, keeping = threading.Event(), threading.Lock()

        def work(shop: Workshop) -> None:
            while not ended.is_set():
                try:
                    kind, number = waiting.get_nowait()
                except queue.Empty:
                    return
                verdict = _injected(kind, number, self.seed, shop)
                with keeping:
                    done.append(verdict)
                    self._tell(verdict, len(done), len(todo))

        def worker(folder: Path) -> None:
            with workshop.opened(folder, shops.append, self.make) as shop:
                work(shop)

        # The commands write no bytecode: whatever fails there would only hide what is asked.
        compileall.compile_dir(project.REPOSITORY / "mcore_compat", quiet=1)
        root = Path(tempfile.mkdtemp(prefix="faults-"))
        folders = [root / str(number) for number in range(self.jobs)]
        try:
            for folder in folders:
                folder.mkdir()
            with ThreadPoolExecutor(self.jobs) as pool:
                futures = [pool.submit(worker, folder) for folder in folders]
                try:
                    wait(futures, return_when=FIRST_EXCEPTION)
                    for future in futures:
                        if future.done():
                            future.result()
                except BaseException:
                    ended.set()
                    for shop in shops:
                        shop.stop()
                    raise
            for future in futures:
                future.result()
        finally:
            shutil.rmtree(root, ignore_errors=True)
        return done

    def _tell(self, verdict: Verdict, number: int, total: int) -> None:
        head = f"[{number}/{total}] {verdict.kind}/{verdict.number} ({verdict.command})"
        if verdict.error:
            self.say(f"{head}: not made: {verdict.error}")
        elif not verdict.placed:
            self.say(f"{head}: it had always ended before")
        elif not verdict.findings:
            self.say(f"{head}: well met")
        for finding in verdict.findings:
            self.say(f"{head}: {finding.column}: {finding.what}")


def _injected(kind: Kind, number: int, seed: int, shop: Workshop) -> Verdict:
    """As `inject`; one that cannot be made is no end of all others, but counts."""
    try:
        return inject(kind, number, seed, shop)
    except Exception as error:
        if shop.stopped:
            raise
        shop.kill_all()
        return Verdict(
            kind=kind.name,
            number=number,
            command="",
            findings=(),
            placed=False,
            error=f"{type(error).__name__}: {error}"[:300],
        )


def missing() -> Mapping[str, str]:
    """What kinds may need and this machine does not offer, and why."""
    found: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, tries in (
            (
                "mounts",
                (
                    ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", folder],
                    ["umount", folder],
                    ["unshare", "--mount", "true"],
                ),
            ),
            ("strace", (["strace", "-f", "-qq", "--seccomp-bpf", "-o", "/dev/null", "true"],)),
        ):
            why = next((said for words in tries if (said := _refusal(words))), "")
            if why:
                found[name] = why
    return found


def _refusal(words: Sequence[str]) -> str:
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)
    except FileNotFoundError:
        return f"{words[0]} is not there"
    if done.returncode == 0:
        return ""
    return f"{words[0]} ends with {done.returncode}"
