"""What `doctor` says of environments: made-up ones here; real ones in tests/real."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import snapshot
from msgspec import structs
from support import ROOT, cell_record

from mcore_compat import cli
from mcore_compat.analysis import doctor, published
from mcore_compat.analysis.cell_record import CellRecord, PublishedRepair
from mcore_compat.analysis.published import Compatibility, PublishedCause
from mcore_compat.analysis.remarks import FAULT, KNOWN, NOTE
from mcore_compat.base import processes
from mcore_compat.base.errors import UsageError
from mcore_compat.core.matrix import Matrix
from mcore_compat.environments import scan
from mcore_compat.environments.scan import Installed
from mcore_compat.results import verdict

VERSIONS = {
    "megatron-core": "0.16.1",
    "nvidia-modelopt": "0.41.0",
    "torch": "2.9.1",
    "transformer-engine": "2.11.0",
    "transformer-engine-cu12": "2.11.0",
    "transformer-engine-torch": "2.11.0",
}
RIGHT = Installed(python="3.12.1", versions=VERSIONS, requires={}, cuda="12.8", extension=True)
PINS = {
    **{k: VERSIONS[k] for k in ("megatron-core", "nvidia-modelopt", "transformer-engine", "torch")},
    "python": "3.12",
}


def record(pins: dict[str, str] = PINS, unexpected: tuple[str, ...] = ()) -> CellRecord:
    return cell_record(pins, unexpected=unexpected)


def changed(cell: CellRecord, checks: Mapping[str, str] | None = None, **fields: Any) -> CellRecord:
    """Another cell, with these outcomes by check."""
    if checks is not None:
        outcomes = set(checks.values())
        fields["by_outcome"] = {o: tuple(c for c in checks if checks[c] == o) for o in outcomes}
    return structs.replace(cell, **fields)


def published_of(*cells: CellRecord, causes: Sequence[PublishedCause] = ()) -> Compatibility:
    """What is published where these are all cells and causes."""
    return Compatibility(
        schema="1.0.0",
        made_by="",
        axes={},
        cells=cells,
        causes=tuple(causes),
        findings=(),
        intervals=(),
        drift=(),
    )


KNOWN_CELL = published_of(record())


@pytest.fixture(scope="module")
def bare() -> Matrix:
    """The committed matrix without undeclared requirements."""
    return replace(snapshot.matrix(), undeclared=())


def said(there: Installed, declared: Matrix, known: Compatibility = KNOWN_CELL) -> list[str]:
    return [f"{r.kind}: {r.text}" for r in doctor.diagnose(there, declared, known)]


def without(*names: str, **changed: str) -> dict[str, str]:
    kept = {n: v for n, v in VERSIONS.items() if n not in names}
    return {**kept, **{n.replace("_", "-"): v for n, v in changed.items()}}


def test_of_what_is_right_nothing_is_said(bare: Matrix) -> None:
    assert said(RIGHT, bare) == []


def test_a_local_version_is_the_same_release(bare: Matrix) -> None:
    assert said(replace(RIGHT, versions=without(torch="2.9.1+cu128")), bare) == []


@pytest.mark.parametrize(
    ("there", "text"),
    [
        (replace(RIGHT, versions=without("nvidia-modelopt")), "nvidia-modelopt is not installed"),
        (
            replace(RIGHT, versions=without("transformer-engine-torch"), extension=False),
            "transformer-engine-cu12 2.11.0 is installed without its extension for torch",
        ),
        (
            replace(RIGHT, extension=False),
            "transformer-engine-torch 2.11.0 is installed, but its compiled file is missing",
        ),
        (
            replace(RIGHT, versions=without(transformer_engine_torch="2.9.0")),
            "the parts of Transformer Engine have different versions",
        ),
        (replace(RIGHT, cuda="13.0"), "torch 2.9.1 is built for CUDA 13.0"),
        (replace(RIGHT, cuda=None), "torch 2.9.1 is built without CUDA"),
        (
            replace(RIGHT, versions={**VERSIONS, "transformer-engine-cu13": "2.11.0"}),
            "transformer-engine-cu12 and transformer-engine-cu13 are installed",
        ),
        (
            replace(RIGHT, unresolved=("_ZN3c105ErrorC2E",)),
            "Transformer Engine's extension was built for another torch than 2.9.1",
        ),
        (
            replace(RIGHT, requires={"nvidia-modelopt": ("torch>=2.10",)}),
            "nvidia-modelopt 0.41.0 requires torch>=2.10; torch 2.9.1 is installed",
        ),
    ],
)
def test_each_fault_is_named_with_what_helps(there: Installed, text: str, bare: Matrix) -> None:
    remarks = doctor.diagnose(there, bare, KNOWN_CELL)
    faults = [r for r in remarks if r.kind == FAULT]
    assert len(faults) == 1
    assert text in faults[0].text
    assert faults[0].help


def test_of_a_torch_whose_files_are_elsewhere_nothing_is_wrong(
    bare: Matrix, tmp_path: Path
) -> None:
    unread = scan.read([tmp_path], "3.12.1").unread
    assert said(replace(RIGHT, cuda=None, unread=unread), bare) == [
        f"{NOTE}: the CUDA of torch 2.9.1 is not known: no folder torch in Python's search path"
    ]


def test_requirements_of_extras_and_other_platforms_do_not_bind(bare: Matrix) -> None:
    requires = ('torch>=3; extra == "all"', 'torch>=3; sys_platform == "win32"', "not installed>1")
    assert said(replace(RIGHT, requires={"nvidia-modelopt": requires}), bare) == []


def test_an_undeclared_requirement_that_is_missing_is_named() -> None:
    declared = snapshot.matrix()
    rule = next(r for r in declared.undeclared if r.when.contains(VERSIONS.get(r.of, "0")))
    (line, *_) = said(RIGHT, replace(declared, undeclared=(rule,)))
    assert line.startswith(f"fault: {rule.of} {VERSIONS[rule.of]} imports")
    assert "does not require it" in line


def test_what_a_result_says_of_the_very_combination_is_told(bare: Matrix) -> None:
    known = published_of(record(unexpected=("restore[gpt]",)))
    assert said(RIGHT, bare, known) == [
        f"{KNOWN}: compat-0.16-modelopt0.41 is partial (host, 2026-11-23): restore[gpt] fail"
    ]


def test_a_cell_without_a_verdict_is_told_and_one_with_further_pins_answers(bare: Matrix) -> None:
    why = f"import-packages: {verdict.UNSURE}RuntimeError: curand shared object not found."
    checks = {"restore[gpt]": "needs-gpu"}
    plain = changed(record(), checks, outcome="untested", by_reason={why: ("restore[gpt]",)})
    name = f"{plain.name}-with-nvidia_curand@10.4.x"
    further = changed(record(unexpected=("restore[gpt]",)), name=name)
    note = (
        f"{NOTE}: {plain.name} has no verdict: it ended in RuntimeError: curand shared object not "
        "found; not known whether a GPU would change that"
    )
    assert said(RIGHT, bare, published_of(plain)) == [note]
    assert said(RIGHT, bare, published_of(plain, further)) == [
        note,
        f"{KNOWN}: {name} is partial (host, 2026-11-23): restore[gpt] fail",
    ]
    assert f'f"{verdict.UNSURE}{{' in (ROOT / "suite" / "classify.py").read_text()


@pytest.mark.parametrize("outcome", ["broken", "blocked", "crashed"])
def test_a_restore_that_fails_is_told_also_where_that_is_declared(
    outcome: str, bare: Matrix
) -> None:
    checks = {"restore[gpt]": outcome, "restore[mla-moe]": "works", "restore[x]": "unsupported"}
    cell = changed(record(), checks=checks, outcome="partial")
    assert said(RIGHT, bare, published_of(cell)) == [
        f"{KNOWN}: compat-0.16-modelopt0.41 is partial (host, 2026-11-23): restore[gpt] fail"
    ]


def test_a_declared_failure_is_noted_where_another_cell_does_better(bare: Matrix) -> None:
    state = {"restore[gpt]": "works", "state": "broken"}
    cell = changed(record(), checks=state)
    near = changed(record({**PINS, "nvidia-modelopt": "0.42.0"}), name="near")
    near = changed(near, checks={**state, "state": "works"})
    other = changed(near, name="other", pins={**near.pins, "megatron-core": "0.15.0"})
    (remark,) = doctor.diagnose(RIGHT, bare, published_of(cell, near, other))
    assert remark.kind == NOTE
    assert remark.text.endswith(
        "(host, 2026-11-23): state fail, and work in other cells of megatron-core 0.16.1"
    )
    assert remark.help.startswith("state works in near; ")
    assert said(RIGHT, bare, published_of(cell, other)) == []


def test_what_has_no_valid_version_is_a_fault_and_ends_nothing(bare: Matrix) -> None:
    there = replace(RIGHT, versions={**VERSIONS, "torch": "main", "nvidia-modelopt": ""})
    assert said(there, bare) == [
        f'{FAULT}: nvidia-modelopt has no valid version: ""',
        f'{FAULT}: torch has no valid version: "main"',
    ]
    assert said(there, snapshot.matrix())[:2] == said(there, bare)


def test_a_core_library_alone_has_a_verdict_of_its_own(bare: Matrix) -> None:
    there = replace(RIGHT, versions=without("transformer-engine"))
    cell = changed(record(), checks={"restore[gpt]": "broken"})
    (line,) = said(there, bare, published_of(cell))
    assert line.startswith(f"{KNOWN}: compat-0.16-modelopt0.41 is partial")


@pytest.mark.usefixtures("on_snapshot")
def test_hostile_text_is_shown_as_text(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "load", lambda _: KNOWN_CELL)
    there = replace(RIGHT, versions={**VERSIONS, "torch": "1\x1b[31m\nfault: none\u202e"})
    monkeypatch.setattr(scan, "inspect", lambda python, run: there)
    cli.main(["doctor", "--python", "x", "--verbose"])
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert "\nfault: none" not in out


def test_a_distribution_without_a_version_is_read(tmp_path: Path) -> None:
    place = tmp_path / "torch-x.dist-info"
    place.mkdir()
    (place / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\n")
    assert scan.read([tmp_path], "3.12.1").versions == {"torch": ""}


def test_an_untested_combination_is_no_fault_and_names_the_nearest(bare: Matrix) -> None:
    near = record({**PINS, "torch": "2.10.0"})
    far = changed(record({**PINS, "megatron-core": "0.9.0"}), name="far")
    (remark,) = doctor.diagnose(RIGHT, bare, published_of(far, near))
    assert remark.kind == NOTE
    assert near.name in remark.help


def test_the_python_that_runs_this_is_read() -> None:
    there = scan.inspect(Path(sys.executable), processes.run)
    assert there.python == ".".join(map(str, sys.version_info[:3]))
    assert there.versions["pytest"] == pytest.__version__


@pytest.mark.parametrize("name", ["nothing-here", "pyproject.toml"])
def test_what_is_no_python_is_told(name: str, tmp_path: Path) -> None:
    place = tmp_path / name
    if name != "nothing-here":
        place.write_text("no program")
    with pytest.raises(UsageError, match="is not a working Python interpreter"):
        scan.inspect(place, processes.run)


def test_the_first_of_a_name_on_the_path_counts(tmp_path: Path) -> None:
    for folder, version in (("a", "1.0"), ("b", "2.0")):
        info = tmp_path / folder / f"One_Thing-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Name: One.Thing\nVersion: {version}\n")
    there = scan.read([tmp_path / "a", tmp_path / "b", tmp_path / "none"], "3.12.0")
    assert there.versions == {"one-thing": "1.0"}


def test_the_cuda_of_torch_is_read_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    there = scan.read([tmp_path], "3.12.0")
    assert (there.cuda, there.unread) == (None, "torch's version.py is missing")
    text = "__version__ = '2.9.1'\ncuda: Optional[str] = '12.8'\nhip: Optional[str] = None\n"
    (tmp_path / "torch" / "version.py").write_text(text)
    there = scan.read([tmp_path], "3.12.0")
    assert (there.cuda, there.unread) == ("12.8", "")
    (tmp_path / "torch" / "version.py").write_text(text.replace("'12.8'", "None"))
    there = scan.read([tmp_path], "3.12.0")
    assert (there.cuda, there.unread) == (None, "")


def test_symbols_are_read_from_a_real_library(tmp_path: Path) -> None:
    import _ctypes

    library = Path(_ctypes.__file__)
    assert b"PyInit__ctypes" in scan.symbols(library, defined=True)
    assert any(n.startswith(b"Py") for n in scan.symbols(library, defined=False))
    (tmp_path / "x.so").write_text("no library")
    assert scan.symbols(tmp_path / "x.so", defined=True) == set()


class TestRepair:
    """A combination is repaired by a pin: what is installed tells whether that is needed."""

    REPAIR = PublishedRepair(
        package="transformers",
        requirement="transformers<4.56",
        locked="4.57.1",
        works="4.55.4",
        fails="4.56.0",
        checks=("import",),
    )

    def said_with(self, version: str | None, bare: Matrix, **pins: str) -> list[str]:
        cell = changed(
            record(),
            {"import": "works-with", "restore[gpt]": "works"},
            conditions={"import": "pip install 'transformers<4.56'"},
            repair=self.REPAIR,
        )
        versions = {**VERSIONS, **pins, **({"transformers": version} if version else {})}
        return said(replace(RIGHT, versions=versions), bare, published_of(cell))

    def test_a_release_that_it_leaves_out_is_told(self, bare: Matrix) -> None:
        (text,) = self.said_with("4.57.0", bare)
        assert text.startswith("known to fail: import fail in compat-0.16-modelopt0.41 with")
        assert "4.57.0 is installed, and they work with transformers<4.56" in text

    @pytest.mark.parametrize("version", ["4.55.4", "no version", None])
    def test_else_nothing_is(self, version: str | None, bare: Matrix) -> None:
        assert self.said_with(version, bare) == []

    def test_of_the_same_series_it_is_a_note(self, bare: Matrix) -> None:
        texts = self.said_with("4.57.0", bare, **{"megatron-core": "0.16.0"})
        (text,) = [text for text in texts if "transformers" in text]
        assert text.startswith("note: import fail in compat-0.16-modelopt0.41 with")

    def test_of_another_series_nothing_is_said(self, bare: Matrix) -> None:
        texts = self.said_with("4.57.0", bare, **{"megatron-core": "0.15.3"})
        assert not [text for text in texts if "transformers" in text]
