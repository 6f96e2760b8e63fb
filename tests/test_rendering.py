"""Foreign text comes out of every template as text: proved by readers of Markdown and of SVG."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from support import HOSTILE

from mcore_compat.publish.rendering import block, code, codes, markdown, render, short, shown

READER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])

PIECES = (
    *"`*_[]()<>&#|~\\!-+=:;.1 ax/\"'\n\t",
    *("<a>", "</a>", "<a href=x>", "<!--", "-->", "<?x?>", "<http://x>", "&amp;", "&#35;", "&lt;"),
    *(
        "[a](x)",
        "![a](x)",
        "[a]: x",
        "[x]",
        "](",
        "**",
        "__",
        "~~",
        "```",
        "~~~",
        "- ",
        "# ",
        "1. ",
    ),
)
TEXTS = st.text(min_size=1) | st.lists(st.sampled_from(PIECES), min_size=1).map("".join)
"""Any text, and texts of what means something to Markdown."""

PLACES = (
    "{}",
    "words {} words",
    "- {}",
    "1. {}",
    "# {}",
    "words\n{}",
    "- name: {}; {}",
    "[{}](address)",
    "**{}**",
    "| a | b |\n| --- | --- |\n| {} | {} |",
)
"""Where templates put foreign text."""


def read(text: str) -> tuple[list[str], list[str]]:
    """The kinds of all pieces of a document but plain text, and its text piece by piece."""
    kinds, texts = [], []
    for token in READER.parse(text):
        kinds.append(token.type)
        for child in token.children or ():
            if child.type == "text":
                texts.append(child.content)
            else:
                kinds.append(child.type)
    return kinds, [t for t in texts if t]


def line(text: str) -> str:
    return " ".join(str(shown(text)).split())


@pytest.mark.parametrize("place", PLACES)
@given(text=TEXTS)
def test_any_text_comes_back_as_text_and_nothing_else(place: str, text: str) -> None:
    if not line(text):
        return
    kinds, texts = read(place.replace("{}", str(markdown(text))))
    assert kinds == read(place.replace("{}", "x"))[0]
    assert "".join(texts) == "".join(read(place.replace("{}", "x"))[1]).replace("x", line(text)), (
        place
    )


@pytest.mark.parametrize("table", [False, True])
@given(text=TEXTS)
def test_any_name_comes_back_as_one_piece_of_code(table: bool, text: str) -> None:
    place = "| a |\n| --- |\n| {} |" if table else "- {}"
    tokens = READER.parse(place.format(code(text, table=table)))
    (inline,) = [t for t in tokens if t.type == "inline" and t.children != [] and "`" in t.content]
    assert [child.type for child in inline.children or ()] == ["code_inline"]
    assert (inline.children or [])[0].content == (line(text) or "-")


@given(text=TEXTS)
def test_no_line_ends_a_block_of_code_early(text: str) -> None:
    (token,) = READER.parse(str(block(text)))
    assert token.type == "fence"
    assert token.content.splitlines() == [
        str(shown(part)) for part in text.splitlines()
    ] or not token.content.strip("\n")


def test_what_is_no_markup_where_it_stands_is_left_as_it_is() -> None:
    for text in (
        "2026-11-25",
        "NVIDIA/Model-Optimizer#2319",
        "nvidia-modelopt[torch]>=0.27.1,<=0.40.0 (extra dev)",
        "megatron.core.dist_checkpointing:load_common",
        "a -> b; c: d!",
        "0.16.1",
        "-1 & 2 < 3",
    ):
        assert markdown(text) == text
    assert markdown("__init__ *args [x](y) <b> &amp; a|b `c`") == (
        "\\_\\_init\\_\\_ \\*args \\[x\\](y) &lt;b> &amp;amp; a\\|b \\`c\\`"
    )
    assert markdown("# x") == "\\# x"
    assert markdown("1. x") == "1\\. x"


def test_texts_are_cut_and_named() -> None:
    assert short("a\n b" * 10, 5) == "a ba…"
    assert codes(["a", "b"]) == "`a`, `b`"
    assert codes(["a", "b", "c"], most=2) == "`a`, `b` and 1 more"
    assert HOSTILE not in render(
        "badge.svg", label=HOSTILE, message="", left=1, right=1, fill="", ink=""
    )
