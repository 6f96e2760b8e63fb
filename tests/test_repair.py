"""A pin off the axes that breaks a toy cell: found, published, and repaired by the program."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from minimatrix import index, packages, project
from minimatrix.packages import Toy
from minimatrix.project import Ended, Project

CELL = "compat-1.0-modelopt0.50"
WITH = f"{CELL}-with-toy_hub@1.1.0"
HUB = "def build():\n    return 1\n"
OLD = HUB + "class Conv1D:\n    pass\n"
WANTS = "import toy_hub\nLAYER = toy_hub.Conv1D\n"


def hub(version: str, uploaded: str, code: str) -> Toy:
    return Toy(
        name="toy-hub", version=version, uploaded=uploaded, files={"toy_hub/__init__.py": code}
    )


def modelopt(toy: Toy) -> Toy:
    """ModelOpt that takes a name from the toy hub, which has moved it."""
    files = {path: WANTS + text for path, text in toy.files.items()}
    return replace(toy, files=files, requires=(*toy.requires, "toy-hub"))


RELEASES = (
    *(t for t in packages.RELEASES if (t.name, t.version) != ("nvidia-modelopt", "0.50.0")),
    *(
        modelopt(t)
        for t in packages.RELEASES
        if (t.name, t.version) == ("nvidia-modelopt", "0.50.0")
    ),
    hub("0.9.0", "2024-12-01", OLD),
    hub("1.0.0", "2024-12-10", OLD),
    hub("1.1.0", "2024-12-20", OLD),
    hub("1.2.0", "2025-01-05", HUB),
    hub("1.3.0", "2025-01-08", HUB),
    hub("1.4.0", "2025-01-15", HUB),
    hub("2.0.0", "2025-06-01", HUB),
)


@dataclass(frozen=True)
class Toys:
    project: Project
    ended: dict[str, Ended]
    files: dict[str, Any]


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Toys]:
    """Everything that is done, in order."""
    folder = tmp_path_factory.mktemp("repair")
    with index.served(index.Index(RELEASES)) as served:
        toy = project.make(folder, served.url)
        ended: dict[str, Ended] = {}
        files: dict[str, Any] = {}

        def run(name: str, *words: str) -> None:
            ended[name] = toy.run(*words)

        run("refresh", "refresh")
        run("not run", "repair", CELL)
        run("run", "run", CELL, "1.2-modelopt0.51", "--publish")
        for name, word in (("axis", "torch"), ("none", "toy-hup"), ("no repair", "toy-math")):
            run(name, "repair", CELL, "--package", word)
        run("no check", "repair", CELL, "--check", "restoer")
        run("no suspect", "repair", "1.2-modelopt0.51")
        stored = toy.folder / f"reports/results/{CELL}/main.host.json"
        files["before"] = stored.read_text()
        lock = toy.folder / f"constraints/locks/{CELL}.txt"
        files["lock"] = lock.read_text()
        run("broken report", "report")
        files["drafts before"] = drafts(toy)
        files["cause"] = published(toy)["causes"]
        run("repair", "repair", CELL)
        assert ended["repair"].code == 0, (ended["repair"].err, ended["run"].err[-3000:])
        files["same"] = (stored.read_text(), lock.read_text())
        path = toy.folder / f"reports/results/{CELL}/repair.host.json"
        files["repair"] = json.loads(path.read_text())
        run("report", "report")
        files["published"] = published(toy)
        files["constraints"] = (toy.folder / f"reports/constraints/{CELL}.txt").read_text()
        files["page"] = (toy.folder / f"reports/site/cells/{CELL}.html").read_text()
        run("show", "show", CELL)
        run("explain", "explain", CELL)
        run("recommend", "recommend", "modelopt 0.50, mcore 1.0")
        run("with", "compat", "1.0", "0.50", "--with", "toy-hub==1.1.0", "--publish")
        run("with none", "compat", "1.0", "0.50", "--with", "toy-hub==3.*")
        run(
            *("bisect", "bisect", "--good", WITH, "--bad", CELL, "--axis", "toy-hub"),
            *("--check", "import", "--patches"),
        )
        path.write_text(json.dumps({**files["repair"], "suite": "0" * 64}))
        run("outdated", "report")
        files["outdated"] = published(toy)
        files["told apart"] = drafts(toy)
        path.write_text(json.dumps({**files["repair"], "requirement": "toy-hub<9"}))
        run("corrupt", "report")
        yield Toys(toy, ended, files)


def published(toy: Project) -> Any:
    return json.loads((toy.folder / "reports/compatibility.json").read_text())


def drafts(toy: Project) -> list[str]:
    """The texts for maintainers that are of the missing name."""
    texts = sorted((toy.folder / "reports/upstream").glob("*.md"))
    return [path.read_text() for path in texts if "Conv1D" in path.read_text()]


def cell(data: Any, name: str = CELL) -> Any:
    (record,) = [c for c in data["cells"] if c["cell"] == name]
    return {**data["outcomes"][record["outcomes"]], **record}


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ("not run", ("has no result yet", f"nox -s {CELL}")),
        ("axis", ("torch is an axis", "bisect")),
        ("none", ('has no "toy-hup"', '"toy-hub"')),
        ("no check", ('no check "restoer"', "restore")),
        ("with none", ("toy-hub==3.*", "no release")),
        ("corrupt", ("repair.host.json", "toy-hub<9", f"nox -s repair -- {CELL}")),
    ],
)
def test_bad_input_is_one_line(toys: Toys, step: str, words: tuple[str, ...]) -> None:
    ended = toys.ended[step]
    assert ended.code == 2
    last = ended.err.splitlines()[-1]
    assert last.startswith("mcore-compat: ")
    assert all(word in last for word in words), last


def test_where_nothing_repairs_it_says_so(toys: Toys) -> None:
    assert toys.ended["no repair"].code == 1
    assert "works with no release of toy-math" in toys.ended["no repair"].out
    assert toys.ended["no suspect"].code == 1
    assert "is of a package other than the axes" in toys.ended["no suspect"].out


def test_the_newest_release_that_repairs_is_found(toys: Toys) -> None:
    ended, repair = toys.ended["repair"], toys.files["repair"]
    assert ended.code == 0, ended.err
    assert f"{CELL}: works with toy-hub<1.2.0" in ended.out
    assert (repair["package"], repair["locked"]) == ("toy-hub", "1.4.0")
    assert (repair["works"], repair["fails"]) == ("1.1.0", "1.2.0")
    assert repair["changes"] == {"toy-hub": ["1.4.0", "1.1.0"]}
    outcomes = {t["version"]: t["outcome"] for t in repair["tried"]}
    assert outcomes.pop("1.2.0") == outcomes.pop("1.3.0") == "broken"
    assert set(outcomes.values()) == {"works"}
    assert "import" in [c["check"] for c in repair["checks"]]


def _shown(result: dict[str, Any]) -> dict[str, Any]:
    """What a file of a result says, its checks as far as packed rows do."""
    shown = ("check", "outcome", "seconds")
    packed = [row if isinstance(row, list) else [*map(row.get, shown)] for row in result["checks"]]
    rows = [row[: len(shown)] for row in packed]
    return {**result, "checks": rows, "records": sorted(result.get("records", {}))}


def test_result_and_lock_stay_as_they_were(toys: Toys) -> None:
    """But that the report packs the rows."""
    after, lock = toys.files["same"]
    assert lock == toys.files["lock"]
    old, new = (_shown(json.loads(text)) for text in (toys.files["before"], after))
    assert new == old
    assert json.loads(toys.files["before"])["outcome"] == "incompatible"


def test_it_is_published_as_works_with(toys: Toys) -> None:
    record = cell(toys.files["published"])
    assert record["outcome"] == "compatible"
    assert "import" in record["checks"]["works-with"]
    assert record["conditions"]["import"] == "pip install 'toy-hub<1.2.0'"
    assert record["repair"]["requirement"] == "toy-hub<1.2.0"
    assert "toy-hub==1.1.0" in toys.files["constraints"].splitlines()
    assert "# Repaired: toy-hub<1.2.0" in toys.files["constraints"]
    assert "It works with <code>toy-hub&lt;1.2.0</code>" in toys.files["page"]


def test_commands_say_it(toys: Toys) -> None:
    for step in ("show", "explain"):
        assert "pip install 'toy-hub<1.2.0'" in toys.ended[step].out, step
    assert toys.ended["show"].code == 0
    assert "works with toy-hub<1.2.0 (1.4.0 fails, 1.1.0 works)" in toys.ended["recommend"].out


def test_a_repair_of_another_suite_counts_for_nothing(toys: Toys) -> None:
    record = cell(toys.files["outdated"])
    assert record["outcome"] == "incompatible"
    assert record.get("repair") is None


def test_no_draft_is_written_before_pin_and_axes_are_told_apart(toys: Toys) -> None:
    (cause,) = [c for c in toys.files["cause"] if "Conv1D" in c["message"]]
    assert cause["suspects"] == ["toy-hub"]
    assert cause["undecided"]
    assert toys.files["drafts before"] == []


def test_a_cell_with_the_pin_decides(toys: Toys) -> None:
    assert toys.ended["with"].code == 0, toys.ended["with"].err
    (cause,) = [c for c in toys.files["outdated"]["causes"] if "Conv1D" in c["message"]]
    assert not cause["undecided"]
    assert cause["attributed_to"] == ["toy-hub"]
    assert [b["axis"] for rule in cause["rules"] for b in rule["bounds"]] == ["toy-hub"]
    (draft,) = toys.files["told apart"]
    assert "- toy-hub 1.4.0" in draft


def test_bisect_works_on_any_package(toys: Toys) -> None:
    ended = toys.ended["bisect"]
    assert ended.code == 0, ended.err
    assert "import changes at toy-hub 1.2.0: works at 1.1.0, broken at 1.2.0" in ended.out


def test_cells_with_pins_are_no_cells_of_the_table(toys: Toys) -> None:
    page = (toys.project.folder / "reports/COMPATIBILITY.md").read_text()
    assert cell(toys.files["outdated"], WITH)["outcome"] == "compatible"
    lines = [line for line in page.splitlines() if "with-toy_hub" in line]
    assert lines
    assert not [line for line in lines if line.startswith("|")]


def test_nothing_is_left_behind(toys: Toys) -> None:
    envs = Path(toys.project.home, "envs")
    assert sorted(p.name for p in envs.glob(f"{CELL}.repair")) == [f"{CELL}.repair"]
    assert not list(envs.glob("*.repair.txt"))
