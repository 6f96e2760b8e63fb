"""What is committed: constraints, results and what is published of them. A night's commit may turn
these red, and no other test."""

from __future__ import annotations

import datetime
import doctest
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import tomllib
from jsonschema import Draft202012Validator
from support import ROOT
from test_doctor import PINS, RIGHT, VERSIONS

from mcore_compat import cli
from mcore_compat.analysis import (
    doctor,
    error_answer,
    error_text,
    explanation,
    known_names,
    nearest_cell,
    published,
    recommend,
)
from mcore_compat.analysis.around import release_ranges
from mcore_compat.analysis.error_search import ErrorSearch
from mcore_compat.analysis.install_line import InstallFacts
from mcore_compat.analysis.next_cell import UntestedCells
from mcore_compat.analysis.published import Compatibility
from mcore_compat.api import definitions, interface_index, packages
from mcore_compat.api.packages import IndexedPackage
from mcore_compat.cli import publication
from mcore_compat.core import combinations, matrix, releases, stack_rule
from mcore_compat.core.cells import AXES, Stack
from mcore_compat.core.matrix import Matrix
from mcore_compat.core.releases import Releases
from mcore_compat.core.workspace import VARIABLE, Workspace
from mcore_compat.offline import base_list, contents, plan_file
from mcore_compat.publish import compatibility_json, compatibility_page, constraints_files
from mcore_compat.resolve import locks
from mcore_compat.results import store, verdict_index
from mcore_compat.run.check_sets import ON_A_GPU
from mcore_compat.schedule import new_releases
from mcore_compat.upgrade import examples
from mcore_compat.upgrade.words import options as profile_options

HERE = Workspace(ROOT)
MOST_REPORTS, FOLDER = 20_000_000, 4096
"""Bytes of all that is committed below reports/, and what a folder counts, as `du -sb` does."""


@pytest.fixture(autouse=True)
def committed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the program takes for its workspace."""
    monkeypatch.setenv(VARIABLE, str(ROOT))


@pytest.fixture(scope="module")
def known() -> Compatibility:
    return published.load(HERE.published)


@pytest.fixture(scope="module")
def declared() -> Matrix:
    return matrix.load(HERE.matrix)


@pytest.fixture(scope="module")
def facts() -> Releases:
    return releases.load(HERE.releases)


def test_what_is_published_is_what_the_results_make() -> None:
    """Reports, examples of upgrades, texts for upstream; and no rule of the matrix is wider than
    what was seen."""
    assert publication.check(print) == 0


def test_the_published_data_are_of_their_schema() -> None:
    path = HERE.reports / compatibility_json.SCHEMA
    schema = json.loads(path.read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    data = json.loads(HERE.published.read_text(encoding="utf-8"))
    assert list(Draft202012Validator(schema).iter_errors(data)) == []


def test_every_cause_finds_itself_first(
    known: Compatibility, declared: Matrix, facts: Releases
) -> None:
    """By its message (beside others with the very same one), and by its traceback on another
    machine, in another release, as a rank's."""
    versions = {axis: [release.version for release in facts.of(axis)] for axis in AXES[:4]}
    search = ErrorSearch(known_names.known_errors(known, versions, declared.undeclared))
    tracebacks: dict[str, str] = {}
    for result in store.load_all(HERE.results):
        for check in result.checks:
            if check.failure:  # a cause is published as the first of its failures tells it
                tracebacks.setdefault(check.failure.fingerprint, check.failure.traceback)
    for cause in known.causes:
        lines = tracebacks[cause.fingerprint].splitlines()
        moved = "\n".join(f"[rank3]: {_elsewhere(line)}" for line in lines)
        for text in (cause.message, f"{cause.type}: {cause.message}", moved):
            found = search.find(error_text.errors(text))
            assert found.sure, text
            alike = 1 if text is moved else sum(c.message == cause.message for c in known.causes)
            first = [m.known.fingerprints for m in found.matches[:alike]]
            assert any(cause.fingerprint in fingerprints for fingerprints in first), text
            assert [*error_answer.lines(found)]


