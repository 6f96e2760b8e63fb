"""What the command `bundle` does before anything is written: wheels by their hashes, words."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import snapshot
from index_support import file
from support import START, event, stand_in_cell

from mcore_compat import cli
from mcore_compat.base.errors import InfrastructureError, UsageError
from mcore_compat.base.processes import Completed
from mcore_compat.cli import bundle
from mcore_compat.core.workspace import Workspace
from mcore_compat.environments import scan
from mcore_compat.environments.scan import Installed
from mcore_compat.offline import collection, contents, download, packing, run_over_base
from mcore_compat.offline.node import overlay
from mcore_compat.offline.node.overlay import BasePython
from mcore_compat.resolve import locks
from mcore_compat.resolve.locks import Pin
from mcore_compat.results.from_events import Builder
from mcore_compat.results.result import Result, empty_result
from mcore_compat.run import context, pipeline
from mcore_compat.run.check_sets import GPU

pytestmark = pytest.mark.usefixtures("on_snapshot")

WHEEL, PURE, SDIST = b"a wheel", b"a pure wheel", b"a source"


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class StandInIndex:
    """Stands in for the index: two wheels and a source of one release."""

    sends: dict[str, bytes] = field(default_factory=dict)
    fetched: list[str] = field(default_factory=list)

    def get_project_page(self, project: str) -> Any:
        assert project == "a-stand-in"
        kinds = {
            "a_stand_in-1.0-cp312-cp312-manylinux_2_28_x86_64.whl": WHEEL,
            "a_stand_in-1.0-py3-none-any.whl": PURE,
            "a_stand_in-1.0.tar.gz": SDIST,
        }
        self.sends = {**kinds, **self.sends}
        return SimpleNamespace(
            packages=[file(name, digests={"sha256": sha(data)}) for name, data in kinds.items()]
        )

    def metadata(self, file: Any) -> str | None:
        raise AssertionError("nobody asks for that")

    def download_package(self, pkg: Any, path: Any) -> None:
        self.fetched.append(pkg.filename)
        Path(path).write_bytes(self.sends[pkg.filename])


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MCORE_COMPAT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def pin(*data: bytes) -> Pin:
    return Pin(name="a-stand-in", version="1.0", hashes=tuple(map(sha, data)))


def quiet(line: str) -> None:
    """Says nothing."""


def test_wheels_are_downloaded_once_by_their_hashes() -> None:
    index = StandInIndex()
    found = download.ensure([pin(WHEEL, PURE)], quiet, client=lambda: index)
    assert {d: p.read_bytes() for d, p in found.items()} == {sha(WHEEL): WHEEL, sha(PURE): PURE}
    assert len(index.fetched) == 2

    def none() -> Any:
        raise AssertionError("all of it is there: the index is not asked")

    assert download.ensure([pin(WHEEL, PURE)], quiet, client=none) == found


def test_of_tools_the_pure_wheel_is_enough() -> None:
    found = download.ensure([pin(WHEEL, PURE, SDIST)], quiet, pure=True, client=StandInIndex)
    assert list(found) == [sha(PURE)]


def test_what_comes_damaged_is_not_kept(home: Path) -> None:
    name = "a_stand_in-1.0-cp312-cp312-manylinux_2_28_x86_64.whl"
    index = StandInIndex(sends={name: b"cut sh"})
    with pytest.raises(InfrastructureError, match="was damaged during the download"):
        download.ensure([pin(WHEEL)], quiet, client=lambda: index)
    assert not [p for p in (home / "downloads").rglob("*") if p.is_file()]


def test_a_hash_that_the_index_lacks_is_named() -> None:
    with pytest.raises(InfrastructureError, match=r"all wheels of a-stand-in 1\.0"):
        download.ensure([pin(WHEEL, b"taken away")], quiet, client=StandInIndex)


@pytest.mark.parametrize(
    ("text", "size"), [("2G", 2 << 30), ("1.5g", 3 << 29), ("60M", 60 << 20), ("2GiB", 2 << 30)]
)
def test_sizes(text: str, size: int) -> None:
    assert bundle.size_of(text) == size


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--part-size", "lots"], 'invalid size "lots"'),
        (["--part-size", "10K"], "at least 1M"),
        (["--output", "a.zip"], "does not end in .tar"),
        (["compat-0.16-modelopt0.42"], "--output: required"),
        (["--without", "torch,nvida-*"], 'has no "nvida-*"; did you mean'),
    ],
)
def test_wrong_words_end_it_in_one_line(
    words: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["bundle", "compat-0.16-modelopt0.41", *words]) == 2
    said = capsys.readouterr().err.strip()
    assert why in said
    assert "\n" not in said


def test_a_base_that_is_no_python(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "compat-0.16-modelopt0.41", "--base", "/no/such/python"]
    assert cli.main(words) == 2
    assert "--base: /no/such/python is not a Python interpreter" in capsys.readouterr().err


# Over the torch and TE of a Python, in one step

CELL = "compat-0.16-modelopt0.41"


def over(
    monkeypatch: pytest.MonkeyPatch, python: str | None = None, **versions: str
) -> dict[str, tuple[str, ...]]:
    """What a bundle of the cell is made without, over a Python that has these packages."""
    here = context.context()
    cell = pipeline.chosen(CELL, here)
    there = {"torch": cell.torch, "transformer_engine": cell.te, **versions}
    found = Installed(
        python=python or f"{cell.python}.1",
        versions={name.replace("_", "-"): v for name, v in there.items() if v},
        requires={},
    )
    monkeypatch.setattr(scan, "inspect", lambda python, run: found)
    return run_over_base.fitting([CELL], Path("python"), here)


def test_over_the_cells_own_torch_all_that_was_compiled_for_it_comes_along(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert over(monkeypatch) == {CELL: run_over_base.CURRENT}


def test_over_another_torch_nothing_is_built_that_would_not_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ((name, without),) = over(monkeypatch, torch="2.8.0a0+5228986c39.nv25.6").items()
    assert name == CELL
    assert {"mamba-ssm", "causal-conv1d"} <= {*without}


def test_a_base_that_cannot_be_is_refused_before_anything_is_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(UsageError, match="this Python has no torch"):
        over(monkeypatch, torch="")
    with pytest.raises(UsageError, match="has no transformer-engine"):
        over(monkeypatch, transformer_engine="")
    with pytest.raises(UsageError, match=r"python is 3\.9, .* name the cell with -py3\.9"):
        over(monkeypatch, python="3.9.1")


def stand_in_taken(outcome: str) -> Result:
    """A result of the GPU tier, made up."""
    base = empty_result(stand_in_cell(), device_class="host", check_set=GPU.name)
    builder = Builder(base)
    for one in (START, event("quantized-fp8[gpt]", outcome), {"event": "end", "seconds": 1.0}):
        builder.take(one)
    return builder.result()


@dataclass
class OverBase:
    """What was run over a base, and how often results were taken, with stand-ins for all that
    runs: a bundle's run writes a result, then ends with `code`."""

    code: int = 0
    outcome: str = "works"
    ran: list[list[str]] = field(default_factory=list)
    taken: int = 0

    def run(self, argv: Any, **_: Any) -> Completed:
        self.ran.append([str(word) for word in argv])
        path = Path(argv[1]).parent / "results" / CELL / "gpu.host-base.json"
        path.parent.mkdir(parents=True)
        path.write_text("{}")
        said = "run.py: it passed its limit" if self.code else ""
        return Completed(argv=(), returncode=self.code, output=said, seconds=0.0)

    def take(self, paths: Any, workspace: Workspace) -> list[Result]:
        self.taken += 1
        return [stand_in_taken(self.outcome)]


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> OverBase:
    made = OverBase()
    here = replace(context.context(), run=made.run, say=quiet)
    monkeypatch.setattr(context, "context", lambda **_: here)
    monkeypatch.setattr(run_over_base, "fitting", lambda *_: {})
    monkeypatch.setattr(packing, "bundle_files", lambda *_: [])
    monkeypatch.setattr(collection, "take_back", made.take)
    return made


