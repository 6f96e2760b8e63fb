"""What each rank holds, against what was saved whole. Pure: needs no torch.

A rank tells its tensors in pieces: where in the whole tensor each lies, and its digest. What is
whole is looked up by the tensor's name, so that a wrong key of the checkpoint does not prove
itself right, and cut to the same piece.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from math import prod
from typing import Any

from suite import compare
from suite.compare import Digest

Cut = Callable[[tuple[int, ...], tuple[int, ...]], Digest]
"""The digest of a piece of a whole tensor, by its offset and shape."""

_LAYER = re.compile(r"^decoder\.layers\.(\d+)\.")


@dataclass(frozen=True)
class Piece:
    """One piece of the tensor `name`, which a checkpoint has under `key`.

    `whole` is the shape of all pieces together. A tensor that a checkpoint splits has pieces of
    several keys.
    """

    name: str
    key: str
    offset: tuple[int, ...]
    shape: tuple[int, ...]
    whole: tuple[int, ...]
    digest: Digest


@dataclass(frozen=True)
class Held:
    """What one rank holds: its place among the pipeline's stages, and its pieces."""

    rank: int
    stage: int
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class Whole:
    """A tensor of the model that was saved by one rank."""

    shape: tuple[int, ...]
    cut: Cut


Wholes = Mapping[tuple[str, str], Whole]
"""By name and key."""

Place = tuple[tuple[int, ...], tuple[int, ...]]
"""The offset and the shape of a piece."""


def data(held: Held) -> dict[str, Any]:
    """As plain data."""
    return asdict(held)


def parsed(given: Mapping[str, Any]) -> Held:
    """From plain data."""
    pieces = []
    for row in given["pieces"]:
        shapes = {name: tuple(row[name]) for name in ("offset", "shape", "whole")}
        one = row["digest"]
        digest = Digest(one["sha256"], tuple(one["shape"]), one["dtype"])
        pieces.append(Piece(name=row["name"], key=row["key"], digest=digest, **shapes))
    return Held(given["rank"], given["stage"], tuple(pieces))


def layers(held: Held) -> int:
    """How many layers the rank's stage has."""
    found = [_LAYER.match(piece.name) for piece in held.pieces]
    return 1 + max((int(match[1]) for match in found if match), default=-1)


def in_the_model(all_held: Sequence[Held]) -> tuple[Held, ...]:
    """Under the names that a model of one stage has: layers are counted on from stage to stage."""
    counts = {held.stage: layers(held) for held in all_held}
    renamed = []
    for held in all_held:
        before = sum(count for stage, count in counts.items() if stage < held.stage)
        pieces = tuple(_moved(piece, before) for piece in held.pieces)
        renamed.append(Held(held.rank, held.stage, pieces))
    return tuple(renamed)


def _moved(piece: Piece, before: int) -> Piece:
    name = _LAYER.sub(lambda match: f"decoder.layers.{int(match[1]) + before}.", piece.name)
    return Piece(**{**vars(piece), "name": compare.unfused(name)})


def compared(wholes: Wholes, all_held: Sequence[Held]) -> list[str]:
    """In words, where what the ranks hold is not, piece by piece and bit for bit, what was saved,
    and what of that none of them holds."""
    if not wholes:
        return ["there is no tensor to compare"]
    problems: list[str] = []
    seen: dict[tuple[str, str], set[Place]] = {}
    for held in in_the_model(all_held):
        wrong: dict[str, list[str]] = {}
        for piece in held.pieces:
            seen.setdefault((piece.name, piece.key), set()).add((piece.offset, piece.shape))
            what = _wrong(wholes, piece)
            if what:
                wrong.setdefault(what, []).append(piece.name)
        for what, names in sorted(wrong.items()):
            problems.append(f"rank {held.rank}: {_listed(what, names)}")
    return problems + _left_out(wholes, seen)


def _wrong(wholes: Wholes, piece: Piece) -> str | None:
    whole = wholes.get((piece.name, piece.key))
    if whole is None:
        return "not saved under this name and key"
    if whole.shape != piece.whole:
        return "of another whole shape"
    ends = zip(piece.offset, piece.shape, whole.shape, strict=True)
    if any(offset + size > end for offset, size, end in ends):
        return "reaching over the whole tensor"
    wanted = whole.cut(piece.offset, piece.shape)
    if wanted.dtype != piece.digest.dtype:
        return "of another dtype"
    return None if wanted == piece.digest else "of other values"


def _left_out(wholes: Wholes, seen: Mapping[tuple[str, str], Collection[Place]]) -> list[str]:
    """Which tensors the ranks together do not hold whole, or hold twice in part."""
    gaps, twice = [], []
    for (name, key), whole in wholes.items():
        places = seen.get((name, key), ())
        if any(_overlap(one, other) for one, other in combinations(places, 2)):
            twice.append(name)
        elif sum(prod(shape) for _, shape in places) != prod(whole.shape):
            gaps.append(name)
    found = {"not held whole by the ranks together": gaps, "in pieces that overlap": twice}
    return [_listed(what, names) for what, names in found.items() if names]


def _overlap(one: Place, other: Place) -> bool:
    """Whether two places have an element in common."""
    axes = zip(*one, *other, strict=True)
    return all(a < b + n and b < a + m for a, m, b, n in axes)


def _listed(what: str, names: Iterable[str]) -> str:
    ordered = sorted(set(names))
    rest = len(ordered) - compare.SHOWN
    more = f" and {rest} more" if rest > 0 else ""
    return f"{len(ordered)} {what}: {', '.join(ordered[: compare.SHOWN])}{more}"


def parallel(all_held: Sequence[Held]) -> int:
    """How many tensors are really spread: a rank holds a piece of them, or only some of the ranks
    hold them."""
    moved = in_the_model(all_held)
    pieces = {p.name for held in moved for p in held.pieces if p.shape != p.whole}
    names = [{p.name for p in held.pieces} for held in moved]
    everywhere = set.intersection(*names) if names else set()
    return len(pieces | (set().union(*names) - everywhere))
