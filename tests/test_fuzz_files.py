"""Every file that commands read, cut short, changed in its bytes, of another shape than it is to
have: who reads it says so in one line, or does without it.

`FUZZ_EXAMPLES=2000 pytest tests/test_fuzz_files.py` tries more of them.
"""

# ruff: noqa: E501, RUF001

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fuzz_support
import pytest
from fuzz_support import CELLS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcore_compat.core.workspace import Workspace
from mcore_compat.results import large_values

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "25"))

OLD, MIDDLE, NEW = CELLS

ASKING = (
    ("list",),
    ("show", NEW),
    ("explain", NEW),
    ("matrix", "--dry-run"),
    ("upgrade", "--no-run", OLD, NEW),
    ("upgrade", "--no-run", "--format=json", OLD, MIDDLE),
    ("bisect", "--good", MIDDLE, "--bad", NEW, "--check", "restore[mla]", "--no-run", "--stale"),
    ("bisect", "--good", MIDDLE, "--bad", NEW, "--check", "restore*", "--dry-run"),
    ("exchange", "--dry-run"),
    ("report",),
    ("report", "--check"),
)
"""Commands that read most of a workspace."""

RUNNING = (("run", NEW), ("lock", NEW), ("build", NEW, "mamba-ssm"), ("matrix",), ("bundle", NEW))

PLAN = f"""\
cells = ["{NEW}"]
output = "x.tar"
part-size = "2G"
gpu-arch = "sm_90"
"""

FREEZE = "# python: 3.12.1\n# cuda: 13.0\ntorch==2.9.1\nnumpy==2.1.0\neinops==0.8.1\n"


@dataclass(frozen=True)
class DataFile:
    """A file of a workspace, and the commands that read it; `but`: what is not tried of it, as who
    reads it does not take that well yet."""

    path: str
    commands: Sequence[Sequence[str]]
    but: tuple[str, ...] = ()


DEEP, DEPTH = "deep", 100_000
HARD = (DEEP, "fifo")

RESULT = f"reports/results/{NEW}/main.host.json"
FILES = (
    DataFile("constraints/matrix.toml", (*ASKING, *RUNNING, ("explore", "--dry-run", "--offline"))),
    DataFile("constraints/releases.json", (*ASKING, *RUNNING, ("static", "--offline"))),
    DataFile(
        "constraints/news.json", (("nightly", "--list"), ("nightly", "--step", "report")), (DEEP,)
    ),
    DataFile(f"constraints/locks/{NEW}.txt", (*ASKING, *RUNNING), ("fifo",)),
    DataFile(RESULT, (*ASKING, ("collect", f"space/{RESULT}"), ("run", NEW)), HARD),
    DataFile(f"reports/results/{NEW}/exchange.host.json", (*ASKING, ("exchange",)), HARD),
    DataFile(f"reports/results/{NEW}/ranks.host.json", (*ASKING, ("run", NEW, "--ranks")), HARD),
    DataFile("reports/compatibility.json", (("recommend",), ("recommend", "torch 2.9"))),
    DataFile("reports/verdicts.json", (("list",),), HARD),
    DataFile("plan.toml", (("bundle", "--plan", "space/plan.toml", "--check"),)),
    DataFile("freeze.txt", (("bundle", NEW, "--base-list", "space/freeze.txt"),)),
    DataFile("home/wheelhouse/mamba-ssm-2.2.6/build.json", (("matrix", "--dry-run"),), HARD),
    DataFile("home/metadata/answers/static.json", (("show", "0.16-modelopt0.39"),), HARD),
)

