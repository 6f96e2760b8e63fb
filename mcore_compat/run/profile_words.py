"""The profile of the options `--for` and `--families`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mcore_compat.base.errors import UsageError, nearest
from mcore_compat.core import matrix as matrices
from mcore_compat.core import profiles
from mcore_compat.core.matrix import Matrix
from mcore_compat.core.profiles import DEFAULT, Profile
from mcore_compat.results import suite_checks


@dataclass(frozen=True)
class ProfileWords:
    """The options' values: a profile's name, `FILE.toml:NAME` or features; and families."""

    text: str | None = None
    families: str | None = None

    def profile(self, declared: Matrix, suite: Path) -> Profile | None:
        """The profile; None without either option.

        Raises:
            UsageError: a word that the matrix and the suite do not have; names the nearest.
            MatrixError: the file cannot be read.
        """
        if self.text is None and self.families is None:
            return None
        words = suite_checks.words(suite)
        chosen = self._named(declared) if self.text is not None else DEFAULT
        words.refuse_unknown(chosen, "--for")
        if self.families is not None:
            chosen = profiles.narrowed(chosen, self.families)
            words.refuse_unknown(chosen, "--families")
        return chosen

    def _named(self, declared: Matrix) -> Profile:
        text = self.text or ""
        file, _, name = text.rpartition(":")
        if file.endswith(".toml"):
            return _in_file(Path(file), name)
        if text.endswith(".toml"):
            return _in_file(Path(text), "")
        return profiles.named(text, declared.profiles)


def _in_file(path: Path, name: str) -> Profile:
    """The profile of that name in a file; without a name, the only one."""
    there = matrices.profiles_in(path)
    if not name and len(there) == 1:
        return next(iter(there.values()))
    if name not in there:
        hint = nearest(name, there) if name else f"; name one of {', '.join(there)}"
        raise UsageError(f'--for: {path} has no profile "{name}"{hint}')
    return there[name]
