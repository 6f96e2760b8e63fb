"""An error that somebody has → the known ones that are like it, best first. Pure.

Words count by how few of the known errors have them, names of code twice; with a traceback, where
it was raised decides more than what it says. All weights are whole numbers: the site's script,
which repeats this, comes to the same order.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mcore_compat.analysis.cell_record import CellRecord
from mcore_compat.analysis.error_text import SeenError, words
from mcore_compat.analysis.known_errors import STOCK, KnownError

SHOWN = 5
"""Known errors that are told, at most."""

NEAREST = 3
"""That are told where none is the one."""

BY_TEXT, BY_FRAMES = 0.75, 0.6
"""From which score on an error is known, by its text alone and by its frames too."""

LEAST = 0.3
"""Below this, an error is not even near."""

OF_THE_QUESTION, OF_THE_KNOWN = 0.7, 0.3
"""How much it counts that the known error has the words, and that it has no others."""

OTHER_TYPE = 0.9
"""What is left where the exception is of another type."""

TEXT_BESIDE_FRAMES = 0.4
"""How much text counts where both have frames."""

ELSEWHERE = 0.5
"""What is left of the frames' part where it was not raised in the same one."""

ALIKE = 0.9
"""Of the best score: what is less like an error than this is not told beside the best."""

STOCK_TELLS = 5
"""By how much less a word of Python's own messages tells."""

OTHER_WORDS = 0.7
"""What is left of a text like a message of Python's own that has not just its words."""

MOST_NAMES, OTHER_NAMES = 0.8, 0.75
"""How much of the names in a message a known error must have, and what is left where it has not: a
missing weight is not the missing state that loses nothing."""

OTHER_PLACE = 0.7
"""What is left at least of a text that was raised elsewhere: near it is."""

_NAME = re.compile(r"_|[0-9]|[^\n]{14}")
"""A word that is the name of something in code."""

_FRAMES = 60
"""The weight of the innermost frame; the next have a half, a third, and so on."""


@dataclass(frozen=True, kw_only=True)
class Match:
    """A known error, how much it is like one that was seen, and whether it is that."""

    known: KnownError
    seen: SeenError
    score: float
    sure: bool


@dataclass(frozen=True, kw_only=True)
class Found:
    """The best `matches`: those that are sure, else the nearest; `strange` are the errors of which
    nothing is known, where something is of others."""

    matches: tuple[Match, ...]
    strange: tuple[SeenError, ...]

    @property
    def sure(self) -> bool:
        """Whether anything is known."""
        return any(match.sure for match in self.matches)

    def cells(self) -> Iterator[CellRecord]:
        """By whose results the matches are known, the best match's first."""
        return (cell for match in self.matches for cell in match.known.tell().cells)


