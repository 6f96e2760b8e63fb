"""What somebody has of each axis, in whatever form versions are at hand."""

# ruff: noqa: E501

from __future__ import annotations

import contextlib

import pytest
import snapshot
from hypothesis import given
from hypothesis import strategies as st

from mcore_compat.analysis.constraints import ALIASES, CUDA, parse, refuse_mistyped
from mcore_compat.base.errors import UsageError
from mcore_compat.core.cells import AXES


def read(text: str) -> dict[str, str]:
    return {c.axis: str(c.specifier) for c in parse(text)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("torch 2.9.1", {"torch": "==2.9.1"}),
        ("torch 2.9", {"torch": "==2.9.*"}),
        ("torch==2.9", {"torch": "==2.9"}),
        ("torch=2.9", {"torch": "==2.9.*"}),
        ("torch==2.9.*", {"torch": "==2.9.*"}),
        ("torch 2.10.0+cu128", {"torch": "==2.10.0", CUDA: "==12.*"}),
        ("torch==2.10.0+cu130", {"torch": "==2.10.0", CUDA: "==13.*"}),
        ("torch 2.10.0+cu128, cuda 13", {"torch": "==2.10.0", CUDA: "==13.*"}),
        ("torch 2.11.0a0+5228986c39.nv26.02", {"torch": "==2.11.*"}),
        ("te 2.14+71bbefb", {"transformer-engine": "==2.14.*"}),
        ("transformer_engine 2.11.0", {"transformer-engine": "==2.11.0"}),
        ("transformer_engine_torch==2.11.0", {"transformer-engine": "==2.11.0"}),
        ("te[pytorch] 2.11", {"transformer-engine": "==2.11.*"}),
        ("Transformer Engine 2.11", {"transformer-engine": "==2.11.*"}),
        ("nvidia_modelopt 0.41", {"nvidia-modelopt": "==0.41.*"}),
        ("nvidia-modelopt[torch]==0.41.0", {"nvidia-modelopt": "==0.41.0"}),
        ("megatron_core==0.16.1", {"megatron-core": "==0.16.1"}),
        ("Megatron-Core", {}),
        ("Megatron Core core_v0.15.0", {"megatron-core": "==0.15.0"}),
        ("mcore 0.16.0rc0", {"megatron-core": "==0.16.*"}),
        ("te 1.9.0.post1", {"transformer-engine": "==1.9.0.post1"}),
        ("modelopt 0.44, mcore 0.19", {"nvidia-modelopt": "==0.44.*", "megatron-core": "==0.19.*"}),
        ("torch==2.9.1 megatron-core==0.16.1", {"torch": "==2.9.1", "megatron-core": "==0.16.1"}),
        ("torch 2.9 and te 2 on cuda 12", {"torch": "==2.9.*", "transformer-engine": "==2.*", CUDA: "==12.*"}),
        ("te[pytorch,core_cu12]==2.11.0 nvidia-modelopt==0.41.0", {"transformer-engine": "==2.11.0", "nvidia-modelopt": "==0.41.0"}),
        ("torch>=2.6, megatron-core[mlm,dev]", {"torch": ">=2.6"}),
        ("python3.12, cu128", {"python": "==3.12.*", CUDA: "==12.*"}),
        ("torch >=2.6,<2.9 te 2.4", {"torch": "<2.9,>=2.6", "transformer-engine": "==2.4.*"}),
    ],
)  # fmt: skip
def test_versions_are_taken_as_people_have_them(text: str, expected: dict[str, str]) -> None:
    assert read(text) == expected


@pytest.mark.parametrize(
    ("text", "notes"),
    [
        ("torch 2.9.1", []),
        (
            "torch 2.10.0+cu128",
            [
                '"cu128" is read as CUDA 12',
                '"torch 2.10.0+cu128" is read as torch 2.10.0: cu128 is its build tag',
            ],
        ),
        (
            "torch 2.8.0a0+5228986c39.nv25.6",
            [
                '"torch 2.8.0a0+5228986c39.nv25.6" is read as torch 2.8: 2.8.0a0 came before '
                "2.8.0; 5228986c39.nv25.6 is its build tag, of NVIDIA's container "
                "25.06"
            ],
        ),
        (
            "torch 2.0.1+cu117, cuda 12.2",
            [
                '"cuda 12.2" is read as cuda 12: cells differ only in CUDA\'s major version; '
                '"cuda 12.2" counts, not CUDA 11 of the build torch 2.0.1+cu117',
                '"torch 2.0.1+cu117" is read as torch 2.0.1: cu117 is its build tag',
            ],
        ),
        (
            "torch 2.9.1+cpu",
            [
                '"torch 2.9.1+cpu" is read as torch 2.9.1: cpu is its build tag: a build '
                "without CUDA, which no cell has"
            ],
        ),
    ],
)
def test_what_was_left_out_of_a_version_is_said(text: str, notes: list[str]) -> None:
    assert [c.note for c in parse(text) if c.note] == notes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("troch 2.9", 'no such axis "troch"; did you mean "torch"'),
        ("transformers 4.57", 'no such axis "transformers"; the axes are megatron-core, nvidia-'),
        ("torchvision 0.20", 'no such axis "torchvision"; the axes are'),
        ("te 2.11 flash-attn 2.8.3", 'no such axis "flash-attn"; the axes are'),
        ("torch newest", "neither a version nor a specifier"),
        ("torch @ https://x/torch.whl", "neither a version nor a specifier"),
        ("torch ٢.٩", "neither a version nor a specifier"),
        ("2.9", "names no package"),
        ("", "names no package"),
        ("te 2.9, transformer-engine 2.10", "is constrained twice"),
    ],
)
def test_what_cannot_be_understood_is_told(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse(text)


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("mcore 0.61", "0.16"),
        ("mcore 0.91", "0.19"),
        ("modelopt 0.64", "0.46"),
        ("modelopt 0.14", None),  # may be older than what is known
        ("torch 2.0.1+cu117", None),
        ("mcore 0.20", None),  # may be newer than what is known
        ("mcore 0.15.9", None),
        ("torch 2.99.0+cu128", "2.9.0"),
        ("mcore >=0.61", None),
        ("python 3.99", None),
    ],
)
def test_what_is_no_release_and_near_none_is_a_slip(text: str, near: str | None) -> None:
    if near is None:
        refuse_mistyped(parse(text), snapshot.releases())
        return
    with pytest.raises(UsageError, match="has no such release; did you mean") as caught:
        refuse_mistyped(parse(text), snapshot.releases())
    assert f'"{near}"?' in str(caught.value)


VERSIONS = st.from_regex(
    r"v?[0-9]{1,3}(\.[0-9]{1,3}){0,3}(a0|rc1|\.post1|\.dev0)?(\+[a-z0-9]{1,9}(\.[a-z0-9]{1,6})?)?",
    fullmatch=True,
)


@given(
    st.text(max_size=40)
    | st.lists(st.tuples(st.sampled_from(sorted(ALIASES)), VERSIONS), max_size=3).map(
        lambda parts: ", ".join(f"{name} {version}" for name, version in parts)
    )
)
def test_no_text_is_more_than_a_usage_error(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert all(c.axis in (*AXES, CUDA) for c in parse(text))


@given(st.sampled_from([a for a in AXES if a != "python"]), VERSIONS)
def test_whatever_is_behind_a_version_its_series_is_kept(axis: str, version: str) -> None:
    (constraint,) = (c for c in parse(f"{axis} {version}") if c.axis == axis)
    assert constraint.specifier.contains(constraint.version, prereleases=True)
    assert "+" not in str(constraint.specifier)