def _elsewhere(line: str) -> str:
    """A line of a traceback from another folder, each at another line."""
    file = re.compile(r'File "(?!suite/|<)([^"]+)", line (\d+)')
    return file.sub(r'File "/opt/env/lib/python3.12/site-packages/\1", line 1\2', line)


def test_the_accepted_versions_are_read_with_the_patterns_there_are() -> None:
    """Else nothing is known of them: nox -s refresh reads them again."""
    ranges = release_ranges.load(HERE.version_ranges)
    assert [p.name for p in packages.PACKAGES if not ranges.releases(p.name)] == []
    (flash_attn,) = ranges.of(packages.TE, "2.12.0")
    assert flash_attn.specifier == ">=2.1.1,<=2.8.3"


def test_the_reports_stay_small_enough_to_clone() -> None:
    made = HERE.reports / "site"
    paths = (p for p in HERE.reports.rglob("*") if not p.is_relative_to(made))
    sizes = (path.stat().st_size if path.is_file() else FOLDER for path in paths)
    assert sum(sizes) < MOST_REPORTS


def test_the_page_is_short_and_its_links_are_to_what_is_there() -> None:
    """All of a cause, a cell or a release is in the data and the site, which the page links to."""
    text = (HERE.reports / compatibility_page.NAME).read_text(encoding="utf-8")
    assert len(text.splitlines()) < 350
    assert len(text.split()) < 6500
    links = set(re.findall(r"\]\(([^)]+)\)", text))
    assert any(link.startswith("upstream/") for link in links)
    there = [link for link in links if not link.startswith("site/") and link != "GPU.md"]
    assert [link for link in there if not (HERE.reports / link).exists()] == []
    data = json.loads(HERE.published.read_text(encoding="utf-8"))
    causes = {link for link in links if link.startswith("site/causes/")}
    assert causes == {f"site/causes/{one['fingerprint']}.html" for one in data["causes"]}
    told = {"message", "frame", "gpu_independent", "checks", "cells", "rules", "wider_rules"}
    assert all(told <= one.keys() for one in data["causes"])
    cells = {one["cell"]: one for one in data["cells"]}
    assert all(f"`{name}`" in text for name, one in cells.items() if one["reason"])
    drafts = {link for link in links if link.startswith("upstream/")}
    assert drafts == {f"upstream/{path.name}" for path in (HERE.reports / "upstream").iterdir()}


def test_every_cell_of_the_matrix_can_be_listed(declared: Matrix, facts: Releases) -> None:
    cells = combinations.cells(declared, facts)
    assert set(verdict_index.listing(cells, HERE.verdicts)) == {cell.name for cell in cells}


def test_every_stack_is_the_one_of_the_rule_or_says_why(declared: Matrix, facts: Releases) -> None:
    """And what is said to be an exception is one."""
    for series, stack in declared.stacks.items():
        assert set(stack_rule.deviations(series, declared, facts)) == set(stack.exceptions), series
        assert stack.note


def test_where_no_thread_is_named_it_was_sought(declared: Matrix) -> None:
    for rule in declared.expected:
        assert (rule.upstream == "not reported") == (rule.looked is not None), rule.reason


def test_the_facts_are_as_they_would_be_written(facts: Releases) -> None:
    assert releases.dumps(facts) == HERE.releases.read_text(encoding="utf-8")


def test_the_matrix_can_be_joined() -> None:
    text = HERE.matrix.read_text(encoding="utf-8")
    before = matrix.parse(text, "matrix.toml", datetime.date.min)
    stack = before.stacks[before.mcore_series[-1]]
    joined = new_releases.join(text, [proposal(stack)])
    after = tomllib.loads(joined)
    assert after["stack"][:-1] == tomllib.loads(text)["stack"]
    assert after["stack"][-1]["for"] == ["99.0"]
    comments = [line for line in text.splitlines() if line.startswith("#")]
    assert [line for line in joined.splitlines() if line.startswith("#")] == comments


