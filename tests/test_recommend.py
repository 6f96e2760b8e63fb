"""Which combinations fit what somebody has; and what stands in the way where none does."""

from __future__ import annotations

from pathlib import Path

import pytest
import snapshot
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs
from test_doctor import PINS, changed, published_of, record

from mcore_compat import cli
from mcore_compat.analysis import published, recommend
from mcore_compat.analysis.cell_record import CellRecord
from mcore_compat.analysis.constraints import ALIASES, parse
from mcore_compat.analysis.recommend import advise
from mcore_compat.core.profiles import DEFAULT
from mcore_compat.results import verdict


def cell(
    name: str, fails: tuple[str, ...] = (), device: str = "host", cuda: int = 12, **pins: str
) -> CellRecord:
    named = {ALIASES[k]: v for k, v in pins.items()}
    checks = {"restore[gpt]": "works", **dict.fromkeys(fails, "broken")}
    return changed(
        record({**PINS, **named}),
        name=name,
        checks=checks,
        unexpected=fails,
        device_class=device,
        cuda=cuda,
    )


CELLS = (
    cell("old", mcore="0.12.3", modelopt="0.29.0", torch="2.6.0", te="2.4.0", python="3.11"),
    cell("mid", mcore="0.16.1", modelopt="0.41.0"),
    cell("new", mcore="0.19.2", modelopt="0.46.1", torch="2.13.0", te="2.17.1", cuda=13),
    cell("lossy", ("restore[gpt]",), mcore="0.19.2", modelopt="0.47.0"),
)


def names(text: str, cells: tuple[CellRecord, ...] = CELLS) -> list[str]:
    return [c.name for c in advise(parse(text) if text else (), cells).cells]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["new", "mid", "old"]),
        ("torch 2.9", ["mid"]),
        ("torch 2.9.1, python 3.12, TE any, modelopt >= 0.39", ["mid"]),
        ("modelopt >=0.29,<0.42", ["mid", "old"]),
        ("Transformer-Engine 2.17", ["new"]),
        ("cuda 13", ["new"]),
        ("cuda 12.8", ["mid", "old"]),
        ("python 3.11.9", ["old"]),
        ("torch 2.9.0", []),
        ("mcore ~=0.12", ["new", "mid", "old"]),
    ],
)
def test_what_fits_is_found_the_newest_first(text: str, expected: list[str]) -> None:
    assert names(text) == expected


def test_what_does_not_restore_is_never_recommended() -> None:
    assert names("modelopt 0.47") == []
    assert not recommend.works(changed(CELLS[0], checks={"restore[gpt]": "needs-gpu"}))
    assert not recommend.works(changed(CELLS[0], checks={}))


def test_results_count_before_age() -> None:
    failing = cell("failing", ("state[gpt]",), mcore="0.20.0", modelopt="0.48.0")
    on_gpu = cell("on-gpu", device="gpu", mcore="0.12.3", modelopt="0.29.0")
    assert names("", (*CELLS, failing, on_gpu)) == ["on-gpu", "new", "mid", "old", "failing"]


def test_the_stack_that_a_release_was_made_for_comes_before_another_that_works_as_well() -> None:
    made_for = changed(cell("x"), name="compat-0.16-modelopt0.41")
    other = changed(cell("x", te="2.12.0"), name="compat-0.16-modelopt0.41-te2.12")
    assert names("", (other, made_for)) == [made_for.name, other.name]
    assert names("te 2.12", (other, made_for)) == [other.name]


def test_where_none_fits_the_constraint_in_the_way_is_named() -> None:
    advice = advise(parse("torch 2.9, python 3.12, modelopt >=0.45"), CELLS[:3])
    assert advice.cells == ()
    told = {" and ".join(c.text for c in dropped): best.name for dropped, best in advice.in_the_way}
    assert told == {"torch 2.9": "new", "modelopt >=0.45": "mid"}
    said = recommend.lines(advice, Path("x"), snapshot.installs(), 5)
    assert said[0] == (
        'no tested combination fits all of this; leave out "modelopt >=0.45" or "torch 2.9"'
    )
    assert "the next newer: torch 2.9 -> 2.13.0:" in said
    assert 'without "modelopt >=0.45": nvidia-modelopt >=0.45 -> 0.41.0:' in said


def test_two_that_stand_in_the_way_together_are_named_together() -> None:
    advice = advise(parse("torch 1.0, te 1.0, modelopt 0.41"), CELLS)
    ((dropped, best),) = advice.in_the_way
    assert {c.text for c in dropped} == {"torch 1.0", "te 1.0"}
    assert best.name == "mid"
    assert [n.text() for n in advice.instead] == [
        "the next newer torch: torch 1.0 -> 2.9.1, transformer-engine 1.0 -> 2.11.0"
    ]


