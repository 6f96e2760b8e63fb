"""Which untested cells may be proposed, by the declared matrix and the facts about releases."""

from __future__ import annotations

import pytest
import snapshot
from support import event, stand_in_result

from mcore_compat.analysis.next_cell import UntestedCells
from mcore_compat.core import combinations
from mcore_compat.core.cells import parsed

MATRIX, RELEASES = snapshot.matrix(), snapshot.releases()
DEFAULTS = combinations.cells(MATRIX, RELEASES)
NEWEST = max(DEFAULTS, key=lambda c: (parsed(c.mcore), parsed(c.modelopt)))


def test_the_other_versions_of_an_axis_come_nearest_first() -> None:
    untested = UntestedCells((), MATRIX, RELEASES)
    beside = [parsed(v) for v in untested.beside("torch", NEWEST.torch)]
    assert beside == sorted(beside, reverse=True)
    assert parsed(NEWEST.torch) not in beside
    middle = str(beside[len(beside) // 2])
    assert {parsed(v) for v in untested.beside("torch", middle)[:2]} == {
        beside[len(beside) // 2 - 1],
        beside[len(beside) // 2 + 1],
    }


def test_a_cell_has_the_name_that_runs_it() -> None:
    untested = UntestedCells((), MATRIX, RELEASES)
    assert untested.named(NEWEST.pins) == NEWEST.name
    older = untested.beside("torch", NEWEST.torch)[0]
    name = untested.named({**NEWEST.pins, "torch": older})
    assert name is not None
    assert combinations.named(name, MATRIX, RELEASES).pins == {**NEWEST.pins, "torch": older}


def test_a_cell_of_which_there_is_a_result_is_not_proposed() -> None:
    found = stand_in_result(event("restore[gpt]"), cell=NEWEST)
    assert UntestedCells([found], MATRIX, RELEASES).named(NEWEST.pins) is None


@pytest.mark.parametrize(
    ("axis", "version"),
    [
        ("megatron-core", "0.1.0"),  # no series of the matrix
        ("transformer-engine", min(MATRIX.te_series, key=parsed)),  # no core library for CUDA 13
        ("torch", min(MATRIX.torch_series, key=parsed)),  # the newest ModelOpt requires a newer one
        ("python", "3.1"),  # nothing has wheels for it
        ("nvidia-modelopt", "0.60.0"),  # the facts have no such release
    ],
)
def test_what_cannot_be_installed_is_not_proposed(axis: str, version: str) -> None:
    if axis in ("torch", "transformer-engine"):
        version = RELEASES.newest(axis, version).version
    assert UntestedCells((), MATRIX, RELEASES).named({**NEWEST.pins, axis: version}) is None


def test_a_te_whose_extension_only_nvcc_builds_is_proposed() -> None:
    """A stand-in takes the place of its extension."""
    older = RELEASES.newest("transformer-engine", "1.13").version
    old = combinations.named("compat-0.14-modelopt0.37", MATRIX, RELEASES)
    pins = {**old.pins, "transformer-engine": older}
    assert UntestedCells((), MATRIX, RELEASES).named(pins) == f"{old.name}-te1.13"