HOSTILE: tuple[Any, ...] = (
    None, True, 0, -1, 2**63, 2**64, 10**400, -0.0, 1e308, float("nan"), float("inf"), "", " ", "\n",
    "\x00", "\x1b[31m", "\u202e", "\ud800", "é", "a" * 5000, [], {}, [[]], [None], {"": ""}, [{}], ["a"],
    "9" * 5000, "1!0.16", "0.16+local", "٠.١٦", ">=0.14", "2026-01-01T00:00:00Z", "2026-13-45T00:00:00Z",
    "../../x", "/nowhere", "a\nb", "compat-", "compat-9.9-modelopt9.9", "works", "broken", {"a": {"b": []}},
)  # fmt: skip


def places(data: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something lies in data."""
    yield at
    items: Any = ()
    if isinstance(data, dict):
        items = data.items()
    elif isinstance(data, list):
        items = enumerate(data[:6])
    for key, value in items:
        yield from places(value, (*at, key))


def put(data: Any, at: tuple[Any, ...], change: Callable[[Any, Any], None], value: Any) -> Any:
    """A copy of data with a change at a place; at the top it is another value."""
    if not at:
        return value
    whole = copy.deepcopy(data)
    inner = whole
    for key in at[:-1]:
        inner = inner[key]
    change(inner, at[-1])
    return whole


def json_of(data: Any) -> bytes:
    """As JSON, with what JSON has no word for as Python spells it."""
    return json.dumps(data, indent=1).encode()


@st.composite
def other_json(draw: st.DrawFn, before: bytes, but: Sequence[str] = ()) -> bytes:
    """The same, but for a value that is another or is not there."""
    data = json.loads(before)
    for _ in range(draw(st.integers(1, 2))):
        at = draw(st.sampled_from(sorted(places(data), key=lambda at: (len(at), str(at)))))
        ways = ("put", "put", "put", "delete", "add", "twice", DEEP)
        how = draw(st.sampled_from([way for way in ways if way not in but]))
        value = draw(st.sampled_from(HOSTILE))
        if how == "put":
            data = put(data, at, lambda inner, key, v=value: inner.__setitem__(key, v), value)
        elif how == "delete":
            data = put(data, at, lambda inner, key: inner.__delitem__(key), {})
        elif how == "add":
            data = put(data, at, _with_more, [value])
        elif how == "twice":
            return json_of(data)[:-1] + b',"checks":[],"cells":[],"releases":[]}'
        else:
            marked = put(data, at, lambda inner, key: inner.__setitem__(key, "DEEP"), "DEEP")
            return json_of(marked).replace(b'"DEEP"', b"[" * DEPTH + b"]" * DEPTH)
        if not isinstance(data, (dict, list)):
            break
    return json_of(data)


def _with_more(inner: Any, key: Any) -> None:
    if isinstance(inner, dict):
        inner["\x1b[1mmore"] = inner[key]
    else:
        inner.append(inner[key])


@st.composite
def other_lines(draw: st.DrawFn, before: bytes) -> bytes:
    """The same text, but for a line that is gone, twice there or says something else."""
    lines = before.decode().split("\n")
    at = draw(st.integers(0, len(lines) - 1))
    how = draw(st.sampled_from(("delete", "twice", "value", "value", "value", "key", DEEP, "swap")))
    value = draw(st.sampled_from([json.dumps(v) for v in HOSTILE]))
    name, sign, _ = lines[at].partition(" = " if " = " in lines[at] else "==")
    if how == "delete":
        del lines[at]
    elif how == "twice":
        lines.insert(at, lines[at])
    elif how == "value":
        lines[at] = f"{name}{sign}{value}"
    elif how == "key":
        lines[at] = f"{value}{sign}1"
    elif how == DEEP:
        lines[at] = f"{name}{sign}{'[' * DEPTH}{']' * DEPTH}"
    else:
        other = draw(st.integers(0, len(lines) - 1))
        lines[at], lines[other] = lines[other], lines[at]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


@st.composite
def other_bytes(draw: st.DrawFn, before: bytes) -> bytes:
    """The same, but for some bytes."""
    place = draw(st.integers(0, len(before)))
    kind = draw(st.sampled_from(("cut", "flip", "put", "bom", "crlf", "empty", "zeros", "utf-16")))
    if kind == "cut":
        return before[:place]
    if kind == "flip" and place < len(before):
        flipped = before[place] ^ (1 << draw(st.integers(0, 7)))
        return before[:place] + bytes([flipped]) + before[place + 1 :]
    if kind == "put":
        return before[:place] + draw(st.binary(min_size=1, max_size=4)) + before[place:]
    if kind == "bom":
        return b"\xef\xbb\xbf" + before
    if kind == "crlf":
        return before.replace(b"\n", b"\r\n")
    if kind == "zeros":
        return b"\0" * len(before)
    return b"" if kind == "empty" else before.decode().encode("utf-16")


NO_FILES = ("folder", "fifo", "circle", "nowhere")
"""What may lie where a file is to be."""


def put_no_file(path: Path, kind: str) -> None:
    """Put something that is no file in the place of one."""
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(path.name if kind == "circle" else "nowhere-at-all")


def changes(file: DataFile, before: bytes) -> st.SearchStrategy[bytes | str]:
    """What a file may be instead: other bytes, or what is no file."""
    is_json = file.path.endswith(".json")
    shaped = other_json(before, file.but) if is_json else other_lines(before)
    no_files = st.sampled_from([kind for kind in NO_FILES if kind not in file.but])
    return st.one_of(shaped, shaped, shaped, other_bytes(before), no_files)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with all of `FILES`."""
    place = fuzz_support.published_in(tmp_path_factory.mktemp("fuzz") / "space")
    put_others(place)
    assert all((place.root / file.path).is_file() for file in FILES)
    return place.root


def put_others(place: Workspace) -> None:
    """What a workspace and its home have besides, as others wrote it."""
    result = fuzz_support.read_json(place.root / RESULT)
    for check_set in ("ranks", "exchange"):
        other = {**result, "check_set": check_set}
        if check_set == "exchange":
            taken = {"lock": "l", "manifests": "m", "pins": result["pins"], "ways": ["strict"]}
            other["sources"] = {OLD: {**taken, "taken": result["taken"]}}
            first = large_values.unfolded(result["checks"][0], place.results)
            check = {**first, "check": f"restore-from[{OLD}:strict]"}
            other["checks"] = [check]
        path = place.root / RESULT.replace("main", check_set)
        path.write_text(json.dumps(other))
    news = {"package": "megatron-core", "version": "0.16.1"}
    home = place.root / "home"
    wheel = {"wheel": "x.whl", "sha256": "0" * 64, "seconds": 60.0, "cuda_toolkit": None}
    texts = {
        place.new_releases: json.dumps({"made_by": "nox -s refresh", "new": [news]}),
        place.root / "plan.toml": PLAN,
        place.root / "freeze.txt": FREEZE,
        home / "wheelhouse/mamba-ssm-2.2.6/build.json": json.dumps(wheel),
        home / "metadata/answers/static.json": json.dumps({"answers": {}, "reasons": []}),
    }
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.path)
def test_whatever_a_file_holds_a_command_ends_well(file: DataFile, pristine: Path) -> None:
    before = (pristine / file.path).read_bytes()

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize="FUZZ_EXAMPLES" not in os.environ,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(change=changes(file, before), argv=st.sampled_from(file.commands))
    def ends_well(change: bytes | str, argv: Sequence[str]) -> None:
        fuzz_support.check(changed(file, change, argv, pristine))

    ends_well()


def changed(
    file: DataFile, change: bytes | str, argv: Sequence[str], pristine: Path
) -> fuzz_support.Ended:
    """A command where a file is another."""
    with fuzz_support.fresh(pristine) as (root, folder):
        path = root / file.path
        if isinstance(change, str):
            put_no_file(path, change)
        else:
            path.write_bytes(change)
        return fuzz_support.run(argv, root, folder)
