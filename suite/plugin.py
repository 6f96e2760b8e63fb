"""The pytest plugin: each check in a process of its own, one event for each.

A check is a function `check_<kind>` in `check_*.py`; `check_build_default` is of the kind
`build-default`. One that takes the fixture `family` is asked once for each family. It ends
well by returning; by raising `Unsupported` or `NeedsGpu`, it says that it cannot be asked, by
raising `WorksWith` that it holds under a condition.

Marks: `feature(NAME)`, which each check has; `families(NAME, ...)`, of whom alone it is asked;
`after(KIND, ...)`, which must have worked before; `kind(NAME)`, where the function's name is not
it; `limit(SECONDS)`; `bare`, without the CUDA stand-in; `record_only`, which makes it a record:
data for comparing releases, without an outcome.
"""

from __future__ import annotations

import fnmatch
import shutil
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from suite import classify, failures, isolation, machine, preload, prerequisites, sabotage
from suite.events import Events
from suite.outcomes import (
    BLOCKED,
    BROKEN,
    CRASHED,
    FAMILIES,
    FEATURES,
    TIMED_OUT,
    WORKS,
    WORKS_WITH,
    Unsupported,
    WorksWith,
)
from suite.prerequisites import Check
from suite.record import Record

FIRST = (
    "import",
    "interface",
    "signatures",
    "spec",
    "layers",
    "build",
    "structure",
    "restore",
    "modelopt",
    "te",
)
"""Kinds that begin so are asked in this order, all others after them."""

LIMIT_S = 120.0
"""Seconds that a check may take, where neither it nor the command line says another limit."""

_WARNINGS = 20
_OUTPUT = 4_000

_check = pytest.StashKey[Check]()
_error = pytest.StashKey[BaseException]()


