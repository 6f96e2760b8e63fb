"""The line that makes the environment which was tested."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import snapshot
from packaging.specifiers import SpecifierSet

from mcore_compat.analysis import install_line
from mcore_compat.analysis.install_line import FILE, InstallLine
from mcore_compat.core.matrix import SourceOnly, Undeclared

OLD = {
    "causal-conv1d": "1.5.2",
    "flash-attn": "2.6.3",
    "mamba-ssm": "2.2.4",
    "megatron-core": "0.12.3",
    "nvidia-modelopt": "0.25.0",
    "numpy": "1.26.4",
    "onnx": "1.18.0",
    "psutil": "7.0.0",
    "rich": "14.0.0",
    "torch": "2.6.0",
    "transformer-engine": "1.11.0",
    "transformer-engine-cu12": "1.11.0",
    "transformer-engine-torch": "1.11.0",
    "transformers": "4.50.0",
}
NEW = {
    **OLD,
    "megatron-core": "0.19.2",
    "nvidia-modelopt": "0.46.1",
    "requests": "2.34.2",
    "torch": "2.13.0",
    "transformer-engine": "2.17.1",
    "transformer-engine-cu13": "2.17.1",
    "transformer-engine-torch": "2.17.1",
}
VARIABLES = {"CUDA_HOME": "<site-packages>/nvidia"}


def line(pins: dict[str, str], *families: str, **variables: str) -> InstallLine:
    return snapshot.installs().line(pins, "3.12", variables, families)


def test_what_packages_import_and_do_not_ask_for_is_asked_for() -> None:
    asked = line(NEW, "gpt").wheels
    assert {"requests", "transformers", "psutil"} <= {*asked}
    assert "rich" not in asked, "comes as a requirement"
    assert "requests" not in line(OLD, "gpt").wheels


def test_what_one_family_alone_needs_is_left_out_for_others() -> None:
    rule = Undeclared(
        of="megatron-core",
        when=SpecifierSet(">=0.9"),
        requires=("mamba-ssm",),
        imported_by="x",
        reason="y",
        families=("hybrid-mamba",),
    )
    assert rule.concerns(())
    assert rule.concerns(("gpt", "hybrid-mamba"))
    assert not rule.concerns(("gpt",))
    assert line(NEW).built == ("transformer-engine-torch", "causal-conv1d", "mamba-ssm")
    assert line(NEW).optional == ("causal-conv1d", "mamba-ssm")
    assert line(NEW, "gpt").built == ("transformer-engine-torch",)
    assert line(NEW, "gpt").optional == ()


def test_flash_attn_is_built_only_where_the_extension_requires_it() -> None:
    rules = [
        SourceOnly(package="transformer-engine-torch", when=when, requires=requires)
        for when, requires in (
            (SpecifierSet("<1.12"), ("torch", "flash-attn<=2.6.3")),
            (SpecifierSet(">=1.12"), ("torch",)),
        )
    ]
    rules.append(SourceOnly(package="flash-attn", when=SpecifierSet(">=2"), requires=("torch",)))
    facts = snapshot.installs()
    facts = replace(facts, matrix=replace(facts.matrix, source_only=tuple(rules)))
    assert facts.line(OLD, "3.11").built == ("flash-attn", "transformer-engine-torch")
    assert facts.line(NEW, "3.12").built == ("transformer-engine-torch",)


def test_an_extra_is_asked_for_where_there_is_one() -> None:
    assert "'nvidia-modelopt[torch]'" in line(OLD).wheels
    assert "nvidia-modelopt" in line(NEW).wheels


def test_sources_are_built_after_torch_beside_it_and_variables_come_last() -> None:
    steps = line(NEW, "gpt", **VARIABLES).command("a b.txt").split(" && ")
    assert len(steps) == 3
    assert steps[0].startswith("pip install -c 'a b.txt' ")
    assert {"torch", "setuptools", "pybind11"} <= {*steps[0].split()}
    assert "transformer-engine-torch" not in steps[0].split()
    end = "pip install --no-build-isolation --no-deps -c 'a b.txt' transformer-engine-torch"
    assert steps[1].endswith(end)
    assert steps[2].startswith("export CUDA_HOME=")


def test_it_says_what_it_compiles_and_what_that_takes() -> None:
    said = " ".join(line(NEW).notes())
    assert "Python 3.12" in said
    assert "compiles" in said
    assert "mcore-compat toolkit --cuda 13.0" in said
    assert "Only hybrid-mamba models need causal-conv1d, mamba-ssm" in said
    assert "compiles" not in " ".join(line({"torch": "2.13.0"}).notes())


@pytest.mark.parametrize("pins", [{}, {"torch": "x"}, {"megatron-core": "0.19.2"}])
def test_of_what_is_not_whole_what_is_there_is_asked_for(pins: dict[str, str]) -> None:
    words = line(pins).command(FILE).split()
    assert words == ["pip", "install", "-c", FILE, *pins]


def test_a_shell_reads_it(tmp_path: Path) -> None:
    for name in ("pip", "python"):
        (tmp_path / name).write_text('#!/bin/sh\necho "$0" "$@" >> calls.txt\necho /site\n')
        (tmp_path / name).chmod(0o755)
    command = line(NEW, **VARIABLES).command("c.txt") + ' && echo "$CUDA_HOME"'
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=tmp_path,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.splitlines()[-1] == "/site/nvidia"
    calls = (tmp_path / "calls.txt").read_text()
    assert calls.count("/pip install ") == 2


def test_pins_are_read_from_a_constraints_file() -> None:
    assert install_line.pins_of("# a==1\ntorch==2.9.1\n\nx\n") == {"torch": "2.9.1"}