def proposal(stack: Stack) -> new_releases.Proposal:
    """A series that there is not, on a stack whose note is hard to write."""
    return new_releases.Proposal(
        package=new_releases.MCORE,
        series="99.0",
        reason="a stand-in",
        stack=replace(stack, note='a "note" of\nour own'),
    )


def test_what_is_proposed_can_be_installed_as_declared(declared: Matrix, facts: Releases) -> None:
    results = [e for e in store.load_all(HERE.results) if e.device_class == "host"]
    untested = UntestedCells(results, declared, facts)
    every = explanation.explain(results, untested)
    for one in every[:3]:  # asked for alone, a failure is explained as among all
        assert explanation.of_failure(results, one.fingerprint, untested) == one
    proposed = {one.next_cell for one in every if one.next_cell}
    assert not proposed & {e.cell for e in results}
    for name in proposed:
        cell = combinations.named(name, declared, facts)
        assert cell.name == name
        assert combinations.violations(cell, facts) == ()


def test_no_result_contradicts_what_is_said_of_an_untested_neighbour(
    known: Compatibility, declared: Matrix
) -> None:
    """One that differs in torch alone from a cell, and lies within the same rules."""
    bare = replace(declared, undeclared=())
    for cell in known.cells:
        pins = {**cell.pins, "torch": f"{cell.pins['torch']}.1"}
        there = replace(RIGHT, versions={**VERSIONS, **pins}, python=f"{pins['python']}.1")
        for remark in doctor.diagnose(there, bare, known):
            if remark.kind == doctor.KNOWN:
                checks = remark.text.partition(": ")[0].split(", ")
                assert not [c for c in checks if cell.checks.get(c) == "works"], cell.name


def test_the_published_data_can_be_asked(known: Compatibility) -> None:
    assert nearest_cell.nearest(PINS, known.cells) is not None


def test_the_examples_of_the_library_hold() -> None:
    failed, asked = doctest.testmod(published)
    assert (failed, asked > 3) == (0, True)


def test_what_is_to_be_installed_is_what_the_constraints_say(known: Compatibility) -> None:
    """megatron-core asks for TE in an extra alone: who does not name it gets none."""
    advice = recommend.advise((), known.cells)
    facts = InstallFacts(matrix=matrix.load(HERE.matrix), releases=releases.load(HERE.releases))
    folder = HERE.reports / constraints_files.FOLDER
    lines = recommend.lines(advice, folder, facts, len(advice.cells))
    installs = [line.split() for line in lines if line.startswith("  pip install ")]
    assert len(installs) == len(advice.cells)
    for words in installs:
        assert {"transformer-engine", "transformer-engine-torch"} <= {*words}


def test_an_example_is_what_the_command_makes(tmp_path: Path, declared: Matrix) -> None:
    origin, target, profile = examples.EXAMPLES[-1]
    out, whom = tmp_path / "made.md", profile_options(profile, declared).split()
    options = ["--no-run", "--device-class", "host", "--format", "markdown", "--output", str(out)]
    assert cli.main(["upgrade", origin, target, *whom, *options]) in (0, 1)
    path = ROOT / examples.path_of(origin, target, profile)
    assert out.read_text(encoding="utf-8") == path.read_text(encoding="utf-8")


def test_no_other_example_lies_there() -> None:
    there = set((ROOT / examples.FOLDER).iterdir())
    assert there == {ROOT / examples.path_of(*example) for example in examples.EXAMPLES}


@pytest.mark.parametrize("path", sorted((ROOT / examples.FOLDER).iterdir()), ids=lambda p: p.stem)
def test_an_example_says_in_its_first_lines_what_decides(path: Path) -> None:
    head = path.read_text(encoding="utf-8").partition("\n\n## ")[0].splitlines()
    assert len(head) <= 12
    assert re.match(r"# Upgrade `.+` → `.+`: (go|go with changes|no), for ", head[0])
    why = [line for line in head if line.startswith(("- why not: ", "- do first: ", "- kept: "))]
    assert why
    assert sum(line.startswith("- do next: `") for line in head) == 1
    assert sum(line.startswith("- instead of TO: ") for line in head) == 1


