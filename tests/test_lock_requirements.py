"""What the resolver is asked: the axes, what is undeclared, and the ranges of extras."""

import dataclasses

import pytest
import snapshot
from packaging.specifiers import SpecifierSet
from resolver_support import (
    MCORE_RANGES,
    MODELOPT_RANGES,
    world,
)
from support import stand_in_cell

from mcore_compat.core import combinations
from mcore_compat.core.matrix import Matrix, SourceOnly, Undeclared
from mcore_compat.resolve import resolution


@pytest.fixture(scope="module")
def declared() -> Matrix:
    return snapshot.matrix()


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ('einops~=0.8; extra == "dev"', "einops~=0.8"),
        ("einops~=0.8; extra == 'dev'", "einops~=0.8"),
        ('Flash_Attn[x]<3,>=2; extra == "dev"', "flash-attn<3,>=2"),
        ('einops~=0.8; sys_platform == "linux" and extra == "dev"', "einops~=0.8"),
        ('einops~=0.8; python_version >= "3.12" and extra == "dev"', "einops~=0.8"),
        ('einops~=0.8; python_full_version < "3.13" and extra == "dev"', "einops~=0.8"),
        ('a>1; (os_name == "nt" and extra == "x") or extra == "y"', "a>1"),
        ('einops~=0.8; platform_system == "Windows" and extra == "dev"', None),
        ('einops~=0.8; sys_platform == "darwin" and extra == "dev"', None),
        ('einops~=0.8; platform_machine == "aarch64" and extra == "dev"', None),
        ('einops~=0.8; python_version < "3.12" and extra == "dev"', None),
        ('einops~=0.8; implementation_name == "pypy" and extra == "dev"', None),
        ('einops; extra == "dev"', None),
        ("einops~=0.8", None),
        ('einops~=0.8; sys_platform == "linux"', None),
        ('torch>=2.6; extra == "dev"', None),
        ('triton>=3; extra == "dev"', None),
        ('Megatron_Core>=0.12; extra == "dev"', None),
        ('nvidia-modelopt[torch]>=0.33; extra == "dev"', None),
        ('transformer-engine[pytorch]<2.12; extra == "dev"', None),
        ('transformer_engine_torch<2.12; extra == "dev"', None),
    ],
)
def test_a_range_of_an_extra_holds_where_it_is_for_the_cell(text: str, kept: str | None) -> None:
    expected = (kept,) if kept else ()
    assert combinations.bounds_of_extras(stand_in_cell(), world([text], [])) == {
        "megatron-core": expected,
        "nvidia-modelopt": (),
    }
    assert combinations.bounds_of_extras(stand_in_cell(), world([], [text])) == {
        "megatron-core": (),
        "nvidia-modelopt": expected,
    }


def test_ranges_for_another_python_are_those_of_its_cell() -> None:
    of_old = dataclasses.replace(stand_in_cell(), python="3.10")
    known = world(['a<2; python_version < "3.11" and extra == "x"', 'b>1; extra == "x"'])
    assert combinations.bounds_of_extras(of_old, known)["megatron-core"] == ("a<2", "b>1")
    assert combinations.bounds_of_extras(stand_in_cell(), known)["megatron-core"] == ("b>1",)


def test_a_range_that_several_extras_declare_is_there_once_and_all_are_sorted() -> None:
    texts = ['b>1; extra == "x"', 'b>1; extra == "y"', 'a<2; extra == "x"', 'b<9; extra == "y"']
    assert combinations.bounds_of_extras(stand_in_cell(), world(texts))["megatron-core"] == (
        "a<2",
        "b<9",
        "b>1",
    )


@pytest.fixture
def bare() -> Matrix:
    """A stand-in for a matrix that declares little."""
    return Matrix(
        mcore_series=(),
        modelopt_series=(),
        stacks={},
        source_only=(
            SourceOnly(
                package="transformer-engine-torch", when=SpecifierSet("<2"), requires=("old",)
            ),
            SourceOnly(
                package="transformer-engine-torch", when=SpecifierSet(">=2"), requires=("new",)
            ),
            SourceOnly(package="mamba-ssm", when=SpecifierSet("<1"), requires=("torch",)),
        ),
        undeclared=(
            Undeclared(
                of="torch",
                when=SpecifierSet("<2.10"),
                requires=("setuptools", "numpy<3"),
                imported_by="a stand-in",
                reason="a stand-in",
            ),
        ),
    )


@pytest.mark.parametrize(
    ("version", "extra"),
    [("0.21.0", "[torch]"), ("0.31.0", "[torch]"), ("0.33.0", ""), ("0.41.0", "")],
)
def test_the_extra_of_modelopt_is_asked_for_while_there_was_one(
    version: str, extra: str, bare: Matrix
) -> None:
    wanted = resolution.requirements(stand_in_cell(modelopt=version), bare, snapshot.releases())
    assert [w for w in wanted if "modelopt" in w] == [f"nvidia-modelopt{extra}=={version}"]


def test_every_axis_and_what_is_undeclared_is_asked_for(bare: Matrix) -> None:
    cell = dataclasses.replace(stand_in_cell(), cuda=13)
    wanted = (
        "megatron-core==0.16.1",
        "numpy<3",
        "nvidia-modelopt==0.41.0",
        "setuptools",
        "torch==2.9.1",
        "transformer-engine-cu13==2.11.0",
        "transformer-engine-torch==2.11.0",
        "transformer-engine==2.11.0",
    )
    known = snapshot.releases()
    assert resolution.requirements(cell, bare, known) == wanted
    newer = resolution.requirements(dataclasses.replace(cell, torch="2.10.0"), bare, known)
    assert not {"numpy<3", "setuptools"} & set(newer)


@pytest.mark.parametrize(("te", "said"), [("1.13.0", "old"), ("2.11.0", "new")])
def test_a_source_is_described_as_of_its_version(te: str, said: str, bare: Matrix) -> None:
    text = resolution.settings(dataclasses.replace(stand_in_cell(), te=te), bare)
    assert text.splitlines() == [
        "[[dependency-metadata]]",
        'name = "transformer-engine-torch"',
        f'requires-dist = ["{said}"]',
        "[[dependency-metadata]]",
        'name = "mamba-ssm"',
        'requires-dist = ["torch"]',
    ]


def test_what_the_resolver_is_asked_has_one_digest(declared: Matrix, bare: Matrix) -> None:
    cell, known = stand_in_cell(), world(MCORE_RANGES, MODELOPT_RANGES)
    first = resolution.asked_for(cell, declared, known)
    assert resolution.asked_for(cell, declared, world(MCORE_RANGES[::-1], MODELOPT_RANGES)) == first
    changed = [
        resolution.asked_for(dataclasses.replace(cell, python="3.11"), declared, known),
        resolution.asked_for(dataclasses.replace(cell, cuda=13), declared, known),
        resolution.asked_for(cell, bare, known),
        resolution.asked_for(cell, declared, world(MCORE_RANGES[:1], MODELOPT_RANGES)),
        resolution.asked_for(
            cell, declared, world(MCORE_RANGES, MODELOPT_RANGES, torch="2026-02-01T00:00:00Z")
        ),
    ]
    assert len({first, *changed}) == len(changed) + 1
