"""The table and the verdict say what the results say, and nothing a package may slip in."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import snapshot
from rich.console import Console
from support import event, stand_in_cell

from mcore_compat.base.errors import InfrastructureError
from mcore_compat.cli import publication
from mcore_compat.core.matrix import Matrix
from mcore_compat.core.outcomes import CellOutcome, CheckOutcome
from mcore_compat.core.profiles import DEFAULT
from mcore_compat.publish import compatibility_page, csv_table, report
from mcore_compat.publish.collation import collate
from mcore_compat.results import answer, store, terminal_verdict, verdict, verdict_index
from mcore_compat.results.better_cells import BetterCells
from mcore_compat.results.result import Reason, Result

Made = Callable[..., Result]


@pytest.fixture(scope="module")
def declared() -> Matrix:
    return snapshot.matrix()


def shown(found: Result, others: tuple[Result, ...] = ()) -> str:
    out = io.StringIO()
    instead = BetterCells((found, *others)).of(found.cell, found.pins)
    terminal_verdict.show(found, instead, Console(file=out, width=80, highlight=False))
    return out.getvalue()


def test_drift_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "x.md"
    made = {path: lambda: "new\n"}
    assert report.drift(made) == [path]
    report.write(made)
    assert report.drift(made) == []
    path.write_text("edited by hand\n")
    assert report.drift(made) == [path]


def test_an_untested_pair_is_shown_as_such(made: Made, declared: Matrix) -> None:
    text = compatibility_page.markdown(collate([made(event("restore[gpt]"))], [], declared))
    row = next(line for line in text.splitlines() if line.startswith("| **0.9** |"))
    assert "| · |" in row
    row = next(line for line in text.splitlines() if line.startswith("| **0.16** |"))
    assert "| **○ R 1/1 · Q none · TE none** |" in row


def test_each_version_stands_in_its_own_column(made: Made, tmp_path: Path) -> None:
    found = store.load(store.save(made(event("restore[gpt]")), tmp_path))
    assert ",0.16.1,0.41.0,2.11.0,2.9.1,3.12," in csv_table.csv_text([found])
    assert "transformer-engine 2.11.0, torch 2.9.1, python 3.12" in " ".join(shown(found).split())


def test_without_results_there_is_still_a_table(declared: Matrix) -> None:
    assert "\nNothing.\n" in compatibility_page.markdown(collate([], [], declared))


def test_equal_causes_are_told_once(made: Made, declared: Matrix) -> None:
    one = made(event("restore[gpt]", "broken"))
    two = made(event("restore[gpt]", "broken"), cell=stand_in_cell("0.15.3", "0.37.0"))
    text = compatibility_page.markdown(collate([one, two], [], declared))
    (row,) = (line for line in text.splitlines() if "[KeyError](site/causes/" in line)
    assert row.startswith("| 2 | `restore` | ")
    assert "in `megatron.core.x:load`: 'decoder.weight' | works in no cell | " in row
    assert "[declared fine, breaks]" not in row, "nothing is known of what is declared"
    assert row.endswith("**unexpected in 2** |")


def test_of_several_device_classes_each_is_counted_and_has_its_rule(
    made: Made, declared: Matrix
) -> None:
    here = [
        made(event("restore[gpt]", "broken")),
        made(event("restore[gpt]"), cell=stand_in_cell("0.15.3")),
    ]
    there = [replace(e, device_class="gpu") for e in here[:1]]
    text = compatibility_page.markdown(collate([*here, *there], [], declared))
    assert "| 1 gpu, 1 host | `restore` |" in text
    assert "gpu: works in no cell; host: `megatron-core==0.16.1` |" in text
    assert "device class `gpu`\n" in text


def test_what_restores_is_said_by_series_and_by_stack(made: Made, declared: Matrix) -> None:
    rows = [
        ("0.16.1", "0.39.0", "works"),
        ("0.16.1", "0.40.0", "works"),
        ("0.16.1", "0.41.0", "broken"),
    ]
    found = [made(event("restore[gpt]", o), cell=stand_in_cell(m, n)) for m, n, o in rows]
    off = replace(made(event("restore[gpt]", "broken")), cell="compat-0.16-modelopt0.41-te2.9")
    text = compatibility_page.markdown(collate([*found, off], [], declared))
    assert "| **0.16** | ✓ 0.39 to 0.40, ✗ 0.41 |" in text
    assert "- ✗ broken: gpt: `compat-0.16-modelopt0.41-te2.9`\n" in text


def test_cells_without_checks_stand_together_by_their_reason(made: Made, declared: Matrix) -> None:
    reason = Reason(kind="unresolvable", message="a needs b<2", help="")
    found = [
        replace(made(cell=stand_in_cell(m)), outcome=CellOutcome.UNRESOLVABLE, reason=reason)
        for m in ("0.15.3", "0.16.1")
    ]
    text = compatibility_page.markdown(collate(found, [], declared))
    names = ", ".join(f"`{e.cell}`" for e in found)
    assert f"- ⊘ unresolvable, {names}: a needs b<2\n" in text


HOSTILE = "<script>alert(1)</script> | a `b` \x1b[31m\n## head [x](y) ![i](j) *b* _c_"


def test_hostile_text_shows_as_text(made: Made, declared: Matrix) -> None:
    bad = event("restore[gpt]", "broken")
    bad["failure"] = {**bad["failure"], "message": HOSTILE, "type": "Evil<b>|"}
    text = compatibility_page.markdown(collate([made(bad)], [], declared))
    assert "<script>" not in text
    assert "\x1b" not in text
    assert "\n## head" not in text
    assert "Evil<b>" not in text
    assert "[x](y)" not in text
    assert "![i]" not in text
    assert "\x1b[31m" not in shown(made(bad))


def test_a_verdict_names_cell_outcome_reason_and_a_way_out(made: Made) -> None:
    good = made(event("restore[gpt]"), cell=stand_in_cell("0.15.3", "0.37.0"))
    text = shown(made(event("restore[gpt]", "broken")), (good,))
    assert "compat-0.16-modelopt0.41: ✗ incompatible for default (device class host)" in text
    assert "KeyError: 'decoder.weight'" in text
    assert "the same with a GPU: a stand-in says so" in text
    assert "instead: nox -s compat-0.15-modelopt0.37 (compatible)" in text


def test_a_part_of_the_suite_gets_no_advice_and_no_word_on_what_it_did_not_ask(made: Made) -> None:
    out = io.StringIO()
    terminal_verdict.show(made(event("import-packages")), None, Console(file=out, width=80))
    assert "instead" not in out.getvalue()
    assert "restore" not in out.getvalue()
    out = io.StringIO()
    terminal_verdict.show(made(event("restore[gpt]", "broken")), None, Console(file=out, width=80))
    assert "works: restore 0/1" in out.getvalue()


def test_a_message_that_carries_a_traceback_is_told_by_its_last_line() -> None:
    assert verdict.gist("A\nTraceback (most recent call last)\n  File x\nKeyError: b") == (
        "KeyError: b"
    )


def test_needs_gpu_is_counted_apart(made: Made) -> None:
    found = made(
        event("restore[gpt]"), event("inference-numbers[gpt]", "needs-gpu", feature="inference")
    )
    assert ("not run", "inference: needs a GPU") in list(answer.lines(found, (), DEFAULT))
    assert found.outcome is CellOutcome.COMPATIBLE


def test_every_outcome_has_a_symbol_of_its_own() -> None:
    for outcomes in (CheckOutcome, CellOutcome):
        symbols = [verdict.SYMBOLS[o.value] for o in outcomes]
        assert len(set(symbols)) == len(symbols)


def test_the_listing_survives_a_missing_or_corrupt_index(tmp_path: Path) -> None:
    cell = stand_in_cell()
    path = tmp_path / "verdicts.json"
    assert verdict_index.listing([cell], path)[cell.name].startswith("untested: ")
    for text in ("{", "[]", '{"verdicts": []}', '{"verdicts": {"a": null}}'):
        path.write_text(text)
        assert verdict_index.listing([cell], path)[cell.name].startswith("untested: ")


def test_a_damaged_index_keeps_what_it_has(made: Made, tmp_path: Path) -> None:
    path = tmp_path / "verdicts.json"
    path.write_text("<<<<<<< ours")
    verdict_index.note(made(event("restore[gpt]")), path)
    assert path.read_text() == "<<<<<<< ours"


def test_a_noted_verdict_is_listed(made: Made, tmp_path: Path) -> None:
    path = tmp_path / "verdicts.json"
    verdict_index.note(made(event("restore[gpt]")), path)
    assert verdict_index.listing([stand_in_cell()], path)["compat-0.16-modelopt0.41"].startswith(
        "compatible ○ level 1: R 1/1 · Q none · TE none (host): TE 2.11.0, torch 2.9.1"
    )


def test_undeclared_requirements_are_those_without_a_guard(made: Made) -> None:
    rows = [
        {"package": "megatron-core", "module": "einops", "imported_by": "a.b", "guarded": False},
        {"package": "megatron-core", "module": "apex", "imported_by": "a.c", "guarded": True},
    ]
    found = made(event("import-undeclared", details={"undeclared": rows}))
    assert verdict.undeclared(found) == (("megatron-core", "einops", "a.b"),)


def test_results_that_vanished_are_not_published_as_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = snapshot.workspace_in(tmp_path, monkeypatch)
    place.verdicts.parent.mkdir(parents=True, exist_ok=True)
    place.verdicts.write_text('{"verdicts": {"compat-0.16-modelopt0.41": {"host": "partial"}}}')
    with pytest.raises(InfrastructureError, match="has no results, but verdicts are published"):
        publication.collect()
    place.verdicts.unlink()
    assert publication.collect().results == ()
