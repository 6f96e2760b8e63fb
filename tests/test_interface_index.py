"""The index of interfaces: definitions, changes by release, its file."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest
from api_support import MCORE, OLD, changed, index
from hypothesis import given
from hypothesis import strategies as st

from mcore_compat.api import definitions, interface_index, packages, refresh
from mcore_compat.api.definitions import FunctionParameter
from mcore_compat.base.errors import MatrixError, UsageError

names = st.from_regex(r"[a-z]{1,3}", fullmatch=True)
texts = st.sampled_from(["value", "def(a)", "def(a, b=1)", "= megatron.core.x", "module"])
interfaces = st.dictionaries(
    names.map("megatron.core.{}".format), st.dictionaries(names, texts, min_size=1), max_size=3
)
versions = st.sampled_from(["0.9.0", "0.10.0", "0.10.1", "0.11.0", "1.0"])


@st.composite
def parameters(draw: st.DrawFn) -> list[FunctionParameter]:
    """Such as Python takes: in the order of their kinds, and once required no more by position."""
    found, optional = [], False
    for kind in sorted(draw(st.lists(st.integers(0, 4), max_size=8))):
        stars = kind in (definitions.ARGS, definitions.KWARGS)
        if stars and any(p.kind == kind for p in found):
            continue
        optional = draw(st.booleans()) or (optional and kind < definitions.ARGS)
        default = "'a, b'" if optional and not stars else None
        found.append(FunctionParameter(name=f"p{len(found)}", kind=kind, default=default))
    return found


@given(parameters(), st.booleans())
def test_a_signature_is_read_as_it_was_written(
    given_: list[FunctionParameter], opaque: bool
) -> None:
    text = definitions.function("def", given_, opaque=opaque)
    (read,) = definitions.read(text)
    assert list(read.parameters) == given_
    assert (read.word, read.opaque) == ("def", opaque)


@pytest.mark.parametrize("text", ["", "nothing", "def(", "def(a b)", "a | def(x"])
def test_what_is_no_definition_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a definition"):
        definitions.read(text)


def test_a_long_default_is_told_from_another_one() -> None:
    one, other = (definitions.short(f"({'1, ' * 40}{n})") for n in (1, 2))
    assert one != other
    assert len(one) < definitions.LONGEST
    assert definitions.read(f"def(x={one})")[0].parameters[0].default == one


@given(st.dictionaries(versions, interfaces, min_size=1))
def test_each_release_is_as_it_was_given_whatever_comes_between(
    by_release: dict[str, dict[str, definitions.Names]],
) -> None:
    made = interface_index.of_releases(MCORE, by_release)
    assert interface_index.loads(interface_index.dumps(made), "x") == made
    for version, interface in by_release.items():
        assert made.names(made.place(version)) == interface
    first, *others = by_release
    one = interface_index.of_releases(MCORE, {first: by_release[first]})
    later = interface_index.with_releases(one, {v: by_release[v] for v in others})
    assert later == made
    assert interface_index.dumps(later) == interface_index.dumps(made)


def test_a_release_that_comes_late_takes_its_place() -> None:
    made = interface_index.of_releases(MCORE, {"0.14.0": OLD, "0.16.0": changed()})
    late = interface_index.with_releases(made, {"0.15.0": OLD})
    assert late.releases == ("0.14.0", "0.15.0", "0.16.0")
    assert late == index()


def test_the_file_is_the_same_for_the_same_interfaces(tmp_path: Path) -> None:
    refresh.write(index(), tmp_path)
    path = interface_index.path_of(MCORE, tmp_path)
    before = path.read_bytes()
    refresh.write(interface_index.load(MCORE, tmp_path), tmp_path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["megatron-core.json.xz"]


def test_a_release_that_is_not_known_is_said_with_the_nearest() -> None:
    assert index().place("0.14") == 0
    with pytest.raises(UsageError, match=r'megatron-core 0\.17\.0; did you mean "0\.1[456]\.0"'):
        index().place("0.17.0")


HEAD = '{"made_by":"x","package":"megatron-core","releases":["0.1"],"modules":'


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "are missing; read them: nox -s refresh"),
        (b"no xz", "cannot be read"),
        (lzma.compress(b"\xff"), "cannot be read"),
        (lzma.compress(b"[]"), "is not valid"),
        (
            lzma.compress(b'{"made_by":"x","package":"numpy","releases":[],"modules":{}}'),
            "unknown package",
        ),
        (lzma.compress(f'{HEAD}{{"m":{{"n":[[1,"value"]]}}}}}}'.encode()), "does not list"),
        (lzma.compress(HEAD.replace('["0.1"]', '["0.2","0.1"]').encode() + b"{}}"), "not in order"),
        (lzma.compress(HEAD.replace('"0.1"', '"a"').encode() + b"{}}"), "is not valid"),
    ],
)
def test_a_file_of_no_use_is_said_in_one_line(
    tmp_path: Path, content: bytes | None, why: str
) -> None:
    if content is not None:
        interface_index.path_of(MCORE, tmp_path).write_bytes(content)
    with pytest.raises(MatrixError, match=why):
        interface_index.load(MCORE, tmp_path)


def test_the_index_of_another_package_is_none(tmp_path: Path) -> None:
    refresh.write(index(), tmp_path)
    modelopt = packages.BY_NAME[packages.MODELOPT]
    interface_index.path_of(MCORE, tmp_path).rename(interface_index.path_of(modelopt, tmp_path))
    with pytest.raises(MatrixError, match="is for megatron-core"):
        interface_index.load(modelopt, tmp_path)
