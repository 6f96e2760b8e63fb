"""What somebody has: an environment, a container, a file of requirements, a Dockerfile."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_containers import KNOWN
from test_doctor import RIGHT, VERSIONS

from mcore_compat.analysis import dockerfile, inventory, requirements_file
from mcore_compat.analysis.constraints import CUDA
from mcore_compat.analysis.inventory import Inventory
from mcore_compat.base.errors import UsageError
from mcore_compat.environments.scan import Installed


def specs(there: Inventory) -> dict[str, str]:
    return {c.axis: str(c.specifier) for c in there.constraints}


def test_an_environment_is_what_is_installed_in_it() -> None:
    assert specs(inventory.of_installed(RIGHT)) == {
        "megatron-core": "==0.16.1",
        "nvidia-modelopt": "==0.41.0",
        "transformer-engine": "==2.11.0",
        "torch": "==2.9.1",
        "python": "==3.12.*",
        CUDA: "==12.*",
    }


def test_of_what_is_not_installed_or_has_no_version_any_is_taken() -> None:
    versions = {"torch": "2.9.1", "megatron-core": "main"}
    there = Installed(python="3.12.1", versions=versions, requires={})
    found = inventory.of_installed(there)
    assert set(specs(found)) == {"torch", "python"}
    assert found.notes[0] == 'megatron-core has no valid version: "main"; any version fits'
    assert found.notes[1] == "nvidia-modelopt is not installed; any version fits"
    with pytest.raises(UsageError, match="current: the environment has none of megatron-core"):
        inventory.of_installed(Installed(python="3.12.1", versions={}, requires={}))


def test_a_container_without_megatron_core_leaves_modelopt_to_pip() -> None:
    found = inventory.of_container(KNOWN.named("pytorch:25.06"))
    assert specs(found) == {
        "torch": "==2.8.*",
        "transformer-engine": "==2.4.0",
        "python": "==3.12.*",
        CUDA: "==12.*",
    }
    assert "its nvidia-modelopt 0.29.0 is ignored, because pip replaces it" in found.notes
    assert inventory.VENDOR in found.notes
    assert any(note.startswith("source: ") and "looked up" in note for note in found.notes)


def test_a_container_of_a_framework_is_taken_whole_and_a_branch_is_named() -> None:
    found = inventory.of_container(KNOWN.named("nemo:25.11"))
    assert specs(found)["megatron-core"] == "==0.15.0"
    assert specs(found)["nvidia-modelopt"] == "==0.37.0"
    assert "its megatron-core 0.15.0 is the branch dev, not a release" in found.notes


def test_what_is_said_last_counts_and_that_is_said() -> None:
    container = inventory.of_container(KNOWN.named("pytorch:25.06"))
    both = inventory.together([container, inventory.of_words("te 2.7, mcore 0.14")])
    assert specs(both)["transformer-engine"] == "==2.7.*"
    assert specs(both)["megatron-core"] == "==0.14.*"
    assert both.notes[-1] == '"te 2.7" counts, not "transformer-engine 2.4.0+3cd6870"'


def test_a_builds_tag_never_counts_before_what_is_known_of_cuda() -> None:
    container = inventory.of_container(KNOWN.named("pytorch:26.03"))
    both = inventory.together([container, inventory.of_words("torch 2.9.1+cu128")])
    assert specs(both)[CUDA] == "==13.*"


REQUIREMENTS = r"""
# training
--extra-index-url https://index.example
torch==2.9.1+cu128
megatron-core[mlm,dev]>=0.15,<0.17   # from the release
nvidia-modelopt[torch]==0.41.0 \
    --hash=sha256:aaaa \
    --hash=sha256:bbbb
