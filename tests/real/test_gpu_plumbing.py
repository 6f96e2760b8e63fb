"""The GPU tier's own checks on real packages, without a GPU: do they tell right from wrong?

`gpu_stand_ins.py` says what stands in, so nothing here shows what a GPU computes. Selected
by `nox -s real`. `MCORE_COMPAT_PLUMBING` names the environments, by the paths of their folders;
without it that of the other real tests is asked.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from real_support import CELL, cell
from support import ROOT

from mcore_compat.base import processes
from mcore_compat.environments import process_variables

pytestmark = pytest.mark.real

SCRIPT = Path(__file__).with_name("gpu_plumbing.py")

VARIABLE = "MCORE_COMPAT_PLUMBING"

FAMILIES = ("gpt", "mla-moe", "llama4-moe", "hybrid-mamba")

NAMED = [place for place in os.environ.get(VARIABLE, "").split(os.pathsep) if place]

LOST_IN_ROUNDING = "norm lost, bfloat16"
"""A norm's weights are within 2% of one: in bfloat16 that may be the model's own noise."""

NO_FORWARD = "_QuantMoELayer.forward() got an unexpected keyword argument 'padding_mask'"
"""What ModelOpt's own layer raises where Megatron gives it an argument that it does not know: the
packages do not fit, on a GPU neither, and a quantized model with experts is rightly broken."""


@pytest.fixture(scope="module", params=NAMED or [CELL])
def place(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=FAMILIES)
def found(
    request: pytest.FixtureRequest, place: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    python, tools, variables = cell()
    if place != CELL:
        python = Path(place, "bin", "python")
        assert python.exists(), f"{VARIABLE}: {place} is no environment; make it with nox -s CELL"
        site = next(Path(place, "lib").glob("python3*/site-packages"))
        variables = dict(
            process_variables.variables(site, process_variables.driver_stub(site, processes.run))
        )
    folder = tmp_path_factory.mktemp("plumbing")
    done = processes.run(
        [python, SCRIPT, ROOT, tools, folder, request.param],
        timeout=570,
        env={**variables, "TORCHDYNAMO_DISABLE": "1", "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
    )
    assert done.returncode == 0, done.output[-3000:]
    told = json.loads(done.output.strip().splitlines()[-1])
    assert told["stands in"]
    mine: dict[str, Any] = told["families"][request.param]
    return mine


def wrong(rows: dict[str, Any], wanted: str) -> dict[str, str]:
    """By name, what ended otherwise than wanted, and in what words."""
    asked = fitting(rows)
    assert asked
    return {n: row["outcome"] + row["said"] for n, row in asked.items() if row["outcome"] != wanted}


def fitting(rows: dict[str, Any]) -> dict[str, Any]:
    """What was asked where the packages fit each other."""
    return {name: row for name, row in rows.items() if NO_FORWARD not in row["said"]}


def test_every_check_works_on_the_right_model(found: dict[str, Any]) -> None:
    rows = dict(found["checks"])
    if rows["quantized-kv"]["outcome"] == "Unsupported":
        assert "no keys or values" in rows.pop("quantized-kv")["said"]
    assert wrong(rows, "works") == {}


def test_checks_work_whatever_the_seed(found: dict[str, Any]) -> None:
    assert wrong(found["seeds"], "works") == {}


def test_every_model_with_one_thing_wrong_is_broken(found: dict[str, Any]) -> None:
    rows = {n: row for n, row in found["controls"].items() if n != LOST_IN_ROUNDING}
    assert wrong(rows, "broken") == {}
    crashed = {
        n: row["said"] for n, row in fitting(rows).items() if "AssertionError" not in row["said"]
    }
    assert crashed == {}, "a control is to be judged, not to end in an error of its own"
