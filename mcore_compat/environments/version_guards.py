"""Versions of other packages that the packages under test look at while they are imported, read
from their code: no number stands here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from packaging.utils import canonicalize_name


@dataclass(frozen=True, kw_only=True)
class VersionGuard:
    """A place in a package's code that decides by the version of another one.

    `of`: the package; `files`: where in it, a glob; `subject`: the distribution that is looked at;
    `least`, `most`, `below`: what the bounds are read with, from the same file; `beside`: files of
    the subject without which the code does not look; `effect`: what happens out of them, `fatal`
    where an import fails.
    """

    of: str
    files: str
    subject: str
    effect: str
    least: str = ""
    most: str = ""
    below: str = ""
    beside: tuple[str, ...] = ()
    fatal: bool = False


_NVRX = "nvidia_resiliency_ext/checkpointing/async_ckpt"
_WITHOUT_FLASH = "Transformer Engine goes on without flash-attn, with cuDNN's or its own attention"

GUARDS = (
    VersionGuard(
        of="transformer-engine",
        files="transformer_engine/pytorch/attention/**/utils.py",
        subject="flash-attn",
        least=r'^    version_required = PkgVersion\("([^"]+)"\)',
        most=r'^    max_version = PkgVersion\("([^"]+)"\)',
        effect=_WITHOUT_FLASH,
    ),
    VersionGuard(
        of="transformer-engine",
        files="transformer_engine/pytorch/attention.py",
        subject="flash-attn",
        least=r'^_(?:flash_attn|fa)_version_required = PkgVersion\("([^"]+)"\)',
        most=r'^_(?:flash_attn|fa)_max_version = PkgVersion\("([^"]+)"\)',
        effect=_WITHOUT_FLASH,
    ),
    VersionGuard(
        of="megatron-core",
        files="megatron/core/dist_checkpointing/strategies/nvrx.py",
        subject="nvidia-resiliency-ext",
        least=r'^NVRX_MIN_VERSION = "([^"]+)"',
        beside=(
            f"{_NVRX}/core.py",
            f"{_NVRX}/cached_metadata_filesystem_reader.py",
            f"{_NVRX}/filesystem_async.py",
            f"{_NVRX}/state_dict_saver.py",
        ),
        effect="megatron.core.dist_checkpointing cannot be imported, and no checkpoint is saved or "
        "loaded",
        fatal=True,
    ),
    VersionGuard(
        of="megatron-core",
        files="megatron/core/transformer/attention.py",
        subject="flash-attn-4",
        least=r'^_MIN_FA4_VERSION = "([^"]+)"',
        effect="megatron-core goes on without FlashAttention 4",
    ),
    VersionGuard(
        of="megatron-core",
        files="megatron/core/ssm/mamba_mixer.py",
        subject="mamba-ssm",
        least=r'^    else:\n        conv1d_min = "[^"]+"\n        mamba_min = "([^"]+)"',
        effect="packed sequences are refused by Mamba layers",
    ),
    VersionGuard(
        of="megatron-core",
        files="megatron/core/ssm/mamba_mixer.py",
        subject="causal-conv1d",
        least=r'^    else:\n        conv1d_min = "([^"]+)"',
        effect="packed sequences are refused by Mamba layers",
    ),
    VersionGuard(
        of="nvidia-modelopt",
        files="modelopt/torch/__init__.py",
        subject="transformers",
        least=r'_Version\("([^"]+)"\) <= _Version\(_transformers_version\)'
        r'|_Version\(_transformers_version\) < _Version\("([^"]+)"\) or',
        below=r'_Version\(_transformers_version\) < _Version\("([^"]+)"\)\)'
        r'|_Version\(\s*_transformers_version\s*\) >= _Version\("([^"]+)"\)',
        effect="ModelOpt warns that it is not tested with it: its plugins for Hugging Face models "
        "may fail",
    ),
)


@dataclass(frozen=True, kw_only=True)
class VersionRange:
    """What `guard` says of its subject, at `where` (`a/b.py:12`); bounds that it does not have are
    empty."""

    guard: VersionGuard
    where: str
    least: str = ""
    most: str = ""
    below: str = ""
    specifier: str = field(default="", compare=False)


def ranges(places: Sequence[Path], installed: set[str]) -> tuple[VersionRange, ...]:
    """What the code of the packages says of those that are installed."""
    looked = [guard for guard in GUARDS if canonicalize_name(guard.subject) in installed]
    return tuple(found for guard in looked for found in _of(guard, places))


def _of(guard: VersionGuard, places: Sequence[Path]) -> Iterator[VersionRange]:
    for place in places:
        for path in sorted(place.glob(guard.files)):
            if any(not _there(file, places) for file in guard.beside):
                continue
            if found := _read(guard, path, path.relative_to(place).as_posix()):
                yield found
                return


def _there(file: str, places: Sequence[Path]) -> bool:
    return any((place / file).is_file() for place in places)


def _read(guard: VersionGuard, path: Path, name: str) -> VersionRange | None:
    """The bounds in a file; None where it has none."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    bounds = {}
    line = 0
    for kind in ("least", "most", "below"):
        pattern = getattr(guard, kind)
        match = re.search(pattern, text, re.M) if pattern else None
        if match is None:
            continue
        group = match.lastindex or 1
        bounds[kind] = match[group]
        line = line or text.count("\n", 0, match.start(group)) + 1
    if not bounds:
        return None
    marks = {"least": ">=", "most": "<=", "below": "<"}
    specifier = ",".join(f"{marks[kind]}{version}" for kind, version in bounds.items())
    return VersionRange(guard=guard, where=f"{name}:{line}", specifier=specifier, **bounds)
