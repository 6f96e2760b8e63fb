"""Search the known errors for those like a given error, best first. Pure.

The fewer known errors have a word, the more it counts; a name from code counts twice. With a
traceback, the place of the error counts more than its message. All weights are integers, so that
the site's script, which repeats this search, gets the same order.
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
"""The most known errors in an answer."""

NEAREST = 3
"""The most similar errors in an answer without a match."""

BY_TEXT, BY_FRAMES = 0.75, 0.6
"""The least score of a match: by the text alone, and by text and frames."""

LEAST = 0.3
"""The least score of a similar error."""

OF_THE_QUESTION, OF_THE_KNOWN = 0.7, 0.3
"""Weights of the share of the given error's words that the known error has, and of the share of the
known error's words that the given error has."""

OTHER_TYPE = 0.9
"""Factor if the type of the exception differs."""

TEXT_BESIDE_FRAMES = 0.4
"""Weight of the text if both errors have frames."""

ELSEWHERE = 0.5
"""Factor for the frames if the innermost ones differ."""

ALIKE = 0.9
"""Matches with less than this share of the best score are left out."""

STOCK_TELLS = 5
"""Divisor of the weight of a word that Python's own messages have."""

OTHER_WORDS = 0.7
"""Factor for a message of Python's own if the words are not exactly the same."""

MOST_NAMES, OTHER_NAMES = 0.8, 0.75
"""The share of the names in a message that the known error must have, and the factor if it has
less: a missing weight is another error than a missing extra state."""

OTHER_PLACE = 0.7
"""The least factor for the text of an error that was raised elsewhere."""

_NAME = re.compile(r"_|[0-9]|[^\n]{14}")
"""A word that is a name from code."""

_FRAMES = 60
"""The weight of the innermost frame; the next have a half, a third, and so on."""


@dataclass(frozen=True, kw_only=True)
class Match:
    """A known error, its score for the given error `seen`, and whether it is surely the same."""

    known: KnownError
    seen: SeenError
    score: float
    sure: bool


@dataclass(frozen=True, kw_only=True)
class Found:
    """The result of a search. `matches`: the sure ones, else the most similar; `strange`: given
    errors without a match, if others have one."""

    matches: tuple[Match, ...]
    strange: tuple[SeenError, ...]

    @property
    def sure(self) -> bool:
        """Whether any match is sure."""
        return any(match.sure for match in self.matches)

    def cells(self) -> Iterator[CellRecord]:
        """Yield the cells whose results the matches rest on, the best match's first."""
        return (cell for match in self.matches for cell in match.known.tell().cells)


class ErrorSearch:
    """A search in known errors; of equally good ones, the first wins."""

    def __init__(self, known: Iterable[KnownError]) -> None:
        self.known = tuple(known)
        self._with_word: dict[str, list[int]] = {}
        for place, one in enumerate(self.known):
            for word in one.words:
                self._with_word.setdefault(word, []).append(place)
        self._total = [self._weight(one.words) for one in self.known]

    @cached_property
    def weights(self) -> dict[str, int]:
        """The weight of each word of the known errors."""
        counts = Counter(word for one in self.known for word in one.words)
        counts.update(word for word in STOCK if word not in counts)
        return {word: _told(word, len(self.known) / n) for word, n in sorted(counts.items())}

    @property
    def new_word(self) -> int:
        """The weight of a word, not a name from code, that no known error has."""
        return _told("", len(self.known))

    @property
    def new_name(self) -> int:
        """The weight of a name from code that no known error has."""
        return _told("_", len(self.known))

    def _weight(self, of: Iterable[str]) -> int:
        return sum(self.weights.get(word) or self._new(word) for word in of)

    def _new(self, word: str) -> int:
        return self.new_name if _NAME.search(word) else self.new_word

    def find(self, errors: Sequence[SeenError]) -> Found:
        """Search for these errors."""
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
        """Return the best match of each known error, best first."""
        best: dict[str, Match] = {}
        for match in matches:
            there = best.get(match.known.key)
            if there is None or there.score < match.score:
                best[match.known.key] = match
        order = {one.key: place for place, one in enumerate(self.known)}
        return tuple(sorted(best.values(), key=lambda m: (-m.score, order[m.known.key])))

    def like(self, error: SeenError) -> list[Match]:
        """Return the known errors like a given one: sure matches first, then by score."""
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
        """Return the score of the text by known error, for the best reading of the message."""
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
        """Return the score of the frames by known error."""
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
        """Return the data for the site's script."""
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
