"""An upgrade for a profile: what it takes decides, all else is worth knowing; and the first lines
of what is told. All results here are made up."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from loads_support import answer, failure
from packaging.specifiers import SpecifierSet
from support import event, record_event
from upgrade_support import (
    BOTH_LOAD,
    BROKEN,
    EVERY,
    FROM,
    LOADS,
    MATRIX,
    NAMES,
    TO,
    answered,
    check,
    exchanged,
    known,
    profile,
    shows,
    upgrade,
    without,
)

from mcore_compat.core import profiles
from mcore_compat.core.matrix import Pairs
from mcore_compat.core.outcomes import CheckOutcome
from mcore_compat.core.profiles import DEFAULT, Profile
from mcore_compat.upgrade import document, examples, words
from mcore_compat.upgrade.reasons import Word


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
    assert ("why not: " in text) is (word is Word.NO)


def test_what_is_lost_outside_the_profile_is_not_said_to_work() -> None:
    head = document.markdown(upgrade(*without("te-quantizers"))).partition("\n\n## ")[0]
    assert "everything in the profile that works in FROM works in TO" in head
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
    made = upgrade(*EVERY, whom=whom, loads=REFUSED)
    assert made.word is word
    (reason,) = (r for r in made.reasons if r.subject == "checkpoints")
    assert reason.word is word
    assert "quantized fp8 of mla-moe" in reason.text
    if word is Word.NO:
        assert reason.text.endswith("and can be quantized again")


def test_what_cannot_be_quantized_anew_is_not_said_to_be() -> None:
    loads = {**REFUSED, "mla-moe:default-to-modelopt": answer(BROKEN)}
    made = upgrade(*EVERY, loads=loads)
    assert not any("again" in r.text for r in made.reasons)


def test_calls_break_for_who_calls() -> None:
    def signs(text: str) -> dict[str, Any]:
        return record_event("signatures", **{"modelopt.torch.opt:f": text})

    seen = event("import-packages", details={"modules": {"modelopt.torch": "ok"}})
    found = [shows(c, *EVERY, seen, signs(t)) for c, t in ((FROM, "(a)"), (TO, "(b)"))]
    loads = [exchanged(TO, FROM, BOTH_LOAD)]
    assert answered(known(found, loads)).word is Word.CHANGES
    made = answered(known(found, loads, profile=profile("restore")))
    assert made.word is Word.GO
    (reason,) = (r for r in made.reasons if r.subject == "interfaces")
    assert reason.text.startswith("outside the profile: nvidia-modelopt 0.41.0 → 0.42.0 breaks")


def test_a_profile_of_which_nothing_could_be_run_says_what_it_takes() -> None:
    needs = event("inference-numbers[gpt]", "needs-gpu", reason="x", feature="inference")
    found = [shows(c, *EVERY, needs) for c in (FROM, TO)]
    made = answered(known(found, LOADS, profile=profile("inference")))
    assert made.word is Word.NO
    assert made.reasons[0].why == "inference: needs a GPU"
    assert made.next.what == "run it on a machine with a GPU"
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
    found = [shows(FROM, *EVERY), shows(TO, *without("modelopt-state-fp8[gpt]"))]
    made = answered(known(found, [exchanged(TO, FROM, BOTH_LOAD)], declared=declared))
    head = document.markdown(made).partition("\n\n## ")[0]
    assert RULE.reason in head
    assert "KeyError" not in head


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
    events = [e for e in EVERY if e["check"] != "restore[mla-moe]"]
    made = upgrade(*events)
    assert made.word is Word.CHANGES
    (loss,) = made.losses
    assert loss.outcome is None
    assert loss.sentence == "its result does not have this check"
    assert CheckOutcome.BROKEN not in made.target.outcomes().values()
