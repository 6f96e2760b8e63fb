"""Parts of a run for several machines: each cell is in exactly one, by its name alone. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from mcore_compat.base.errors import UsageError
from mcore_compat.base.files import sha256_bytes


@dataclass(frozen=True, kw_only=True)
class Shard:
    """The `number`-th of `of` parts, counted from 1."""

    number: int
    of: int

    def holds(self, name: str) -> bool:
        """Whether a cell belongs here. By its name's digest, not by its place among the cells
        that are left: two machines that know of different evidence still share them out."""
        return int(sha256_bytes(name.encode())[:12], 16) % self.of == self.number - 1

    def part(self, names: Iterable[str]) -> tuple[str, ...]:
        """Those of `names` that belong here, in their order."""
        return tuple(name for name in names if self.holds(name))


WHOLE = Shard(number=1, of=1)


def parse(text: str) -> Shard:
    """`2/8` as a shard.

    Raises:
        UsageError: not two numbers, or there is no such part.
    """
    match = re.fullmatch(r"([0-9]{1,4})/([0-9]{1,4})", text)
    if match is None:
        raise UsageError(f'--shard: "{text}" is not a part of a run; write e.g. 2/8')
    number, of = int(match[1]), int(match[2])
    if not 1 <= number <= of:
        raise UsageError(f"--shard: there is no part {number} of {of}; write 1/{max(of, 1)}")
    return Shard(number=number, of=of)
