"""What is known of NVIDIA's containers, and which one a name means."""

from __future__ import annotations

import contextlib
import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from mcore_compat.base.errors import MatrixError, UsageError
from mcore_compat.core import containers
from mcore_compat.core.workspace import Workspace

KNOWN = containers.load(Workspace(Path(__file__).parents[1]).containers)


def test_each_row_has_versions_that_are_some_and_a_dated_source() -> None:
    for (image, month), container in KNOWN.rows.items():
        assert containers.IMAGES[image] in container.name
        assert month in container.name
        assert container.pins
        assert all(Version(version) for version in container.pins.values())
        assert not container.cuda or Version(container.cuda) > Version("11")
        for source in container.sources:
            assert datetime.date.fromisoformat(source.looked)
    # A build of the framework carries the month of the image that it is built on.
    assert KNOWN.rows["nemo", "26.04"].base == KNOWN.rows["pytorch", "26.02"].name


@pytest.mark.parametrize(
    "name",
    [
        "pytorch:25.06",
        "pytorch:25.06-py3",
        "pytorch:25.06-py3-igpu",
        "nvidia/pytorch:25.06-py3",
        "docker://host.example/nvidia/pytorch:25.06-py3",
        "host.example#nvidia/pytorch:25.06-py3",
        "mirror:5000/nvidia/pytorch:25.06-py3@sha256:0123abcd",
    ],
)
def test_a_container_has_many_spellings(name: str) -> None:
    found = KNOWN.named(name)
    assert found.pins["torch"] == "2.8.0a0+5228986c39"
    assert found.pins["transformer-engine"] == "2.4.0+3cd6870"
    assert (found.cuda, found.note) == ("12.9.1", "")


def test_a_patch_of_a_container_is_taken_as_its_month_and_that_is_said() -> None:
    found = KNOWN.named("nvidia/nemo:25.09.02")
    assert found.pins["megatron-core"] == "0.14.0"
    assert found.note == "25.09.02 is a patch of 25.09; its versions are used"


def test_an_image_of_the_pytorch_project_says_itself_what_it_holds() -> None:
    found = KNOWN.named("pytorch/pytorch:2.9.1-cuda12.8-cudnn9-devel")
    assert (found.pins, found.cuda) == ({"torch": "2.9.1"}, "12.8")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "pytorch:25.07",
            "pytorch:25.07; the nearest known one: pytorch:25.06",
        ),
        ("pytorch:52.06", "the nearest known one: pytorch:25.06"),
        ("nemo:25.07.gpt_oss", "the nearest known one: nemo:25.09"),
        ("nemo:dev", "the newest known one: nemo:26.04"),
        ("pytorch:latest", "the newest known one: pytorch:26.08"),
        ("vllm:25.09", 'unknown image "vllm"'),
        ("pytorch", "is not an image name with a tag"),
        ("", "is not an image name with a tag"),
    ],
)
def test_what_is_not_known_is_refused_with_the_nearest(name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said.replace("(", r"\(")):
        KNOWN.named(name)


@given(st.text(max_size=30) | st.from_regex(r"(pytorch|nemo):[0-9.a-z-]{0,12}", fullmatch=True))
def test_no_name_is_more_than_a_usage_error(name: str) -> None:
    with contextlib.suppress(UsageError):
        assert KNOWN.named(name).pins


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "does not exist"),
        ("[", "is not valid"),
        ("[source]\n[pytorch]\n[nemo]\n[other]", "is not valid"),
        (
            '[source]\n[nemo]\n[pytorch]\n"25.06" = { sources = [] }',
            "pytorch 25.06: no or unknown sources",
        ),
        ('[source]\n[nemo]\n[pytorch]\n"25.06" = { sources = ["x"] }', "no or unknown sources"),
    ],
)
def test_a_file_that_is_not_of_its_form_is_refused(
    text: str | None, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "containers.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(MatrixError, match=said):
        containers.load(path)