transformer_engine[pytorch]==2.11.0; python_version >= "3.10"
transformer_engine==1.0; sys_platform == "win32"
transformers==4.57.1
numpy<2
-c constraints.txt
"""


def test_only_the_axes_of_a_file_count_and_how_many_others_there_are_is_said(
    tmp_path: Path,
) -> None:
    (tmp_path / "constraints.txt").write_text("torch==2.9.1\n-r requirements.txt\npandas==2\n")
    path = tmp_path / "requirements.txt"
    path.write_text(REQUIREMENTS)
    found = requirements_file.of_text(REQUIREMENTS, path)
    assert specs(found) == {
        "torch": "==2.9.1",
        "megatron-core": "<0.17,>=0.15",
        "nvidia-modelopt": "==0.41.0",
        "transformer-engine": "==2.11.0",
        CUDA: "==12.*",
    }
    assert found.notes == (
        '"transformer_engine==1.0; sys_platform == "win32"" is not for Python 3.12 on Linux: left '
        "out",
        f"{path}: 3 other packages are left out",
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("torch>=2.6\ntorch==2.9.1", {"torch": "==2.9.1,>=2.6"}),
        ("torch 2.9.1\n", {"torch": "==2.9.1"}),
        (
            "Package   Version   Editable project location\n--------- ---------\n"
            "torch     2.8.0a0+52289.nv25.6\nnumpy     2.0\nmegatron-core 0.15.0 /opt/x\n",
            {"torch": "==2.8.*", "megatron-core": "==0.15.0"},
        ),
        (
            "torch==2.9.1\nnvidia-cuda-runtime-cu12==12.8.90\ntransformer_engine_cu12==2.11.0",
            {"torch": "==2.9.1", CUDA: "==12.*", "transformer-engine": "==2.11.0"},
        ),
        (
            "-e git+https://git.example/NVIDIA/Megatron-LM.git@core_v0.14.0#egg=megatron_core",
            {"megatron-core": "==0.14.0"},
        ),
        (
            "git+https://git.example/NVIDIA/Megatron-LM.git@core_v0.14.0",
            {"megatron-core": "==0.14.0"},
        ),
        (
            "torch @ https://x.example/torch-2.8.0%2Bcu128-cp312-cp312-linux_x86_64.whl",
            {"torch": "==2.8.0", CUDA: "==12.*"},
        ),
        ("./wheels/other\n-e .\ntorch==2.9.1", {"torch": "==2.9.1"}),
    ],
)
def test_files_have_many_forms(text: str, expected: dict[str, str], tmp_path: Path) -> None:
    assert specs(requirements_file.of_text(text, tmp_path / "r.txt")) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("numpy==2", "r.txt names none of megatron-core, ModelOpt, TE and torch"),
        ("", "names none"),
        ("torch==2.9.1\ntorch = = 2", 'r.txt: line 2: invalid requirement "torch = = 2"'),
        (
            "\n\nmegatron-core @ git+https://git.example/Megatron-LM.git@8f9d1c2",
            r"r.txt: line 3: no version of megatron-core in .*8f9d1c2; write",
        ),
        ("-r https://x.example/r.txt", "r.txt: line 1: https://x.example/r.txt is a remote file"),
        ("-r nowhere.txt", "r.txt: line 1: nowhere.txt does not exist"),
        ("-r other.txt", r"other.txt: line 1: invalid requirement"),
        ("-r .", "line 1: . cannot be read: not a regular file"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_line(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("???\n")
    with pytest.raises(UsageError, match=said) as caught:
        requirements_file.of_text(text, tmp_path / "r.txt")
    assert str(caught.value).count(": line ") < 2


LINES = st.lists(
    st.sampled_from(
        [
            *("torch==2.9.1", "torch", "-r r.txt", "-c x", "-e .", "# x", "\\", "--hash=sha256:1"),
            *("torch @ file:///x", "te==1", "transformer_engine==2", "a b c", "-", "---", "\x00"),
            *("torch==2.9.1 \\", "nvidia-cuda-runtime>=12", "megatron-core>=0; x", "FROM x"),
        ]
    )
    | st.text(max_size=20),
    max_size=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LINES)
def test_no_file_is_more_than_a_usage_error(tmp_path: Path, lines: list[str]) -> None:
    text = "\n".join(lines)
    with contextlib.suppress(UsageError):
        assert requirements_file.of_text(text, tmp_path / "r.txt").constraints
    with contextlib.suppress(UsageError):
        assert dockerfile.of_text(text, tmp_path / "Dockerfile", KNOWN).notes


@pytest.mark.parametrize(
    ("text", "image"),
    [
        ("FROM nvidia/pytorch:25.06-py3", "pytorch:25.06-py3"),
        ("from --platform=linux/amd64 nvidia/pytorch:25.06-py3 as x", "pytorch:25.06-py3"),
        ("ARG TAG=25.10\nFROM nvidia/pytorch:${TAG}-py3", "pytorch:25.10-py3"),
        ("FROM nvidia/pytorch:${TAG:-25.10}-py3", "pytorch:25.10-py3"),
        ("FROM nvidia/nemo:25.09 AS base\nFROM base AS run\nFROM run", "nemo:25.09"),
        ("FROM nvidia/nemo:25.09\nFROM nvidia/nemo:26.02", "nemo:26.02"),
        ("FROM nvidia/nemo:26.02\nFROM scratch", "nemo:26.02"),
        ("Bootstrap: docker\nFrom: nvidia/nemo:26.02", "nemo:26.02"),
    ],
)
def test_a_dockerfile_is_its_last_image_that_is_known(text: str, image: str) -> None:
    assert dockerfile.is_one(text)
    found = dockerfile.of_text(text, Path("Dockerfile"), KNOWN)
    assert found.notes[0] == f"Dockerfile starts from nvidia/{image}"


def test_what_a_dockerfile_installs_is_not_interpreted_and_that_is_said() -> None:
    text = "FROM nvidia/pytorch:25.06-py3\nRUN pip install a\nRUN pip3 install b\n"
    found = dockerfile.of_text(text, Path("Dockerfile"), KNOWN)
    assert found.notes[-1] == "Dockerfile: its pip install (2 times) is not interpreted"
    with pytest.raises(UsageError, match=r"Dockerfile: unknown image nvidia/pytorch:25.07"):
        dockerfile.of_text("FROM nvidia/pytorch:25.07", Path("Dockerfile"), KNOWN)
    assert not dockerfile.is_one("".join(f"{name}==1\n" for name in VERSIONS))