@pytest.mark.parametrize("name", ON_A_GPU)
def test_results_of_the_other_check_sets_are_whole(name: str) -> None:
    for one in store.load_all(HERE.results, name):
        assert (one.check_set, one.complete) == (name, True)


def test_the_plan_of_a_bundle_is_whole() -> None:
    plan = plan_file.read(HERE.constraints / "gpu-run.toml", ROOT)
    assert plan.base_list is not None
    assert plan.gpu_arch == "sm_90"
    there = base_list.read(plan.base_list)
    assert there.python is not None
    for cell in plan.cells:
        lock = locks.read(HERE.lock(cell))
        assert lock.version("torch") == there.base.installed["torch"].partition("+")[0]
        assert lock.axes["python"] == there.python.rpartition(".")[0]


def test_what_the_plan_of_a_bundle_lacks_is_told_and_nothing_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MCORE_COMPAT_HOME", str(tmp_path / "home"))
    plan = HERE.constraints / "gpu-run.toml"
    assert cli.main(["bundle", "--plan", str(plan), "--check"]) == 1
    out = capsys.readouterr().out
    assert "missing: the wheel causal-conv1d-" in out
    assert "-sm_90" in out
    assert "missing: the wheel transformer-engine-torch-2.11.0-torch2.11.0-py3.12-cu13" in out
    assert not (tmp_path / "home").exists()


def test_every_lock_can_be_described(facts: Releases) -> None:
    """torch's requirements are known for all locks, so that what goes with it is."""
    for path in sorted(HERE.locks.glob("*.txt")):
        assert "nvidia-modelopt" not in contents.torch_group(locks.read(path), facts)


# Interfaces of releases: facts that were looked up in the wheels themselves.


@pytest.mark.parametrize("package", packages.PACKAGES, ids=lambda package: str(package.name))
def test_the_interface_of_each_release_is_known(package: IndexedPackage, facts: Releases) -> None:
    index = interface_index.load(package, HERE.interfaces)
    assert list(index.releases) == [release.version for release in facts.of(package.name)]
    for place in range(len(index.releases)):
        assert index.at(package.root, "", place) is not None
    assert sum(path.stat().st_size for path in HERE.interfaces.iterdir()) < 5_000_000
    for names in index.modules.values():
        for changes in names.values():
            for _, text in changes:
                assert text is None or definitions.read(text)


@pytest.mark.parametrize(
    ("package", "path", "before", "after"),
    [
        (
            packages.MCORE,
            "megatron.core.fusions.fused_cross_entropy:fused_vocab_parallel_cross_entropy",
            ("0.11.0", "def(vocab_parallel_logits, target)"),
            ("0.12.0", "def(vocab_parallel_logits, target, tp_group)"),
        ),
        (
            packages.MCORE,
            "megatron.core.transformer.transformer_layer:get_transformer_layer_offset",
            ("0.12.3", "def(config)"),
            ("0.13.1", "def(config, vp_stage=None)"),
        ),
        (
            packages.MODELOPT,
            "modelopt.torch.quantization.config:normalize_quant_cfg_list",
            ("0.43.0", None),
            ("0.44.0", "def(v)"),
        ),
        (
            packages.TE,
            "transformer_engine.pytorch:Float8BlockQuantizer",
            ("2.8.0", None),
            ("2.9.0", "= transformer_engine.pytorch.tensor.Float8BlockQuantizer"),
        ),
    ],
)
def test_a_change_of_an_interface_is_known(
    package: str, path: str, before: tuple[str, str | None], after: tuple[str, str | None]
) -> None:
    index = interface_index.load(packages.BY_NAME[package], HERE.interfaces)
    module, _, name = path.partition(":")
    for version, text in (before, after):
        assert index.at(module, name, index.place(version)) == text
