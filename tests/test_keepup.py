"""Keeping up: what is new, what a new series is tested on, and how it joins the matrix.

Releases and matrices here are made up.
"""

from __future__ import annotations

import datetime
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import stand_in_cell

from mcore_compat.base.errors import MatrixError
from mcore_compat.core import combinations, matrix
from mcore_compat.core.matrix import Matrix
from mcore_compat.core.releases import Release, Releases
from mcore_compat.schedule import new_releases
from mcore_compat.schedule.new_releases import MCORE, MODELOPT, TE, TORCH, NewRelease
from mcore_compat.schedule.plan import CellStatus

TODAY = datetime.date(2026, 1, 1)

TEXT = """\
# The head stays.
schema = 1

[axes]
megatron-core = ["0.16"] # beside it too
nvidia-modelopt = [
  "0.40", "0.41",
]

# Before the stacks.
[[stack]]
for = ["0.16"]
python = "3.12"
torch = "2.9.1"
transformer-engine = "2.11.0"
note = "a stand-in"

# About CUDA.
[[cuda]]
torch = ">=9"
version = "13.0"
"""

WHEEL = ("py3-none-any",)


def release(package: str, version: str, uploaded: str, **said: object) -> Release:
    fields = {"wheels": WHEEL, **said}
    return Release(package=package, version=version, uploaded=uploaded, **fields)  # type: ignore[arg-type]


def of_torch(version: str, uploaded: str, cuda: str, **said: object) -> Release:
    return release(TORCH, version, uploaded, requires=(f"cuda-toolkit=={cuda}",), **said)


def te(version: str, uploaded: str, *cudas: int) -> list[Release]:
    names = [TE, "transformer-engine-torch", *(f"{TE}-cu{cuda}" for cuda in cudas)]
    return [release(name, version, uploaded) for name in names]


def index(*more: Release) -> Releases:
    found: dict[str, list[Release]] = {}
    for one in (
        release(MCORE, "0.16.1", "2026-01-10"),
        release(MODELOPT, "0.40.0", "2025-12-01"),
        release(MODELOPT, "0.41.0", "2026-01-20"),
        of_torch("2.9.1", "2025-11-12", "12.8"),
        of_torch("2.10.0", "2026-01-21", "13.0"),
        *te("2.11.0", "2026-01-28", 12, 13),
        *te("2.12.0", "2026-02-21", 12),
        *more,
    ):
        found.setdefault(one.package, []).append(one)
    order = new_releases.parsed
    return Releases(
        {name: tuple(sorted(rows, key=lambda r: order(r.version))) for name, rows in found.items()}
    )


def declared(text: str = TEXT) -> Matrix:
    return matrix.parse(text, "matrix.toml", TODAY)


def new(package: str, version: str) -> NewRelease:
    return NewRelease(package=package, version=version)


# What is new.


def test_where_the_index_has_nothing_more_nothing_is_new() -> None:
    assert new_releases.news((), index(), index()) == ()
    assert new_releases.proposals(declared(), index()) == ()
    assert new_releases.join(TEXT, ()) == TEXT


def test_a_new_patch_is_new_and_proposes_nothing() -> None:
    after = index(release(MCORE, "0.16.2", "2026-03-20"))
    assert new_releases.news((), index(), after) == (new(MCORE, "0.16.2"),)
    assert new_releases.proposals(declared(), after) == ()


def test_of_several_new_patches_only_the_one_that_stands_for_the_series_counts() -> None:
    after = index(
        release(MCORE, "0.16.2", "2026-03-20"),
        release(MCORE, "0.16.3", "2026-03-21"),
        release(MCORE, "0.16.4", "2026-03-22", yanked=True),
    )
    assert new_releases.news((), index(), after) == (new(MCORE, "0.16.3"),)


def test_what_was_kept_stays_new_until_a_newer_patch_takes_its_place() -> None:
    kept = (new(MCORE, "0.16.1"),)
    assert new_releases.news(kept, index(), index()) == kept
    later = index(release(MCORE, "0.16.2", "2026-03-20"))
    assert new_releases.news(kept, later, later) == ()


def test_a_package_that_was_not_known_at_all_brings_no_news() -> None:
    assert new_releases.news((), Releases({}), index()) == ()


