"""Run upstream's test file inside a cell, each test in its own process.

`<the cell's python> in_cell.py --suite FOLDER --tools FOLDER --file FILE --report FILE`

The packages under test are those of the cell. Upstream's helpers that need a GPU or a whole
checkout (its process group, its folder for checkpoints) are replaced by what the suite uses to
build models: one rank, gloo, the CUDA stand-in. The test file is not changed.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.metadata
import json
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

AXES = ("megatron-core", "nvidia-modelopt", "transformer-engine", "torch")
HELPERS = "tests.unit_tests"
SEED = 123
PASSED, FAILED, STOPPED, SKIPPED = "passed", "failed", "stopped", "skipped"


class Utils:
    """What upstream's test file takes of its `Utils`: one rank, started and ended."""

    rank = 0
    world_size = 1
    folder = Path()

    @classmethod
    def initialize_model_parallel(cls, tensor: int = 1, pipeline: int = 1) -> None:
        from suite import parallel

        if (tensor, pipeline) != (1, 1):
            raise NotImplementedError("the referee has one rank")
        parallel.start(cls.folder, SEED)

    @staticmethod
    def destroy_model_parallel() -> None:
        importlib.import_module("megatron.core.parallel_state").destroy_model_parallel()


@contextlib.contextmanager
def named_folder(name: str | Path, sync: bool = True) -> Iterator[Path]:
    """A folder of this name, as upstream's `TempNamedDir`; it goes with the test's own folder."""
    Path(name).mkdir(parents=True, exist_ok=True)
    yield Path(name)


def put_helpers() -> None:
    """Make the two modules that the test file imports its helpers from."""
    for name in ("tests", HELPERS, f"{HELPERS}.test_utilities", f"{HELPERS}.dist_checkpointing"):
        sys.modules[name] = ModuleType(name, "Helpers for upstream's test file.")
    sys.modules[f"{HELPERS}.test_utilities"].Utils = Utils  # type: ignore[attr-defined]
    sys.modules[f"{HELPERS}.dist_checkpointing"].TempNamedDir = named_folder  # type: ignore[attr-defined]


class Referee:
    """A pytest plugin: runs each collected test in a forked child and keeps how it ended."""

    def __init__(self, folder: Path, limit: float) -> None:
        self.folder = folder
        self.limit = limit
        self.tests: list[dict[str, Any]] = []
        self.not_collected: str | None = None
        self._error: BaseException | None = None

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self.not_collected = report.longreprtext

    def pytest_runtestloop(self, session: Any) -> bool:
        for item in session.items:
            self.tests.append(self._one(item))
            print(*(self.tests[-1][key] for key in ("test", "outcome", "reason")), flush=True)
        return True

    def _one(self, item: Any) -> dict[str, Any]:
        from suite import isolation

        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        ended = isolation.run(lambda: self._in_child(item), limit=self.limit, folder=self.folder)
        outcome, reason = "", ""
        if ended.timed_out:
            outcome, reason = "timed-out", f"no end within {self.limit:g} s"
        elif ended.result is None:
            outcome, reason = "crashed", ended.how
        told = ended.result or {"outcome": outcome, "reason": reason}
        name = item.nodeid.partition("::")[2].replace("::", ".")
        return {"test": name, "seconds": round(ended.seconds, 1), **told}

    def _in_child(self, item: Any) -> dict[str, str]:
        from _pytest.runner import runtestprotocol

        Utils.folder = self.folder
        reports = runtestprotocol(item, log=False, nextitem=None)
        if any(report.skipped for report in reports):
            return {"outcome": SKIPPED, "reason": str(self._error)}
        if self._error is not None:
            return judged(self._error)
        called = {report.when: report.passed for report in reports}
        assert called == {"setup": True, "call": True, "teardown": True}, called
        return {"outcome": PASSED, "reason": ""}

    def pytest_runtest_makereport(self, item: Any, call: Any) -> None:
        if call.excinfo is not None and self._error is None:
            self._error = call.excinfo.value


NO_NUMBER = "must be int, not torch.device"
"""The message when the stand-in's current device, which is the CPU, is used as the number of a
GPU."""


