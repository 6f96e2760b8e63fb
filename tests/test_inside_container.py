"""What `doctor` says of a container that it is in, and of what a vendor built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
import snapshot
from test_containers import KNOWN
from test_doctor import KNOWN_CELL, RIGHT, VERSIONS

from mcore_compat.analysis import doctor
from mcore_compat.analysis.inside_container import InsideContainer, inside
from mcore_compat.analysis.package_origin import PackageOrigin
from mcore_compat.analysis.remarks import FAULT, NOTE, Remark
from mcore_compat.environments.scan import Installed

NGC = {
    "NVIDIA_PRODUCT_NAME": "PyTorch",
    "NVIDIA_PYTORCH_VERSION": "25.06",
    "NVIDIA_BUILD_ID": "177567386",
}


def in_container(environ: Mapping[str, str]) -> InsideContainer | None:
    return inside(environ, KNOWN)


def test_a_container_is_named_with_what_is_in_there() -> None:
    found = in_container(NGC)
    assert found is not None
    assert found.text("2.8.0a0+5228986c39.nv25.06") == (
        "this is nvidia/pytorch:25.06-py3 (build 177567386), with torch "
        "2.8.0a0+5228986c39, transformer-engine 2.4.0+3cd6870, nvidia-modelopt 0.29.0, CUDA 12.9.1"
    )
    said = remarks_in(RIGHT, found)
    (note,) = [r for r in said if "container" in r.help]
    assert note.kind == NOTE
    assert note.help.startswith("mcore-compat recommend --container pytorch:25.06 ")
    assert "torch 2.9.1 replaced its own" in note.text


def test_what_an_image_says_itself_counts_before_what_is_known_of_it() -> None:
    found = in_container({**NGC, "MODEL_OPT_VERSION": "0.31.0"})
    assert found is not None
    assert found.held["nvidia-modelopt"] == "0.31.0"
    unknown = in_container({**NGC, "NVIDIA_PYTORCH_VERSION": "29.01", "CUDA_VERSION": "14.1"})
    assert unknown is not None
    assert (unknown.short, unknown.held) == ("", {"CUDA": "14.1"})
    framework = in_container({**NGC, "NVIDIA_PRODUCT_NAME": "NeMo Framework"})
    assert framework is not None
    assert framework.held == {}
    assert framework.name.startswith("NVIDIA's NeMo Framework container, built on nvidia/")


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"NVIDIA_PYTORCH_VERSION": "25.06"},  # people set it themselves: NeMo asks for it
        {"NVIDIA_PRODUCT_NAME": "CUDA"},
        {**NGC, "NVIDIA_PYTORCH_VERSION": "latest"},
    ],
)
def test_elsewhere_no_container_is_named(environ: dict[str, str]) -> None:
    assert in_container(environ) is None


def remarks_in(there: Installed, container: InsideContainer | None) -> tuple[Remark, ...]:
    origin = PackageOrigin(container=container, releases=snapshot.releases())
    bare = replace(snapshot.matrix(), undeclared=())
    return doctor.diagnose(there, bare, KNOWN_CELL, origin=origin)


VENDORS = {
    **{k: v for k, v in VERSIONS.items() if not k.startswith("transformer")},
    "transformer-engine": "2.14+71bbefb",
}


@pytest.mark.parametrize("container", [None, in_container(NGC)])
def test_a_version_that_the_index_does_not_have_is_never_built_from_it(
    container: InsideContainer | None,
) -> None:
    there = replace(RIGHT, versions=VENDORS)
    parts = {**VENDORS, "transformer-engine-torch": "2.14+71bbefb"}
    core = {**VENDORS, "transformer-engine-cu12": "2.14+71bbefb"}
    broken = (
        replace(there, extension=False),
        replace(there, unresolved=("_ZN2at4x",)),
        replace(there, versions=parts, extension=False),
        replace(there, versions=core, cuda="13.0"),
    )
    for there in broken:
        helps = [r.help for r in remarks_in(there, container) if r.kind == FAULT]
        assert not any("==2.14+71bbefb" in text for text in helps)
        told = next(text for text in helps if "not on the index" in text)
        assert ("start again from the image" in told) is (container is not None)
        assert "'transformer-engine[pytorch]==2.14" in told


def test_a_release_of_the_index_is_built_from_it() -> None:
    there = replace(RIGHT, extension=False)
    (fault,) = [r for r in remarks_in(there, None) if r.kind == FAULT]
    assert fault.help.endswith("transformer-engine-torch==2.11.0")
    bare = replace(snapshot.matrix(), undeclared=())
    unknown = doctor.diagnose(replace(there, versions=VENDORS), bare, KNOWN_CELL)
    assert any(r.help.endswith("==2.14+71bbefb") for r in unknown)


def test_a_remark_has_the_result_that_it_is_from() -> None:
    pins = {**VERSIONS, "megatron-core": "0.15.0"}
    (note,) = [r for r in remarks_in(replace(RIGHT, versions=pins), None) if r.cell]
    assert note.text.startswith("this combination was not tested")
    assert note.cell is KNOWN_CELL.cells[0]