class Suite:
    """Collects, orders and asks the checks of one run, and writes what each showed."""

    def __init__(
        self,
        *,
        events: Events,
        folder: Path,
        limit: float | None,
        only: tuple[str, ...],
        preloaded: tuple[str, ...],
        host: bool,
        platform: dict[str, Any],
        installed: dict[str, str],
    ) -> None:
        self.events = events
        self.folder = folder
        self.limit = limit
        self.only = only
        self.preloaded = preloaded
        self.host = host
        self.platform = platform
        self.installed = installed
        self.problems: list[str] = []
        self.ended: dict[str, tuple[str, str | None]] = {}
        self.failed_imports: dict[tuple[Any, ...], str] = {}

    # Collection

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        # Its options are needed, its output is not: this plugin prints a line a check.
        config.pluginmanager.unregister(name="terminalreporter")

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "family" in metafunc.fixturenames:
            only = metafunc.definition.get_closest_marker("families")
            metafunc.parametrize("family", only.args if only else FAMILIES, indirect=True)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.problems.append(f"{report.nodeid} cannot be loaded:\n{report.longreprtext}")

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            item.stash[_check] = check_of(item)
        checks = [item.stash[_check] for item in items]
        by_id = {item.stash[_check].id: item for item in items}
        if len(by_id) != len(items):
            ids = [check.id for check in checks]
            twice = sorted({name for name in ids if ids.count(name) > 1})
            self.problems.append(f"checks of the same name: {', '.join(twice)}")
        for check in checks:
            if not check.record and check.feature not in FEATURES:
                self.problems.append(f"{check.id} has no mark feature of {', '.join(FEATURES)}")
        for kind in prerequisites.unknown(checks):
            self.problems.append(f"no check is of the kind {kind!r} that another comes after")
        for word in self.only:
            if not any(matches(check, word) for check in checks):
                self.problems.append(f"--only: no check matches {word!r}")
        if self.only:
            checks = [c for c in checks if any(matches(c, word) for word in self.only)]
        checks.sort(key=_rank)
        items[:] = [by_id[check.id] for check in prerequisites.order(checks)]

    # The run

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if self.problems:
            for problem in self.problems:
                print(f"suite: {problem}", file=sys.stderr)
            self.events.write("error", message="\n".join(self.problems))
            session.testsfailed = len(self.problems)
            return True
        started = time.monotonic()
        self.events.write(
            "start",
            suite=1,
            device_class="host" if self.host else "gpu",
            platform=self.platform,
            installed=self.installed,
            preload=preload.OUTCOMES,
            sabotage=sabotage.active(),
            checks=[c.id for c in (item.stash[_check] for item in session.items) if not c.record],
        )
        for item in session.items:
            self._one(item)
        self.events.write("end", seconds=round(time.monotonic() - started, 3))
        return True

    def _one(self, item: pytest.Item) -> None:
        check = item.stash[_check]
        self.events.write("begin", check=check.id)
        settled = None if check.record else prerequisites.verdict(check, self.ended)
        if settled:
            outcome, reason = settled
            fields: dict[str, Any] = {"seconds": 0.0, "failure": None, "details": {}}
            fields.update(condition=None, warnings=[], output="")
        else:
            outcome, reason, fields = self._asked(item)
        if check.record:
            said = {name: fields[name] for name in ("seconds", "failure", "details")}
            self.events.write("record", record=check.kind, **said)
            outcome = "recorded" if outcome == WORKS else f"not recorded: {reason}"
        else:
            outcome, reason, fields = self._of_one_cause(check, outcome, reason, fields)
            self.ended[check.id] = (outcome, reason)
            self.events.write(
                "check",
                check=check.id,
                kind=check.kind,
                family=check.family,
                feature=check.feature,
                format=check.format,
                outcome=outcome,
                reason=reason,
                **fields,
            )
        print(f"{check.id} {outcome} {fields['seconds']:.1f} s", flush=True)

    def _of_one_cause(
        self, check: Check, outcome: str, reason: str | None, fields: dict[str, Any]
    ) -> tuple[str, str | None, dict[str, Any]]:
        """As it ended; but `blocked` where it failed by the very import that a check of imports
        already failed by: one cause has one word, whoever meets it first."""
        failure = fields["failure"]
        if outcome != BROKEN or failure is None:
            return outcome, reason, fields
        last = failure["frames"][-1] if failure["frames"] else {}
        cause = (failure["type"], failure["message"], last.get("file"), last.get("line"))
        if cause in self.failed_imports:
            why = f"{self.failed_imports[cause]} is {BROKEN}"
            return BLOCKED, why, {**fields, "failure": None}
        if check.kind.startswith("import-"):
            self.failed_imports[cause] = check.id
        return outcome, reason, fields

    def _asked(self, item: pytest.Item) -> tuple[str, str | None, dict[str, Any]]:
        """Ask in a child; `(outcome, reason, further fields of the event)`."""
        limit = limit_of(item, self.limit)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        ended = isolation.run(lambda: self._in_child(item), limit=limit, folder=self.folder)
        details, _ = Record(self.folder / "details.jsonl").read()
        shutil.rmtree(self.folder, ignore_errors=True)
        if ended.left_behind:
            details["left_behind"] = list(ended.left_behind)
        result = ended.result or {}
        if ended.timed_out:
            frames = failures.stack_frames(ended.stack)
            where = f" in {frames[-1]['module']}.{frames[-1]['function']}" if frames else ""
            outcome, reason = TIMED_OUT, f"no end within {limit:g} s{where}"
            failure = failures.died("TimedOut", reason, ended.stack)
        elif ended.result is None:
            outcome, reason = CRASHED, ended.how
            failure = failures.died(ended.signal or "Exited", reason, ended.stack)
        else:
            outcome, reason, failure = result["outcome"], result["reason"], result["failure"]
        condition = result.get("condition") if outcome == WORKS_WITH else None
        fields = {
            "seconds": round(ended.seconds, 3),
            "failure": failure,
            "condition": condition,
            "details": details,
            "warnings": result.get("warnings", []),
            "output": "" if outcome == WORKS else failures.clean(ended.output)[-_OUTPUT:],
        }
        return outcome, reason, fields

    def _in_child(self, item: pytest.Item) -> dict[str, Any]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            prepare(item, host=self.host, preloaded=self.preloaded)
            runtestprotocol(item, log=False, nextitem=None)
        given = [preload.describe(warning) for warning in caught]
        unique = list({entry["message"]: entry for entry in given}.values())
        result: dict[str, Any] = {"outcome": WORKS, "reason": None, "failure": None}
        error = item.stash.get(_error, None)
        if error is not None:
            stated = Record(self.folder / "details.jsonl").read()[1]
            result.update(judged(error, host=self.host, stated=stated))
        return {**result, "warnings": unique[:_WARNINGS]}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[Any]) -> None:
        if call.excinfo is not None and _error not in item.stash:
            item.stash[_error] = call.excinfo.value

    # What checks ask for

    @pytest.fixture
    def family(self, request: pytest.FixtureRequest) -> str:
        """The family's name; `unsupported` where the adapter finds that the release lacks it."""
        from suite import adapter

        reason = adapter.has_family(request.param)
        if reason is not None:
            raise Unsupported(reason)
        return str(request.param)

    @pytest.fixture
    def record(self) -> Record:
        """Puts data into the check's `details`."""
        return Record(self.folder / "details.jsonl")

    @pytest.fixture
    def on_host(self) -> bool:
        """Whether there is no GPU."""
        return self.host


