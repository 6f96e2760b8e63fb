"""An upgrade for a profile: what it takes decides, all else is worth knowing; and the first lines
of what is told. All results here are made up."""

from __future__ import annotations

import datetime
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from loads_support import answer, failure
from packaging.specifiers import SpecifierSet
from rich.console import Console
from support import event, record_event
from upgrade_support import (
    BROKEN,
    FROM,
    LOADS,
    MATRIX,
    TO,
    WORKS,
    answered,
    cell,
    exchanged,
    known,
    lock,
    shows,
)

from mcore_compat.core import profiles
from mcore_compat.core.cells import Cell
from mcore_compat.core.matrix import Pairs
from mcore_compat.core.outcomes import CheckOutcome
from mcore_compat.core.profiles import DEFAULT, Profile
from mcore_compat.exchange.plan import WAYS
from mcore_compat.upgrade import data, document, examples, words
from mcore_compat.upgrade.answer import UpgradeAnswer
from mcore_compat.upgrade.reasons import Word

FEATURES = {
    "restore": ("restore", None),
    "modelopt-state-fp8": ("quantize", "fp8"),
    "modelopt-state-int8": ("quantize", "int8"),
    "te-quantizers": ("quantize-te", None),
}


def check(name: str, outcome: str = "works", **fields: Any) -> dict[str, Any]:
    """An event of a check of which the suite says what it is about."""
    feature, fmt = FEATURES[name.partition("[")[0]]
    return event(name, outcome, feature=feature, format=fmt, **fields)


NAMES = ("restore[gpt]", "restore[mla-moe]", "modelopt-state-fp8[gpt]", "modelopt-state-int8[gpt]",
         "modelopt-state-fp8[mla-moe]", "te-quantizers")  # fmt: skip

ALL = tuple(map(check, NAMES))

BOTH_LOAD = {f"{family}:{way}": WORKS for family in ("gpt", "mla-moe") for way in WAYS}


def without(*broken: str, outcome: str = "broken", **fields: Any) -> tuple[dict[str, Any], ...]:
    """All checks, of which these do not work."""
    return tuple(check(n, outcome, **fields) if n in broken else check(n) for n in NAMES)


def profile(text: str, families: str = "") -> Profile:
    chosen = profiles.named(text, {})
    return profiles.narrowed(chosen, families) if families else chosen


def upgrade(
    *events: dict[str, Any],
    whom: Profile = DEFAULT,
    loads: dict[str, Any] | None = None,
    own: dict[str, Any] | None = None,
) -> UpgradeAnswer:
    """FROM shows that all works, TO these."""
    exchanges = [
        exchanged(TO, FROM, loads or BOTH_LOAD),
        exchanged(FROM, FROM, own or BOTH_LOAD),
    ]
    return answered(known([shows(FROM, *ALL), shows(TO, *events)], exchanges, profile=whom))


@pytest.mark.parametrize(
    ("broken", "whom", "word"),
    [
        ("te-quantizers", DEFAULT, Word.GO),
        ("te-quantizers", profile("restore,quantize-te"), Word.NO),
        ("te-quantizers", profile("all"), Word.NO),
        ("modelopt-state-int8[gpt]", DEFAULT, Word.NO),
        ("modelopt-state-int8[gpt]", profile("restore,quantize:fp8"), Word.GO),
        ("modelopt-state-int8[gpt]", profile("restore,quantize:int8"), Word.NO),
        ("modelopt-state-fp8[mla-moe]", profile("quantize", "gpt"), Word.GO),
        ("modelopt-state-fp8[mla-moe]", profile("quantize", "gpt,mla-moe"), Word.NO),
        ("restore[mla-moe]", profile("default", "gpt"), Word.GO),
        ("restore[mla-moe]", profile("restore"), Word.NO),
    ],
)
def test_only_what_the_profile_takes_says_no(broken: str, whom: Profile, word: Word) -> None:
    made = upgrade(*without(broken), whom=whom)
    assert made.word is word
    (loss,) = made.losses
    assert (loss.checks, loss.counts) == ((broken,), word is Word.NO)
    (reason,) = (r for r in made.reasons if r.subject == "checks")
    assert reason.word is word
    assert reason.text.startswith("outside the profile: ") is (word is Word.GO)
    text = document.markdown(made)
    assert ("## Worth knowing" in text) is (word is Word.GO)
    assert ("why no: " in text) is (word is Word.NO)


