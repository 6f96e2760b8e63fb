"""Mutation of packages: a fault is put in exactly where it is meant, and judged the same always."""

from __future__ import annotations

import json
import os
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mutants import __main__ as command
from mutants import asking, faults, overlay, score
from mutants.asking import ERROR, MISSED, NOTICED, Verdict, judged
from mutants.faults import DoesNotApplyError, Fault, Variant
from mutants.session import Session, Stoppable, lasting

from mcore_compat.base import processes
from mcore_compat.base.errors import InfrastructureError, Interrupted, UsageError
from mcore_compat.run.runner import SuiteEnvironment


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
        ("works", "timed-out", ERROR, "a timed-out"),
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


def test_no_end_is_noticed_only_of_a_fault_that_hangs() -> None:
    ends = judged({"a": "works"}, {"a": "timed-out"}, hangs=True)
    assert ends == Verdict(word=NOTICED, detail="a timed-out")
    slow = judged({"a": "works", "b": "works"}, {"a": "timed-out", "b": "broken"})
    assert slow == Verdict(word=NOTICED, detail="b broken")
    hanging = [one for one in faults.catalogue().values() if one.hangs]
    assert {one.id for one in hanging} == {"save-hangs", "import-hangs"}
    for one in hanging:  # verdicts from before the key was there stay
        assert one.digest == replace(one, hangs=False).digest


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
    told: score.Told = {
        "verdict": MISSED,
        "detail": "a still holds",
        "suite": "s",
        "fault": fault().digest,
    }
    page, path = tmp_path / "page.md", tmp_path / "score.json"
    old: score.Told = {**told, "fault": "of another text"}
    whole: score.Score = {
        "c2": {"suite": "s", "faults": {"a": told, "gone": told}},
        "c1": {"suite": "s", "faults": {"a": told, "x": old}},
    }
    score.write(whole, known, path, page)
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


def named(name: str, **fields: str) -> Fault:
    return replace(fault(), id=name, **fields)


