"""Which check of ours asks what a test of upstream's asks, and whether two outcomes agree. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

FILES = ("test_modelopt_gpt_model.py", "test_modelopt_module_spec.py")
"""What upstream has called its test file of the ModelOpt specs; a tag has one of them."""

AGREE, DIFFER, NOT_COMPARED, NOT_MAPPED = "agree", "differ", "not compared", "not mapped"

CHECKS: Mapping[str, Sequence[str]] = {
    "TestModelOptGPTModel.test_load_te_state_dict_pre_hook": ("restore-state-dict[gpt]",),
    "TestModelOptGPTModel.test_sharded_state_dict_restore": ("restore[gpt]",),
    "TestModelOptGPTModel.test_inference": ("inference-shapes[gpt]",),
    "TestModelOptMLAMoE.test_sharded_state_dict_restore": ("restore[mla-moe]",),
    "TestModelOptMLAMoE.test_inference": ("inference-shapes[mla-moe]",),
    # Upstream's Llama-4 has norms of q and k, and its hybrid has LayerNorm.
    "TestModelOptLlama4MoE.test_sharded_state_dict_restore": (
        "restore-qk-layernorm[llama4-moe]",
        "restore[llama4-moe]",
    ),
    "TestModelOptLlama4MoE.test_inference": ("inference-shapes[llama4-moe]",),
    "TestModelOptMambaModel.test_sharded_state_dict_restore": (
        "restore-layernorm[hybrid-mamba]",
        "restore[hybrid-mamba]",
    ),
    "TestModelOptMambaModel.test_inference": ("inference-shapes[hybrid-mamba]",),
    "TestModelOptHybridModel.test_sharded_state_dict_restore": (
        "restore-layernorm[hybrid-mamba]",
        "restore[hybrid-mamba]",
    ),
    "TestModelOptHybridModel.test_inference": ("inference-shapes[hybrid-mamba]",),
    "test_get_gpt_layer_modelopt_spec_interface": ("interface-gpt-spec",),
    "test_get_gpt_modelopt_spec_interface": ("interface-gpt-spec",),
    "test_get_mamba_stack_modelopt_spec_interface": ("interface-stack-spec[hybrid-mamba]",),
    "test_get_hybrid_stack_modelopt_spec_interface": ("interface-stack-spec[hybrid-mamba]",),
    "test_get_mamba_stack_modelopt_spec_use_default_te_spec": (
        "spec-default-switch[hybrid-mamba]",
    ),
    "test_get_hybrid_stack_modelopt_spec_use_default_te_spec": (
        "spec-default-switch[hybrid-mamba]",
    ),
    "test_get_hybrid_stack_modelopt_spec_local_feature_specs": (
        "spec-local-features[hybrid-mamba]",
    ),
    "test_get_hybrid_stack_modelopt_spec_remaps_gdn_layernorm": ("spec-gdn-remap[hybrid-mamba]",),
    "test_modelopt_linear_accepts_duplicated_parallel_mode": ("layers-linear-duplicated",),
}
"""By `Class.test` or `test`: our checks, the one that asks the same first; the others ask nearly
the same, for results of an older suite."""

KINDS = ("build-*", "restore*", "inference-shapes", "interface-*", "spec-*", "layers-*")
"""Globs of all kinds of `CHECKS`, and of what those come after."""

_SAME = {
    ("passed", "works"),
    # With all defaults, as upstream calls, it fails.
    ("failed", "works-with"),
    ("failed", "broken"),
    ("failed", "blocked"),
    ("stopped", "needs-gpu"),
    ("crashed", "crashed"),
    ("timed-out", "timed-out"),
}


@dataclass(frozen=True)
class Ours:
    """How a check of ours ended, and why."""

    outcome: str
    reason: str = ""


@dataclass(frozen=True)
class Compared:
    """One line of the comparison: a test of upstream's beside the check of ours."""

    test: str
    upstream: str
    upstream_reason: str
    check: str
    ours: str
    ours_reason: str
    verdict: str
    note: str = ""


def compare(
    tests: Sequence[Mapping[str, str]], results: Mapping[str, Ours]
) -> tuple[Compared, ...]:
    """Each of `tests` (`test`, `outcome`, `reason`) beside what `results` say by check id."""
    return tuple(_compared(test, results) for test in tests)


def _compared(test: Mapping[str, str], results: Mapping[str, Ours]) -> Compared:
    name, outcome, reason = test["test"], test["outcome"], test["reason"]
    checks = CHECKS.get(name, ())
    if not checks:
        return Compared(name, outcome, reason, "", "", "", NOT_MAPPED)
    there = next((check for check in checks if check in results), None)
    if there is None:
        note = "not in our result"
        return Compared(name, outcome, reason, checks[0], "absent", "", NOT_COMPARED, note)
    ours = results[there]
    note = "" if there == checks[0] else f"the result has no {checks[0]}"
    verdict = verdict_of(outcome, ours.outcome)
    return Compared(name, outcome, reason, there, ours.outcome, ours.reason, verdict, note)


def verdict_of(upstream: str, ours: str) -> str:
    """Whether two outcomes say the same; `not compared` where one of the two did not ask."""
    if (upstream, ours) in _SAME:
        return AGREE
    # A test that stopped says nothing of what came after, one that was skipped nothing at all;
    # a check that did not run does not contradict a test that passed.
    if upstream in ("stopped", "skipped") or (upstream, ours) == ("passed", "needs-gpu"):
        return NOT_COMPARED
    return DIFFER


def total(lines: Sequence[Compared]) -> str:
    """How many lines there are of each verdict, in words."""
    counts = Counter(line.verdict for line in lines)
    words = (AGREE, DIFFER, NOT_COMPARED, NOT_MAPPED)
    return ", ".join(f"{word} {counts[word]}" for word in words if counts[word]) or "no test"


def failed(lines: Sequence[Compared]) -> bool:
    """Whether something differs or is not mapped; also where nothing at all was compared."""
    verdicts = {line.verdict for line in lines}
    return AGREE not in verdicts or bool(verdicts & {DIFFER, NOT_MAPPED})


def as_text(lines: Sequence[Compared]) -> str:
    """A line for each test, with the reasons where they are needed."""
    rows = []
    for line in lines:
        rows.append(
            f"{line.verdict}: {line.test} {line.upstream}; {line.check or 'no check'}"
            f" {line.ours}".rstrip()
        )
        if line.note:
            rows.append(f"    {line.note}")
        if line.upstream_reason:
            rows.append(f"    upstream: {line.upstream_reason}")
        if line.ours_reason and (line.verdict != AGREE or line.ours not in ("works", "needs-gpu")):
            rows.append(f"    ours: {line.ours_reason}")
    return "\n".join(rows)


def as_markdown(lines: Sequence[Compared]) -> str:
    """A Markdown table of the comparison."""
    rows = [
        "| upstream's test | upstream | our check | ours | |",
        "| --- | --- | --- | --- | --- |",
    ]
    for line in lines:
        check = f"`{line.check}`" if line.check else ""
        verdict = f"{line.verdict}; {line.note}" if line.note else line.verdict
        rows.append(f"| `{line.test}` | {line.upstream} | {check} | {line.ours} | {verdict} |")
    return "\n".join(rows)


def as_row(about: Sequence[str], lines: Sequence[Compared]) -> str:
    """A row of Markdown: what was compared, how many tests ended how, and what came of it."""
    outcomes = Counter(line.upstream for line in lines)
    ended = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items())
    return f"| {' | '.join(about)} | {ended} | {total(lines)} |"
