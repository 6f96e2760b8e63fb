"""What is published of the check sets beside the main one. All results here are made up."""

from __future__ import annotations

from dataclasses import replace

from parts_support import ONE, taken
from support import HOSTILE, event, hostile_event

from mcore_compat.publish import part_reports
from mcore_compat.run.check_sets import GPU, RANKS


def test_without_a_result_of_a_gpu_the_tier_says_that_it_was_never_run() -> None:
    needs = event("quantized-fp8[gpt]", "needs-gpu", reason="there is no GPU")
    for found in ([], [taken(needs, part=GPU)]):
        text = part_reports.markdown(GPU, found)
        assert "Never run on a GPU" in text
    assert "| ? |" in text
    assert "needs-gpu, there is no GPU: `compat-0.16-modelopt0.41` quantized-fp8[gpt]" in text


def test_with_a_result_of_a_gpu_it_no_longer_says_so() -> None:
    ran = event("quantized-fp8[gpt]", details={part_reports.MEMORY: 3 * 2**20})
    text = part_reports.markdown(GPU, [taken(ran, part=GPU, device="gpu")])
    assert "Never run" not in text
    assert "| quantized-fp8[gpt] | 3 | 0.5 |" in text
    one_gpu = event("restore-tp1-to-tp2[gpt]", "needs-gpu", reason="there is 1")
    for checks in ([], [one_gpu]):
        text = part_reports.markdown(RANKS, [taken(*checks, device="gpu")])
        assert "No rank has used NCCL yet" in text


def test_a_broken_check_is_told_with_its_cause() -> None:
    found = taken(ONE, event("restore-pp1-to-pp2[gpt]", "broken"))
    text = part_reports.markdown(RANKS, [found, replace(found, cell="compat-0.16-modelopt0.42")])
    assert "#### KeyError in megatron.core.x:load" in text
    assert text.count("fingerprint:") == 1
    table = text.split("### `compat-0.16-modelopt0.41`\n")[1].split("###")[0].splitlines()
    assert "| restore-pp1-to-pp2 | ✗ |" in table
    assert "| restore-tp1-to-tp2 | ✓ |" in table


def test_the_same_results_give_the_same_text_in_any_order() -> None:
    found = [taken(ONE), replace(taken(ONE), cell="compat-0.16-modelopt0.42")]
    assert part_reports.markdown(RANKS, found) == part_reports.markdown(RANKS, found[::-1])


def test_foreign_text_is_escaped() -> None:
    odd = event("x[gpt]", "needs-gpu", reason=HOSTILE)
    text = part_reports.markdown(RANKS, [taken(hostile_event("y[gpt]"), odd)])
    assert "<script>" not in text
    assert "\x1b" not in text
