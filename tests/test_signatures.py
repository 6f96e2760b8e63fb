"""Signatures are read from their text, and what differs is what Python would say of calls."""

from __future__ import annotations

import inspect
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcore_compat.analysis.interfaces import signatures
from mcore_compat.analysis.interfaces.signatures import canonical


def compared(old: str, new: str) -> list[tuple[str, str | None, bool]]:
    return [(d.kind, d.name, d.breaking) for d in signatures.compare(old, new)]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("(a)", "(a, b=1)", [("parameter added", "b", False)]),
        ("(a)", "(a, b)", [("parameter added", "b", True)]),
        ("(a)", "(a, *, b)", [("parameter added", "b", True)]),
        ("(a)", "(a, **more)", [("parameter added", "**more", False)]),
        ("(a, b)", "(a)", [("parameter removed", "b", True)]),
        (
            "(a, *, b)",
            "(a, **k)",
            [("parameter removed", "b", False), ("parameter added", "**k", False)],
        ),
        ("(a, *b)", "(a)", [("parameter removed", "*b", True)]),
        ("(a=1)", "(b=1)", [("parameter removed", "a", True), ("parameter added", "b", False)]),
        ("(a=1)", "(a=2)", [("default changed", "a", False)]),
        ("(a=0)", "(a=0.0)", []),
        ("(a=False)", "(a=0)", [("default changed", "a", False)]),
        ("(a=1)", "(a)", [("default removed", "a", True)]),
        ("(a)", "(a=1)", [("default added", "a", False)]),
        ("(a, b)", "(a, *, b)", [("kind changed", "b", True)]),
        ("(a, *, b)", "(a, b)", [("kind changed", "b", False)]),
        ("(a, b)", "(a, b, /)", [("kind changed", "a", True), ("kind changed", "b", True)]),
        ("(self, a, b)", "(self, b, a)", [("order changed", "a", True)]),
        ("(a, c)", "(a, b=1, c=1)", [("parameter added", "b", False),
                                     ("default added", "c", False),
                                     ("order changed", "c", True)]),
        ("(a, *r)", "(a, b=1, *r)", [("parameter added", "b", False),
                                     ("order changed", "*args", True)]),
        ("(a: int) -> str", "(a: float) -> str", [("annotation changed", "a", False)]),
        ("(a) -> int", "(a) -> str", [("annotation changed", "return", False)]),
        ("(a, b)", "(*args, **kwargs)", [("signature hidden", None, False)]),
        ("(*args, **kwargs)", "(a)", [("signature shown", None, False)]),
        ("(a, b", "(a)", [("text changed", None, True)]),
        ("GenericAlias", "type", [("text changed", None, False)]),
        ("(*args, **kwargs)", "GenericAlias", [("text changed", None, False)]),
        ("(a)", "module", [("text changed", None, True)]),
    ],
)  # fmt: skip
def test_each_kind_of_change(old: str, new: str, expected: list[Any]) -> None:
    assert compared(old, new) == expected


def test_what_moves_behind_the_arguments_that_anyone_gives_by_position_breaks_nobody() -> None:
    many = ", ".join(f"p{n}=0" for n in range(signatures.MOST_BY_POSITION))
    assert ("order changed", "x", False) in compared(f"({many}, x=0)", f"({many}, y=0, x=0)")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Optional[List[int]]", "list[int] | None"),
        ("typing.Union[a.B, NoneType]", "None | B"),
        ("'a.B'", "B"),
        ("Union[int, Optional[str]]", "Union[str, None, int]"),
        ("collections.abc.Callable[[int], None]", "Callable[[int], NoneType]"),
    ],
)
def test_one_type_in_two_spellings_is_one_type(one: str, other: str) -> None:
    assert canonical(one) == canonical(other)


def test_what_is_no_expression_stays_as_it_is() -> None:
    assert canonical("<class 'x'>") == "<class 'x'>"


