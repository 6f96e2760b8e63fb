"""The line of cells between two: which releases it has, what is held, what moves."""

from __future__ import annotations

import datetime
from dataclasses import replace

import pytest
import snapshot
from packaging.specifiers import SpecifierSet

from mcore_compat.analysis.bisect import release_line
from mcore_compat.analysis.bisect.release_line import Facts, ReleaseLine
from mcore_compat.base.errors import UsageError
from mcore_compat.core import combinations
from mcore_compat.core.cells import AXES, Cell, Request, format_name, full_name, series_of
from mcore_compat.core.matrix import Matrix, Pairs
from mcore_compat.core.releases import Release, Releases

MATRIX, RELEASES = snapshot.matrix(), snapshot.releases()


def facts(declared: Matrix = MATRIX, known: Releases = RELEASES) -> Facts:
    return Facts(
        matrix=declared,
        releases=known,
        cell_of=lambda name: combinations.named(name, declared, known),
    )


def cell(name: str) -> Cell:
    return combinations.named(full_name(name), MATRIX, RELEASES)


def between(good: str, bad: str, **options: object) -> ReleaseLine:
    return release_line.between(cell(good), cell(bad), facts(), **options)  # type: ignore[arg-type]


def names(made: ReleaseLine) -> list[str]:
    return [point.cell.name for point in made.points]


def test_over_modelopt_all_else_is_held() -> None:
    made = between("0.14-modelopt0.31", "0.14-modelopt0.40")
    assert made.axis == "nvidia-modelopt"
    assert names(made) == [
        f"compat-0.14-modelopt{s}" for s in ("0.31", "0.33", "0.35", "0.37", "0.39", "0.40")
    ]
    assert {tuple(v for a, v in p.cell.pins.items() if a != made.axis) for p in made.points} == {
        tuple(made.held.values())
    }
    assert not made.fixed
    assert made.ends == (0, 5)
    assert made.moving == made.notes == ()


@pytest.mark.parametrize("part", ["", "-te2.9", "-torch2.8-py3.12"])
def test_a_combination_is_spelt_as_its_cell_is_called(part: str) -> None:
    """A series stands for its newest patch; any other patch is named."""
    named = cell(f"0.16-modelopt0.41{part}")
    older = next(r.version for r in RELEASES.of("megatron-core") if series_of(r.version) == "0.16")
    assert older != named.mcore
    full = Request(mcore=named.mcore, modelopt=named.modelopt, te=named.te, torch=named.torch)
    spelt = release_line.by_series(full, RELEASES)
    assert (
        cell(format_name(spelt)).name == cell(f"0.16-modelopt0.41{part.partition('-py')[0]}").name
    )
    assert release_line.by_series(replace(full, mcore=older), RELEASES).mcore == older
    assert release_line.by_series(spelt, RELEASES) == spelt


def test_the_good_cell_may_be_the_newer_one() -> None:
    made = between("0.14-modelopt0.40", "0.14-modelopt0.31")
    assert made.fixed
    assert names(made)[0] == "compat-0.14-modelopt0.31"
    assert made.ends == (5, 0)


def test_over_megatron_core_the_default_stacks_move_with_it() -> None:
    made = between("0.14-modelopt0.41", "0.17-modelopt0.41")
    assert made.axis == "megatron-core"
    assert names(made) == [f"compat-0.{n}-modelopt0.41" for n in (14, 15, 16, 17)]
    assert made.moving == ("transformer-engine", "torch", "python")
    assert made.held == {"nvidia-modelopt": "0.41.0"}
    moved = release_line.stacks(made, 1, 2)
    assert list(moved) == ["transformer-engine"]
    assert release_line.stacks(made, 0, 0) == {}


