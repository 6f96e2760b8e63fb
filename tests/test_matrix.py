"""The declared matrix is validated when it is loaded; errors name the key and the nearest one."""

import datetime
from dataclasses import replace

import pytest
import snapshot
from hypothesis import given
from hypothesis import strategies as st

from mcore_compat.base.errors import MatrixError, UsageError
from mcore_compat.core import cells, combinations, matrix
from mcore_compat.core.cells import Request
from mcore_compat.core.matrix import Matrix
from mcore_compat.core.releases import Releases
from mcore_compat.results import verdict

TODAY = datetime.date(2026, 1, 1)
TEXT = """
schema = 1
[axes]
megatron-core = ["0.16"]
nvidia-modelopt = ["0.41"]
[[stack]]
for = ["0.16"]
python = "3.12"
torch = "2.9.1"
transformer-engine = "2.11.0"
note = "a stand-in"
"""
RULE = 'megatron-core = "==0.16.*"\nnvidia-modelopt = ">=0.41"\nreason = "r"\n'


@pytest.fixture(scope="module")
def known() -> Releases:
    return snapshot.releases()


@pytest.fixture(scope="module")
def declared() -> Matrix:
    return snapshot.matrix()


def refused(text: str, known: Releases | None = None) -> str:
    with pytest.raises(MatrixError) as caught:
        combinations.cells(matrix.parse(text, "matrix.toml", TODAY), known or Releases({}))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_committed_matrix_is_valid(declared: Matrix, known: Releases) -> None:
    names = [c.name for c in combinations.cells(declared, known)]
    assert len(names) == len(set(names))
    pairs = len(declared.mcore_series) * len(declared.modelopt_series)
    assert len(names) == pairs + len(declared.extra)
    assert sum("newest" in c.tags for c in combinations.cells(declared, known)) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("[axes]", "[axis]"), 'did you mean "axes"'),
        (("torch =", "toch ="), 'did you mean "torch"'),
        (('for = ["0.16"]', 'for = ["0.17"]'), "0.16 has no [[stack]]"),
        (("schema = 1", "schema = 2"), "schema"),
        (('python = "3.12"', "python = 3.12"), "python"),
        (("[axes]", "[axes"), "not valid TOML"),
    ],
)
def test_a_slip_is_named(change: tuple[str, str], said: str) -> None:
    assert said in refused(TEXT.replace(*change))


def test_an_expired_exclusion_takes_nothing_away(known: Releases) -> None:
    text = TEXT + "[[exclude]]\n" + RULE + 'expires = "2025-12-31"\n'
    declared = matrix.parse(text, "matrix.toml", TODAY)
    assert [cell.mcore for cell in combinations.cells(declared, known)] == ["0.16.1"]
    (line,) = verdict.expired(declared.expired)
    assert line.startswith(
        "matrix.toml: exclude: megatron-core==0.16.* nvidia-modelopt>=0.41 expired on 2025-12-31"
    )


def test_a_rule_counts_on_its_last_day() -> None:
    text = TEXT + "[[exclude]]\n" + RULE + f'expires = "{TODAY}"\n'
    declared = matrix.parse(text, "matrix.toml", TODAY)
    assert (len(declared.exclusions), declared.expired) == (1, ())


def test_a_rule_that_matches_no_cell_is_an_error(known: Releases) -> None:
    rule = RULE.replace("==0.16.*", "<0.9")
    text = TEXT + "[[exclude]]\n" + rule + 'expires = "2026-12-31"\n'
    assert "matches no cell" in refused(text, known)


def test_an_exclusion_takes_its_pair_away(known: Releases) -> None:
    text = TEXT + "[[exclude]]\n" + RULE + 'expires = "2026-12-31"\n'
    assert combinations.cells(matrix.parse(text, "matrix.toml", TODAY), known) == ()


def test_a_requirement_that_is_none_is_an_error() -> None:
    rule = (
        '[[undeclared]]\nof = "torch"\nwhen = ">=2"\nrequires = ["a b c"]\n'
        'imported-by = "m"\nreason = "r"\n'
    )
    assert "is not a requirement" in refused(TEXT + rule)


def test_an_extra_cell_that_is_none_is_an_error(known: Releases) -> None:
    text = TEXT + '[cells]\nextra = ["compat-0.99-modelopt0.41"]\n'
    assert "0.99" in refused(text, known)


def test_a_selection_that_matches_nothing_is_an_error(declared: Matrix, known: Releases) -> None:
    found = combinations.cells(declared, known)
    assert len(combinations.select(found, tags=["mcore-0.16"])) == len(declared.modelopt_series) + 1
    with pytest.raises(UsageError, match=r"mcore-0\.16"):
        combinations.select(found, tags=["mcore-0.166"])
    with pytest.raises(UsageError, match="no cell matches"):
        combinations.select(found, mcore=">=99")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "compat-0.99-modelopt0.21",
            'no release 0.99; did you mean "compat-0.19-modelopt0.21"',
        ),
        ("compat-0.61-modelopt0.41", 'did you mean "compat-0.16-modelopt0.41"'),
        ("compat-0.91-modelopt0.14-te2.11", 'did you mean "compat-0.19-modelopt0.41-te2.11"'),
        ("compat-0.16-modelopt0.41-torch2.9.1+cu128", '"compat-0.16-modelopt0.41-torch2.9.1"'),
        ("compat-0.9-modelopt0.22", "did you mean"),
        ("compt-0.9-modelopt0.21", 'did you mean "compat-0.9-modelopt0.21"'),
        ("compat-0.9", "is not the name of a cell"),
        ("compat-0.16-modelopt0.41-te99", "transformer-engine"),
    ],
)
def test_a_wrong_name_is_one_line_with_the_nearest(
    name: str, said: str, declared: Matrix, known: Releases
) -> None:
    with pytest.raises(UsageError) as caught:
        combinations.named(name, declared, known)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_series_is_its_newest_patch_and_a_patch_itself(declared: Matrix, known: Releases) -> None:
    assert combinations.named("compat-0.12-modelopt0.29", declared, known).mcore == "0.12.3"
    assert combinations.named("compat-0.12.1-modelopt0.29", declared, known).mcore == "0.12.1"


