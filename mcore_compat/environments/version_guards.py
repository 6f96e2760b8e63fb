"""Versions of other packages that the packages under test look at while they are imported, read
from their code: no number stands here."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from packaging.utils import canonicalize_name


@dataclass(frozen=True, kw_only=True)
class VersionGuard:
    """A place in a package's code that decides by the version of another one.

    `of`: the package; `files`: where in it, globs; `subject`: the distribution that is looked at;
    `least`, `most`, `below`: what the bounds are read with, from the same file, and `blackwell`:
    the least one on GPUs of compute capability 10.0 and newer; `beside`: files of the subject
    without which the code does not look; `effect`: what happens out of the bounds, `fatal` where an
    import, or a layer with all defaults, fails; `without`: what happens if the subject is not
    installed; `message`: what the code says then, with groups named as the bounds, and `found`.
    Of several guards for one subject, the first that is in the code counts; `name` tells them
    apart.
    """

    of: str
    files: tuple[str, ...]
    subject: str
    effect: str
    name: str = ""
    least: str = ""
    most: str = ""
    below: str = ""
    blackwell: str = ""
    beside: tuple[str, ...] = ()
    fatal: bool = False
    without: str = ""
    message: str = ""

    @property
    def key(self) -> str:
        """What tells it from the other guards of its package."""
        return self.name or self.subject


_NVRX = "nvidia_resiliency_ext/checkpointing/async_ckpt"
_VERSION = r"\d\w*(?:[.+!]\w+)*"
_ASSERTED = (
    r'^_flash_attn_version = PkgVersion\(get_pkg_version\("flash-attn"\)\)\n'
    r'_flash_attn_version_required = PkgVersion\("'
)
_MAX = r'^(?:    |_flash_attn_|_fa_)max_version = PkgVersion\("([^"]+)"\)'
_COMPARES_LESS = r"[\s\S]*<= version < FlashAttentionUtils\.max_version"

GUARDS = (
    VersionGuard(  # to 1.11, which imports flash-attn in any case
        of="transformer-engine",
        files=("transformer_engine/pytorch/attention.py",),
        subject="flash-attn",
        name="flash-attn, asserted",
        least=_ASSERTED + r'([^"]+)"\)',
        most=_ASSERTED + r'[^"]+"\)\n_flash_attn_max_version = PkgVersion\("([^"]+)"\)',
        effect="each DotProductAttention of it raises an AssertionError",
        fatal=True,
        message=rf"FlashAttention (?:minimum version (?P<least>{_VERSION}) is required"
        rf"|maximum version (?P<most>{_VERSION}) is supported)",
    ),
    VersionGuard(
        of="transformer-engine",
        files=(
            "transformer_engine/pytorch/attention/**/utils.py",
            "transformer_engine/pytorch/dot_product_attention/utils.py",
            "transformer_engine/pytorch/attention.py",
        ),
        subject="flash-attn",
        least=r'^(?:    |_flash_attn_|_fa_)version_required = PkgVersion\("([^"]+)"\)',
        most=rf"{_MAX}(?!{_COMPARES_LESS})",
        below=rf"{_MAX}(?={_COMPARES_LESS})",
        blackwell=r'^(?:    |_flash_attn_)version_required_blackwell = PkgVersion\("([^"]+)"\)',
        effect="Transformer Engine goes on without flash-attn, with cuDNN's or its own attention",
        message=rf"Supported flash-attn versions are >= (?P<least>{_VERSION}), "
        rf"(?:<= (?P<most>{_VERSION})|< (?P<below>{_VERSION}))\. "
        rf"Found flash-attn (?P<found>{_VERSION})",
    ),
    VersionGuard(
        of="megatron-core",
        files=("megatron/core/dist_checkpointing/strategies/nvrx.py",),
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
        without="megatron-core then writes checkpoints itself",
        message=rf"Minimum required nvidia-resiliency-ext package version is (?P<least>{_VERSION})",
    ),
    VersionGuard(
        of="megatron-core",
        files=("megatron/core/transformer/attention.py",),
        subject="flash-attn-4",
        least=r'^_MIN_FA4_VERSION = "([^"]+)"',
        effect="megatron-core goes on without FlashAttention 4",
    ),
    VersionGuard(
        of="megatron-core",
        files=("megatron/core/ssm/mamba_mixer.py",),
        subject="mamba-ssm",
        least=r'^    else:\n        conv1d_min = "[^"]+"\n        mamba_min = "([^"]+)"',
        effect="packed sequences are refused by Mamba layers",
    ),
    VersionGuard(
        of="megatron-core",
        files=("megatron/core/ssm/mamba_mixer.py",),
        subject="causal-conv1d",
        least=r'^    else:\n        conv1d_min = "([^"]+)"',
        effect="packed sequences are refused by Mamba layers",
    ),
    VersionGuard(
        of="nvidia-modelopt",
        files=("modelopt/torch/__init__.py",),
        subject="transformers",
        least=r'_Version\("([^"]+)"\) <= _Version\(_transformers_version\)'
        r'|_Version\(_transformers_version\) < _Version\("([^"]+)"\)(?: or|:)',
        below=r'_Version\(_transformers_version\) < _Version\("([^"]+)"\)\)'
        r'|_Version\(\s*_transformers_version\s*\) >= _Version\("([^"]+)"\)',
        effect="ModelOpt warns that it is not tested with it: its plugins for Hugging Face models "
        "may fail",
        message=rf"transformers (?:version )?(?P<found>{_VERSION}) is (?:incompatible with nvidia-"
        r"modelopt|not tested with (?:nvidia-modelopt|current version of modelopt))",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Which versions are accepted, as is read at `where` (`a/b.py:12`); missing bounds are
    empty."""

    where: str
    least: str = ""
    most: str = ""
    below: str = ""
    blackwell: str = ""

    @property
    def specifier(self) -> str:
        """`>=2.1.1,<=2.8.3`."""
        marks = ((">=", self.least), ("<=", self.most), ("<", self.below))
        return ",".join(f"{mark}{version}" for mark, version in marks if version)