def check_of(item: pytest.Item) -> Check:
    """The check that a collected item is, by its name, its parameters and its markers."""
    parameters = dict(item.callspec.params) if hasattr(item, "callspec") else {}
    family = parameters.pop("family", None)
    named = item.get_closest_marker("kind")
    function = getattr(item, "originalname", None) or item.name
    kind = named.args[0] if named else function.removeprefix("check_").replace("_", "-")
    after: list[str] = []
    for marker in item.iter_markers("after"):
        after += marker.args
    words = {key: str(value) for key, value in parameters.items()}
    feature = item.get_closest_marker("feature")
    return Check(
        kind.format(**words),
        family,
        tuple(dict.fromkeys(name.format(**words) for name in after)),
        feature.args[0].format(**words) if feature else None,
        words.get("fmt"),
        item.get_closest_marker("record_only") is not None,
    )


def limit_of(item: pytest.Item, most: float | None) -> float:
    """Seconds that a check may take: what its mark `limit` says, at most `most`; without a mark
    `most`, or `LIMIT_S` where that is None."""
    marker = item.get_closest_marker("limit")
    if marker is None:
        return LIMIT_S if most is None else most
    own = float(marker.args[0])
    return own if most is None else min(own, most)


def matches(check: Check, word: str) -> bool:
    """Whether a word of `--only`, a glob, names this check: by id, kind or family."""
    names = (check.id, check.kind, check.family or "")
    return word in names or any(fnmatch.fnmatchcase(name, word) for name in names)


def judged(error: BaseException, *, host: bool, stated: str | None) -> dict[str, Any]:
    """Outcome, reason, failure and condition of a check that ended with `error`."""
    if isinstance(error, WorksWith):
        refused = judged(error.refused, host=host, stated=stated)
        if refused["outcome"] != BROKEN:
            return refused
        return {**refused, "outcome": WORKS_WITH, "condition": error.condition}
    if isinstance(error, pytest.skip.Exception):
        error = AssertionError(f"a check must not skip, but say what it misses: {error}")
    outcome, why = classify.classify(error, host=host, stated=stated)
    if outcome == BROKEN:
        root = failures.root(error)
        reason = f"{type(root).__name__}: {failures.headline(root)}"
        return {
            "outcome": outcome,
            "reason": failures.clean(reason)[:500],
            "failure": failures.describe(error, why or None),
        }
    told = isinstance(error, (classify.Unsupported, classify.NeedsGpu))
    failure = None if told else failures.describe(error, None)
    return {"outcome": outcome, "reason": failures.clean(why), "failure": failure}


def prepare(item: pytest.Item, *, host: bool, preloaded: tuple[str, ...]) -> None:
    """In a check's process: import what the parent could not keep, then stand in for CUDA.

    Imports come first: some packages look for a driver while they are imported, and the
    stand-in must not send them there.
    """
    if item.get_closest_marker("bare"):
        return
    preload.load([name for name in preloaded if name not in preload.OUTCOMES], host=host)
    if host and preload.loaded("torch"):
        from suite import stand_in

        stand_in.install()


def _rank(check: Check) -> int:
    for place, word in enumerate(FIRST):
        if check.kind.startswith(word):
            return place
    return len(FIRST)


def platform_of(limit: float, folder: Path, *, gpu: bool) -> tuple[dict[str, Any], bool]:
    """`(platform, whether a GPU can be used)`, asked in a child because asking starts CUDA."""

    def ask() -> dict[str, Any]:
        found = machine.cuda_libraries()
        if gpu:
            found.update(machine.gpu() or {})
        return found

    folder.mkdir(parents=True, exist_ok=True)
    ended = isolation.run(ask, limit=limit, folder=folder)
    shutil.rmtree(folder, ignore_errors=True)
    found = ended.result or {}
    platform = {**machine.describe(), **found}
    if ended.result is None:
        how = "no end" if ended.timed_out else ended.how
        platform["probe"] = f"{how}: {ended.output.strip()[-500:]}"
    return platform, bool(found.get("gpu"))
