"""Version guards are read out of sources as they are written in the real packages."""

from __future__ import annotations

import pytest

from suite import guards


def read(source: str) -> list[str]:
    return sorted(str(one) for one in guards.guards(source))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('if is_te_min_version("2.1.0"): pass', "transformer-engine>=2.1.0"),
        ('is_te_min_version("0.12.0", check_equality=False)', "transformer-engine>0.12.0"),
        ('utils.is_torch_min_version("2.6a0")', "torch>=2.6a0"),
        ('Version(torch.__version__) >= Version("2.6")', "torch>=2.6"),
        ('Version("2.6") <= Version(torch.__version__)', "torch>=2.6"),
        ('version.parse(torch.__version__) < version.parse("2.4")', "torch<2.4"),
        ("if torch_version() >= (2, 4, 3): pass", "torch>=2.4.3"),
        ('PkgVersion(version("transformer-engine")) < PkgVersion("2.2")', "transformer-engine<2.2"),
        ('get_te_version() == PkgVersion("2.3.0.dev0+5fdd7bb")', None),
        ('Version(megatron.core.__version__) > Version("0.11")', "megatron-core>0.11"),
        ('_V = Version(te.__version__)\nif Version("2.0") <= _V: pass', "transformer-engine>=2.0"),
        ('from torch import __version__ as _t\nif _Version(_t) < _Version("2.9"): 0', "torch<2.9"),
    ],
)
def test_a_guard_is_read(source: str, expected: str | None) -> None:
    assert read(source) == [expected or "transformer-engine==2.3.0.dev0+5fdd7bb"]


@pytest.mark.parametrize(
    "source",
    [
        "is_te_min_version(wanted)",
        "Version(torch.__version__) >= Version(wanted)",
        "sys.version_info >= (3, 11)",
        "opset_version < 19",
        'Version(parsed) >= Version("1.2")',
        "1 <= torch_version() <= 2",
        'print("Version(torch.__version__) >= 2")',
    ],
)
def test_what_cannot_be_read_is_no_guard(source: str) -> None:
    assert read(source) == []


def test_the_line_is_where_the_comparison_stands() -> None:
    (one,) = guards.guards('\n\nif is_te_min_version("2.1"):\n    pass\n')
    assert one.line == 3


def test_a_source_without_versions_is_not_parsed() -> None:
    assert read("this is no Python") == []
    with pytest.raises(SyntaxError):
        read("torch.__version__ is no Python")