@pytest.mark.parametrize(("outcome", "code"), [("works", 0), ("broken", 1)])
def test_parts_of_the_suite_are_asked_over_a_base(
    stand_in: OverBase, outcome: str, code: int
) -> None:
    stand_in.outcome = outcome
    assert cli.main(["run", CELL, "--base", "current", "--gpu", "--force"]) == code
    ((*_, word),) = stand_in.ran
    assert word == "--gpu"


def test_what_a_run_over_a_base_learnt_before_it_failed_is_kept(
    stand_in: OverBase, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in.code = 3
    assert cli.main(["run", CELL, "--base", "current"]) == 3
    assert capsys.readouterr().err == "mcore-compat: it passed its limit\n"
    assert stand_in.taken == 1


def test_a_script_in_the_way_is_told_before_anything_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def bundle_files(*_: Any) -> Any:
        raise AssertionError("nothing is built")

    monkeypatch.setattr(packing, "bundle_files", bundle_files)
    (tmp_path / "run.py").write_text("the user's")
    words = ["--part-size", "2G", "--output", str(tmp_path / "a.tar")]
    assert cli.main(["bundle", CELL, *words]) == 2
    assert "run.py does not belong to a bundle" in capsys.readouterr().err


# What is installed over a base


def package(name: str, version: str, of: str | None = None, **more: Any) -> dict[str, Any]:
    said = {"bound": None, "files": {f"wheels/{name}": "0"}, "local": False, "of": of}
    return {"name": name, "version": version, **said, **more}


PACKAGES = [
    package("megatron-core", "0.16.1"),
    package("nvidia-modelopt", "0.41.0"),
    package("numpy", "2.4.4"),
    package("transformers", "4.57.6"),
    package("tokenizers", "0.22.2"),
    package("torch", "2.9.1", "torch"),
    package("triton", "3.5.1", "torch"),
    package("transformer-engine", "2.11.0", "te"),
    package("transformer-engine-torch", "2.11.0", "te", bound="2.9.1", local=True),
]
NEEDS = {
    "megatron-core": ["torch>=2.6", "numpy<3", 'tensorstore; extra == "dev"'],
    "nvidia-modelopt": ["transformers>=4.56"],
    "transformers": ["tokenizers<=0.23,>=0.22"],
}
THERE = {"torch": "2.9.1", "triton": "3.5.0", "transformer-engine": "2.10", "numpy": "1.26.4"}


MAMBA = package("mamba-ssm", "2.2.5", bound="2.9.1", local=True)


def planned(
    installed: dict[str, str], cuda: str | None = "12.8", *more: dict[str, Any]
) -> overlay.OverlayPlan:
    there = BasePython(installed=installed, cuda=cuda)
    return overlay.plan([*PACKAGES, *more], there, lambda p: NEEDS.get(p["name"], []), 12)


def test_without_torch_there_is_no_base() -> None:
    with pytest.raises(UsageError, match="this Python has no torch"):
        planned({"numpy": "2.4.4"})


def test_what_is_there_and_fits_stays() -> None:
    made = planned({**THERE, "transformers": "4.57.0", "tokenizers": "0.22.0"})
    assert made.install == ("megatron-core", "nvidia-modelopt")
    assert made.unmet == ()


def test_what_does_not_fit_is_replaced_with_what_that_needs() -> None:
    made = planned({**THERE, "transformers": "4.50.0", "tokenizers": "0.21.0"})
    assert made.install == ("megatron-core", "nvidia-modelopt", "tokenizers", "transformers")


def test_what_is_missing_is_installed() -> None:
    assert "tokenizers" in planned({**THERE, "transformers": "4.57.0"}).install


def test_a_torch_that_does_not_fit_stays_and_is_named() -> None:
    made = planned({**THERE, "torch": "2.5.1", "transformers": "4.57.0", "tokenizers": "0.22.0"})
    assert "torch" not in made.install
    assert made.unmet == ("megatron-core 0.16.1 requires torch>=2.6, 2.5.1 is there",)


def test_te_of_the_bundle_only_over_its_own_torch() -> None:
    without = {n: v for n, v in THERE.items() if n != "transformer-engine"}
    assert "transformer-engine-torch" in planned(without).install
    for other in ("2.8.0", "2.9.1rc1", "2.9.2"):
        with pytest.raises(UsageError, match=f"compiled for torch 2.9.1, this Python has {other}"):
            planned({**without, "torch": other})
    with pytest.raises(UsageError, match=r"compiled for CUDA 12, the torch here for 13\.0"):
        planned(without, cuda="13.0")


def test_what_was_left_out_and_does_not_fit_is_told_and_no_error() -> None:
    left_out = [{**p, "files": {}} if p["name"] == "transformers" else p for p in PACKAGES]
    there = BasePython(installed={**THERE, "transformers": "4.50.0"}, cuda="12.8")
    made = overlay.plan(left_out, there, lambda p: NEEDS.get(p["name"], []), 12)
    assert "transformers" not in made.install
    assert made.unmet == ("nvidia-modelopt 0.41.0 requires transformers>=4.56, 4.50.0 is there",)
    missing = BasePython(installed=THERE, cuda="12.8")
    with pytest.raises(UsageError, match="transformers of this bundle was left out"):
        overlay.plan(left_out, missing, lambda p: NEEDS.get(p["name"], []), 12)


FITTING = {**THERE, "transformers": "4.57.0", "tokenizers": "0.22.0"}


def test_what_serves_one_family_is_left_out_where_it_was_compiled_for_another_torch() -> None:
    assert "mamba-ssm" in planned(FITTING, "12.8", MAMBA).install
    made = planned({**FITTING, "torch": "2.8.0a0+5228986c39.nv25.6"}, "12.8", MAMBA)
    assert made.install == ("megatron-core", "nvidia-modelopt")
    said = "mamba-ssm was compiled for torch 2.9.1, this Python has 2.8.0a0+5228986c39.nv25.6"
    assert made.unmet == (said,)
    made = planned(FITTING, "13.0", MAMBA)
    assert made.unmet == ("mamba-ssm was compiled for CUDA 12, the torch here for 13.0",)
    made = planned({**FITTING, "torch": "built by hand"}, "12.8", MAMBA)
    assert "mamba-ssm" not in made.install


def test_what_serves_one_family_may_be_left_out_of_the_bundle() -> None:
    without = {**MAMBA, "files": {}}
    made = planned(FITTING, "12.8", without)
    assert made.install == ("megatron-core", "nvidia-modelopt")
    assert made.unmet == ("mamba-ssm was left out, and this Python does not have it",)
    assert planned({**FITTING, "mamba-ssm": "2.2.4"}, "12.8", without).unmet == ()


def test_what_every_family_needs_may_not() -> None:
    without = package("einops", "0.8.1", files={})
    with pytest.raises(UsageError, match="einops of this bundle was left out"):
        planned(FITTING, "12.8", without)


def test_what_goes_with_torch_of_a_real_lock() -> None:
    lock = locks.read(snapshot.WORKSPACE.lock(CELL))
    found = contents.torch_group(lock, snapshot.releases())
    assert {"torch", "triton", "nvidia-cublas-cu12", "nvidia-nccl-cu12"} <= found
    assert not found & {"nvidia-modelopt", "nvidia-ml-py", "megatron-core", "numpy", "filelock"}
    assert not [n for n in found if n.startswith("transformer-engine")]
    assert contents.left_out(lock, ["torch", "nvidia-*"], found) == found