def test_what_is_held_does_not_move_and_the_bad_end_is_another_cell_then() -> None:
    made = between(
        "0.14-modelopt0.41", "0.17-modelopt0.41", hold=["transformer-engine", "torch", "python"]
    )
    assert names(made)[0] == "compat-0.14-modelopt0.41"
    assert names(made)[1:] == [f"compat-0.{n}-modelopt0.41-te2.7-torch2.8" for n in (15, 16, 17)]
    assert made.notes == (
        "instead of --bad compat-0.17-modelopt0.41: "
        "compat-0.17-modelopt0.41-te2.7-torch2.8, otherwise as --good",
    )


def test_a_part_of_the_stack_can_be_held() -> None:
    made = between("0.14-modelopt0.41", "0.17-modelopt0.41", hold=["torch"])
    assert {p.cell.torch for p in made.points} == {"2.8.0"}
    assert len({p.cell.te for p in made.points}) > 1


@pytest.mark.parametrize(
    ("good", "bad", "axis", "between_them"),
    [
        ("0.17-modelopt0.41-te2.9-torch2.9", "0.17-modelopt0.41-te2.11-torch2.9",
         "transformer-engine", ["compat-0.17-modelopt0.41-te2.10-torch2.9"]),
        ("0.16-modelopt0.41-torch2.7", "0.16-modelopt0.41", "torch",
         ["compat-0.16-modelopt0.41-torch2.8"]),
        ("0.16-modelopt0.41-py3.10", "0.16-modelopt0.41", "python",
         ["compat-0.16-modelopt0.41-py3.11"]),
    ],
)  # fmt: skip
def test_over_any_axis(good: str, bad: str, axis: str, between_them: list[str]) -> None:
    made = between(good, bad)
    assert made.axis == axis
    assert names(made)[1:-1] == between_them
    assert set(made.held) == set(AXES) - {axis}


def test_cells_that_differ_in_more_need_an_axis_and_the_rest_is_as_in_the_good_one() -> None:
    with pytest.raises(UsageError, match="differ in megatron-core, nvidia-modelopt: name one"):
        between("0.16-modelopt0.41", "0.14-modelopt0.37")
    made = between("0.16-modelopt0.41", "0.14-modelopt0.37", axis="nvidia-modelopt")
    assert names(made)[0] == "compat-0.16-modelopt0.37"
    assert made.notes[0].endswith("compat-0.16-modelopt0.37, otherwise as --good")
    moved = between("0.16-modelopt0.41", "0.14-modelopt0.37", axis="megatron-core")
    assert names(moved) == [f"compat-0.{n}-modelopt0.41" for n in (14, 15, 16)]


def test_the_same_cell_twice_and_the_same_version_are_one_line() -> None:
    with pytest.raises(UsageError, match="are the same combination"):
        between("0.16-modelopt0.41", "0.16.1-modelopt0.41")
    with pytest.raises(UsageError, match=r"have the same torch: 2\.8\.0"):
        between("0.14-modelopt0.41", "0.14-modelopt0.37", axis="torch")


def test_each_series_is_its_newest_patch_and_what_that_leaves_out_is_told() -> None:
    made = between("0.11-modelopt0.41", "0.14-modelopt0.41")
    assert [p.version for p in made.points] == ["0.11.0", "0.12.3", "0.13.1", "0.14.0"]
    assert made.without == ("0.12.0", "0.12.1", "0.12.2", "0.13.0")
    assert release_line.skipped(made, 0, 1) == ("0.12.0", "0.12.1", "0.12.2")
    assert release_line.skipped(made, 2, 3) == ()


def test_with_patches_every_release_is_a_point() -> None:
    made = between("0.11-modelopt0.41", "0.13-modelopt0.41", patches=True)
    versions = [p.version for p in made.points]
    assert versions == ["0.11.0", "0.12.0", "0.12.1", "0.12.2", "0.12.3", "0.13.0", "0.13.1"]
    assert names(made)[1] == "compat-0.12.0-modelopt0.41"
    assert names(made)[4] == "compat-0.12-modelopt0.41"
    assert made.without == ()


def test_within_one_series_the_patches_are_meant() -> None:
    made = between("0.12.0-modelopt0.41", "0.12.3-modelopt0.41")
    assert [p.version for p in made.points] == ["0.12.0", "0.12.1", "0.12.2", "0.12.3"]