@dataclass(frozen=True, kw_only=True)
class VersionRange(Bounds):
    """The bounds that `guard` has for its subject."""

    guard: VersionGuard

    @property
    def bounds(self) -> Bounds:
        return Bounds(**{k: v for k, v in asdict(self).items() if k != "guard"})


def guards_of(package: str) -> tuple[VersionGuard, ...]:
    return tuple(guard for guard in GUARDS if guard.of == package)


def digest(package: str) -> str:
    """A digest of what a package's ranges are read with: they are read again when it changes."""
    read = [(g.key, g.files, g.least, g.most, g.below, g.blackwell) for g in guards_of(package)]
    return hashlib.sha256(repr(read).encode()).hexdigest()[:12]


def ranges(places: Sequence[Path], installed: set[str]) -> tuple[VersionRange, ...]:
    """What the code of the packages says of those that are installed."""
    looked = [
        guard
        for guard in GUARDS
        if canonicalize_name(guard.subject) in installed
        and all(any((place / file).is_file() for place in places) for file in guard.beside)
    ]
    return tuple(_first(looked, places))


def ranges_of(package: str, place: Path) -> tuple[VersionRange, ...]:
    """What the code of one package says of any other, wherever that has the files `beside`."""
    return tuple(_first(guards_of(package), [place]))


def _first(guards: Sequence[VersionGuard], places: Sequence[Path]) -> Iterator[VersionRange]:
    seen = set()
    for guard in guards:
        found = _of(guard, places) if (guard.of, guard.subject) not in seen else None
        if found:
            seen.add((guard.of, guard.subject))
            yield found


def _of(guard: VersionGuard, places: Sequence[Path]) -> VersionRange | None:
    for place in places:
        for path in (path for files in guard.files for path in sorted(place.glob(files))):
            if found := _read(guard, path, path.relative_to(place).as_posix()):
                return found
    return None


def _read(guard: VersionGuard, path: Path, name: str) -> VersionRange | None:
    """The bounds in a file; None where it has none."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    bounds = {}
    line = 0
    for kind in ("least", "most", "below", "blackwell"):
        pattern = getattr(guard, kind)
        match = re.search(pattern, text, re.M) if pattern else None
        if match is None:
            continue
        group = match.lastindex or 1
        bounds[kind] = match[group]
        line = line or text.count("\n", 0, match.start(group)) + 1
    if not bounds:
        return None
    return VersionRange(guard=guard, where=f"{name}:{line}", **bounds)