def test_what_is_lost_outside_the_profile_is_not_said_to_work() -> None:
    head = document.markdown(upgrade(*without("te-quantizers"))).partition("\n\n## ")[0]
    assert "all of the profile that works in FROM works in TO" in head
    assert "all that works" not in head


def test_a_condition_outside_the_profile_is_worth_knowing() -> None:
    under = without("te-quantizers", outcome="works-with")
    assert upgrade(*under).word is Word.GO
    assert upgrade(*under, whom=profile("quantize-te")).word is Word.CHANGES


REFUSED = {**BOTH_LOAD, "mla-moe:quantized": answer(BROKEN, failure=failure())}


@pytest.mark.parametrize(
    ("whom", "word"),
    [
        (DEFAULT, Word.NO),
        (profile("quantize"), Word.NO),
        (profile("quantize:fp8", "mla-moe"), Word.NO),
        (profile("quantize", "gpt"), Word.GO),
        (profile("quantize:int8"), Word.GO),
        (profile("restore"), Word.GO),
    ],
)
def test_checkpoints_count_for_who_has_such(whom: Profile, word: Word) -> None:
    made = upgrade(*ALL, whom=whom, loads=REFUSED)
    assert made.word is word
    (reason,) = (r for r in made.reasons if r.subject == "checkpoints")
    assert reason.word is word
    assert "quantized fp8 of mla-moe" in reason.text
    if word is Word.NO:
        assert reason.text.endswith("and can be quantized anew")


def test_what_cannot_be_quantized_anew_is_not_said_to_be() -> None:
    loads = {**REFUSED, "mla-moe:default-to-modelopt": answer(BROKEN)}
    made = upgrade(*ALL, loads=loads)
    assert not any("anew" in r.text for r in made.reasons)


def test_calls_break_for_who_calls() -> None:
    def signs(text: str) -> dict[str, Any]:
        return record_event("signatures", **{"modelopt.torch.opt:f": text})

    seen = event("import-packages", details={"modules": {"modelopt.torch": "ok"}})
    found = [shows(c, *ALL, seen, signs(t)) for c, t in ((FROM, "(a)"), (TO, "(b)"))]
    loads = [exchanged(TO, FROM, BOTH_LOAD)]
    assert answered(known(found, loads)).word is Word.CHANGES
    made = answered(known(found, loads, profile=profile("restore")))
    assert made.word is Word.GO
    (reason,) = (r for r in made.reasons if r.subject == "interfaces")
    assert reason.text.startswith("outside the profile: nvidia-modelopt 0.41.0 → 0.42.0 breaks")


def test_a_profile_of_which_nothing_could_be_run_says_what_it_takes() -> None:
    needs = event("inference-numbers[gpt]", "needs-gpu", reason="x", feature="inference")
    found = [shows(c, *ALL, needs) for c in (FROM, TO)]
    made = answered(known(found, LOADS, profile=profile("inference")))
    assert made.word is Word.NO
    assert made.reasons[0].why == "inference: needs a GPU"
    assert made.next.what == "on a machine with a GPU"
    assert made.next.command.endswith("0.16-modelopt0.42 --for inference")


def test_what_blocks_is_told_for_what_is_blocked() -> None:
    events = tuple(
        check(n, "broken") if n == "restore[gpt]"
        else check(n, "blocked", reason="restore[gpt] is broken") if "state" in n and "gpt" in n
        else check(n)
        for n in NAMES
    )  # fmt: skip
    (reason,) = (r for r in upgrade(*events).reasons if r.subject == "checks")
    assert reason.names == ("modelopt-state-fp8[gpt]", "modelopt-state-int8[gpt]", "restore[gpt]")
    assert reason.text == (
        "restore, quantize fp8, int8 of gpt works in FROM, and fails in TO: "
        "KeyError: 'decoder.weight'"
    )


