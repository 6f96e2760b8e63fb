"""Which tested cells stand for containers, and upgrades and bisections between containers. All
results here are made up."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from test_containers import KNOWN
from test_doctor import record
from test_line import facts
from test_upgrade_command import ARGV, Place, place, today
from upgrade_support import FROM, GOOD, PINS, TO, cell

from mcore_compat import cli
from mcore_compat.analysis import constraints, container_cells
from mcore_compat.analysis.bisect import container_line, release_line
from mcore_compat.analysis.bisect.release_line import ReleaseLine
from mcore_compat.analysis.cell_record import CellRecord
from mcore_compat.analysis.container_cells import ContainerCell
from mcore_compat.base.errors import UsageError

__all__ = ["place"]


def published(name: str, mcore: str, te: str, torch: str) -> CellRecord:
    pins = {**PINS, "megatron-core": mcore, "transformer-engine": te, "torch": torch}
    return replace(record(pins), name=f"compat-{name}")


CELLS = (
    published("0.14-modelopt0.41", "0.14.0", "2.7.0", "2.8.0"),
    published("0.16-modelopt0.41-te2.7-torch2.8", "0.16.1", "2.7.0", "2.8.0"),
    published("0.16-modelopt0.41", "0.16.1", "2.11.0", "2.9.1"),
    published("0.17-modelopt0.41", "0.17.1", "2.9.0", "2.9.1"),
)


def standing(*names: str, beside: str = "") -> tuple[ContainerCell, ...]:
    images = [KNOWN.named(name) for name in names]
    given = constraints.parse(beside) if beside else ()
    return container_cells.standing(images, CELLS, beside=given)


def test_what_has_no_megatron_core_is_of_one_pair_in_all() -> None:
    """The nearest of each alone, 0.14 or 0.16 and 0.17, would compare megatron-cores."""
    found = standing("pytorch:25.06", "pytorch:25.10")
    assert [one.cell.name for one in found] == [
        "compat-0.16-modelopt0.41-te2.7-torch2.8",
        "compat-0.16-modelopt0.41",
    ]
    whole = found[0].whole()
    assert "it has no megatron-core: compared by its other axes, with megatron-core 0.16.1" in whole
    assert "nvidia-modelopt 0.41" in whole


def test_in_what_a_cell_is_another_combination_is_said() -> None:
    (one,) = standing("pytorch:25.06")
    assert one.text().startswith("nvidia/pytorch:25.06-py3: the nearest tested cell is compat-0.")
    assert "with transformer-engine 2.7.0 instead of 2.4.0" in one.text()
    assert "source: " in one.whole()
    assert "install line" not in one.whole()


def test_what_has_megatron_core_stands_for_itself() -> None:
    (one,) = standing("nemo:25.09")
    assert one.pair is None
    assert one.cell.name == "compat-0.14-modelopt0.41"


def test_what_is_installed_into_them_counts() -> None:
    found = standing("pytorch:25.10", beside="megatron-core 0.17.1")
    assert [(one.pair, one.cell.name) for one in found] == [(None, "compat-0.17-modelopt0.41")]


def test_without_a_tested_cell_nothing_stands_for_one() -> None:
    with pytest.raises(UsageError, match="no cell was tested"):
        container_cells.standing([KNOWN.named("pytorch:25.06")], [])


# An upgrade


@pytest.mark.parametrize(
    "argv",
    [
        ["--from-container", "pytorch:25.06", "--to-container", "pytorch:25.10"],
        ["--from-container", "pytorch:25.06", TO.name],
        [FROM.name, "--to-container", "pytorch:25.10"],
    ],
)
def test_an_upgrade_takes_a_container_for_each_end(
    argv: list[str], place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = [cell("compat-0.16-modelopt0.42-torch2.8", modelopt="0.42.0", torch="2.8.0"), TO]
    place.keep(*(today(of, *GOOD) for of in (*cells, FROM)))
    assert cli.main(["upgrade", *argv, "--no-run"]) == 1
    said = " ".join(capsys.readouterr().out.split())
    for name in (word for word in argv if ":" in word):
        assert f"nvidia/{name}-py3: the nearest tested cell is compat-0.16-modelopt0.42" in said
        assert f"nvidia/{name}-py3 was not tested:" in said


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--from-container", "pytorch:25.06"], "TO is missing"),
        (["--to-container", "pytorch:25.06"], "FROM is missing"),
        ([*ARGV[1:], "--from-container", "pytorch:25.06"], "FROM is given twice"),
        ([*ARGV[1:], "--to-container", "pytorch:25.06"], "TO is given twice"),
        ([*ARGV[1:], "--installed", "mcore 0.16"], "--installed needs"),
        (
            ["--from-container", "pytorch:25.60", TO.name],
            "unknown image nvidia/pytorch:25.60; the nearest",
        ),
        (["--from-container", "pytorch:25.06", "--to-container", "pytorch:25.05"], "same cell"),
    ],
)
def test_what_is_said_twice_or_not_at_all_is_bad_input(
    argv: list[str], said: str, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["upgrade", *argv, "--no-run"]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


# A bisection


def line(first: str, last: str, *, fixed: bool = False) -> ReleaseLine:
    images = KNOWN.between(KNOWN.named(first), KNOWN.named(last))
    found = container_cells.standing(images, CELLS)
    return container_line.between(found, facts(), fixed=fixed)


def test_between_two_containers_lie_those_of_the_months_between() -> None:
    months = [one.name for one in KNOWN.between(*map(KNOWN.named, ("nemo:26.04", "nemo:25.09")))]
    assert months == [f"nvidia/nemo:{month}" for month in ("25.09", "25.11", "26.02", "26.04")]


def test_one_cell_for_neighbours_is_one_point() -> None:
    made = line("pytorch:25.06", "pytorch:25.10")
    assert [point.version for point in made.points] == ["25.06 to 25.08", "25.09 to 25.10"]
    assert made.axis == "nvidia/pytorch"
    assert made.held["megatron-core"] == "0.16.1"
    assert set(release_line.stacks(made, 0, 1)) == {"transformer-engine", "torch"}
    assert len(made.standing) == 4
    assert made.notes == ()
    assert line("pytorch:25.10", "pytorch:25.06", fixed=True).ends == (1, 0)


@pytest.mark.parametrize(
    ("first", "last", "said"),
    [
        ("pytorch:25.06", "nemo:25.09", "of one image"),
        ("pytorch:25.06", "pytorch:25.06-py3", "named twice"),
        ("pytorch:25.06", "pytorch:25.08", "the same nearest tested cell"),
    ],
)
def test_two_that_are_on_no_line_are_refused(first: str, last: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        line(first, last)