def test_releases_of_other_packages_make_no_cell_new() -> None:
    assert new_releases.news((), index(), index(of_torch("2.11.0", "2026-03-23", "13.0"))) == ()


def test_news_are_read_back() -> None:
    found = (new(MCORE, "0.9.0"), new(MODELOPT, "0.41.0"))
    assert new_releases.loads(new_releases.dumps(found[::-1])) == found
    assert new_releases.dumps(found) == new_releases.dumps(found[::-1])
    with pytest.raises(MatrixError, match=r"news\.json is not valid"):
        new_releases.loads('{"new": [{"package": "x"}]}')


def known(name: str, state: str, mcore: str = "0.16.1", **fields: object) -> CellStatus:
    cell = replace(stand_in_cell(), name=name, mcore=mcore)
    return CellStatus(cell=cell, state=state, **fields)  # type: ignore[arg-type]


def test_a_night_runs_what_new_releases_touch() -> None:
    cells = [
        known("new", "untested", "0.17.0"),
        known("done", "fresh", "0.17.0"),
        known("patch", "megatron-core 0.16.1 is out", behind=True),
        known("old", "the suite changed"),
    ]
    fresh = [new(MCORE, "0.17.0")]
    assert new_releases.touched(cells, fresh) == ("new", "patch")
    assert new_releases.touched(cells, fresh, every=True) == ("new", "patch", "old")


def test_a_release_is_new_until_all_its_cells_were_run() -> None:
    cells = [known("a", "fresh", "0.17.0"), known("b", "untested", "0.18.0")]
    found = [new(MCORE, v) for v in ("0.17.0", "0.18.0", "0.19.0")]
    # 0.19 has no cell: it did not join the matrix yet.
    assert new_releases.unsettled(cells, found) == tuple(found[1:])


# What is proposed.


def proposed(*more: Release, text: str = TEXT) -> new_releases.Proposal:
    (found,) = new_releases.proposals(declared(text), index(*more))
    return found


def pins(found: new_releases.Proposal) -> tuple[str, str, str]:
    assert found.stack is not None
    return found.stack.te, found.stack.torch, found.stack.python


def test_a_new_series_is_proposed_on_the_newest_that_was_out_with_it() -> None:
    found = proposed(release(MCORE, "0.17.0", "2026-02-01"))
    # TE 2.12 came later.
    assert pins(found) == ("2.11.0", "2.10.0", "3.12")
    assert "2026-02-01" in found.line()


def test_the_date_is_that_of_the_first_release_of_the_series() -> None:
    both = index(release(MCORE, "0.17.0", "2026-02-01"), release(MCORE, "0.17.1", "2026-03-01"))
    (found,) = new_releases.proposals(declared(), both)
    assert pins(found) == ("2.11.0", "2.10.0", "3.12")  # TE 2.12 was out with 0.17.1 only


def test_a_series_stands_for_its_newest_patch_also_where_that_came_later() -> None:
    patch = te("2.11.1", "2026-02-10", 12, 13)
    assert pins(proposed(*patch, release(MCORE, "0.17.0", "2026-02-01")))[0] == "2.11.1"


def test_torch_was_out_with_te() -> None:
    later = of_torch("2.11.0", "2026-01-29", "13.0")
    assert pins(proposed(later, release(MCORE, "0.17.0", "2026-02-01")))[1] == "2.10.0"


AXES = TEXT.replace('"0.40", "0.41",\n]', '"0.40", "0.41",\n]\ntorch = ["2.10", "2.12"]')


def test_where_every_torch_of_the_time_is_older_than_the_axis_its_oldest_is_taken() -> None:
    newer = of_torch("2.12.0", "2026-05-01", "13.0"), of_torch("2.11.0", "2026-01-20", "13.0")
    text = AXES.replace('"2.10", "2.12"', '"2.12"')
    found = proposed(*newer, release(MCORE, "0.17.0", "2026-02-01"), text=text)
    assert pins(found)[1] == "2.12.0"


