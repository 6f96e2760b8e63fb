"""The GPU tier's functions on real packages, without a GPU: whether their calls fit the packages.

Norms and attention stand in, so nothing here is evidence. Slow; selected by `nox -s real`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from real_support import cell

from mcore_compat.base import files, processes

pytestmark = pytest.mark.real

SCRIPT = Path(__file__).with_name("gpu_plumbing.py")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    python, tools, variables = cell()
    folder = tmp_path_factory.mktemp("plumbing")
    done = processes.run(
        [python, SCRIPT, files.ROOT, tools, folder],
        timeout=300,
        env={**variables, "TORCHDYNAMO_DISABLE": "1", "TORCH_EXTENSIONS_DIR": str(folder / "ext")},
        cwd=files.ROOT,
    )
    assert done.returncode == 0, done.output[-3000:]
    told: dict[str, Any] = json.loads(done.output.strip().splitlines()[-1])
    return told


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_restored_model_says_the_same_with_a_cache_and_without(
    found: dict[str, Any], dtype: str
) -> None:
    told = found[dtype]
    assert told["shapes"] == []
    assert max(told["restored"], told["eval"], told["training"]) < told["limit"]


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_swapped_weights_of_a_real_model_are_above_the_tolerance(
    found: dict[str, Any], dtype: str
) -> None:
    assert found[dtype]["swapped"] > found[dtype]["limit"]


@pytest.mark.parametrize("fmt", ["int8", "fp8"])
def test_a_quantized_model_is_near_and_can_be_trained(found: dict[str, Any], fmt: str) -> None:
    told = found[fmt]
    assert told["enabled"] > 0
    assert told["uncalibrated"] == []
    assert 0 < told["distance"] < told["limit"]
    assert told["losses"][1] < told["losses"][0]
    assert told["without gradient"] == []