RULE = Pairs(
    mcore=SpecifierSet(">=0.16"),
    modelopt=SpecifierSet(">=0.42"),
    reason="this ModelOpt forgets scales after a restore",
    expires=datetime.date(2030, 1, 1),
    checks=("modelopt-state*",),
    owner="nvidia-modelopt",
    upstream="not reported",
)


def test_a_cause_is_told_by_its_declared_sentence() -> None:
    declared = replace(MATRIX, expected=(RULE,))
    found = [shows(FROM, *ALL), shows(TO, *without("modelopt-state-fp8[gpt]"))]
    made = answered(known(found, [exchanged(TO, FROM, BOTH_LOAD)], declared=declared))
    head = document.markdown(made).partition("\n\n## ")[0]
    assert RULE.reason in head
    assert "KeyError" not in head


# CUDA


def other_cuda(of: Cell, cuda: int) -> Cell:
    return replace(of, cuda=cuda)


@pytest.mark.parametrize("broken", [(), ("restore[gpt]",)])
def test_a_change_of_cuda_is_named_before_all_else(broken: tuple[str, ...]) -> None:
    after = other_cuda(TO, 13)
    found = [shows(FROM, *ALL), shows(after, *without(*broken))]
    loads = [exchanged(after, FROM, BOTH_LOAD)]
    made = answered(known(found, loads), target=after)
    assert made.word is (Word.NO if broken else Word.CHANGES)
    lines = document.markdown(made).splitlines()
    assert lines[2].startswith("- **CUDA 12 → 13: ")
    assert "| CUDA, of torch | 12 | 13 |" in lines
    assert '"cuda": 13' in data.text(made)
    same = answered(known([shows(FROM, *ALL), shows(TO, *ALL)], LOADS))
    assert "CUDA" not in document.markdown(same)


# Neighbours


def far(mcore: str, modelopt: str) -> Cell:
    series = [".".join(version.split(".")[:2]) for version in (mcore, modelopt)]
    return cell(f"compat-{series[0]}-modelopt{series[1]}", mcore=mcore, modelopt=modelopt)


NEAR = far("0.16.1", "0.43.0"), far("0.16.1", "0.45.0")
OTHER = far("0.17.1", "0.41.0"), far("0.17.1", "0.42.0")


def beside(*pairs: tuple[Cell, Cell], **fields: Any) -> UpgradeAnswer:
    """FROM and TO, of which nothing was exchanged, and what other cells loaded of others."""
    cells = {c.name: c for c in (FROM, TO, *(c for pair in pairs for c in pair))}
    found = [shows(c, *ALL) for c in cells.values()]
    loads = [exchanged(target, origin, BOTH_LOAD, **fields) for origin, target in pairs]
    return answered(known(found, loads, [lock(c) for c in cells.values()]))


def test_neighbours_are_told_and_labelled_where_nothing_was_exchanged() -> None:
    made = beside(OTHER, NEAR)
    (pair,) = made.neighbours
    assert (pair.origin, pair.target) == (NEAR[0].name, NEAR[1].name)
    assert pair.origin_pins == {"nvidia-modelopt": "0.43.0"}
    assert pair.target_pins == {"nvidia-modelopt": "0.45.0"}
    assert made.word is Word.CHANGES
    text = document.markdown(made)
    label = f"**neighbours'**, which decide nothing here: `{NEAR[0].name}` → `{NEAR[1].name}`"
    assert label in text
    assert f"(neighbours' {NEAR[0].name} → {NEAR[1].name}: load)" in text.partition("\n\n## ")[0]
    assert "  - default spec → default spec\n    - load: `gpt`, `mla-moe`\n" in text


def test_what_a_cell_loads_of_itself_is_no_neighbour() -> None:
    assert beside((NEAR[0], NEAR[0])).neighbours == ()


