"""A toy project that is prepared once and put back before each injection, and how it is run."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from minimatrix import project
from minimatrix.packages import RELEASES

from faults import judging, tree
from faults.hostile_index import HostileIndex, served
from faults.judging import Golden

HERE = Path(__file__).resolve().parent

GOOD, BAD, NEW = "1.0-modelopt0.50", "1.2-modelopt0.50", "1.1-modelopt0.50"
"""One that works, one that does not, and one that was not run yet."""

LIMIT_S = 40.0
"""Of a command under a fault: undisturbed none takes a tenth of it."""

_PROBE = re.compile("[a-z0-9_]{8}")

SETTLE_S = 2.0
"""In which all processes of a command must have ended with it."""

CACHES = frozenset({"bytecode", "downloads", "metadata", "uv"})
"""Of the home: what is in them tells nothing."""

AXES = (
    ('["1.0", "1.1", "1.2", "1.3"]\nnvidia', '["1.0", "1.1", "1.2"]\nnvidia'),
    ('for = ["1.0", "1.1", "1.2", "1.3"]', 'for = ["1.0", "1.1", "1.2"]'),
    ('["0.50", "0.51", "0.52"]', '["0.50", "0.52"]'),
)


@dataclass(frozen=True)
class Command:
    """What is run, and what the project is made to be before: `make` may change it."""

    words: tuple[str, ...]
    make: Callable[[Workshop], None] = lambda shop: None


def _bare(shop: Workshop) -> None:
    """Nothing is installed or downloaded yet."""
    for name in (*CACHES, "envs", "tools"):
        shutil.rmtree(shop.toy.home / name, ignore_errors=True)


def _uninstalled(shop: Workshop) -> None:
    """The environment is gone, what it was made of is still in the caches."""
    for path in (shop.toy.home / "envs").glob(f"compat-{GOOD}*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _unlocked(shop: Workshop) -> None:
    shop.lock(NEW).unlink()


COMMANDS: Mapping[str, Command] = {
    "run": Command(("run", GOOD, "--force", "--publish")),
    "run broken": Command(("run", BAD, "--force", "--publish")),
    "run new": Command(("run", NEW, "--publish")),
    "run part": Command(("run", GOOD, "--only", "restore")),
    "run bare": Command(("run", GOOD, "--force", "--publish"), _bare),
    "run again": Command(("run", GOOD, "--force", "--publish"), _uninstalled),
    "run unlocked": Command(("run", NEW, "--publish"), _unlocked),
    "matrix": Command(("matrix", "-j", "2")),
    "matrix plan": Command(("matrix", "--dry-run")),
    "refresh": Command(("refresh",)),
    "nightly plan": Command(("nightly", "--dry-run")),
    "lock": Command(("lock", GOOD)),
    "report": Command(("report",)),
    "report check": Command(("report", "--check")),
    "collect": Command(("collect", "../collected")),
    "bundle": Command(("bundle", GOOD, "--output", "../out/cells.tar")),
    "doctor": Command(("doctor", "--python", "../home/envs/compat-1.0-modelopt0.50/bin/python")),
    "upgrade": Command(("upgrade", GOOD, BAD, "--no-run")),
    "show": Command(("show", GOOD)),
    "explain": Command(("explain", BAD)),
    "recommend": Command(("recommend", "megatron-core <1.1")),
    "list": Command(("list",)),
}

RUNS = ("run", "run broken", "run new")
INSTALLS = ("run bare", "run unlocked")
WRITES = (*RUNS, *INSTALLS, "matrix", "refresh", "lock", "report", "collect")
READS = ("report check", "doctor", "upgrade", "show", "explain", "recommend", "list", "matrix plan")


@dataclass(frozen=True, kw_only=True)
class Launch:
    """How a command is started: what stands before it, and what it is given."""

    prefix: Sequence[str] = ()
    variables: Mapping[str, str | None] = field(default_factory=dict)
    cwd: Path | None = None
    out: str | int | None = None
    """A file or descriptor that its output goes to instead; then nothing is known of it."""
    closed: tuple[int, ...] = ()
    """Descriptors that it has not."""
    limit: float = 0.0
    """Seconds; 0: those of the workshop."""


@dataclass(frozen=True)
class Ended:
    """How a command ended; None for `code`: it did not, and was killed."""

    code: int | None
    out: str
    err: str
    seconds: float


class Workshop:
    """One toy project with its index. Not for two threads."""

    limit = LIMIT_S
    """Seconds that a command may take."""

    def __init__(self, folder: Path, index: HostileIndex) -> None:
        self.folder, self.index = folder, index
        self.live, self.golden, self.temporary = folder / "live", folder / "golden", folder / "tmp"
        self.collected, self.out = self.live / "collected", self.live / "out"
        self.mounts: list[Path] = []
        self.commands = COMMANDS
        self._known: dict[str, Golden] = {}
        self.temporary.mkdir()
        self.live.mkdir()
        made = project.make(self.live, index.url)
        self.toy = replace(made, home=self.live / "home")
        self._started = 0
        self.stopped = False

    @property
    def results(self) -> Path:
        """Where results are stored."""
        return self.toy.folder / "reports" / "results"

    def lock(self, cell: str) -> Path:
        """The lock of a cell."""
        return self.toy.folder / "constraints" / "locks" / f"compat-{cell}.txt"

    def result(self, cell: str) -> Path:
        """The result of a cell."""
        return self.results / f"compat-{cell}" / "main.host.json"

    def prepare(self) -> None:
        """Make all that the injections begin with."""
        _change_suite(self.toy.folder / "suite")
        matrix = self.toy.folder / "constraints" / "matrix.toml"
        text = matrix.read_text().partition("[[expect]]")[0]
        for old, new in AXES:
            assert old in text
            text = text.replace(old, new)
        matrix.write_text(text)
        shutil.copy(matrix.with_name("suite-tools.txt"), matrix.with_name("bundle-tools.txt"))
        self._must("refresh")
        self._must("run", NEW, "--publish")
        self._make_collected()
        shutil.rmtree(self.toy.folder / "reports")
        self._must("run", GOOD, "--publish")
        self._must("report")
        self._must("run", BAD, "--publish")
        self._must(*COMMANDS["bundle"].words)
        shutil.rmtree(self.out)
        self.out.mkdir()
        shutil.copytree(self.live, self.golden, symlinks=True)

    def _make_collected(self) -> None:
        """The result of a cell as a bundle's run on another machine brings it."""
        stored = json.loads(self.result(NEW).read_bytes())
        (log,) = (self.toy.home / "logs" / f"compat-{NEW}").glob("events-*.jsonl")
        data = {
            "schema": 1,
            **{name: stored[name] for name in ("cell", "taken", "complete", "lock", "suite")},
            "bundle": "0" * 64,
            "wheels": {},
            "base": None,
            "folders": [],
            "events": [json.loads(line) for line in log.read_text().splitlines()],
        }
        file = self.collected / f"compat-{NEW}" / "main.host.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(data, indent=1))

    def _must(self, *words: str) -> None:
        ended = self.run(words, Launch())
        if ended.code not in (0, 1):
            raise RuntimeError(f"{' '.join(words)}: ends with {ended.code}: {ended.err[-500:]}")

    def reset(self) -> None:
        """Put everything back as it was prepared."""
        while self.mounts:
            subprocess.run(["umount", "-l", self.mounts.pop()], check=True)
        self.index.mend()
        for folder in (self.live, self.temporary, self.folder / "kept"):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.golden, self.live, symlinks=True)
        self.temporary.mkdir()

    def start(self, words: Sequence[str], launch: Launch) -> subprocess.Popen[bytes]:
        """A command in a session of its own; its output goes to files, which no process that is
        left behind can keep open for us.

        Raises:
            InterruptedError: the workshop was stopped.
        """
        if self.stopped:
            raise InterruptedError("the workshop was stopped")
        self._started += 1
        variables: dict[str, str] = {**self.toy.variables, "TMPDIR": str(self.temporary)}
        variables.update(PYTHONDONTWRITEBYTECODE="1", UV_HTTP_TIMEOUT="3", UV_HTTP_RETRIES="0")
        variables.update(MCORE_COMPAT_INDEX_TIMEOUT="3")
        for name, value in launch.variables.items():
            variables.pop(name, None)
            if value is not None:
                variables[name] = value
        with self._output("out", launch) as out, self._output("err", launch) as err:
            return subprocess.Popen(
                [*launch.prefix, *_closing(launch.closed), *self.toy.program, *words],
                cwd=launch.cwd or self.toy.folder,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    @contextlib.contextmanager
    def _output(self, name: str, launch: Launch) -> Iterator[IO[bytes] | int]:
        if launch.out is not None and name == "out":
            if isinstance(launch.out, int):
                yield launch.out
                return
            with open(launch.out, "ab") as sink:
                yield sink
        else:
            with self._log(name, self._started).open("wb") as sink:
                yield sink

    def _log(self, name: str, number: int) -> Path:
        return self.folder / f"{number}.{name}"

    def ended(self, process: subprocess.Popen[bytes], launch: Launch, number: int = 0) -> Ended:
        """How a command ends, within its limit. `number`: which of those started; the last."""
        number = number or self._started
        started = time.monotonic()
        try:
            code: int | None = process.wait(max(launch.limit, self.limit))
        except subprocess.TimeoutExpired:
            code = None
            self.kill_all()
            process.kill()
            process.wait()
        texts = []
        for name in ("out", "err"):
            log = self._log(name, number)
            texts.append(log.read_text("utf-8", "replace") if log.exists() else "")
            log.unlink(missing_ok=True)
        return Ended(code, *texts, time.monotonic() - started)

    @property
    def number(self) -> int:
        """Of the command that was started last."""
        return self._started

    def run(self, words: Sequence[str], launch: Launch) -> Ended:
        """A command to its end."""
        return self.ended(self.start(words, launch), launch)

    def left(self) -> list[str]:
        """What of the project goes on although its command has ended, and is killed now."""
        project.wait_until(lambda: not self.toy.processes(), SETTLE_S)
        found = [what for pid in self.toy.processes() if (what := described(pid))]
        self.kill_all()
        return sorted(found)

    def kill_all(self) -> None:
        """Kill every process of the project."""
        for _ in range(50):
            there = self.toy.processes()
            for pid in there:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if not there:
                return
            time.sleep(0.05)
        raise RuntimeError(f"processes cannot be killed: {sorted(there)}")

    def stop(self) -> None:
        """Start nothing any more, and end what is there; of another thread."""
        self.stopped = True
        self.kill_all()

    def golden_of(self, name: str) -> Golden:
        """What a command does undisturbed, from where each injection begins.

        Raises:
            RuntimeError: it does not come to its end.
        """
        if name not in self._known:
            self.reset()
            command = self.commands[name]
            command.make(self)
            before = tree.read(self.toy.folder)
            ended = self.run(command.words, Launch())
            if ended.code not in (0, 1) or self.left():
                raise RuntimeError(f"{name} undisturbed: {ended}")
            self._known[name] = Golden(
                code=ended.code,
                words=judging.words(ended.out),
                seconds=ended.seconds,
                before=before,
                after=tree.read(self.toy.folder),
                home=frozenset(self.names()),
            )
        return self._known[name]

    def names(self) -> set[str]:
        """What lies in the home, by name, but for what is kept there under random names."""
        folders = [self.toy.home, *(self.toy.home / name for name in ("envs", "logs", "tools"))]
        there = [path for folder in folders if folder.is_dir() for path in folder.iterdir()]
        names = {path.relative_to(self.toy.home).as_posix() for path in there} - CACHES
        return {re.sub("^tools/[0-9a-f]{16}", "tools/DIGEST", name) for name in names}

    def temporaries(self) -> list[str]:
        """What lies in the temporary folder, but for what Python tries it with."""
        there = sorted(os.listdir(self.temporary)) if self.temporary.is_dir() else []
        return [name for name in there if not _PROBE.fullmatch(name)]

    def age(self) -> None:
        """Have what lies beside other files and in the temporary folder be of another day."""
        day = time.time() - 86_400
        for folder in (self.temporary, *self.toy.folder.glob("reports/**/")):
            for path in folder.iterdir() if folder.is_dir() else ():
                if folder == self.temporary or path.name.startswith("."):
                    os.utime(path, (day, day), follow_symlinks=False)


Make = Callable[[Path, HostileIndex], Workshop]


def described(pid: int) -> str:
    """What a process does, in a word or two; empty where it has ended."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""
    if state == "Z" or not words[0]:
        return ""
    text = " ".join(words)
    if "suite/run.py" in text:
        return "the suite"
    if "mcore_compat.cli" in text:
        return "the program"
    name = Path(words[0]).name
    script = next((Path(word).name for word in words[1:] if word and not word.startswith("-")), "")
    return f"{name} {script}".strip()[:40] if name.startswith("python") else name


def _closing(numbers: Sequence[int]) -> list[str]:
    if not numbers:
        return []
    redirections = " ".join(f"{number}>&-" for number in numbers)
    return ["sh", "-c", f'exec "$@" {redirections}', "sh"]


def _change_suite(folder: Path) -> None:
    """Have the toy suite misbehave where it is told to."""
    shutil.copy(HERE / "suite" / "misbehaviour.py", folder)
    path = folder / "run.py"
    text = path.read_text()
    for old, new in (
        (
            "import argparse\n",
            "import argparse\nimport sys\nsys.dont_write_bytecode = True\nimport misbehaviour\n",
        ),
        (
            'out.write(json.dumps({"event": event, **fields}) + "\\n")',
            'misbehaviour.write(out, {"event": event, **fields})',
        ),
        ("            said = {", "            misbehaviour.slowly()\n            said = {"),
    ):
        assert text.count(old) >= 1, old
        text = text.replace(old, new, 1)
    path.write_text(text)


@contextlib.contextmanager
def opened(folder: Path, first: Callable[[Workshop], None], make: Make) -> Iterator[Workshop]:
    """A workshop that is prepared, with its index; `first` gets it before."""
    with served(HostileIndex(RELEASES)) as index:
        shop = make(folder, index)
        first(shop)
        try:
            shop.prepare()
            yield shop
        finally:
            shop.kill_all()
            time.sleep(0.1)  # what was killed may hold a mount for a moment
            for path in reversed(shop.mounts):
                subprocess.run(["umount", "-l", path], check=False)
