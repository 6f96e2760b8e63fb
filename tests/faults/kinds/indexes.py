"""An index that does not answer, or not as an index; from the start or after some requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from faults import hostile_index as bad
from faults.hostile_index import Bad, HostileIndex
from faults.kinds.registry import add
from faults.trial import Trial
from faults.workshop import INSTALLS, Launch

ASKING = ("refresh", "nightly plan", "lock", *INSTALLS)
LOADING = ("run bare",)

QUICK: dict[str, tuple[str, Bad, tuple[str, ...]]] = {
    "401": ("wants a password", bad.status(401), ASKING),
    "403": ("refuses", bad.status(403), ASKING),
    "404": ("has nothing", bad.status(404), ASKING),
    "429": ("answers that there are too many requests", bad.status(429), ASKING),
    "500": ("has an error", bad.status(500), ASKING),
    "503": ("is unavailable for a while", bad.status(503), ASKING),
    "html": ("answers with a page to log in", bad.html, ASKING),
    "html-as-json": ("answers with a page and calls it JSON", bad.html_as_json, ASKING),
    "empty-list": ("lists no file", bad.empty_list, ASKING),
    "empty": ("answers with nothing", bad.nothing, ASKING),
    "cut": ("answers with half of it", bad.cut, ASKING),
    "drops": ("ends the connection in the middle", bad.drops, ASKING),
    "garbage": ("speaks no HTTP", bad.garbage, ASKING),
    "redirects": ("redirects in a circle", bad.redirects, ASKING),
    "forgets": ("has half of the releases", bad.forgets, ASKING),
    "lies": ("lists other hashes", bad.lies, ASKING),
    "flipped": ("has wheels with a byte flipped", bad.flipped, LOADING),
    "odd-versions": ("lists invalid versions", bad.odd_versions, ASKING),
    "deep": ("answers with very deep JSON", bad.deep, ASKING),
    "wrong-project": ("answers with another project", bad.wrong_project, ASKING),
}

SLOW: dict[str, tuple[str, Callable[[HostileIndex], Bad]]] = {
    "hangs": ("never answers", bad.hangs),
    "drips": ("answers with a byte now and then", bad.drips),
}

ANSWERED = {"odd-versions", "forgets", "lies"}
"""What an honest index may answer, too: what is locked holds, and what is asked anew is not."""


def _spoilt(trial: Trial, *, make: Callable[[HostileIndex], Bad], limit: float) -> Iterator[Launch]:
    index = trial.shop.index
    index.spoil(make(index), trial.random.choice((0, 0, trial.random.randint(1, 12))))
    yield Launch(limit=limit)
    trial.placed = index.did_bad > 0
    index.mend()


def _refused(trial: Trial) -> Iterator[Launch]:
    """Nobody listens there."""
    url = "http://127.0.0.1:9/projects/"
    yield Launch(variables={"UV_DEFAULT_INDEX": url, "PIP_INDEX_URL": url})


def _unknown_name(trial: Trial) -> Iterator[Launch]:
    url = "http://index.invalid/projects/"
    yield Launch(variables={"UV_DEFAULT_INDEX": url, "PIP_INDEX_URL": url})


for _name, (_what, _bad, _commands) in QUICK.items():
    add(
        f"index-{_name}",
        f"the index {_what}",
        _commands,
        partial(_spoilt, make=lambda index, bad=_bad: bad, limit=40.0),  # type: ignore[misc]
    )
for _name, (_what, _make) in SLOW.items():
    add(
        f"index-{_name}",
        f"the index {_what}",
        ASKING,
        partial(_spoilt, make=_make, limit=50.0),
        share=0.3,
    )
add("index-refuses", "nothing listens on the index's port", ASKING, _refused)
add("index-unknown-name", "the index's name is not known", ASKING, _unknown_name)
