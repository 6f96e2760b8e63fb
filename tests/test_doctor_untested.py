"""What `doctor` says of releases that were not run together, by causes that are known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import snapshot
from msgspec import structs
from packaging.requirements import Requirement
from test_doctor import PINS, RIGHT, bare, changed, published_of, record, said

from mcore_compat.analysis import doctor
from mcore_compat.analysis.cell_record import CellRecord
from mcore_compat.analysis.grades import Grade
from mcore_compat.analysis.package_origin import PackageOrigin
from mcore_compat.analysis.published import PublishedCause, PublishedRule
from mcore_compat.analysis.remarks import NOTE, UNTESTED
from mcore_compat.analysis.rules import Bound
from mcore_compat.core import source_digests
from mcore_compat.core.matrix import Matrix

__all__ = ["bare"]  # a fixture


def cause(
    *checks: str, rivals: tuple[tuple[str, ...], ...] = (("nvidia-modelopt==0.41.0",),)
) -> PublishedCause:
    return PublishedCause(
        device_class="host",
        fingerprint="0" * 12,
        type="TypeError",
        message="m",
        frame="f",
        checks=checks,
        cells=(),
        attributed_to=(),
        gpu_independent=None,
        bounded_rules=tuple(
            PublishedRule(
                text=text,
                bounds=tuple(map(bound, text.split(" and "))),
                checks=checks if place == len(rivals) - 1 else (str(place),),
            )
            for place, texts in enumerate(rivals)
            for text in texts
        ),
    )


def bound(text: str) -> Bound:
    """The interval of `torch>=2.9,<=2.10`; one without an end is open."""
    need = Requirement(text)
    ends = {spec.operator: spec.version for spec in need.specifier}
    low, high = (
        ends.get(sign, ends.get("==", other)) for sign, other in ((">=", "0"), ("<=", "99"))
    )
    return Bound(axis=need.name, low=low, high=high, below=None, above=None)


def neighbour(torch: str, unexpected: tuple[str, ...] = (), **checks: str) -> CellRecord:
    """A cell that is unlike RIGHT in torch. A check is `works`, or the fingerprint of its cause."""
    return changed(
        record({**PINS, "torch": torch}, unexpected),
        name=f"torch{torch}",
        checks={c: "works" if o == "works" else "broken" for c, o in checks.items()},
        causes={c: o for c, o in checks.items() if o != "works"},
    )


MINE, OTHER = "0" * 12, "1" * 12
LIKELY = UNTESTED[Grade.LIKELY]
SEEN = "TypeError in f; known with nvidia-modelopt==0.41.0, and no result shows a fix"


@pytest.mark.parametrize(
    ("rivals", "told"),
    [
        ((("torch>=2.9,<=2.10 and nvidia-modelopt==0.41.0",),), True),
        ((("torch>=2.10",),), False),
        ((("torch>=2.9", "megatron-core==0.9.0"),), False),
        ((("megatron-core==0.9.0",), ("torch>=2.9",)), True),
        ((), False),
    ],
)
def test_a_rule_applies_where_all_that_fit_the_results_do(
    rivals: tuple[tuple[str, ...], ...], told: bool, bare: Matrix
) -> None:
    """Where another works on the same side, it is not told beyond a rule's end either."""
    cells = (neighbour("2.10.0", ("state",), state=MINE), neighbour("2.8.0", state="works"))
    lines = said(RIGHT, bare, published_of(*cells, causes=[cause("state", rivals=rivals)]))
    assert any(line.startswith(f"{LIKELY}: state") for line in lines) is told


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        ((neighbour("2.10.0", ("one", "two"), one=MINE, two=MINE),), "one, two"),
        ((neighbour("2.10.0", ("one",), one=MINE, two="works"),), "one"),
        # One that works in any of the cells that the rules are about does not fail for it.
        (
            (
                neighbour("2.10.0", ("one", "two"), one=MINE, two=MINE),
                neighbour("2.8.0", two="works"),
            ),
            "one",
        ),
        # Nor one of which the nearest cell says that it fails for another reason.
        ((neighbour("2.10.0", ("one", "two"), one=MINE, two=OTHER),), "one"),
        ((neighbour("2.10.0", ("one",), one=MINE),), "one"),
    ],
)
def test_of_a_causes_checks_only_those_that_fail_within_its_rules_are_told(
    cells: tuple[CellRecord, ...], told: str, bare: Matrix
) -> None:
    known = published_of(*cells, causes=[cause("one", "two")])
    (line,) = [x for x in said(RIGHT, bare, known) if x.startswith(LIKELY)]
    assert line == f"{LIKELY}: {told}: {SEEN}"


def test_what_is_declared_is_as_little_wrong_as_in_a_combination_that_was_tested(
    bare: Matrix,
) -> None:
    """A restore that fails is told in any case; else only where another cell does better."""
    far = changed(
        neighbour("2.9.1", state="works"), pins={**PINS, "nvidia-modelopt": "0.42.0"}, name="far"
    )
    causes = (cause("state", "restore[gpt]"),)
    cells = (neighbour("2.10.0", **{"state": MINE, "restore[gpt]": MINE}),)
    first = f"{LIKELY}: restore[gpt]: {SEEN}"
    assert said(RIGHT, bare, published_of(*cells, causes=causes))[1:] == [first]
    _, *remarks = doctor.diagnose(RIGHT, bare, published_of(*cells, far, causes=causes))
    assert [r.kind for r in remarks] == [LIKELY, NOTE]
    assert remarks[1].text.startswith(f"{LIKELY}: state: {SEEN}")
    assert remarks[1].text.endswith("; work in other cells of megatron-core 0.16.1")
    assert remarks[1].help.startswith("state works in far; ")


FILE = "modelopt/torch/opt/x.py"


def test_what_is_inferred_is_labelled_so_and_names_the_digest(bare: Matrix) -> None:
    cell = neighbour("2.10.0", ("state",), state=MINE)
    one = structs.replace(cause("state"), frame="modelopt.torch.opt.x:f", files=(FILE,))
    digests = source_digests.made({"nvidia-modelopt": {"0.41.0": {FILE: "a" * 64}}}, {})
    known = published_of(cell, causes=[one])
    _, remark = doctor.diagnose(RIGHT, bare, known, digests=digests)
    assert remark.kind == UNTESTED[Grade.INFERRED]
    assert remark.text.endswith(
        f"{FILE} is the same, byte for byte, as in torch2.10.0 (sha256 {'a' * 12})"
    )
    vendors = replace(RIGHT, versions={**RIGHT.versions, "nvidia-modelopt": "0.41.0+nv1"})
    _, remark = doctor.diagnose(vendors, bare, known, digests=digests)
    assert remark.kind == LIKELY


def test_the_command_that_tells_is_said(bare: Matrix) -> None:
    moved = record({**PINS, "nvidia-modelopt": "0.39.0"})
    origin = PackageOrigin(releases=snapshot.releases())
    (remark,) = doctor.diagnose(RIGHT, bare, published_of(moved), origin=origin)
    assert remark.kind == NOTE
    assert remark.help.endswith(": nox -s compat-0.16-modelopt0.41 -- --te-extension stand-in")