def test_neighbours_whose_checkpoints_do_not_load_are_told_to_fail() -> None:
    cells = (FROM, TO, *NEAR)
    lacks = answer(CheckOutcome.UNSUPPORTED, reason="not saved: because")
    answers = {**REFUSED, "gpt:modelopt": lacks}
    loads = [exchanged(NEAR[1], NEAR[0], answers), exchanged(NEAR[0], NEAR[0], BOTH_LOAD)]
    made = answered(known([shows(c, *ALL) for c in cells], loads, [lock(c) for c in cells]))
    (reason,) = (r for r in made.reasons if r.subject == "checkpoints")
    assert reason.why.endswith("do not load: quantized fp8 of mla-moe")
    assert f"`gpt`: {NEAR[0].name} cannot save it; not saved" in document.markdown(made)
    assert made.word is Word.CHANGES


def test_where_these_two_were_exchanged_no_neighbours_are_told() -> None:
    made = beside(NEAR, (FROM, TO))
    assert made.neighbours == ()
    assert "neighbours" not in document.markdown(made)


# Out of date


def test_what_is_out_of_date_is_said_once() -> None:
    old = [replace(shows(c, *ALL), suite="old") for c in (FROM, TO)]
    loads = exchanged(TO, FROM, BOTH_LOAD, suite="older")
    made = answered(known(old, [loads]))
    assert made.word is Word.CHANGES
    text = document.markdown(made)
    assert text.count("the suite changed") == text.count("the checks changed") == 1
    assert "FROM and TO (the suite changed), checkpoints (the checks changed)" in text
    assert "holds: all of the profile that works in FROM works in TO; its checkpoints load" in text
    assert made.next.command == "nox -s upgrade -- 0.16-modelopt0.41 0.16-modelopt0.42"


# What to take instead, and the first lines


def test_where_nothing_keeps_all_the_nearest_and_what_is_lost_there_are_named() -> None:
    near, worse = far("0.16.1", "0.43.0"), far("0.16.1", "0.44.0")
    lost = "modelopt-state-fp8[gpt]", "modelopt-state-int8[gpt]", "restore[gpt]"
    shown = {TO: lost[:2], near: lost[:1], worse: lost}
    found = [shows(FROM, *ALL), *(shows(c, *without(*broken)) for c, broken in shown.items())]
    made = answered(known(found, [exchanged(TO, FROM, BOTH_LOAD)]))
    assert made.nearest is not None
    assert made.nearest.cell == near.name
    assert made.nearest.lost == ("quantize fp8 of gpt: KeyError: 'decoder.weight'",)
    head = document.markdown(made).partition("\n\n## ")[0]
    assert (
        f"instead of TO: none keeps all; nearest is `{near.name}` (nvidia-modelopt 0.43.0)" in head
    )
    stay = answered(known([found[0], found[1], found[3]], [exchanged(TO, FROM, BOTH_LOAD)]))
    assert stay.alternatives == ()
    assert "instead of TO: stay on FROM" in document.markdown(stay)


def test_where_another_megatron_core_keeps_all_the_nearest_with_that_of_to_is_named_too() -> None:
    to = far("0.19.2", "0.42.0")
    older, near = far("0.18.2", "0.42.0"), far("0.19.2", "0.43.0")
    lost = "modelopt-state-fp8[gpt]", "modelopt-state-int8[gpt]"
    found = [shows(FROM, *ALL), shows(older, *ALL)]
    found += [shows(to, *without(*lost)), shows(near, *without(lost[0]))]
    made = answered(known(found, locks=[lock(FROM), lock(to)]), target=to)
    assert [a.cell for a in made.alternatives] == [older.name, near.name]
    assert made.nearest is None
    head = document.markdown(made).partition("\n\n## ")[0]
    assert f"instead of TO: `{older.name}` (megatron-core 0.18.2)" in head
    assert f"with the megatron-core of TO: `{near.name}`, below" in head
    assert made.next.command.startswith("nox -s upgrade -- 0.16-modelopt0.41 0.18-modelopt0.42")


LONG = "a failure that says very much and then goes on to say still more of it, " * 20

HEAD = (
    ": no, for default",
    "- CUDA 12 → 13",
    "- why no: ",
    "more reasons, below",
    "- do next: nox -s upgrade -- ",
)


