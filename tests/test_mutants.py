"""Mutation of packages: a fault is put in exactly where it is meant, and judged the same always."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from mutants import asking, faults, overlay, score
from mutants.asking import MISSED, NOTICED, Verdict, judged
from mutants.faults import DoesNotApplyError, Fault, Variant

from mcore_compat.base import processes


def fault(*variants: Variant, noticed_by: tuple[str, ...] = ("restore[*]",)) -> Fault:
    return Fault(id="a", area="b", breaks="c.", noticed_by=noticed_by, variants=variants)


def variant(*edits: tuple[str, str], file: str = "top/inner/one.py") -> Variant:
    return Variant(file=file, edits=edits)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder like site-packages, with one package that has been imported before."""
    package = tmp_path / "site" / "top" / "inner"
    (package / "__pycache__").mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").touch()
    (package / "one.py").write_text("VALUE = 1\nOTHER = 2\n")
    (package / "two.py").write_text("from top.inner.one import VALUE\n")
    for name in ("one", "two"):
        (package / "__pycache__" / f"{name}.cpython-312.pyc").write_bytes(b"compiled")
    return tmp_path / "site"


def test_a_text_is_replaced_where_it_is_there_once(site: Path) -> None:
    patch = faults.patch(fault(variant(("VALUE = 1", "VALUE = 3"))), site)
    assert patch.file == Path("top/inner/one.py")
    assert patch.content == b"VALUE = 3\nOTHER = 2\n"


def test_texts_are_replaced_one_after_another(site: Path) -> None:
    patch = faults.patch(fault(variant(("VALUE = 1", "VALUE = 2"), ("OTHER = 2", "OTHER"))), site)
    assert patch.content == b"VALUE = 2\nOTHER\n"


@pytest.mark.parametrize(
    ("variants", "why"),
    [
        ([variant(("GONE", "x"))], "top/inner/one.py has `GONE` 0 times, not once"),
        ([variant((" = ", "x"))], "top/inner/one.py has `=` 2 times, not once"),
        ([variant(("V", "W"), file="top/three.py")], "there is no top/three.py"),
        ([variant(("V", "W"), file="top/inner/*.py")], "3 files fit top/inner/*.py"),
        (
            [variant(("GONE", "x")), variant(("V", "W"), file="x.py")],
            "top/inner/one.py has `GONE` 0 times, not once; there is no x.py",
        ),
    ],
)
def test_a_fault_that_does_not_fit_is_refused_with_the_reason(
    variants: list[Variant], why: str, site: Path
) -> None:
    with pytest.raises(DoesNotApplyError) as refused:
        faults.patch(fault(*variants), site)
    assert str(refused.value) == why


def test_the_variant_whose_text_is_there_is_taken(site: Path) -> None:
    patch = faults.patch(fault(variant(("GONE", "x")), variant(("OTHER", "MORE"))), site)
    assert patch.content == b"VALUE = 1\nMORE = 2\n"


def test_a_file_can_be_emptied(site: Path) -> None:
    assert faults.patch(fault(variant(file="top/inner/t*.py")), site).content == b""


def test_the_environment_is_not_written_to(site: Path, tmp_path: Path) -> None:
    before = {p: p.read_bytes() for p in site.rglob("*") if p.is_file()}
    patch = faults.patch(fault(variant(("VALUE = 1", "VALUE = 3"))), site)
    folder = tmp_path / "overlay"
    overlay.build(site, patch, folder)
    assert (folder / patch.file).read_text() == "VALUE = 3\nOTHER = 2\n"
    other = Path("top/inner/two.py")
    assert os.path.samefile(folder / other, site / other)
    assert [p.name for p in (folder / "top/inner/__pycache__").iterdir()] == ["two.cpython-312.pyc"]
    assert {p: p.read_bytes() for p in site.rglob("*") if p.is_file()} == before


