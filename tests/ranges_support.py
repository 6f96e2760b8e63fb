"""Excerpts of the packages' real code that looks at versions of others, and the ranges in them."""

from __future__ import annotations

from pathlib import Path

from mcore_compat.analysis.around import release_ranges
from mcore_compat.analysis.around.release_ranges import ReleaseRanges
from mcore_compat.environments import version_guards

TE, MODELOPT, MCORE = "transformer-engine", "nvidia-modelopt", "megatron-core"
UTILS = "transformer_engine/pytorch/attention/dot_product_attention/utils.py"

_CLASS = """class FlashAttentionUtils:
    is_installed = False
    version = PkgVersion("0")
    version_required = PkgVersion("2.1.1")
    version_required_blackwell = PkgVersion("2.7.3")
    max_version = PkgVersion("{}")
    v2_plus = False
"""
_ONE_LINE = """
    if not (_Version("4.53") <= _Version(_transformers_version) < _Version("5.0")):
        _warnings.warn(
"""

CODE: dict[str, dict[str, tuple[str, str]]] = {
    TE: {
        "1.11.0": (
            "transformer_engine/pytorch/attention.py",
            '_flash_attn_version = PkgVersion(get_pkg_version("flash-attn"))\n'
            '_flash_attn_version_required = PkgVersion("2.0.6")\n'
            '_flash_attn_max_version = PkgVersion("2.6.3")\n',
        ),
        "1.13.0": (
            "transformer_engine/pytorch/attention.py",
            '_flash_attn_version = PkgVersion("0")\n'
            '_flash_attn_version_required = PkgVersion("2.1.1")\n'
            '_flash_attn_max_version = PkgVersion("2.6.3")\n',
        ),
        "2.2.0": (
            "transformer_engine/pytorch/dot_product_attention/utils.py",
            _CLASS.format("2.7.4.post1"),
        ),
        "2.5.0": (UTILS, _CLASS.format("2.7.4.post1")),
        "2.12.0": (UTILS, _CLASS.format("2.8.3")),
        "2.20.2": (
            UTILS,
            _CLASS.format("2.8.4") + "    def is_version_supported(version, minimum_version):\n"
            "        return minimum_version <= version < FlashAttentionUtils.max_version\n",
        ),
    },
    MODELOPT: {
        "0.31.0": ("modelopt/torch/__init__.py", "import warnings as _warnings\n"),
        "0.43.0": ("modelopt/torch/__init__.py", _ONE_LINE),
        "0.44.0": (
            "modelopt/torch/__init__.py",
            '    if _Version(_transformers_version) < _Version("4.56"):\n'
            "        _warnings.warn(\n"
            '    elif _Version(_transformers_version) >= _Version("5.0"):\n',
        ),
        "0.45.0": (
            "modelopt/torch/__init__.py",
            '    if _Version(_transformers_version) < _Version("4.56") or _Version(\n'
            "        _transformers_version\n"
            '    ) >= _Version("5.10"):\n'
            "        _warnings.warn(\n"
            '    if _Version(_transformers_version) < _Version("5.3") and importlib.util.find_spec('
            '"kernels"):\n',
        ),
    },
    MCORE: {
        "0.16.1": ("megatron/core/utils.py", ""),
        "0.18.0": (
            "megatron/core/dist_checkpointing/strategies/nvrx.py",
            'NVRX_MIN_VERSION = "0.6.0"\n',
        ),
    },
}
"""File and text by package and release."""


def lay_out(package: str, version: str, folder: Path) -> None:
    """Write what there is of a release below a folder."""
    name, text = CODE[package][version]
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def known(folder: Path) -> ReleaseRanges:
    """What is read of all excerpts."""
    read = {}
    for package, by_release in CODE.items():
        for version in by_release:
            lay_out(package, version, folder / package / version)
        read[package] = {
            version: version_guards.ranges_of(package, folder / package / version)
            for version in by_release
        }
    return release_ranges.made(read)