@pytest.mark.parametrize("width", [80, 100])
def test_all_that_decides_stands_in_the_first_twelve_lines(width: int) -> None:
    events = list(ALL)
    for place, name in enumerate(NAMES[:4]):
        made = check(name, "broken")
        made["failure"] = {**made["failure"], "message": f"{place} {LONG}"}
        events[place] = made
    after = other_cuda(TO, 13)
    near = far("0.16.1", "0.43.0")
    found = [shows(FROM, *ALL), shows(after, *events), shows(near, *without("te-quantizers"))]
    of = known(found, [exchanged(after, FROM, BOTH_LOAD)])
    whole = answered(of, target=after)
    out = io.StringIO()
    document.show(whole, Console(file=out, width=width, highlight=False))
    head = out.getvalue().splitlines()[:12]
    text = " ".join(" ".join(line.split()) for line in head)
    for part in HEAD:
        assert part in text
    assert f"- instead of TO: {near.name} (nvidia-modelopt 0.43.0, CUDA 12): all of the" in text
    lines = document.markdown(whole).splitlines()[:12]
    assert sum(line.startswith("- why no: ") for line in lines) == document.CAUSES
    assert any(line.startswith("- instead of TO: ") for line in lines)


def test_a_go_says_how_to_install_to() -> None:
    made = upgrade(*ALL)
    assert (made.word, made.next.what) == (Word.GO, "installs TO")
    assert made.next.command.startswith("pip install ")


def test_long_lists_are_folded_in_markdown_and_shown_on_the_terminal() -> None:
    packages = {f"package{n}": "1" for n in range(20)}
    locks = [lock(FROM), lock(TO, **packages)]
    found = [shows(FROM, *ALL), replace(shows(TO, *ALL), lock=locks[1].digest)]
    made = answered(known(found, locks=locks))
    text = document.markdown(made)
    summary = "Other packages: 20 added, 0 removed, 0 changed"
    assert f"<details>\n<summary>{summary}</summary>\n\n- added 20: `package0 1`" in text
    assert text.count("<details>") == text.count("\n\n</details>\n")
    assert "`package19 1`" in text
    out = io.StringIO()
    document.show(made, Console(file=out, width=80, highlight=False))
    assert f"  - {summary}" in out.getvalue()
    assert "and 12 more" in out.getvalue()
    assert "<" not in out.getvalue()


# Words


@pytest.mark.parametrize(
    "whom",
    [
        profile("restore,quantize:fp8"),
        profile("restore,quantize-te:fp8+int8", "mla-moe,gpt"),
        profile("default", "gpt"),
        profile("inference"),
        profiles.ALL,
        DEFAULT,
        *(narrower for narrower in examples.UPGRADES.values()),
    ],
    ids=Profile.text,
)
def test_a_command_is_given_the_options_that_mean_the_profile(whom: Profile) -> None:
    given = words.options(whom, MATRIX).split()
    options = dict(zip(given[::2], given[1::2], strict=True))
    made = profiles.named(options.get("--for", "default"), {})
    if "--families" in options:
        made = profiles.narrowed(made, options["--families"])
    assert replace(made, name="") == replace(whom, name="")


def test_a_profile_of_the_matrix_is_called_by_its_name() -> None:
    mine = Profile(name="ptq", features=("restore",))
    declared = replace(MATRIX, profiles={"ptq": mine})
    assert words.options(mine, declared) == "--for ptq"
    assert words.options(mine, MATRIX) == "--for restore"


def test_each_example_has_a_file_of_its_own_and_a_narrower_profile() -> None:
    paths = [examples.path_of(*example) for example in examples.EXAMPLES]
    assert len(set(paths)) == 2 * len(examples.UPGRADES)
    assert Path("docs/upgrade/0.9-modelopt0.21-to-0.16-modelopt0.41-for-restore-gpt.md") in paths
    assert all(p != DEFAULT and len(p.families) == 1 for p in examples.UPGRADES.values())


def test_a_check_that_is_not_there_is_not_said_to_fail() -> None:
    events = [e for e in ALL if e["check"] != "restore[mla-moe]"]
    made = upgrade(*events)
    assert made.word is Word.CHANGES
    (loss,) = made.losses
    assert loss.outcome is None
    assert loss.sentence == "its results do not have that check"
    assert CheckOutcome.BROKEN not in made.target.outcomes().values()