def test_odd_defaults_are_read() -> None:
    text = (
        "(a: Dict[str, ~T] = {'x': ',)'}, b=<S.X: 'y, z'>, *, c: 'q' = <factory>, d='it\\'s') -> X"
    )
    read = signatures.parse(text)
    assert read is not None
    assert {p.name: p.default for p in read.parameters} == {
        "a": "{'x': ',)'}",
        "b": "<S.X: 'y, z'>",
        "c": "<factory>",
        "d": "'it\\'s'",
    }
    assert read.returns == "X"


@given(st.text(alphabet="()[]{}<>'\"\\,:=*/->ab \n|\x00é") | st.text())
def test_no_text_is_too_odd_to_be_compared(text: str) -> None:
    signatures.parse(text)
    assert signatures.compare(text, text) == ()
    for one, other in itertools.permutations((text, "(a, b=1)", f"({text})"), 2):
        signatures.compare(one, other)


KINDS = list(inspect._ParameterKind)
PARAMETERS = st.lists(
    st.tuples(
        st.from_regex(r"[a-z_éß]\w{0,5}", fullmatch=True).filter(str.isidentifier),
        st.sampled_from(KINDS),
        st.one_of(st.none(), st.integers(), st.text(), st.lists(st.text()), st.just({"k": ("(",)})),
        st.sampled_from([inspect.Parameter.empty, int, "list[x.Y]", dict[str, int]]),
        st.booleans(),
    ),
    unique_by=lambda row: row[0],
)


def real(rows: list[tuple[Any, ...]]) -> inspect.Signature:
    """A signature that Python takes: kinds in order, one of each open-ended kind."""
    made: list[inspect.Parameter] = []
    for name, kind, default, annotation, has in sorted(rows, key=lambda row: row[1]):
        open_ended = kind in (KINDS[2], KINDS[4])
        if open_ended and any(p.kind is kind for p in made):
            continue
        before = any(p.default is not p.empty for p in made)
        wanted = not open_ended and (has or (before and kind is not KINDS[3]))
        try:
            made.append(
                inspect.Parameter(
                    name, kind, default=default if wanted else inspect.Parameter.empty,
                    annotation=annotation,
                )
            )  # fmt: skip
        except ValueError:  # a keyword is no name
            continue
    return inspect.Signature(made)


@given(PARAMETERS)
def test_real_signatures_are_read_as_they_are(rows: list[tuple[Any, ...]]) -> None:
    written = real(rows)
    read = signatures.parse(str(written))
    assert read is not None
    assert [p.name for p in read.parameters] == list(written.parameters)
    for p, q in zip(read.parameters, written.parameters.values(), strict=True):
        assert (
            p.kind
            == {
                0: signatures.POSITIONAL,
                1: signatures.PLAIN,
                2: signatures.ARGS,
                3: signatures.KEYWORD,
                4: signatures.KWARGS,
            }[q.kind.value]
        )
        assert p.default == (None if q.default is q.empty else repr(q.default))


def refused(signature: inspect.Signature, call: tuple[tuple[Any, ...], dict[str, Any]]) -> bool:
    try:
        signature.bind(*call[0], **call[1])
    except TypeError:
        return True
    return False


@given(PARAMETERS, PARAMETERS)
def test_where_nothing_breaks_no_call_is_refused(
    old: list[tuple[Any, ...]], new: list[tuple[Any, ...]]
) -> None:
    mixed = {row[0]: row for row in new[: len(new) // 2] + old[len(old) // 2 :]}
    first, second = real(old), real(list(mixed.values()))
    silent = ("order changed", "signature hidden", "signature shown")
    if any(d.breaking or d.kind in silent for d in signatures.compare(str(first), str(second))):
        return
    named = [p for p in first.parameters.values() if p.kind not in (KINDS[2], KINDS[4])]
    required = [p for p in named if p.default is p.empty]
    for given_ in (named, required):
        positional = [1 for p in given_ if p.kind is KINDS[0]]
        plain = [p.name for p in given_ if p.kind is KINDS[1]]
        only = {p.name: 1 for p in given_ if p.kind is KINDS[3]}
        by_position = (*positional, *[1] * len(plain)), only
        by_keyword = tuple(positional), {**only, **dict.fromkeys(plain, 1)}
        for call in (by_position, by_keyword):
            if not refused(first, call):
                assert not refused(second, call), (first, second, call)
