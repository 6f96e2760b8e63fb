"""The check for words that user-facing text avoids finds them where people read, not in code."""

from __future__ import annotations

from pathlib import Path

import pytest
import words
from support import ROOT
from words import Word, WordList

LISTED = words.read()


def found_in(name: str, text: str) -> list[tuple[int, str]]:
    return [(finding.line, finding.found) for finding in words.check_text(name, text, LISTED)]


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("a.py", '"""A docstring.\n\nThe surroundings failed."""', [(3, "surroundings")]),
        ("a.py", 'x = 1\nraise ValueError("made anew")', [(2, "anew")]),
        ("a.py", 'print(f"{x} is no moment")', [(1, "is no")]),
        ("a.py", '"""What does not come\nover."""', [(1, "come over")]),
        ("a.md", "# Title\n\nOne of its own.\n", [(3, "of its own")]),
        ("a.html", "<p>The evidence of {{ evidence }}</p>", [(1, "evidence")]),
        ("a.js", 'node.textContent = "no evidence of this";', [(1, "evidence")]),
    ],
)
def test_a_word_of_the_list_is_found(name: str, text: str, found: list[tuple[int, str]]) -> None:
    assert found_in(name, text) == found


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.py", "evidence = surroundings(anew)  # evidence"),
        ("a.py", 'row["evidence"]'),
        ("a.py", '"""The function `evidence of` something."""'),
        ("a.py", '"""There is no result, and it is no longer out of date."""'),
        ("a.md", "`evidence`\n\n```\nprint the evidence anew\n```\n[x](evidence.md)\n"),
        ("a.html", '<p class="evidence anew">{{ evidence.stale }}</p>'),
    ],
)
def test_code_is_not_text(name: str, text: str) -> None:
    assert found_in(name, text) == []


def test_a_planted_word_is_found_in_a_checkout_unless_its_file_is_excepted(tmp_path: Path) -> None:
    for name in ("README.md", "docs/written.md", "mcore_compat/a.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('"Made anew."\n', encoding="utf-8")
    word = Word(say="again", words=("anew",), right={"mcore_compat/a.py": "a quotation"})
    listed = WordList(generated=("docs/written.md",), word=(word,))
    found = [str(finding) for finding in words.check(tmp_path, listed)]
    assert found == ["README.md:1: 'anew': write instead: again"]


def test_what_is_excepted_exists_and_gives_a_reason() -> None:
    rights = [(name, why) for word in LISTED.word for name, why in word.right.items()]
    names = [*LISTED.generated, *(name for name, _ in rights)]
    assert [name for name in names if not (ROOT / name).exists()] == []
    assert all(why for _, why in rights)


def test_this_checkout_has_none_of_them() -> None:
    assert [str(finding) for finding in words.check(ROOT, LISTED)] == []
