"""Checkpoints across releases, the host's side: what is planned, kept and told. All answers here
are made up."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import loads_support
import pytest
import snapshot
from loads_support import answer, failure, loaded, nothing
from support import HOSTILE, ROOT, event, stand_in_cell

from mcore_compat import cli
from mcore_compat.base import files
from mcore_compat.base.errors import MatrixError, ResultError
from mcore_compat.core import combinations, matrix
from mcore_compat.core.cells import Cell
from mcore_compat.core.outcomes import CellOutcome, CheckOutcome
from mcore_compat.core.workspace import VARIABLE, Workspace
from mcore_compat.exchange import loading, plan, report, run
from mcore_compat.exchange import transfer_results as results
from mcore_compat.exchange.plan import Pair
from mcore_compat.results import store
from mcore_compat.results.result import CheckResult, Reason, Result, Source

pytestmark = pytest.mark.usefixtures("on_snapshot")

Made = Callable[..., Result]
WORKS = answer()
BROKEN = answer(CheckOutcome.BROKEN, failure=failure())
OLD, NEW = "compat-0.9-modelopt0.21", "compat-0.16-modelopt0.41"
OLD_PINS, NEW_PINS = ("0.9.0", "0.21.1"), ("0.16.1", "0.41.0")


def pins(versions: tuple[str, str]) -> dict[str, str]:
    return {"megatron-core": versions[0], "nvidia-modelopt": versions[1]}


def exchanged(versions: tuple[str, str] = NEW_PINS, cell: str = NEW) -> Result:
    """A cell that has loaded nothing yet."""
    return nothing(cell, pins(versions))


def source(versions: tuple[str, str] = OLD_PINS, ways: Iterable[str] = plan.WAYS) -> Source:
    return loads_support.source(pins(versions), ways)


def with_source(
    result: Result,
    origin: str = OLD,
    given: Source | None = None,
    **answers: CheckResult,
) -> Result:
    """`result` with answers by `family__way`; where none is given, a default one that works."""
    by_key = {key.replace("__", ":").replace("_", "-"): one for key, one in answers.items()}
    return loaded(result, origin, given or source(), by_key or {"gpt:default": WORKS})


# What both sides must agree on


def test_the_host_and_the_suite_mean_the_same() -> None:
    import sys

    if str(ROOT) not in sys.path:
        sys.path.append(str(ROOT))  # `suite` is not installed
    from suite.exchange import kept
    from suite.outcomes import FAMILIES

    assert {way.name: way.saved for way in kept.WAYS} == dict(plan.WAYS)
    assert len(FAMILIES) == plan.FAMILIES
    names = (run.SAVE_INTO, run.LOAD_FROM, run.LOADED)
    assert names == (kept.SAVE_INTO, kept.LOAD_FROM, kept.LOADED)


def test_a_part_below_the_suite_leaves_its_digest_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "check_it.py").write_text("1")
    before = files.sha256_tree(tmp_path)
    (tmp_path / "exchange").mkdir()
    (tmp_path / "exchange" / "check_save.py").write_text("2")
    assert files.sha256_tree(tmp_path, deep=False) == before
    assert files.sha256_tree(tmp_path) != before
    (tmp_path / "check_it.py").write_text("3")
    assert files.sha256_tree(tmp_path, deep=False) != before


def test_the_exchange_is_stale_with_the_suite_that_it_is_made_of(tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    digests = []
    for name, text in (
        ("run.py", "1"),
        ("exchange/check_save.py", "1"),
        ("run.py", "2"),
        ("exchange/check_save.py", "2"),
        ("gpu/check_it.py", "1"),
    ):
        (place.root / "suite" / name).parent.mkdir(parents=True, exist_ok=True)
        (place.root / "suite" / name).write_text(text)
        digests.append(run.digest(place))
    *_, before, after = digests
    assert len({*digests}) == 4
    assert before == after, "the GPU tier is none of its parts"


# What is planned


def restoring(made: Made, cell: Cell, works: int) -> Result:
    families = ("gpt", "mla-moe", "llama4-moe", "hybrid-mamba")
    rows = [
        event(f"restore[{name}]", "works" if place < works else "broken")
        for place, name in enumerate(families)
    ]
    return made(*rows, cell=cell)


def test_each_series_stands_with_the_newest_modelopt_that_restores_most(made: Made) -> None:
    cells = [stand_in_cell("0.16.1", v) for v in ("0.9.0", "0.39.0", "0.41.0", "0.43.0")]
    cells += [stand_in_cell("0.9.0", "0.21.1")]
    found = [restoring(made, c, works) for c, works in zip(cells, (4, 4, 4, 3, 0), strict=True)]
    chosen = plan.representatives(cells, found)
    assert [c.name for c in chosen] == [OLD, NEW]


def test_of_those_that_restore_alike_one_that_can_quantize_stands_for_the_series(
    made: Made,
) -> None:
    cells = [stand_in_cell("0.16.1", v) for v in ("0.39.0", "0.41.0", "0.43.0")]
    state = ("broken", "works", "broken")
    found = [
        made(event("restore[gpt]"), event("modelopt-state-fp8[gpt]", outcome), cell=cell)
        for cell, outcome in zip(cells, state, strict=True)
    ]
    assert [c.name for c in plan.representatives(cells, found)] == [NEW]


def test_a_cell_off_the_default_stack_stands_for_no_series(made: Made) -> None:
    other = replace(stand_in_cell("0.16.1", "0.45.0"), default=False)
    assert plan.representatives([stand_in_cell(), other], []) == (stand_in_cell(),)


def test_by_default_state_goes_between_all_modelopt_series_of_one_series(made: Made) -> None:
    versions = ("0.21.1", "0.39.0", "0.41.0")
    cells = [stand_in_cell("0.14.0", v) for v in versions] + [stand_in_cell("0.16.1", "0.41.0")]
    stopped = replace(
        restoring(made, cells[0], 0),
        reason=Reason(kind="unresolvable", message="no", help=""),
        outcome=CellOutcome.UNRESOLVABLE,
        checks=(),
    )
    declared = replace(snapshot.matrix(), state_over="0.14")
    pairs = {(p.origin, p.target): p.ways for p in plan.default(cells, [stopped], declared)}
    a, b, c = "compat-0.14-modelopt0.39", "compat-0.14-modelopt0.41", NEW
    assert pairs[a, b] == pairs[b, a] == pairs[a, a] == ("quantized",)
    assert pairs[b, c] == pairs[c, b] == pairs[b, b] == tuple(plan.WAYS)
    assert len(pairs) == 7


def test_the_matrix_plans_each_pair_once() -> None:
    declared, known = snapshot.matrix(), snapshot.releases()
    pairs = plan.default(combinations.cells(declared, known), [], declared)
    assert len({(p.origin, p.target) for p in pairs}) == len(pairs)
    series = len(declared.mcore_series) ** 2
    assert sum(p.ways == tuple(plan.WAYS) for p in pairs) == series


def test_a_series_that_is_not_on_the_axis_is_an_error_of_the_matrix() -> None:
    import datetime

    text = snapshot.WORKSPACE.matrix.read_text().replace(
        'state-over = "0.14"', 'state-over = "0.41"'
    )
    with pytest.raises(MatrixError, match=r"state-over: .0\.41. is not on the axis"):
        matrix.parse(text, "matrix.toml", datetime.date(2026, 1, 1))


def test_only_the_ways_that_are_named_are_asked(capsys: pytest.CaptureFixture[str]) -> None:
    pairs = plan.between([OLD], [NEW, OLD])
    assert {p.ways for p in plan.only(pairs, ["quantized"])} == {("quantized",)}
    assert plan.only(pairs, []) == pairs
    assert plan.only([Pair(target=NEW, origin=OLD, ways=("default",))], ["quantized"]) == ()
    # Of what is stored nothing counts, whatever that is.
    argv = ["exchange", "--from", OLD, "--to", NEW, "--force", "--dry-run", "--way"]
    assert cli.main([*argv, "quantized"]) == 0
    assert f"{NEW}: loads from 1 cells, 4 checks at most" in capsys.readouterr().out
    assert cli.main([*argv, "quantised"]) == 2
    assert 'no such way "quantised"; did you mean "quantized"?' in capsys.readouterr().err


def test_full_versions_mean_the_cell_of_their_series_unless_they_were_tested_by_that_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = ["exchange", "--from", OLD, "--to", "0.16.1-modelopt0.41.0", "--force", "--dry-run"]
    assert cli.main(argv) == 0
    assert f"{NEW}: loads from 1 cells" in capsys.readouterr().out
    place = Workspace(tmp_path)
    shutil.copytree(snapshot.WORKSPACE.constraints, place.constraints)
    (place.results / "compat-0.16.1-modelopt0.41.0").mkdir(parents=True)
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert cli.main(argv) == 0
    assert "compat-0.16.1-modelopt0.41.0: loads from 1 cells" in capsys.readouterr().out


def test_what_would_run_is_told_with_its_cost() -> None:
    pairs = plan.between([OLD, NEW], [NEW])
    lines = plan.describe(pairs, [OLD], 3)
    assert lines[0] == f"{OLD}: saves its checkpoints"
    assert lines[1] == f"{NEW}: loads from 2 cells, 32 checks at most"
    assert "1 cells to save, 2 pairs to load, 3 up to date" in lines
    assert "about" in lines[-1]


# What is asked, and what is said where nothing can be asked


def test_only_checkpoints_that_were_saved_are_asked_for() -> None:
    pair = Pair(target=NEW, origin=OLD, ways=tuple(plan.WAYS))
    saved = {OLD: {"gpt:default": WORKS, "gpt:quantized": BROKEN}}
    assert loading.words([pair], saved) == [f"{OLD}:default", f"{OLD}:default-to-modelopt"]


def test_what_was_not_saved_says_why() -> None:
    unsupported = answer(CheckOutcome.UNSUPPORTED, reason="no spec")
    saved = {"gpt:default": WORKS, "gpt:quantized": BROKEN, "mla-moe:default": unsupported}
    checks = loading.not_saved(OLD, saved, tuple(plan.WAYS))
    told = {(results.parsed(one.check) or ("", ""))[1]: one for one in checks}
    assert sorted(told) == ["gpt:quantized", "mla-moe:default", "mla-moe:default-to-modelopt"]
    assert told["mla-moe:default"].outcome is CheckOutcome.UNSUPPORTED
    assert told["mla-moe:default"].reason == "not saved: no spec"
    assert told["gpt:quantized"].outcome is CheckOutcome.BLOCKED
    assert told["gpt:quantized"].reason == (
        "not saved: save-quantized[gpt] is broken (0123456789ab)"
    )


def test_a_check_names_its_cell_family_and_way() -> None:
    assert results.parsed(f"restore-from[{OLD}:gpt:quantized]") == (OLD, "gpt:quantized")
    assert results.parsed("build-default[gpt]") is None


# What is kept


def test_a_result_is_read_as_it_was_written_and_written_alike(tmp_path: Path) -> None:
    needs = answer(CheckOutcome.NEEDS_GPU, reason="there is no GPU")
    noted = replace(WORKS, details={"other keys": {"a": "b"}})
    found = with_source(
        exchanged(), gpt__default=BROKEN, gpt__modelopt=needs, mla_moe__quantized=noted
    )
    path = store.save(found, tmp_path)
    (again,) = store.load_all(tmp_path, "exchange")
    assert again == found
    assert path == tmp_path / NEW / "exchange.host.json"
    before = path.read_bytes()
    store.save(again, tmp_path)
    assert path.read_bytes() == before


def test_a_long_failure_is_kept_once_and_told_short(tmp_path: Path) -> None:
    long = replace(failure("x" * 1000), traceback="a long traceback\n" * 50)
    broken = replace(BROKEN, failure=long)
    found = with_source(exchanged(), gpt__default=broken, gpt__modelopt=broken)
    store.save(found, tmp_path)
    texts = [path.read_text() for path in tmp_path.rglob("*.json")]
    assert sum(text.count("a long traceback") for text in texts) == 50, "once, for two checks"
    told = re.findall("x{20,}", report.markdown([found]))
    assert [report.LONGEST - 3 <= len(text) <= report.LONGEST for text in told] == [True]
    assert not [c for c in with_source(found).checks if c.failure], "it is asked anew, and works"


def test_ways_that_were_not_asked_again_stay() -> None:
    before = with_source(exchanged(), gpt__default=WORKS, gpt__quantized=BROKEN)
    again = source(ways=("quantized",))
    after = with_source(before, OLD, again, gpt__quantized=WORKS)
    outcomes = {key: one.outcome for key, one in results.answers(after)[OLD].items()}
    assert outcomes == dict.fromkeys(("gpt:default", "gpt:quantized"), CheckOutcome.WORKS)
    assert set(after.sources[OLD].ways) == set(plan.WAYS)
    other = replace(again, manifests="other")
    anew = with_source(before, OLD, other, gpt__quantized=WORKS)
    assert anew.sources[OLD] == other
    assert [*results.answers(anew)[OLD]] == ["gpt:quantized"]


@pytest.mark.parametrize(
    "harm",
    [
        lambda text: "",
        lambda text: "{}",
        lambda text: text.replace('"format": 2', '"format": 1'),
        lambda text: text.replace(f'"restore-from[{OLD}:gpt', f'"restore-from[{NEW}:gpt'),
        lambda text: text.replace('"check":"restore-from[', '"check":"restore['),
        lambda text: text.replace('"failure":{', '"failure":null,"was":{'),
    ],
)
def test_a_file_that_is_not_whole_is_one_line_with_the_way_out(
    harm: Callable[[str], str], tmp_path: Path
) -> None:
    path = store.save(with_source(exchanged(), gpt__default=BROKEN), tmp_path)
    before = path.read_text()
    path.write_text(harm(before))
    assert path.read_text() != before
    with pytest.raises(ResultError, match="remove it and run nox -s exchange") as caught:
        store.load_all(tmp_path, "exchange")
    assert str(caught.value).startswith(f"{NEW}/exchange.host.json")
    assert "\n" not in str(caught.value)


def test_a_pair_is_fresh_only_while_all_of_it_holds() -> None:
    found = with_source(exchanged())
    fresh = {"lock": "lock", "manifests": "m"}
    assert results.is_fresh(found, OLD, plan.WAYS, **fresh)
    assert results.is_fresh(found, OLD, ("default",), lock="lock", manifests=None)
    assert not results.is_fresh(found, OLD, plan.WAYS, **{**fresh, "lock": "other"})
    assert not results.is_fresh(found, OLD, plan.WAYS, **{**fresh, "manifests": "other"})
    assert not results.is_fresh(found, NEW, plan.WAYS, **fresh)
    part = with_source(exchanged(), OLD, source(ways=("quantized",)))
    assert not results.is_fresh(part, OLD, plan.WAYS, **fresh)


# What is told


def two() -> list[Result]:
    old, back = exchanged(OLD_PINS, OLD), source(NEW_PINS)
    return [
        with_source(exchanged(), gpt__default=WORKS, gpt__quantized=WORKS),
        with_source(old, NEW, back, gpt__default=BROKEN, gpt__quantized=BROKEN),
    ]


def test_the_tables_say_from_where_and_where_to() -> None:
    lines = report.markdown(two()).splitlines()
    at = lines.index("### default spec → default spec")
    assert lines[at + 2] == "Family: gpt."
    assert lines[at + 4 : at + 8] == [
        "| saved with ↓, loaded with → | 0.9 / 0.21 | 0.16 / 0.41 |",
        "| --- | :-: | :-: |",
        "| 0.9 / 0.21 | · | ✓ |",
        "| 0.16 / 0.41 | ✗ | · |",
    ]
    assert "- into 0.9 / 0.21 from 0.16 / 0.41: gpt (default, quantized)" in lines
    assert "- fingerprint: `0123456789ab`; 2 loads" in lines


def test_a_pair_that_was_asked_by_itself_is_a_line_and_no_row_of_gaps() -> None:
    series = [f"0.{n}" for n in range(10, 16)]
    found = []
    for target in series:
        one = exchanged((f"{target}.0", "0.41.0"), f"compat-{target}-modelopt0.41")
        for origin in series:
            given = source((f"{origin}.0", "0.41.0"))
            one = with_source(one, f"compat-{origin}-modelopt0.41", given)
        found.append(one)
    found.append(with_source(exchanged(), gpt__default=BROKEN, mla_moe__default=WORKS))
    lines = report.markdown(found).splitlines()
    heads = " | ".join(f"{one} / 0.41" for one in series)
    assert f"| saved with ↓, loaded with → | {heads} |" in lines
    at = lines.index("### Other pairs")
    assert lines[at + 2 : at + 6] == [
        "| saved with | loaded with | way | gpt | mla-moe |",
        "| --- | --- | --- | :-: | :-: |",
        "| 0.9 / 0.21 | 0.16 / 0.41 | default spec → default spec | ✗ | ✓ |",
        "",
    ]


def test_quantized_state_has_a_table_over_modelopt_series() -> None:
    first = exchanged(("0.14.0", "0.39.0"), "compat-0.14-modelopt0.39")
    given = source(("0.14.0", "0.21.1"))
    found = with_source(first, "compat-0.14-modelopt0.21", given, gpt__quantized=BROKEN)
    text = report.markdown([found])
    assert "over ModelOpt series with megatron-core 0.14\n\nFamily: gpt." in text
    assert "| 0.14 / 0.21 | · | ✗ |" in text


def test_the_report_depends_on_nothing_but_the_results() -> None:
    assert report.markdown(two()) == report.markdown(list(reversed(two())))


def test_foreign_text_cannot_make_markup() -> None:
    hostile = replace(failure(HOSTILE), type=HOSTILE, frame=HOSTILE, gpu_independent=HOSTILE)
    told = answer(CheckOutcome.UNSUPPORTED, reason=HOSTILE)
    broken = replace(BROKEN, failure=hostile)
    found = with_source(exchanged(), gpt__default=broken, gpt__modelopt=told)
    text = report.markdown([found])
    assert "<script" not in text
    assert "<img" not in text
    assert "\x1b" not in text


def test_a_cell_off_the_default_stack_has_a_row_of_its_own() -> None:
    off = exchanged(cell=f"{NEW}-te2.9-torch2.8")
    found = [
        with_source(exchanged()),
        with_source(off, gpt__default=BROKEN),
        with_source(exchanged(cell="compat-0.16.1-modelopt0.41")),
    ]
    text = report.markdown(found)
    heads = "0.9 / 0.21 | 0.16 / 0.41 | 0.16 / 0.41 te2.9 torch2.8 | 0.16.1 / 0.41 |"
    assert f"| saved with ↓, loaded with → | {heads}" in text
    assert "| 0.9 / 0.21 | · | ✓ | ✗ | ✓ |" in text


def test_what_is_renamed_is_listed_also_where_it_works() -> None:
    keys = {f"a{place}": f"x{place} -> y" for place in range(8)}
    moved = replace(WORKS, details={"other keys": keys})
    text = report.markdown([with_source(exchanged(), gpt__default=moved)])
    assert "another key than TO asks for: a0: x0 -> y; " in text
    assert "; a5: x5 -> y; and 2 more" in text
    assert "  - into 0.16 / 0.41 from 0.9 / 0.21: gpt (default)" in text


def test_what_does_not_hold_any_more_is_told() -> None:
    found = with_source(exchanged())
    locks = {OLD: "lock", NEW: "l"}
    assert results.outdated([found], "e", locks) == []
    assert results.outdated([found], "other", locks) == [
        f"all that {NEW} loaded: the checks changed"
    ]
    (told,) = results.outdated([found], "e", {**locks, NEW: "x"})
    assert told == f"all that {NEW} loaded: its lock changed"
    (told,) = results.outdated([found], "e", {NEW: "l"})
    assert told == f"what {NEW} loaded of {OLD}: their locks changed"
    assert "the checks changed" in report.markdown([found], ["the checks changed"])


def test_where_nothing_was_exchanged_nothing_is_published() -> None:
    assert report.texts([]) == {}


def test_an_answer_keeps_the_cause_and_what_is_worth_noting() -> None:
    details = {"other keys": {"a": "b"}, "lenient load loses": [], "saved with": {}}
    check = answer(CheckOutcome.BROKEN, reason="r", failure=failure(), details=details)
    kept = results.kept(check)
    assert (kept.failure, kept.reason) == (failure(), None)
    assert kept.details == {"other keys": {"a": "b"}}
    now = {"with defaults": "E: x", "under load(a)": "E: y", "understood": 1}
    assert {*results.kept(replace(check, details=now)).details} == {*now} - {"understood"}
    lacks = results.kept(replace(check, outcome=CheckOutcome.NEEDS_GPU))
    assert (lacks.failure, lacks.reason) == (None, "r")