@pytest.fixture
def session() -> Session:
    """A session without a cell."""
    made = Session.__new__(Session)
    made.name, made.suite, made.faults = "cell", "s", {}
    made._keeping, made._ended = threading.Lock(), threading.Event()
    return made


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What has been written of each fault."""
    written: dict[str, str] = {}

    def keep(cell: str, one: Fault, verdict: Verdict, suite: str, known: object) -> None:
        written[one.id] = verdict.word

    monkeypatch.setattr(score, "keep", keep)
    return written


def test_an_error_is_asked_once_more_and_then_kept(session: Session, kept: dict[str, str]) -> None:
    asked: list[str] = []

    def ask(one: Fault) -> Verdict:
        asked.append(one.id)
        cured = one.id == "slow" and asked.count("slow") == 2
        word = NOTICED if one.id == "well" or cured else ERROR
        return Verdict(word=word, detail="")

    todo = [named("stalls"), named("slow"), named("well")]
    ends = session._settled(ask, todo, 1)
    assert asked == ["stalls", "slow", "well", "stalls", "slow"]
    assert kept == {"stalls": ERROR, "slow": NOTICED, "well": NOTICED}
    assert {one.id: verdict.word for one, verdict in ends} == kept


def test_what_ends_a_session_starts_and_writes_nothing_more(
    session: Session, kept: dict[str, str]
) -> None:
    def ask(one: Fault) -> Verdict:
        raise UsageError("broken on purpose")

    with pytest.raises(UsageError):
        session._settled(ask, [named(name) for name in "abc"], 1)
    run = Stoppable(processes.run, session._ended)
    with pytest.raises(Interrupted):
        run([sys.executable, "-c", ""], timeout=10)
    with pytest.raises(Interrupted):
        session._keep(named("d"), Verdict(word=ERROR, detail=""), final=True)
    assert kept == {}


def test_ends_that_may_be_the_machine_s_are_not_kept() -> None:
    ends = {"a": "works", "b": "crashed", "c": "timed-out", "d": "broken"}
    assert lasting(ends) == {"a": "works", "d": "broken"}


def test_a_run_that_did_not_end_is_told_without_paths() -> None:
    early = (
        "the suite ended early in c, after 2 checks, with exit code -9 (log: /a/b); run it again"
    )
    assert asking.not_ended(InfrastructureError(early)) == Verdict(
        word=ERROR, detail=early.partition(" (log")[0]
    )
    assert asking.not_ended(InfrastructureError("it did not start: /x/y (log: /a/b)")).detail == (
        "it did not start"
    )


def test_a_suite_that_is_broken_itself_is_refused() -> None:
    asking.refuse_sabotage({"event": "start", "sabotage": None})
    with pytest.raises(UsageError, match="drop-key-map"):
        asking.refuse_sabotage({"event": "start", "sabotage": "drop-key-map"})


def test_only_verdicts_of_the_last_run_s_suite_count() -> None:
    known = {name: named(name) for name in ("a", "b", "c", "d", "e")}
    known["c"] = replace(known["c"], why_missed="It needs a kernel.")
    whole: score.Score = {}
    for name, word in (("a", NOTICED), ("b", NOTICED), ("c", MISSED), ("d", ERROR)):
        verdict = Verdict(word=word, detail="why")
        score.put(whole, "cell", known[name], verdict, "old" if name == "a" else "new")
    page = score.rendered(whole, known)
    assert "| cell | 1 of 5 | 0 | 1 | 0 | 1 | 2 | new |" in page
    assert "## Missed\n" not in page
    assert "## Missed, for a reason\n\n- `c`: c. Why: It needs" in page
    assert "| `a` | c. | `restore[*]` | not tried with this suite |" in page


def test_of_an_older_file_only_one_suite_s_verdicts_count(tmp_path: Path) -> None:
    path, told = tmp_path / "score.json", {"verdict": MISSED, "detail": "", "fault": "f"}
    for suites, counts in ((["s", "s"], "s"), (["s", "t"], "")):
        faults_of = {str(i): {**told, "suite": suite} for i, suite in enumerate(suites)}
        path.write_text(json.dumps({"cell": faults_of}))
        assert score.read(path)["cell"]["suite"] == counts


def test_a_fault_that_no_host_can_notice_fails_no_run() -> None:
    missed, well = Verdict(word=MISSED, detail=""), Verdict(word=NOTICED, detail="")
    excused = named("a", why_missed="It needs a kernel.")
    ends = [(excused, missed), (fault(), well)]
    assert command.code(ends) == 0
    assert command.summary(ends) == ("1 noticed; 0 missed; 1 missed, for a reason; of 2")
    assert command.code([*ends, (fault(), missed)]) == 1
    assert command.code([*ends, (fault(), Verdict(word=ERROR, detail=""))]) == 3


def test_no_job_at_all_is_one_line_of_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--jobs", "0"]) == 2
    assert capsys.readouterr().err == "mutants: --jobs 0: at least 1\n"


def test_checks_are_asked_without_a_device(tmp_path: Path) -> None:
    seen: list[dict[str, str]] = []

    def run(argv: list[str], **options: Any) -> processes.Completed:
        seen.append(options["env"])
        assert argv[argv.index("--gpu") + 1] == "never"
        return processes.Completed(argv=(), returncode=1, output="", seconds=0.0)

    paths = dict.fromkeys(("python", "tools", "suite", "logs"), tmp_path)
    place = SuiteEnvironment(name="cell", variables={"CUDA_VISIBLE_DEVICES": "0"}, **paths)
    with pytest.raises(InfrastructureError, match="did not start"):
        asking.Cell(place=place, run=run).asked(["restore[gpt]"])
    assert [one["CUDA_VISIBLE_DEVICES"] for one in seen] == [""]