def test_a_modelopt_that_asks_for_a_newer_torch_gets_one() -> None:
    newer = of_torch("2.12.0", "2026-05-01", "13.0")
    modelopt = release(MODELOPT, "0.41.1", "2026-01-21", requires=("torch>=2.11",))
    (found,) = new_releases.proposals(
        declared(AXES), index(newer, modelopt, release(MCORE, "0.17.0", "2026-02-01"))
    )
    assert found.stack is not None
    assert (found.stack.torch, found.stack.newer_torch) == ("2.10.0", ("2.12.0",))
    joined = matrix.parse(new_releases.join(AXES, [found]), "matrix.toml", TODAY)
    assert joined.stacks["0.17"].newer_torch == ("2.12.0",)


EXPECTED = """
[[expect]]
megatron-core = ">=0.17"
nvidia-modelopt = "MODELOPT"
transformer-engine = ">=2.11"
check = "restore[gpt]"
reason = "does not restore with this TE"
owner = "megatron-core"
upstream = "not reported"
expires = "2027-01-01"
"""


@pytest.mark.parametrize(("modelopt", "te_version"), [(">=0.40", "2.10.0"), ("<0.41", "2.11.0")])
def test_a_te_with_which_a_failure_is_declared_whatever_the_modelopt_is_passed_over(
    modelopt: str, te_version: str
) -> None:
    older = te("2.10.0", "2026-01-27", 12, 13)
    text = TEXT + EXPECTED.replace("MODELOPT", modelopt)
    assert (
        pins(proposed(*older, release(MCORE, "0.17.0", "2026-02-01"), text=text))[0] == te_version
    )


def test_torch_is_of_a_cuda_that_te_has_a_core_library_for() -> None:
    # The newest TE has one for CUDA 12 alone, torch 2.10 is built for CUDA 13.
    assert pins(proposed(release(MCORE, "0.17.0", "2026-03-01"))) == ("2.12.0", "2.9.1", "3.12")


def test_a_torch_of_which_nothing_says_its_cuda_is_passed_over() -> None:
    odd = release(TORCH, "2.11.0", "2026-01-25")
    assert pins(proposed(odd, release(MCORE, "0.17.0", "2026-02-01")))[1] == "2.10.0"


def test_withdrawn_releases_are_passed_over() -> None:
    gone = of_torch("2.11.0", "2026-01-25", "13.0", yanked=True)
    assert pins(proposed(gone, release(MCORE, "0.17.0", "2026-02-01")))[1] == "2.10.0"


@pytest.mark.parametrize(
    ("requires", "stack"),
    [
        (("torch<2.10", "transformer-engine<2.12"), ("2.11.0", "2.9.1", "3.12")),
        (('transformer-engine<2.12; extra == "dev"',), ("2.11.0", "2.10.0", "3.12")),
        (
            ('transformer_engine<2.12; extra == "dev"', 'transformer-engine<3; extra == "new"'),
            ("2.12.0", "2.9.1", "3.12"),
        ),
    ],
)
def test_what_the_release_declares_is_kept_to(
    requires: tuple[str, ...], stack: tuple[str, str, str]
) -> None:
    assert pins(proposed(release(MCORE, "0.17.0", "2026-03-01", requires=requires))) == stack


@pytest.mark.parametrize(
    ("asked", "python"), [("", "3.12"), (">=3.10", "3.12"), (">=3.13", "3.13")]
)
def test_the_python_is_the_previous_one_or_the_next_that_is_admitted(
    asked: str, python: str
) -> None:
    found = proposed(release(MCORE, "0.17.0", "2026-02-01", requires_python=asked))
    assert pins(found)[2] == python


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"requires_python": "<3.10"}, "requires python <3.10"),
        ({"requires": ("torch>=99",)}, "no TE and torch"),
        ({"wheels": ()}, "has no wheel"),
    ],
)
def test_where_no_stack_fits_the_series_does_not_join(said: dict[str, object], why: str) -> None:
    found = proposed(release(MCORE, "0.17.0", "2026-02-01", **said))
    assert found.refused
    assert why in found.line()
    assert new_releases.join(TEXT, [found]) == TEXT


def test_a_new_modelopt_series_joins_every_stack() -> None:
    found = proposed(release(MODELOPT, "0.42.0", "2026-03-09"))
    assert (found.package, found.series, found.stack) == (MODELOPT, "0.42", None)


