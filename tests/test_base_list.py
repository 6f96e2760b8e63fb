"""What another machine has, by its pip freeze, and what of a cell travels then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import stand_in_cell

from mcore_compat import cli
from mcore_compat.base.errors import UsageError
from mcore_compat.offline import base_list, plan_file
from mcore_compat.resolve.locks import Lock, Pin

LIST = """\
# python: 3.12.3
# a remark
torch==2.9.1+cu128
numpy==1.26.4
tqdm
rich @ file:///somewhere/rich.whl
Typing_Extensions==4.15.0  # said
"""
NEEDS = {
    "megatron-core": ["numpy<3", "tqdm", "einops"],
    "nvidia-modelopt": ["numpy>=2", "rich>=13", "typing-extensions"],
}


def written(folder: Path, text: str) -> Path:
    (folder / "freeze.txt").write_text(text)
    return folder / "freeze.txt"


def test_each_form_of_a_line_is_read(tmp_path: Path) -> None:
    found = base_list.read(written(tmp_path, LIST))
    assert found.base.installed == {
        "torch": "2.9.1+cu128",
        "numpy": "1.26.4",
        "tqdm": "",
        "rich": "",
        "typing-extensions": "4.15.0",
    }
    assert (found.base.cuda, found.python) == ("12.8", "3.12.3")
    assert found.identity["name"] == "freeze.txt"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("numpy==2.0\n", "has no torch"),
        ("torch==2.9.1\n", 'does not name the CUDA of its torch; add e.g. "# cuda: 13.0"'),
        ("# cuda: 13.0\ntorch==2.9.1\nnumpy>=2\n", ':3: "numpy>=2" is not a line of pip freeze'),
        ("# cuda: 13.0\ntorch==2.9.1\nno such line\n", ':3: "no such line" is not a line'),
        ("-e git+ssh://x#egg=y\n", ":1: an editable package"),
    ],
)
def test_a_bad_list_is_told_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError) as raised:
        base_list.read(written(tmp_path, text))
    assert said in str(raised.value)


def lock(*names: str) -> Lock:
    pins = tuple(Pin(name=name, version="1.0", hashes=("0" * 64,)) for name in names)
    te = Pin(name="transformer-engine-torch", version="2.11.0", hashes=("1" * 64,))
    return Lock(
        cell="compat-0.16-modelopt0.41",
        text="",
        exclude_newer="2026-01-01",
        axes={},
        pins=pins,
        source_only=(te,),
    )


PINS = ("megatron-core", "nvidia-modelopt", "torch", "numpy", "tqdm", "rich", "einops", "triton")


def left_out(tmp_path: Path, python: str = "3.12") -> frozenset[str]:
    def requires(package: Mapping[str, Any]) -> list[str]:
        return NEEDS.get(package["name"], [])

    there = base_list.read(written(tmp_path, LIST))
    cell = replace(stand_in_cell(), python=python, torch="2.9.1", cuda=12)
    return base_list.left_out(there, cell, lock(*PINS), {"torch", "triton"}, requires)


def test_what_is_there_and_fits_need_not_travel(tmp_path: Path) -> None:
    # rich is there in a version nobody knows, and a version of it is asked for: it travels.
    assert left_out(tmp_path) == {"torch", "triton", "tqdm"}


def test_another_python_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is for python 3\.12\.3, but compat-.* needs 3\.11"):
        left_out(tmp_path, python="3.11")


# Plans


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cels = []", 'unknown key "cels"; did you mean "cells"'),
        ("cells = []\noutput = 'a.tar'", "length >= 1 - at `$.cells`"),
        ("cells = ['a']", "missing required field `output`"),
        ("cells = ['a']\noutput = 3", "a path must be a string - at `$.output`"),
        ("cells = ['a']\noutput = 'a.tar'\npart-size = 2", "got `int` - at `$.part-size`"),
        ("cells = [", "cannot be read"),
    ],
)
def test_a_bad_plan_is_told(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "plan.toml").write_text(text)
    with pytest.raises(UsageError) as raised:
        plan_file.read(tmp_path / "plan.toml", tmp_path)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("words", "said"),
    [(["--check"], "--check: needs a plan; add --plan FILE"), ([], "no cells; name a cell")],
)
def test_words_that_say_too_little_are_refused(
    capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert cli.main(["bundle", *words]) == 2
    assert said in capsys.readouterr().err