def test_a_series_of_which_an_end_is_an_older_patch_has_no_other_point() -> None:
    made = between("0.11-modelopt0.41", "0.12.1-modelopt0.41")
    assert [p.version for p in made.points] == ["0.11.0", "0.12.1"]
    assert made.without == ("0.12.0",)
    newer = between("0.12.1-modelopt0.41", "0.13-modelopt0.41")
    assert [p.version for p in newer.points] == ["0.12.1", "0.12.3", "0.13.1"]


def test_what_was_withdrawn_or_is_not_final_is_no_point() -> None:
    assert RELEASES.get("megatron-core", "0.18.1").yanked
    made = between("0.17-modelopt0.41", "0.19-modelopt0.41", patches=True)
    assert "0.18.1" not in [p.version for p in made.points]
    early = Release(package="nvidia-modelopt", version="0.42.0rc1")
    rows = {**RELEASES.by_package}
    rows["nvidia-modelopt"] = (*rows["nvidia-modelopt"], early)
    known = facts(known=Releases(rows))
    ends = cell("0.16-modelopt0.41"), cell("0.16-modelopt0.43")
    found = release_line.between(*ends, known, patches=True)
    assert [p.version for p in found.points] == ["0.41.0", "0.42.0", "0.43.0"]


def test_a_series_without_a_stack_is_no_point_and_is_told() -> None:
    less = replace(MATRIX, stacks={s: v for s, v in MATRIX.stacks.items() if s != "0.15"})
    made = release_line.between(cell("0.14-modelopt0.41"), cell("0.16-modelopt0.41"), facts(less))
    assert [p.version for p in made.points] == ["0.14.0", "0.16.1"]
    assert "0.15.3" in made.without


def test_what_cannot_be_installed_is_known_without_a_run() -> None:
    made = between("0.19-modelopt0.45-te2.7", "0.19-modelopt0.45-te2.11")
    refused = {p.version: p.refused for p in made.points}
    assert "no core library for it" in refused["2.8.0"]
    assert refused["2.9.0"] == ""


def test_a_pair_that_the_matrix_excludes_is_refused() -> None:
    rule = Pairs(
        mcore=SpecifierSet("==0.14.0"),
        modelopt=SpecifierSet("==0.33.1"),
        reason="a reason",
        expires=datetime.date.max,
    )
    declared = facts(replace(MATRIX, exclusions=(rule,)))
    ends = cell("0.14-modelopt0.31"), cell("0.14-modelopt0.35")
    made = release_line.between(*ends, declared)
    assert [p.refused for p in made.points] == ["", "excluded: a reason", ""]


def test_a_cell_whose_lock_is_of_another_stack_keeps_its_name() -> None:
    """A stand-in for locks that were made where nvcc is: the lock decides, not this machine."""
    other = "0.14-modelopt0.41"

    def locked(name: str) -> Cell:
        found = combinations.named(name, MATRIX, RELEASES)
        return replace(found, te="2.6.0.post1") if found.default else found

    moved = Facts(matrix=MATRIX, releases=RELEASES, cell_of=locked)
    ends = locked(full_name(other)), locked("compat-0.14-modelopt0.39")
    made = release_line.between(*ends, moved)
    assert names(made) == [f"compat-0.14-modelopt{s}" for s in ("0.39", "0.40", "0.41")]


def test_locks_of_one_series_on_other_stacks_need_an_axis() -> None:
    one, other = cell("0.14-modelopt0.41"), cell("0.14-modelopt0.39")
    with pytest.raises(UsageError, match="differ in nvidia-modelopt, transformer-engine"):
        release_line.between(one, replace(other, te="2.5.0"), facts())


def test_axes_have_short_names_and_a_wrong_one_is_named() -> None:
    assert release_line.axis_of("te") == "transformer-engine"
    assert release_line.axis_of("torch") == "torch"
    with pytest.raises(UsageError, match='no such axis "trch"; did you mean "torch"'):
        release_line.axis_of("trch")