def test_a_series_of_te_is_its_newest_release_with_a_torch_extension(known: Releases) -> None:
    # 1.9.0.post1 asks for the core library and the extension of 1.9.0.
    assert known.newest("transformer-engine", "1.9").version == "1.9.0"
    assert known.newest("transformer-engine", "2.6").version == "2.6.0.post1"


def test_what_equals_the_stack_is_not_spelt_out(declared: Matrix, known: Releases) -> None:
    cell = combinations.named("compat-0.16-modelopt0.41-te2.11-torch2.9-py3.12", declared, known)
    assert cell.name == "compat-0.16-modelopt0.41"
    assert cell.default
    other = combinations.named("compat-0.16-modelopt0.41-te2.9", declared, known)
    assert other.name == "compat-0.16-modelopt0.41-te2.9"
    assert not other.default


@pytest.mark.parametrize(
    ("modelopt", "torch"),
    [
        ("0.33", "2.5.1"),  # asks for 2.4 or newer
        ("0.35", "2.6.0"),  # 2.6
        ("0.43", "2.6.0"),
        ("0.44", "2.8.0"),  # 2.8
    ],
)
def test_a_pair_has_the_oldest_torch_that_its_modelopt_admits(
    modelopt: str, torch: str, declared: Matrix, known: Releases
) -> None:
    """A pair is not called impossible to install for its series' stack."""
    stack = replace(declared.stacks["0.11"], torch="2.5.1", newer_torch=("2.6.0", "2.8.0"))
    stacked = replace(declared, stacks={**declared.stacks, "0.11": stack})
    cell = combinations.named(f"compat-0.11-modelopt{modelopt}", stacked, known)
    assert cell.torch == torch
    assert cell.default
    assert combinations.violations(cell, known) == ()
    series = cells.series_of(torch)
    spelt = combinations.named(f"{cell.name}-torch{series}", stacked, known)
    assert spelt == cell
    every = [c for c in combinations.product(stacked, known) if c.name.startswith(cell.name)]
    assert [c.torch for c in every if c.name == cell.name] == [torch]
    assert all(combinations.named(c.name, stacked, known) == c for c in every)


def test_where_no_torch_is_admitted_a_pair_has_its_series_own(
    declared: Matrix, known: Releases
) -> None:
    stack = replace(declared.stacks["0.11"], torch="2.5.1", newer_torch=("2.6.0",))
    stacked = replace(declared, stacks={**declared.stacks, "0.11": stack})
    assert combinations.named("compat-0.11-modelopt0.47", stacked, known).torch == "2.5.1"


def test_a_series_has_one_stack() -> None:
    stack = TEXT[TEXT.index("[[stack]]") :].partition("\n\n")[0]
    assert "0.16 has more than one [[stack]]" in refused(f"{TEXT}\n{stack}\n")


def test_which_releases_need_nvcc_is_declared(declared: Matrix) -> None:
    te = "transformer-engine-torch"
    needing = [v for v in ("1.12.0", "2.3.0", "2.4.0", "2.17.1") if declared.needs_nvcc(te, v)]
    assert needing == ["1.12.0", "2.3.0"]
    assert not declared.needs_nvcc("mamba-ssm", "2.2.4")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("compat-0.16-modelopt0.39-py3.13", "requires python"),
        ("compat-0.9-modelopt0.21-py3.12", "no wheel for python 3.12"),
        ("compat-0.13-modelopt0.31-te2.5-torch2.13", "built for CUDA 13"),
        ("compat-0.19-modelopt0.47-torch2.5", "0.47.0 requires torch>=2.8, the cell has 2.5.1"),
    ],
)
def test_what_the_resolver_does_not_know_is_ours(
    name: str, said: str, declared: Matrix, known: Releases
) -> None:
    reasons = combinations.violations(combinations.named(name, declared, known), known)
    assert any(said in reason for reason in reasons)


def test_what_a_release_requires_in_an_extra_or_elsewhere_does_not_bind_a_cell(
    declared: Matrix, known: Releases
) -> None:
    cell = combinations.named("compat-0.16-modelopt0.41", declared, known)
    says = ('torch<2; extra == "dev"', 'torch<2; sys_platform == "win32"', "torch>=2", "numpy<1")
    (mine,) = [r for r in known.of("nvidia-modelopt") if r.version == cell.modelopt]
    changed = Releases({**known.by_package, "nvidia-modelopt": (replace(mine, requires=says),)})
    assert combinations.violations(cell, changed) == ()


versions = st.tuples(st.integers(0, 30), st.integers(0, 99)).map(lambda v: f"{v[0]}.{v[1]}")
optional = st.none() | versions


@given(
    st.builds(
        Request, mcore=versions, modelopt=versions, te=optional, torch=optional, python=optional
    )
)
def test_a_name_says_exactly_what_was_asked_for(request: Request) -> None:
    assert cells.parse_name(cells.format_name(request)) == request


@given(st.text())
def test_no_text_breaks_the_parsing_of_names(text: str) -> None:
    cells.parse_name(text)