def test_a_version_of_which_cells_know_less_is_said_to_be_taken_otherwise() -> None:
    advice = advise(parse("cuda 12.8, python 3.12.3, torch 2.9.1"), CELLS)
    assert [c.name for c in advice.cells] == ["mid"]
    assert recommend.lines(advice, Path("x"), snapshot.installs(), 1)[:2] == [
        '"cuda 12.8" is read as cuda 12: cells differ only in CUDA\'s major version',
        '"python 3.12.3" is read as python 3.12: cells differ only in Python\'s series',
    ]
    assert advise(parse("cuda 12, python 3.12"), CELLS).notes == ()
    assert advise(parse("python >=3.12.3"), CELLS).notes == ()


LINE = (
    cell("a12", mcore="0.12.3", modelopt="0.29.0"),
    cell("a15", mcore="0.15.3", modelopt="0.39.0"),
    cell("a15-lossy", ("restore[gpt]",), mcore="0.15.3", modelopt="0.47.0"),
    cell("a16", mcore="0.16.1", modelopt="0.41.0"),
    cell("a19", mcore="0.19.2", modelopt="0.46.1"),
)


def near(text: str, cells: tuple[CellRecord, ...] = LINE) -> list[tuple[str, str]]:
    return [(n.text(), n.cell.name) for n in advise(parse(text), cells).instead]


def test_nearest_is_the_same_series_then_the_next_newer_then_the_next_older() -> None:
    assert near("megatron-core 0.15.0") == [
        ("the same series: megatron-core 0.15.0 -> 0.15.3", "a15"),
        ("the next newer: megatron-core 0.15.0 -> 0.16.1", "a16"),
        ("the next older: megatron-core 0.15.0 -> 0.12.3", "a12"),
    ]
    assert near("mcore 0.20") == [("the next older: megatron-core 0.20 -> 0.19.2", "a19")]
    assert near("mcore 0.9.0") == [("the next newer: megatron-core 0.9.0 -> 0.12.3", "a12")]


def test_what_else_was_asked_for_is_kept_where_it_can_be() -> None:
    assert near("megatron-core 0.15.0, modelopt 0.47") == [
        ("the same series: megatron-core 0.15.0 -> 0.15.3", "a15-lossy")
    ]
    several = near("megatron-core 0.15.0, modelopt 0.41, te 9", (*LINE[:2], LINE[4]))
    assert several == [
        (
            "the same series megatron-core: megatron-core 0.15.0 -> 0.15.3, "
            "nvidia-modelopt 0.41 -> 0.39.0, transformer-engine 9 -> 2.11.0",
            "a15",
        ),
        (
            "the next newer megatron-core: megatron-core 0.15.0 -> 0.19.2, "
            "nvidia-modelopt 0.41 -> 0.46.1, transformer-engine 9 -> 2.11.0",
            "a19",
        ),
        (
            "the next older megatron-core: megatron-core 0.15.0 -> 0.12.3, "
            "nvidia-modelopt 0.41 -> 0.29.0, transformer-engine 9 -> 2.11.0",
            "a12",
        ),
    ]


def test_one_tested_cell_stands_for_what_somebody_has() -> None:
    same = recommend.closest(parse("mcore 0.16.1"), LINE)
    assert same is not None
    assert (same.cell.name, same.differs) == ("a16", ())
    near = recommend.closest(parse("mcore 0.16.0, te 2.11"), LINE)
    assert near is not None
    assert near.text() == "nearest: megatron-core 0.16.0 -> 0.16.1"
    assert recommend.closest((), ()) is None


def test_what_ran_without_a_verdict_is_told_with_what_it_ended_in() -> None:
    why = f"{verdict.UNSURE}RuntimeError: curand shared object not found."
    cell = structs.replace(
        next(c for c in LINE if c.name == "a15-lossy"),
        outcome="untested",
        by_outcome={"needs-gpu": ("restore[gpt]",)},
        by_reason={why: ("restore[gpt]",)},
        points={"restore": {"gpt": "needs-gpu"}},
        causes={},
    )
    advice = advise(parse("mcore 0.15.3, modelopt 0.47"), [cell])
    assert recommend.lines(advice, Path("x"), snapshot.installs(), 5)[0] == (
        "no cell that fits can be recommended: a15-lossy is untested: it ended in RuntimeError: "
        "curand shared object not found; not known whether a GPU would change that"
    )


def test_what_was_tested_and_restores_nothing_is_told_and_no_install_line_of_it() -> None:
    advice = advise(parse("mcore 0.15.3, modelopt 0.47"), LINE)
    said = recommend.lines(advice, Path("x"), snapshot.installs(), 5)
    assert said[0] == (
        "no cell that fits can be recommended: a15-lossy is incompatible: it fails in "
        "restore: all of it"
    )
    assert not any("x/a15-lossy.txt" in line for line in said)
    assert said[-1] == (
        "results: a15 (host, 2026-11-23): results/a15/main.host.json; "
        "a15-lossy (host, 2026-11-23): results/a15-lossy/main.host.json"
    )


