"""A check that holds only under a condition: told wherever outcomes are, with its failure without.
All results are made up."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
import snapshot
from rich.console import Console
from support import CONDITION, ROOT, event, record_event, stand_in_cell, stand_in_result

from mcore_compat.analysis import explanation, intervals, recommend
from mcore_compat.analysis.bisect.halving import CheckState
from mcore_compat.analysis.bisect.search import seen_in
from mcore_compat.analysis.rules import FailureState
from mcore_compat.base.errors import ResultError
from mcore_compat.core import matrix, profiles
from mcore_compat.core.matrix import Matrix
from mcore_compat.core.outcomes import (
    FAILS,
    FEATURES,
    HOLDS,
    CellOutcome,
    CheckOutcome,
)
from mcore_compat.exchange.transfer_results import kept
from mcore_compat.publish import cell_records, collation, csv_table, part_reports
from mcore_compat.publish.site import cell as cell_page
from mcore_compat.publish.site import index, series
from mcore_compat.publish.site.staleness import Staleness
from mcore_compat.publish.site.view import Site
from mcore_compat.results import comparison, store, terminal_verdict, verdict
from mcore_compat.results.result import RECORDS, CheckResult, Failure, Result
from mcore_compat.run import cells
from mcore_compat.run.check_sets import ON_A_GPU

WITH = event("restore[gpt]", "works-with", feature="restore")
PLAIN = event("restore[gpt]", feature="restore")
BROKEN = event("restore[gpt]", "broken", feature="restore")


@pytest.fixture
def declared() -> Matrix:
    return matrix.load(ROOT / "constraints" / "matrix.toml")


def test_every_outcome_is_good_bad_or_silent_and_has_a_symbol() -> None:
    silent = {CheckOutcome.UNSUPPORTED, CheckOutcome.NEEDS_GPU}
    assert {*HOLDS, *FAILS, *silent} == {*CheckOutcome}
    assert not HOLDS & FAILS
    symbols = [verdict.SYMBOLS[outcome.value] for outcome in CheckOutcome]
    assert len({*symbols}) == len(symbols)
    assert {*index.LETTERS} == {*CheckOutcome}
    style = (ROOT / "mcore_compat/publish/site/static/site.css").read_text()
    assert all(f".o-{outcome.value}" in style for outcome in CheckOutcome)


def test_the_pages_script_knows_what_holds_and_what_fails() -> None:
    script = (ROOT / "mcore_compat/publish/site/static/site.js").read_text()
    for name, outcomes in (("HOLDS", HOLDS), ("FAILS", FAILS)):
        line = next(x for x in script.splitlines() if f"const {name} = new Set(" in x)
        words = json.loads(line.partition("(")[2].removesuffix(");"))
        assert {*words} == {outcome.value for outcome in outcomes}


@pytest.mark.parametrize(
    ("outcomes", "cell"),
    [
        (("works-with",), CellOutcome.COMPATIBLE),
        (("works-with", "unsupported"), CellOutcome.COMPATIBLE),
        (("works-with", "broken"), CellOutcome.PARTIAL),
        (("works-with", "blocked"), CellOutcome.PARTIAL),
    ],
)
def test_a_condition_is_no_failure_of_the_cell(
    outcomes: tuple[str, ...], cell: CellOutcome
) -> None:
    checks = [
        CheckResult(
            check=f"restore[{family}]",
            kind="restore",
            family=family,
            outcome=CheckOutcome(word),
            seconds=None,
            reason=None,
            failure=None,
            details={},
        )
        for family, word in zip(("gpt", "mla-moe"), outcomes, strict=False)
    ]
    assert profiles.outcome(profiles.points(checks)) is cell


def test_it_is_kept_with_condition_feature_and_failure(tmp_path: Path) -> None:
    found = stand_in_result(WITH)
    loaded = store.load(store.save(found, tmp_path))
    assert loaded == found
    check = loaded.checks[0]
    assert (check.feature, check.condition) == ("restore", CONDITION)
    assert check.failure is not None
    assert check.failure.type == "KeyError"


def test_what_is_not_there_is_not_written() -> None:
    text = store.dumps(stand_in_result(event("restore[gpt]")))
    assert not any(f'"{name}"' in text for name in ("feature", "condition", "records", "variables"))


@pytest.mark.parametrize(
    ("outcome", "condition", "broken"),
    [
        ("works-with", None, True),
        ("works-with", "x", False),
        ("works", "x", False),
        ("broken", "x", True),
    ],
)
def test_a_condition_goes_with_its_outcome_and_a_failure(
    outcome: str, condition: str | None, broken: bool
) -> None:
    failure = BROKEN["failure"] if broken else None
    made = stand_in_result(event("a", outcome, condition=condition, failure=failure))
    with pytest.raises(ResultError, match="condition"):
        store.parse(store.dumps(made), "it/main.host.json")


def test_records_are_kept_and_count_for_nothing(tmp_path: Path) -> None:
    record = {**record_event("signatures", **{"megatron.a:f": "(x)", "megatron.a:g": "y" * 500})}
    found = stand_in_result(PLAIN, {**record, "failure": BROKEN["failure"]})
    assert [c.check for c in found.checks] == ["restore[gpt]"]
    assert found.outcome is CellOutcome.COMPATIBLE
    path = store.save(found, tmp_path)
    assert store.load(path) == found
    assert found.recorded("signatures")["megatron.a:f"] == "(x)"
    assert found.recorded("none") == {}
    store.large_values.pack(tmp_path)
    assert store.load(path) == found  # what records name is not dropped


def test_what_older_suites_asked_as_checks_is_read_as_records() -> None:
    other = {"check": "other[gpt]", "kind": "other", "outcome": "works", "failure": None}
    made = stand_in_result(PLAIN, BROKEN | other)
    data = json.loads(store.dumps(made))
    row = json.loads(store.dumps(stand_in_result(BROKEN)))["checks"][0]
    for kind in sorted(RECORDS):
        details = {"megatron.a:f": "(x)"}
        data["checks"].append({**row, "check": kind, "kind": kind, "family": None,
                               "details": details})  # fmt: skip
    data["outcome"] = "partial"  # as it was, for nothing but the record
    found = store.parse(json.dumps(data), "it/main.host.json")
    assert {c.check for c in found.checks} == {"restore[gpt]", "other[gpt]"}
    assert {*found.records} == RECORDS
    assert found.recorded("signatures") == {"megatron.a:f": "(x)"}
    assert found.outcome is CellOutcome.COMPATIBLE


def test_the_terminal_tells_the_condition_and_the_failure_without_it() -> None:
    out = Console(file=io.StringIO(), width=100)
    found = stand_in_result(WITH, event("import-packages", feature="install"))
    found = replace(found, variables={"CUDA_HOME": "<site-packages>/nvidia"})
    terminal_verdict.show(found, (), out)
    text = out.file.getvalue()  # type: ignore[attr-defined]
    assert "⊕ works-with" in text
    assert f"only with: {CONDITION}: restore of gpt" in text
    assert f"works with: restore[gpt]\n  {CONDITION}\n" in text
    assert "without it: KeyError: 'decoder.weight'" in text
    assert text.index("\ninstall ") < text.index("\nrestore ")
    assert "importing Transformer Engine needs CUDA_HOME=<site-packages>/nvidia" in text
    assert "why not" not in text


def site(found: Result, declared: Matrix) -> Site:
    stale: Staleness = {}
    return Site(collation.collate([found], [], declared), stale)


def test_the_cells_page_has_the_condition_to_paste(declared: Matrix) -> None:
    hostile = "load('<script>', strict=False)"
    found = stand_in_result({**WITH, "condition": hostile})
    found = replace(found, variables={"CUDA_HOME": "<site-packages>/nvidia"})
    pages = dict(cell_page.pages(site(found, declared)))
    page = pages[f"cells/{found.cell}.html"]
    assert 'id="host-works-with"' in page
    assert 'href="#host-works-with"' in page
    assert "load(&#39;&lt;script&gt;&#39;, strict=False)</pre>" in page
    assert "KeyError: &#39;decoder.weight&#39;" in page
    assert 'colspan="3">restore</th>' in page
    assert "export CUDA_HOME=" in page
    assert "<script>'" not in page


def test_data_csv_and_constraints_have_it(declared: Matrix) -> None:
    found = stand_in_result(WITH)
    found = replace(found, variables={"LD_LIBRARY_PATH": "<site-packages>/nvidia/*/lib"})
    record = cell_records.record(found, declared)
    assert record.conditions == {"restore[gpt]": CONDITION}
    assert record.features == {"restore": ("restore[gpt]",)}
    assert record.variables == found.variables
    assert record.restores == ("gpt",)
    assert record.unexpected == ()
    rows = list(csv.DictReader(io.StringIO(csv_table.csv_text([found]))))
    assert rows[0]["restore"] == "works-with"
    assert rows[0]["conditions"] == f"restore: {CONDITION}"
    text = snapshot.constraints(found)[found.cell]
    assert f"# Works with a condition: restore[gpt]:\n#   {CONDITION}\n" in text
    assert " && export LD_LIBRARY_PATH=" in text
    assert all(row.startswith("#") or "==" in row for row in text.splitlines())


def test_advice_takes_it_after_what_needs_no_condition(declared: Matrix) -> None:
    needs = cell_records.record(stand_in_result(WITH), declared)
    older = stand_in_result(PLAIN, cell=stand_in_cell(modelopt="0.39.0"))
    free = cell_records.record(older, declared)
    broken = cell_records.record(
        stand_in_result(BROKEN, cell=stand_in_cell(modelopt="0.43.0")), declared
    )
    assert [c.name for c in recommend.advise((), [broken, needs, free]).cells] == [
        free.name,
        needs.name,
    ]
    assert [*recommend.conditional(needs)] == [
        f"only with {CONDITION.splitlines()[-1]}: restore of gpt"
    ]


def of(one: dict[str, object], modelopt: str = "0.41.0") -> Result:
    return stand_in_result(one, cell=stand_in_cell(modelopt=modelopt))


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        (PLAIN, WITH, "needs"),
        (WITH, PLAIN, "freed"),
        (WITH, BROKEN, "broke"),
        (BROKEN, WITH, "fixed"),
        (WITH, {**WITH, "condition": "other()"}, "needs"),
        (WITH, WITH, None),
        (WITH, event("restore[gpt]", "unsupported"), "newly_untested"),
        (event("restore[gpt]", "unsupported"), WITH, "newly_works"),
    ],
)
def test_a_comparison_tells_what_needs_a_condition_now(
    old: dict[str, object], new: dict[str, object], kind: str | None
) -> None:
    kinds = ("needs", "freed", "broke", "fixed", "newly_untested", "newly_works", "newly_failing")
    difference = comparison.difference(of(old), of(new, "0.43.0"))
    assert [name for name in kinds if getattr(difference, name)] == ([kind] if kind else [])


def test_its_words_have_the_condition() -> None:
    text = "\n".join(comparison.lines(of(PLAIN), of(WITH, "0.43.0"), "nvidia-modelopt"))
    assert f"works only with `{CONDITION}`: `restore[gpt]`" in text
    fixed = "\n".join(comparison.lines(of(BROKEN), of(WITH, "0.43.0"), "nvidia-modelopt"))
    refused = "KeyError: 'decoder.weight'"
    assert f"fixed: `restore[gpt]`, only with `{CONDITION}`; without it: {refused}" in fixed
    other = of(event("build[gpt]"))
    new = "\n".join(comparison.lines(other, of(WITH, "0.43.0"), "nvidia-modelopt"))
    assert f"works, not run before: `restore[gpt]`, only with `{CONDITION}`" in new
    assert comparison.one_line("a = 1\n\n  f(a)\n") == "a = 1; f(a)"


def test_a_series_page_has_the_condition_of_what_it_fixed() -> None:
    beside = series.against("nvidia-modelopt", [of(BROKEN)], [of(WITH, "0.43.0")])
    assert beside is not None
    assert [line.why for line in beside.fixed] == [f"only with {CONDITION}"]


def test_variables_that_are_not_looked_for_again_stay(tmp_path: Path) -> None:
    knew = replace(stand_in_result(PLAIN), variables={"CUDA_HOME": "<site-packages>/nvidia"})
    store.save(knew, tmp_path)
    path = store.save(stand_in_result(WITH), tmp_path)
    assert store.load(path).variables == knew.variables
    assert store.load(path).checks[0].condition == CONDITION
    store.save(replace(knew, variables={}), tmp_path)
    assert store.load(path).variables == {}
    store.save(replace(knew, lock="another", variables=None), tmp_path)
    assert store.load(path).variables is None


def test_constraints_have_the_variables_that_either_device_class_knows() -> None:
    host = replace(stand_in_result(WITH), variables={"CUDA_HOME": "<site-packages>/nvidia"})
    gpu = replace(host, device_class="gpu", variables=None)
    for other, told in ((host, True), (replace(host, lock="another"), False)):
        text = snapshot.constraints(gpu, other)[gpu.cell]
        assert "device class gpu" in text
        assert ("export CUDA_HOME=" in text) is told


def test_a_condition_neither_is_nor_contradicts_a_failure() -> None:
    found = [of(BROKEN, "0.39.0"), of(WITH, "0.41.0"), of(PLAIN, "0.43.0")]
    explained = explanation.explain(found)[0]
    assert explained.broken == 1
    bound = next(b for b in explained.rules[0].bounds if b.axis == "nvidia-modelopt")
    assert (bound.high, bound.above) == ("0.39.0", "0.43.0")
    assert bound.next_above is not None
    assert bound.next_above.state is FailureState.WORKS_WITH
    reach = intervals.every(found, "nvidia-modelopt", ["0.39.0", "0.41.0", "0.43.0"])
    assert [i.version_added for i in reach if i.kind == "restore"] == ["0.41.0"]


def test_a_bisection_takes_it_for_good() -> None:
    assert seen_in(of(WITH), "restore[gpt]", stand_in_cell(), "result").state is CheckState.GOOD


def test_an_exchange_keeps_it_whole_and_a_part_tells_it() -> None:
    check = stand_in_result(WITH).checks[0]
    assert kept(check).failure == check.failure
    part = replace(stand_in_result(WITH), check_set="ranks")
    assert CONDITION in "\n".join(cells.part_lines(part))
    text = part_reports.markdown(ON_A_GPU["ranks"], [part])
    assert f"```\n{CONDITION}\n```" in text
    assert "| restore | ⊕ |" in text


def test_features_are_in_the_suites_order() -> None:
    from suite import outcomes

    assert FEATURES == outcomes.FEATURES
    assert {o.value for o in CheckOutcome} == {
        value for name, value in vars(outcomes).items() if name.isupper() and isinstance(value, str)
    }


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("Error(s) in loading:\n\tMissing key: a", "Error(s) in loading: Missing key: a"),
        ("the first\nthe second", "the first"),
        ("", "no message"),
    ],
)
def test_a_refusal_is_one_line_that_says_something(message: str, line: str) -> None:
    failure = Failure(
        type="E",
        message=message,
        frame="",
        fingerprint="0" * 12,
        traceback="",
        gpu_independent=None,
    )
    result = CheckResult(
        check="restore[gpt]",
        kind="restore",
        family="gpt",
        outcome=CheckOutcome.WORKS_WITH,
        seconds=None,
        reason=None,
        failure=failure,
        details={},
    )
    assert verdict.refusals([result]) == {f"E: {line}": ["restore[gpt]"]}
