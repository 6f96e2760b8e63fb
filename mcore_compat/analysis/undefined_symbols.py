"""A compiled file that lacks a symbol → whose both are, and what makes them fit again. Pure."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from pathlib import PurePosixPath

from mcore_compat.analysis.error_text import SeenError
from mcore_compat.analysis.known_errors import Answer
from mcore_compat.environments.shared_libraries import EXTENSIONS, FAMILIES

_MESSAGE = re.compile(r"(?P<file>[^\s:'\"]+\.so[\w.]*): undefined symbol: (?P<symbol>\w+)")
_OF_TORCH = re.compile(r"_ZN?[A-Z]*(?:2at|3c10|5torch|6caffe2)|_Z.*(?:2at|3c10|5torch)\d")
_TE = "transformer-engine-torch"
FILES = {"transformer_engine_torch*.so*": _TE, "transformer_engine_extensions*.so*": _TE}


def answer(error: SeenError) -> Answer | None:
    """Whose the file and the symbol are; None where an error is of no symbol, or that is not
    known."""
    match = next(filter(None, map(_MESSAGE.search, error.messages)), None)
    if match is None:
        return None
    path = PurePosixPath(match["file"])
    package = next(
        (of for name, of in {**FILES, **EXTENSIONS}.items() if fnmatch(str(path), f"*{name}")), ""
    )
    if not package:
        return None
    if _OF_TORCH.match(match["symbol"]):
        first = (
            f"{path.name} of {package} was built for another torch than the one that is installed, "
            f"which lacks {match['symbol']}"
        )
        rest = (
            f"take: a {package} that is built for your torch: pip install --force-reinstall "
            f"--no-cache-dir --no-build-isolation --no-deps {package}==VERSION, with the version "
            "that you have; or the torch that it was built for",
            "more: mcore-compat doctor compares all compiled parts with your torch; mcore-compat "
            "recommend 'torch VERSION' prints which releases were tested with it",
        )
        return Answer(first, rest)
    for family, begins in FAMILIES.items():
        if begins.fullmatch(match["symbol"].encode()):
            text = f"{path.name} of {package} needs another {family} than the one that is loaded"
            return Answer(
                f"{text}, which lacks {match['symbol']}",
                ("more: mcore-compat doctor says which wheel has it",),
            )
    return None