class ErrorSearch:
    """Looks up among known errors, of which the first of equal ones comes first."""

    def __init__(self, known: Iterable[KnownError]) -> None:
        self.known = tuple(known)
        self._with_word: dict[str, list[int]] = {}
        for place, one in enumerate(self.known):
            for word in one.words:
                self._with_word.setdefault(word, []).append(place)
        self._total = [self._weight(one.words) for one in self.known]

    @cached_property
    def weights(self) -> dict[str, int]:
        """By word of known errors: how much it tells."""
        counts = Counter(word for one in self.known for word in one.words)
        counts.update(word for word in STOCK if word not in counts)
        return {word: _told(word, len(self.known) / n) for word, n in sorted(counts.items())}

    @property
    def new_word(self) -> int:
        """The weight of a word that no known error has, and that is no name."""
        return _told("", len(self.known))

    @property
    def new_name(self) -> int:
        """The weight of a name that no known error has."""
        return _told("_", len(self.known))

    def _weight(self, of: Iterable[str]) -> int:
        return sum(self.weights.get(word) or self._new(word) for word in of)

    def _new(self, word: str) -> int:
        return self.new_name if _NAME.search(word) else self.new_word

    def find(self, errors: Sequence[SeenError]) -> Found:
        """What is known of these errors."""
        certain: list[Match] = []
        near: list[Match] = []
        strange = []
        for error in errors:
            matches = self.like(error)
            sure = [m for m in matches if m.sure and m.score >= ALIKE * matches[0].score]
            if not sure:
                strange.append(error)
                near += matches[:NEAREST]
            certain += sure
        if certain:
            return Found(matches=self._best(certain)[:SHOWN], strange=tuple(strange))
        return Found(matches=self._best(near)[:NEAREST], strange=())

    def _best(self, matches: Iterable[Match]) -> tuple[Match, ...]:
        """Each known error once, as it is most like one that was seen; best first."""
        best: dict[str, Match] = {}
        for match in matches:
            there = best.get(match.known.key)
            if there is None or there.score < match.score:
                best[match.known.key] = match
        order = {one.key: place for place, one in enumerate(self.known)}
        return tuple(sorted(best.values(), key=lambda m: (-m.score, order[m.known.key])))

    def like(self, error: SeenError) -> list[Match]:
        """The known errors that are like one, best first; those that it is, before all others."""
        texts = self._texts(error)
        framed = self._with_frames(error) if error.frames else {}
        matches = []
        for place in sorted({*texts, *framed}):
            known, text = self.known[place], texts.get(place, 0.0)
            if error.types and known.types and not {*error.types} & {*known.types}:
                text *= OTHER_TYPE
            score, sure = text, text >= BY_TEXT
            if error.frames and known.frames:
                where = framed.get(place, 0.0)
                score = TEXT_BESIDE_FRAMES * text + (1 - TEXT_BESIDE_FRAMES) * where
                sure = score >= BY_FRAMES and text >= BY_FRAMES / 2
                score = max(score, OTHER_PLACE * text)
            if score >= LEAST:
                matches.append(Match(known=known, seen=error, score=score, sure=sure))
        matches.sort(key=lambda m: (not m.sure, -m.score))
        return matches

    def _texts(self, error: SeenError) -> dict[int, float]:
        """By known error: how like its text is, by the way of reading the message that is best."""
        found: dict[int, float] = {}
        for message in error.messages:
            asked = words(message)
            whole = self._weight(asked)
            names = {word for word in asked if _NAME.search(word)}
            shared: dict[int, int] = {}
            for word in asked:
                for place in self._with_word.get(word, ()):
                    shared[place] = shared.get(place, 0) + self.weights[word]
            for place, weight in shared.items():
                score = OF_THE_QUESTION * (weight / whole)
                score += OF_THE_KNOWN * (weight / self._total[place])
                said = {*self.known[place].words}
                if self.known[place].stock and {*asked} != said:
                    score *= OTHER_WORDS
                elif self._weight(names & said) < MOST_NAMES * self._weight(names):
                    score *= OTHER_NAMES
                found[place] = max(found.get(place, 0.0), score)
        return found

    def _with_frames(self, error: SeenError) -> dict[int, float]:
        """By known error: how much of where it comes from is in the traceback."""
        asked = {*error.frames}
        found: dict[int, float] = {}
        for place, one in enumerate(self.known):
            weights = [_FRAMES // (n + 1) for n in range(len(one.frames))]
            shared = sum(w for w, f in zip(weights, one.frames, strict=True) if f in asked)
            if shared:
                share = shared / sum(weights)
                found[place] = share if one.frames[0] == error.frames[0] else share * ELSEWHERE
        return found

    def data(self) -> dict[str, Any]:
        """All that the site's script needs."""
        return {
            "weights": self.weights,
            "newWord": self.new_word,
            "newName": self.new_name,
            "known": [
                [*(" ".join(part) for part in (one.types, one.words, one.frames)), *one.told()]
                for one in self.known
            ],
        }


def _told(word: str, rarity: float) -> int:
    weight = round(100 * math.log(1 + rarity))
    if word in STOCK:
        return weight // STOCK_TELLS
    return 2 * weight if _NAME.search(word) else weight