def judged(error: BaseException) -> dict[str, str]:
    """`failed`, or `stopped` where the error comes from the missing GPU; and why.

    The suite's rule tells the two apart. What it cannot tell is taken for the missing GPU only
    within a model's forward pass, which needs kernels. The reason is kept, so that a reader can
    judge it.
    """
    from suite import classify, failures
    from suite.outcomes import BROKEN

    stated = None if in_forward(error) else "raised outside of a forward pass"
    outcome, _ = classify.classify(error, host=True, stated=stated)
    if in_forward(error) and NO_NUMBER in str(error):
        outcome = STOPPED
    root = failures.root(error)
    last = failures.innermost(root)[-1]
    file = failures.relative(last.filename)
    module = Path(file).stem if file.startswith("/") else failures.module_of(file)
    text = failures.headline(root) if str(root).strip() else str(last.line)
    if text.endswith(":"):  # what it is about comes below
        text = " ".join(str(root).split())
    said = failures.clean(f"{type(root).__name__}: {text}")[:300]
    reason = f"{said} (in {module}.{last.name})"
    return {"outcome": FAILED if outcome == BROKEN else STOPPED, "reason": reason}


def in_forward(error: BaseException) -> bool:
    """Whether `error` was raised below the forward pass of a model of Megatron's."""
    return any(
        entry.name == "forward" and "megatron/core/" in entry.filename
        for entry in traceback.extract_tb(error.__traceback__)
    )


def under_test(name: str) -> str:
    """The file that a package under test is imported from.

    Raises:
        SystemExit: it is not one of the environment's own packages.
    """
    file = importlib.import_module(name).__file__ or ""
    if not Path(file).resolve().is_relative_to(Path(sys.prefix).resolve()):
        raise SystemExit(f"{name} comes from {file}, not from the cell's environment {sys.prefix}")
    return file


def main() -> int:
    """Run the test file; 0 where it ran to its end, however its tests ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--suite", "--tools", "--file", "--report"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--limit", type=float, default=300.0, help="seconds for one test")
    options = parser.parse_args()
    here = Path(__file__).resolve().parent
    sys.path[:] = [path for path in sys.path if path and Path(path).resolve() != here]
    sys.path.append(str(options.suite.resolve().parent))
    sys.path.append(str(options.tools.resolve()))
    os.environ.update(PYTEST_DISABLE_PLUGIN_AUTOLOAD="1", CUDA_VISIBLE_DEVICES="")
    # Below the caller's own folder, which goes also when this process is killed.
    above = options.report.resolve().parent
    folder = Path(tempfile.mkdtemp(prefix="mcore-compat-suite-", dir=above))
    try:
        report = asked(options.file.resolve(), folder, options.limit)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    options.report.write_text(json.dumps(report))
    return 0


def asked(file: Path, folder: Path, limit: float) -> dict[str, Any]:
    """The report of a run of `file`: where Megatron came from, and how each test ended."""
    from suite import preload, processes, stand_in

    processes.adopt_orphans()
    preload.load(preload.PACKAGES, host=True)
    megatron = under_test("megatron.core")
    stand_in.install()
    put_helpers()
    plugin = collected(file, folder, limit)
    return {
        "megatron": megatron,
        "installed": {name: importlib.metadata.version(name) for name in AXES},
        "preload": {name: said for name, said in preload.OUTCOMES.items() if said != "ok"},
        "stand_in": stand_in.installed_for(),
        "not_collected": plugin.not_collected,
        "tests": plugin.tests,
    }


def collected(file: Path, folder: Path, limit: float) -> Referee:
    """The plugin, after pytest has collected `file` and it has run each test."""
    import pytest

    class Plugin(Referee):
        @pytest.fixture
        def tmp_path_dist_ckpt(self) -> Path:
            return self.folder / "checkpoints"

    plugin = Plugin(folder / "test", limit)
    argv = ["-q", "-s", "--assert=plain", "-p", "no:cacheprovider", "--import-mode=importlib"]
    argv += ["--rootdir", str(file.parent), "-c", os.devnull, "--noconftest"]
    argv += ["--basetemp", str(folder / "pytest"), str(file)]
    pytest.main(argv, plugins=[plugin])
    return plugin


if __name__ == "__main__":
    sys.exit(main())