def test_the_changed_file_is_the_one_that_is_imported(site: Path, tmp_path: Path) -> None:
    patch = faults.patch(fault(variant(("VALUE = 1", "VALUE = 3"))), site)
    folder, python = tmp_path / "overlay", Path(sys.executable)
    overlay.build(site, patch, folder)
    assert not overlay.unused(python, patch, folder, dict(os.environ), processes.run)
    elsewhere = tmp_path / "empty"
    assert "cannot be located" in overlay.unused(
        python, patch, elsewhere, dict(os.environ), processes.run
    )
    (folder / "top/inner/one").mkdir()
    (folder / "top/inner/one/__init__.py").touch()
    assert "would be imported from" in overlay.unused(
        python, patch, folder, dict(os.environ), processes.run
    )


def test_brackets_of_a_check_stand_for_themselves() -> None:
    there = ["restore[gpt]", "restore[mla-moe]", "restore-back[gpt]", "spec-modules[gpt]"]
    assert faults.checks_of(fault(), there) == there[:2]
    assert faults.checks_of(fault(noticed_by=("restore-*[gpt]",)), there) == there[2:3]


@pytest.mark.parametrize(
    ("before", "after", "word", "detail"),
    [
        ("works", "broken", NOTICED, "a broken"),
        ("works", "timed-out", NOTICED, "a timed-out"),
        ("works-with", "crashed", NOTICED, "a crashed"),
        ("works", "works-with", NOTICED, "a works-with"),
        ("works", "works", MISSED, "a still holds"),
        ("works-with", "works", MISSED, "a works"),
        ("works", "unsupported", MISSED, "a unsupported"),
        ("works", "blocked", MISSED, "a blocked"),
        ("works", "needs-gpu", MISSED, "a needs-gpu"),
    ],
)
def test_what_counts_as_noticed(before: str, after: str, word: str, detail: str) -> None:
    assert judged({"a": before}, {"a": after}) == Verdict(word=word, detail=detail)


def test_one_check_that_notices_is_enough() -> None:
    ends = judged({"a": "works", "b": "works"}, {"a": "works", "b": "broken"})
    assert ends == Verdict(word=NOTICED, detail="b broken")


def test_a_verdict_names_some_checks_and_counts_the_rest() -> None:
    ends = dict.fromkeys("abcdef", "works")
    assert judged(ends, ends).detail == "a, b, c, d and 2 more still hold"
    assert judged(ends, dict.fromkeys("ab", "broken") | {"c": "works"}).detail == (
        "a broken, b broken"
    )


def test_the_page_is_the_same_whenever_it_is_written(tmp_path: Path) -> None:
    known = {"x": fault(), "a": fault()}
    told = {"verdict": MISSED, "detail": "a still holds", "suite": "s", "fault": fault().digest}
    page, path = tmp_path / "page.md", tmp_path / "score.json"
    old = {**told, "fault": "of another text"}
    score.write({"c2": {"a": told, "gone": told}, "c1": {"a": told, "x": old}}, known, path, page)
    first = page.read_text(), path.read_text()
    score.write(score.read(path), known, path, page)
    assert (page.read_text(), path.read_text()) == first
    assert "gone" not in first[1]
    assert "another" not in first[1]


def test_the_committed_page_is_written_from_the_committed_score() -> None:
    assert score.PAGE.read_text(encoding="utf-8") == score.rendered(
        score.read(), faults.catalogue()
    )


def test_the_catalogue_is_whole() -> None:
    known = faults.catalogue()
    assert len(known) >= 60
    for one in known.values():
        assert one.id == one.id.lower().replace("_", "-").replace(" ", "-"), one.id
        assert one.breaks.endswith("."), one.id
        assert all(find != replace for v in one.variants for find, replace in v.edits), one.id


def test_faults_need_all_their_keys(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('[x]\nbreaks = "y."\n')
    with pytest.raises(ValueError, match="its keys are breaks"):
        faults.catalogue(tmp_path)


def test_only_checks_that_hold_unharmed_can_notice() -> None:
    assert asking._unable(fault(), [], {}) == "the suite has no check restore[*]"
    ends = {"restore[gpt]": "broken"}
    assert asking._unable(fault(), ["restore[gpt]"], ends) == "unharmed, restore[gpt] is broken"
