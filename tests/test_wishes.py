"""What locks keep to where they can: ranges of extras, and the time of what ModelOpt names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import snapshot
from resolver_support import world
from support import stand_in_cell

from mcore_compat.core import extras
from mcore_compat.core.matrix import Matrix
from mcore_compat.resolve import wishes
from mcore_compat.resolve.wishes import Kept, Strength, Wish


@pytest.fixture(scope="module")
def bare() -> Matrix:
    """The committed matrix without undeclared requirements, and without packages that are built."""
    return replace(snapshot.matrix(), undeclared=(), source_only=())


def wish(text: str, strength: Strength = Strength.DECLARED) -> Wish:
    name = text.partition("<")[0].partition(">")[0].partition("@")[0]
    before = text.partition("@")[2]
    return Wish(name=name, text=text, words=text, strength=strength, before=before)


def asked(every: Sequence[Wish], bad: Sequence[set[str]]) -> tuple[Kept[str], list[list[str]]]:
    """Resolve where no set of `bad` may be asked for together; also what was asked."""
    seen: list[list[str]] = []

    def ask(kept: Sequence[Wish]) -> str:
        texts = {w.text for w in kept}
        seen.append(sorted(texts))
        for together in bad:
            if together <= texts:
                names = {w.name for w in kept if w.text in together}
                return f"no: {', '.join(sorted(names))} and my-other-package"
        return "yes"

    kept = wishes.as_many_as_can_be(every, ask, lambda a: a if a.startswith("no") else None)
    return kept, seen


def texts(some: Sequence[Wish]) -> list[str]:
    return [w.text for w in some]


def test_where_all_can_be_met_it_is_asked_once() -> None:
    kept, seen = asked([wish("a<2"), wish("b>1")], [])
    assert (texts(kept.wishes), kept.given_up, len(seen)) == (["a<2", "b>1"], (), 1)


@pytest.mark.parametrize(
    ("strength", "gone"),
    [(Strength.DATE, "t@2025-01-01"), (Strength.OF_DEVELOPERS, "t>9")],
)
def test_the_weakest_of_those_in_the_way_is_given_up(strength: Strength, gone: str) -> None:
    every = [wish("t<5"), wish("x<2", Strength.DATE), wish(gone, strength)]
    kept, _ = asked(every, [{"t<5", gone}])
    assert texts(kept.given_up) == [gone]
    assert texts(kept.wishes) == ["t<5", "x<2"]


def test_what_went_and_was_not_in_the_way_comes_back() -> None:
    every = [wish("t>=4"), wish("t<5", Strength.OF_DEVELOPERS), wish("t>9", Strength.OF_DEVELOPERS)]
    kept, _ = asked(every, [{"t>=4", "t>9"}])
    assert texts(kept.given_up) == ["t>9"]
    assert texts(kept.wishes) == ["t>=4", "t<5"]


def test_a_package_is_not_taken_for_another_whose_name_has_its_own() -> None:
    every = [wish("other<1", Strength.DATE), wish("t<5"), wish("t>9")]
    kept, _ = asked(every, [{"t<5", "t>9"}])
    assert texts(kept.wishes) == ["other<1", "t>9"]


def test_what_cannot_be_resolved_at_all_is_asked_twice() -> None:
    kept, seen = asked([wish("a<2"), wish("b<2"), wish("c<2")], [set()])
    assert kept.answer.startswith("no")
    assert len(seen) == 2


HF = 'transformers<4.51,>=4.48; extra == "hf"'


def test_ranges_say_whose_they_are_and_those_of_developers_are_weaker() -> None:
    known = world(['transformers~=4.53; extra == "dev"', 'a<2; extra == "lts"'], [HF])
    ranges = extras.declared_ranges(stand_in_cell(), known)
    assert [r.words() for r in ranges] == [
        "a<2 of megatron-core 0.16.1 (extra lts)",
        "transformers~=4.53 of megatron-core 0.16.1 (extra dev)",
        "transformers<4.51,>=4.48 of nvidia-modelopt 0.41.0 (extra hf)",
    ]
    assert [r.of_developers for r in ranges] == [False, True, False]


TIMES = {"nvidia": "2025-04-15T00:00:00Z", "megatron": "2025-10-08T00:00:00Z"}


class TestDates:
    """The older release has its own time; what others require is of theirs."""

    def test_what_modelopt_names_is_of_its_time(self, bare: Matrix) -> None:
        known = world([], [HF, "rich"], **TIMES)
        dates = wishes.dates_of(stand_in_cell(), bare, known)
        assert dates == {"transformers": "2025-05-06", "rich": "2025-05-06"}

    def test_what_another_release_requires_is_of_the_younger_time(self, bare: Matrix) -> None:
        known = world(["rich"], [HF, "rich"], **TIMES)
        dates = wishes.dates_of(stand_in_cell(), bare, known)
        assert dates == {"transformers": "2025-05-06", "rich": "2025-10-29"}

    def test_an_extra_of_another_release_requires_nothing(self, bare: Matrix) -> None:
        known = world(['transformers; extra == "dev"'], [HF], **TIMES)
        assert wishes.dates_of(stand_in_cell(), bare, known) == {"transformers": "2025-05-06"}

    def test_axes_and_what_comes_with_torch_have_no_date(self, bare: Matrix) -> None:
        known = world([], ["torch>=2.6", "torchvision", "triton"], **TIMES)
        assert wishes.dates_of(stand_in_cell(), bare, known) == {}

    def test_no_date_is_later_than_the_cells(self, bare: Matrix) -> None:
        known = world([], [HF], nvidia="2026-02-01T00:00:00Z")
        (only,) = wishes.wishes(stand_in_cell(), bare, known, "2026-02-22")
        assert only.strength is Strength.DECLARED


def test_the_head_tells_only_of_what_the_lock_has() -> None:
    kept = [wish("a@2025-05-06"), wish("b@2025-05-06"), wish("c@2025-01-01")]
    lost = [wish("d@2025-05-06"), wish("e@2025-05-06"), wish("a<2")]
    dates, ranges = wishes.told(kept, lost, {"a", "c", "e"})
    assert dates == (
        "2025-01-01 c; 2025-05-06 a; not kept to, as what is declared admits no release of that "
        "time: e"
    )
    assert ranges == "kept to, but for what contradicts others: a<2"
