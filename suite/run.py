"""Asks a cell every check. `<the cell's python> suite/run.py --events FILE [options]`

Three processes: the one that was started waits; a keeper below it ends everything when
anything goes wrong; and pytest, below the keeper, imports the packages under test once and
forks a child for each check.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent

DONE, USAGE, BROKEN_RUN, INTERRUPTED = 0, 2, 3, 130
_STARTING, _DONE = "(starting)", "(done)"
_RETRY = 75
"""What the pytest process ends with where an import left CUDA unusable in forked children."""


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line; ends the process with code 2 where it is wrong."""
    parser = argparse.ArgumentParser(prog="suite/run.py", description=__doc__)
    parser.add_argument("--events", type=Path, required=True, help="JSON lines are appended here")
    parser.add_argument("--tools", type=Path, help="folder with pytest, for cells without one")
    parser.add_argument("--only", default="", help="comma-separated ids, kinds, families; globs")
    parser.add_argument(
        "--timeout",
        type=float,
        help="seconds that a check may take at most, whatever its own limit",
    )
    parser.add_argument("--gpu", choices=("never", "auto"), default="auto")
    parser.add_argument("--checks", type=Path, default=HERE, help="folder of check_*.py")
    parser.add_argument("--preload", help="comma-separated modules to import once; '' for none")
    parser.add_argument(
        "--preload-timeout", type=float, default=300.0, help="seconds for those imports together"
    )
    options = parser.parse_args(argv)
    if not options.checks.is_dir():
        parser.error(f"--checks: {options.checks} is no folder")
    if options.tools is not None and not options.tools.is_dir():
        parser.error(f"--tools: {options.tools} is no folder")
    limits = [options.preload_timeout, *([] if options.timeout is None else [options.timeout])]
    if not all(0 < limit < math.inf for limit in limits):
        parser.error("a time limit must be more than 0 s, and a number")
    if not options.events.parent.is_dir():
        parser.error(f"--events: {options.events.parent} is no folder")
    return options