def test_what_fails_is_said_by_feature_before_any_install_line(tmp_path: Path) -> None:
    good = cell("good", mcore="0.19.2", modelopt="0.46.1")
    poor = cell("poor", ("state[gpt]", "state[mla-moe]"), mcore="0.19.2", modelopt="0.44.0")
    states = ("state[gpt]", "state[mla-moe]", "state[vlm]")
    poor = changed(
        poor, checks={**poor.checks, "state[vlm]": "works"}, features={"quantize": states}
    )
    without = good  # has no vlm, which the other one has
    works = {**good.checks, **dict.fromkeys(states, "works")}
    good = changed(good, checks=works, features={"quantize": states})
    assert advise(parse("modelopt 0.44, mcore 0.19"), (without, poor)).instead == ()
    advice = advise(parse("modelopt 0.44, mcore 0.19"), (good, poor))
    assert not advice.good
    (tmp_path / "constraints").mkdir()
    said = recommend.lines(advice, tmp_path / "constraints", snapshot.installs(), 5)
    assert said[0] == (
        "none that fits is compatible for default; the best fails in quantize (gpt, mla-moe)"
    )
    assert "the nearest that is compatible: nvidia-modelopt 0.44 -> 0.46.1:" in said
    assert said[-1] == (
        f"results: poor (host, 2026-11-23): {tmp_path}/results/poor/main.host.json; "
        f"good (host, 2026-11-23): {tmp_path}/results/good/main.host.json"
    )


def test_of_many_that_fail_a_few_are_named_and_of_a_whole_feature_none() -> None:
    names = tuple(f"state[f{n}]" for n in range(6))
    many = cell("many", names, mcore="0.19.2", modelopt="0.44.0")
    many = changed(many, checks={**many.checks, "state[g]": "works"}, features={})
    assert recommend.failing(many, DEFAULT) == "other (f0, f1, f2, f3 and 2 more)"
    whole = changed(many, features={"quantize": names})
    assert recommend.failing(whole, DEFAULT) == "quantize: all of it"


def test_each_line_has_its_constraints_file_and_its_result(tmp_path: Path) -> None:
    folder = tmp_path / "constraints"
    folder.mkdir()
    (folder / "new.txt").write_text("# Use: x\ntorch==2.9.1\nrich==15.0.0\n")
    said = recommend.lines(advise((), CELLS), folder, snapshot.installs(), 1)
    assert said[0].startswith("new (host, 2026-11-23): megatron-core 0.19.2")
    assert said[1] == f"  pip install -c {folder}/new.txt torch"
    assert said[2] == "and 2 more"
    assert said[3].startswith("the line compiles source-only packages")
    assert said[4:] == [f"result: new (host, 2026-11-23): {tmp_path}/results/new/main.host.json"]
    gone = recommend.lines(advise((), CELLS), Path("nowhere"), snapshot.installs(), 1)
    assert gone[1] == "  nowhere/new.txt does not exist; make it: nox -s report"


@pytest.mark.usefixtures("on_snapshot")
def test_what_releases_refuse_by_themselves_is_not_called_untested(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(published, "load", lambda _: published_of(*CELLS))
    assert cli.main(["recommend", "mcore 0.16.1, modelopt 0.41, python 3.13"]) == 1
    said = capsys.readouterr().out.splitlines()
    assert any(line.startswith("cannot be installed: megatron-core 0.16.1, ") for line in said)
    assert "  nvidia-modelopt 0.41.0 requires python <3.13,>=3.10, the cell has 3.13" in said
    assert not any(line.startswith("not run:") for line in said)


ANSWERED = st.text(max_size=30) | st.lists(
    st.sampled_from(
        [
            "torch 2.9.1+cu128",
            "mcore 0.15.0",
            "te",
            "2.9",
            "modelopt",
            ">=0.4",
            "current",
            "mcore 0.61",
        ]
    ),
    max_size=3,
).map(" ".join)


@pytest.mark.usefixtures("on_snapshot")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(text=ANSWERED)
def test_any_text_is_answered_or_refused_in_one_line(
    text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(published, "load", lambda _: published_of(*CELLS))
    code = cli.main(["recommend", "--", text])
    said, error = capsys.readouterr()
    assert code in (0, 1, 2)
    assert (code == 2) == (not said)
    assert len(error.splitlines()) == (code == 2)
    assert code == 2 or said.splitlines()[-1].startswith(("result: ", "results: "))
