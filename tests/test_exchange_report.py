"""Checkpoints across releases: what the report tells. All answers here are made up."""

from __future__ import annotations

from dataclasses import replace

from support import HOSTILE
from test_exchange import BROKEN, NEW, OLD, WORKS, exchanged, failure, source

from mcore_compat.core.outcomes import CheckOutcome
from mcore_compat.exchange import evidence as results
from mcore_compat.exchange import report
from mcore_compat.exchange.evidence import Answer, Exchanged


def two() -> list[Exchanged]:
    old = exchanged(("0.9.0", "0.21.1"), OLD)
    back = source(("0.16.1", "0.41.0"), gpt__default=BROKEN, gpt__quantized=BROKEN)
    there = source(gpt__default=WORKS, gpt__quantized=WORKS)
    return [
        results.with_source(exchanged(), OLD, there, []),
        results.with_source(old, NEW, back, [failure()]),
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
            one = results.with_source(one, f"compat-{origin}-modelopt0.41", given, [])
        found.append(one)
    alone = source(gpt__default=BROKEN, mla_moe__default=WORKS)
    found.append(results.with_source(exchanged(), OLD, alone, [failure()]))
    lines = report.markdown(found).splitlines()
    heads = " | ".join(f"{one} / 0.41" for one in series)
    assert f"| saved with ↓, loaded with → | {heads} |" in lines
    at = lines.index("### Pairs that were asked by themselves")
    assert lines[at + 2 : at + 6] == [
        "| saved with | loaded with | way | gpt | mla-moe |",
        "| --- | --- | --- | :-: | :-: |",
        "| 0.9 / 0.21 | 0.16 / 0.41 | default spec → default spec | ✗ | ✓ |",
        "",
    ]


def test_quantized_state_has_a_table_over_modelopt_series() -> None:
    first = exchanged(("0.14.0", "0.39.0"), "compat-0.14-modelopt0.39")
    given = source(("0.14.0", "0.21.1"), gpt__quantized=BROKEN)
    found = results.with_source(first, "compat-0.14-modelopt0.21", given, [failure()])
    text = report.markdown([found])
    assert "over ModelOpt series with megatron-core 0.14\n\nFamily: gpt." in text
    assert "| 0.14 / 0.21 | · | ✗ |" in text


def test_the_report_depends_on_nothing_but_the_evidence() -> None:
    assert report.markdown(two()) == report.markdown(list(reversed(two())))


def test_foreign_text_cannot_make_markup() -> None:
    hostile = replace(failure(HOSTILE), type=HOSTILE, frame=HOSTILE, gpu_independent=HOSTILE)
    told = Answer(outcome=CheckOutcome.UNSUPPORTED, reason=HOSTILE)
    given = source(gpt__default=BROKEN, gpt__modelopt=told)
    text = report.markdown([results.with_source(exchanged(), OLD, given, [hostile])])
    assert "<script" not in text
    assert "<img" not in text
    assert "\x1b" not in text


def test_a_cell_off_the_default_stack_has_a_row_of_its_own() -> None:
    off = exchanged(cell=f"{NEW}-te2.9-torch2.8")
    default, other = source(), source(gpt__default=BROKEN)
    found = [
        results.with_source(exchanged(), OLD, default, []),
        results.with_source(off, OLD, other, [failure()]),
        results.with_source(exchanged(cell="compat-0.16.1-modelopt0.41"), OLD, default, []),
    ]
    text = report.markdown(found)
    heads = "0.9 / 0.21 | 0.16 / 0.41 | 0.16 / 0.41 te2.9 torch2.8 | 0.16.1 / 0.41 |"
    assert f"| saved with ↓, loaded with → | {heads}" in text
    assert "| 0.9 / 0.21 | · | ✓ | ✗ | ✓ |" in text


def test_what_is_renamed_is_listed_also_where_it_works() -> None:
    keys = {f"a{place}": f"x{place} -> y" for place in range(8)}
    moved = replace(WORKS, notes={"other keys": keys})
    text = report.markdown([results.with_source(exchanged(), OLD, source(gpt__default=moved), [])])
    assert "another key than TO asks for: a0: x0 -> y; " in text
    assert "; a5: x5 -> y; and 2 more" in text
    assert "  - into 0.16 / 0.41 from 0.9 / 0.21: gpt (default)" in text


def test_what_does_not_hold_any_more_is_told() -> None:
    found = results.with_source(exchanged(), OLD, source(), [])
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