def test_new_series_of_te_and_torch_join_their_axes() -> None:
    text = AXES.replace("torch = [", 'transformer-engine = ["2.11"]\ntorch = [')
    text = text.replace('"2.10", "2.12"', '"2.9"')
    odd = release(TORCH, "2.11.0", "2026-02-01")  # nothing says its CUDA
    core_alone = release(TE, "2.13.0", "2026-03-01")
    found = new_releases.proposals(declared(text), index(odd, core_alone))
    assert [(one.package, one.series, one.refused) for one in found] == [
        (TE, "2.12", False),
        (TE, "2.13", True),
        (TORCH, "2.10", False),
        (TORCH, "2.11", True),
    ]
    joined = matrix.parse(new_releases.join(text, found), "matrix.toml", TODAY)
    assert (joined.te_series, joined.torch_series) == (("2.11", "2.12"), ("2.9", "2.10"))
    assert list(combinations.product(joined, index(odd, core_alone)))


def test_a_series_that_is_older_than_the_axis_is_left_to_people() -> None:
    after = index(release(MODELOPT, "0.39.0", "2025-11-01"))
    assert new_releases.proposals(declared(), after) == ()
    (lack,) = (m for m in new_releases.missing(declared(), after) if m.package == MODELOPT)
    assert (lack.newer, lack.older) == ((), ("0.39",))


# How it joins.


def both() -> Releases:
    return index(
        release(MCORE, "0.17.0", "2026-02-01"),
        release(MCORE, "0.18.0", "2026-04-01"),
        release(MODELOPT, "0.42.0", "2026-03-09"),
    )


def test_what_joins_is_a_valid_matrix_with_its_cells() -> None:
    text = new_releases.join(TEXT, new_releases.proposals(declared(), both()))
    joined = declared(text)
    assert joined.mcore_series == ("0.16", "0.17", "0.18")
    assert joined.modelopt_series == ("0.40", "0.41", "0.42")
    assert joined.stacks["0.17"].te == "2.11.0"
    assert len(combinations.cells(joined, both())) == 9
    assert joined.stacks["0.16"] == declared().stacks["0.16"]


def test_comments_and_layout_stay() -> None:
    text = new_releases.join(TEXT, new_releases.proposals(declared(), both()))
    axes = ('megatron-core = ["0.16"]', 'megatron-core = ["0.16", "0.17", "0.18"]')
    series = ('"0.41",', '"0.41", "0.42",')
    lines = iter(text.splitlines())
    for line in TEXT.replace(*axes).replace(*series).splitlines():
        assert line in lines, line  # in this order, with other lines between them
    # The comment still stands before what it is about.
    assert "# About CUDA.\n[[cuda]]" in text
    assert text.index('for = ["0.18"]') < text.index("# About CUDA.")


def test_joining_twice_changes_nothing() -> None:
    found = new_releases.proposals(declared(), both())
    once = new_releases.join(TEXT, found)
    assert new_releases.join(TEXT, found) == once
    assert new_releases.join(once, found) == once
    assert new_releases.proposals(declared(once), both()) == ()


def test_a_file_that_ends_with_its_stacks_is_joined_as_well() -> None:
    short = TEXT[: TEXT.index("\n# About")].rstrip("\n")
    text = new_releases.join(short, new_releases.proposals(declared(short), both()))
    assert declared(text).mcore_series == ("0.16", "0.17", "0.18")


series = st.lists(st.integers(17, 60), min_size=1, max_size=5, unique=True).map(sorted)


@settings(deadline=None)  # a busy machine is no failure
@given(series, series)
def test_any_series_join_in_any_number_of_nights(first: list[int], second: list[int]) -> None:
    def after(numbers: list[int]) -> Releases:
        return index(*(release(MCORE, f"0.{n}.0", "2026-02-01") for n in sorted(set(numbers))))

    once = new_releases.join(TEXT, new_releases.proposals(declared(), after(first)))
    later = [n for n in second if n > max(first)]
    twice = new_releases.join(once, new_releases.proposals(declared(once), after(first + later)))
    assert list(declared(twice).mcore_series) == ["0.16", *(f"0.{n}" for n in first + later)]
    assert twice.count("#") == TEXT.count("#")