def set_up(options: argparse.Namespace) -> None:
    """Make `suite` importable, and nothing of the host before what the cell has installed."""
    sys.path[:] = [path for path in sys.path if path and Path(path).resolve() != HERE]
    sys.path.append(str(HERE.parent))
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    # Asks for GPUs without starting CUDA, which forked children could then not use.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    if options.gpu == "never":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def main(argv: list[str] | None = None) -> int:
    """Run the suite; 0 where it ran to its end, whatever the checks showed."""
    options = parse(sys.argv[1:] if argv is None else argv)
    set_up(options)
    folder = Path(tempfile.mkdtemp(prefix="mcore-compat-suite-"))
    keeper = os.fork()
    if keeper == 0:
        _leave(lambda: keep(options, folder))

    def stop(number: int, frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(keeper, signal.SIGTERM)

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    _, status = os.waitpid(keeper, 0)
    shutil.rmtree(folder, ignore_errors=True)
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else BROKEN_RUN


def _leave(life: Callable[[], int]) -> None:
    """End a forked process with what its life returns, past everything that its parent set up."""
    code = BROKEN_RUN
    try:
        code = life()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else BROKEN_RUN
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def keep(options: argparse.Namespace, folder: Path) -> int:
    """The keeper: starts pytest, once more with fewer imports where those kill it or hang."""
    from suite import preload, processes

    parent = os.getppid()
    os.setsid()
    processes.adopt_orphans()
    processes.die_with_parent(signal.SIGTERM)

    def stop(number: int, frame: object) -> None:
        processes.end_children(set())
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(INTERRUPTED)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if os.getppid() != parent:  # it died before the kernel was told to report that
        stop(0, None)
    named = options.preload
    words = preload.PACKAGES if named is None else tuple(w for w in named.split(",") if w)
    died: dict[str, str] = {}
    while True:
        progress = folder / "importing"
        progress.write_text(_STARTING)
        child = os.fork()
        if child == 0:
            _leave(partial(work, options, folder, words, died))
        status = _watch(child, progress, options.preload_timeout)
        processes.end_children(set())
        name = progress.read_text()
        if name not in words:
            return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else BROKEN_RUN
        if os.WIFSIGNALED(status):
            died[name] = f"died: {signal.Signals(os.WTERMSIG(status)).name}"
        elif os.WEXITSTATUS(status) == _RETRY:
            died[name] = "starts CUDA, which forked children could then not use"
        else:
            died[name] = f"ended the process with code {os.WEXITSTATUS(status)}"
        words = words[: words.index(name)]


def _watch(child: int, progress: Path, limit: float) -> int:
    """The wait status of `child`, killed where it still imports after `limit` seconds."""
    deadline = time.monotonic() + limit
    importing = True
    while True:
        # Once the imports are done, each check has its own limit: wait without polling.
        ended, status = os.waitpid(child, os.WNOHANG if importing else 0)
        if ended:
            return status
        importing = importing and progress.read_text() != _DONE
        if importing and time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            return os.waitpid(child, 0)[1]
        time.sleep(0.05)


def work(
    options: argparse.Namespace, folder: Path, words: tuple[str, ...], died: dict[str, str]
) -> int:
    """The pytest process: import the packages, then ask the checks."""
    from suite import machine, preload, processes
    from suite.answers import Answers

    processes.die_with_parent()
    processes.adopt_orphans()
    progress = folder / "importing"
    given: list[Answers] = []
    gpu = options.gpu == "auto" and machine.driver_present()
    installed = machine.installed()
    preload.OUTCOMES.update(died)

    def before(name: str) -> None:
        if gpu and preload.OUTCOMES and not _forks_well(folder):
            os._exit(_RETRY)  # `progress` still names the module imported last
        if gpu and preload.OUTCOMES.get("torch") == "ok" and not given:
            given.append(Answers(_devices(folder)))
        progress.write_text(name)

    if words:
        preload.load(words, before, host=not gpu)
        for answers in given:
            answers.withdraw()
        if gpu and not _forks_well(folder):
            os._exit(_RETRY)
    progress.write_text(_DONE)
    if options.tools is not None:
        sys.path.append(str(options.tools.resolve()))
    return _pytest(options, folder, gpu, installed)


def _forks_well(folder: Path) -> bool:
    """Whether a forked child can still use the GPU after what was imported so far."""
    from suite import machine, preload

    return not preload.loaded("torch") or _in_child(machine.gpu, folder) is not None


def _devices(folder: Path) -> list[dict[str, Any]]:
    """What the devices say of themselves, as far as a child can read it."""
    from suite import answers

    return _in_child(answers.read, folder) or []


def _in_child(question: Callable[[], Any], folder: Path) -> Any:
    """What a forked child answers; None where it does not."""
    from suite import isolation

    place = folder / "probe"
    place.mkdir(exist_ok=True)
    ended = isolation.run(question, limit=60, folder=place)
    shutil.rmtree(place, ignore_errors=True)
    return ended.result


def _pytest(options: argparse.Namespace, folder: Path, gpu: bool, installed: dict[str, str]) -> int:
    import pytest

    from suite import answers, preload
    from suite.events import Events
    from suite.plugin import Suite, platform_of

    named = options.preload
    wanted = preload.PACKAGES if named is None else tuple(w for w in named.split(",") if w)
    platform, usable = platform_of(60, folder / "probe", gpu=gpu)
    if answers.ASKED:
        platform["answered while importing"] = answers.ASKED
    suite = Suite(
        events=Events(options.events),
        folder=folder / "check",
        limit=options.timeout,
        only=tuple(word for word in options.only.split(",") if word),
        preloaded=wanted,
        host=not usable,
        platform=platform,
        installed=installed,
    )
    code = pytest.main(
        [
            *("-c", str(HERE / "pytest.ini"), "--rootdir", str(options.checks)),
            *(
                "-s",
                "--assert=plain",
                "--basetemp",
                str(folder / "check" / "tmp"),
                str(options.checks),
            ),
        ],
        plugins=[suite],
    )
    if suite.problems:
        only = [problem for problem in suite.problems if not problem.startswith("--only")]
        return BROKEN_RUN if only else USAGE
    return DONE if code == pytest.ExitCode.OK else BROKEN_RUN


if __name__ == "__main__":
    sys.exit(main())
