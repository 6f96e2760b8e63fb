"""What ran over a base is shown, marked, and never taken for a locked cell. All results here are
made up."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import snapshot
from jsonschema import Draft202012Validator
from support import HOSTILE, START, event, hostile_event, stand_in_cell, stand_in_result

from mcore_compat.analysis import published
from mcore_compat.base.errors import ResultError
from mcore_compat.core.workspace import Workspace
from mcore_compat.publish import (
    compatibility_json,
    compatibility_page,
    over_base,
    site,
)
from mcore_compat.publish import part_reports as parts
from mcore_compat.publish.collation import Collated, collate
from mcore_compat.publish.over_base import OverBase
from mcore_compat.publish.site.view import Site
from mcore_compat.results import store
from mcore_compat.results.from_events import Builder
from mcore_compat.results.result import Result, empty_result
from mcore_compat.run.check_sets import GPU, MAIN, CheckSet

LOCKED = "compat-0.16-modelopt0.41"
VENDOR = f"{LOCKED}-te2.11-torch2.11.0+cu130"
BASE: dict[str, Any] = {
    "cell": LOCKED,
    "differs": {"torch": {"lock": "2.9.1", "there": "2.11.0+cu130"},
                "apex": {"lock": "0.1", "there": None}},
    "installed": ["megatron-core"],
    "unmet": ["transformer-engine 2.11.0 requires torch<2.10"],
    "without": [],
}  # fmt: skip
TOLD = {"changed": {"transformer-engine-cu13": "GPU code of sm_90 only"}, "toolkit": "13.0"}


def there(*events: dict[str, Any], name: str = VENDOR, **fields: Any) -> Result:
    found = stand_in_result(*(events or (event("restore[gpt]"),)))
    pins = {**found.pins, "torch": "2.11.0+cu130"}
    fields = {"device_class": "gpu", "base": BASE, "pins": pins, **fields}
    return replace(found, cell=name, **fields)


def over(e: Result, stale: str = "") -> OverBase:
    return OverBase(result=e, stale=stale)


def made(*over: OverBase, locked: tuple[Result, ...] = ()) -> Collated:
    return collate(locked, [stand_in_cell()], snapshot.matrix(), snapshot.releases(), over)


def taken(*events: dict[str, Any], base: Any = None, end: bool = True) -> Result:
    start = empty_result(
        stand_in_cell(), device_class="gpu", lock="l", suite="d", check_set=GPU.name
    )
    builder = Builder(start)
    on = {"gpu": "a stand-in", "capability": "9.0", "driver": "1.0", "gpus": 1}
    ended = [{"event": "end", "seconds": 1.0}] if end else []
    for one in ({**START, "device_class": "gpu", "platform": on}, *events, *ended):
        builder.take(one)
    return replace(builder.result(), base=base)


def test_what_differs_is_told_whole() -> None:
    text = "\n".join(f"{what}: {said}" for what, said in over_base.facts({**BASE, **TOLD}))
    assert f"lock of: {LOCKED}" in text
    assert "differs: torch 2.11.0+cu130 in the base, 2.9.1 in the lock" in text
    assert "differs: apex none in the base, 0.1 in the lock" in text
    assert "requirement not met: transformer-engine 2.11.0 requires torch<2.10" in text
    assert "changed: transformer-engine-cu13: GPU code of sm_90 only" in text
    assert "CUDA toolkit: 13.0" in text
    assert ("CUDA toolkit", "none") in over_base.facts({**BASE, "toolkit": None})
    assert "CUDA toolkit" not in dict(over_base.facts(BASE)), "not recorded is not none"


@pytest.fixture(name="workspace")
def workspace_(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """One with a suite and a lock, and no results."""
    monkeypatch.setenv("MCORE_COMPAT_HOME", str(tmp_path / "home"))
    made = Workspace(tmp_path / "workspace")
    for name in ("run.py", "gpu/check_more.py"):
        path = made.root / "suite" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("# a stand-in\n")
    made.locks.mkdir(parents=True)
    made.lock(LOCKED).write_text("a lock")
    return made


@pytest.mark.parametrize("check_set", [MAIN, GPU], ids=lambda one: one.name)
def test_a_result_of_another_lock_or_suite_is_stale(
    workspace: Workspace, check_set: CheckSet
) -> None:
    def why(**fields: str) -> str:
        return over_base.stale(there(check_set=check_set.name, **fields), check_set, workspace)

    lock, suite = hashlib.sha256(b"a lock").hexdigest(), check_set.digest(workspace.suite)
    assert why(lock=lock, suite=suite) == ""
    assert why(lock=lock, suite="t") == "the suite changed"
    assert why(lock="l", suite=suite) == "the lock changed"
    checks = check_set.folder(workspace.suite) / "check_new.py"
    checks.write_text("# a check\n")
    assert why(lock=lock, suite=suite) == "the suite changed"
    checks.unlink()
    assert why(lock=lock, suite=suite) == ""
    workspace.lock(LOCKED).unlink()
    assert why(lock=lock, suite=suite) == "the lock is gone"


def test_the_folder_is_read(workspace: Workspace) -> None:
    assert over_base.load_all(workspace) == ()
    e = there(suite=MAIN.digest(workspace.suite))
    store.save(e, workspace.over_base)
    store.save(taken(event("fp8[gpt]"), base=BASE), workspace.over_base)
    assert [one.result for one in over_base.load_all(workspace)] == [e]
    assert [one.stale for one in over_base.load_all(workspace)] == ["the lock changed"]
    texts = {path.name: text() for path, text in parts.texts(workspace).items()}
    assert "Never run" not in texts["GPU.md"]
    assert f"`{LOCKED}` (over a base)" in texts["GPU.md"]
    assert "**out of date**: the lock changed" in texts["GPU.md"]
    assert "over a base" not in texts["RANKS.md"]
    store.save(replace(e, base=None), workspace.over_base)
    with pytest.raises(
        ResultError, match=rf"{re.escape(VENDOR)}/main\.gpu\.json is not a result over a base"
    ):
        over_base.load_all(workspace)
    store.save(taken(event("fp8[gpt]")), workspace.over_base)
    with pytest.raises(ResultError, match=rf"{LOCKED}/gpu\.gpu\.json is not a result over a base"):
        parts.texts(workspace)


def test_the_gpu_is_named_where_there_was_one() -> None:
    on = {"gpu": "a stand-in", "capability": "9.0", "driver": "1.0"}
    one = over(there(platform=on))
    page = dict(site.pages(Site(made(one), {})))[f"over-base/{VENDOR}.html"]
    assert "a stand-in, capability 9.0, driver 1.0, 1 of them" in page
    assert "a stand-in, capability 9.0" in compatibility_page.markdown(made(one))
    assert "capability" not in compatibility_page.markdown(made(over(there(platform={}))))


def test_it_stands_in_the_table_apart_from_the_cells() -> None:
    locked = stand_in_result(event("restore[gpt]", "broken"))
    text = compatibility_page.markdown(made(over(there(), "the suite changed"), locked=(locked,)))
    assert (
        f"| `{VENDOR}`, over a base | `{LOCKED}` | gpu | ✓ compatible; out of date: the suite"
        in text
    )
    assert "torch 2.11.0+cu130 in the base, 2.9.1 in the lock" in text
    before, _, after = text.partition("## Over a base")
    assert VENDOR not in before, "in no table of the cells"
    assert after
    assert "Nothing here was run on a GPU" not in text
    without = compatibility_page.markdown(made(locked=(locked,)))
    assert "Over a base" not in without
    assert "Nothing here was run on a GPU" in without


def test_the_data_keeps_it_apart_and_follows_the_schema() -> None:
    cut = there(name=LOCKED, complete=False)
    written = json.loads(
        "".join(compatibility_json.text(made(over(there()), over(cut, "the lock changed"))))
    )
    schema = Draft202012Validator(published.json_schema())
    assert list(schema.iter_errors(written)) == []
    for name in ("base", "complete", "stale"):
        lacks = {n: value for n, value in written["over_base"][0].items() if n != name}
        assert list(schema.iter_errors({**written, "over_base": [lacks]})), name
    assert written["cells"] == []
    short, whole = written["over_base"]
    assert (whole["cell"], whole["outcome"], whole["complete"]) == (VENDOR, "compatible", True)
    assert (whole["base"], whole["stale"]) == (BASE, None)
    assert (short["outcome"], short["complete"], short["stale"]) == (
        None,
        False,
        "the lock changed",
    )


def test_a_run_that_was_cut_short_has_no_verdict() -> None:
    cut = over(there(complete=False))
    assert cut.outcome == "incomplete, 1 checks"
    text = compatibility_page.markdown(made(cut)).split("## Over a base")[1].split("\n## ")[0]
    pages = dict(site.pages(Site(made(cut), {})))
    for one in (text, pages["index.html"].split('id="over-head"')[1].split("</section>")[0],
                pages[f"over-base/{VENDOR}.html"]):  # fmt: skip
        assert "incomplete, 1 checks" in one
        assert "compatible" not in one.replace("mcore-compat", "")
    gpu = parts.markdown(GPU, [taken(event("fp8[gpt]"), base=BASE, end=False)])
    assert gpu.count("incomplete, 1 checks") == 2, "where it ran, and over its table"


def test_the_site_has_a_page_of_its_own_that_the_locked_cell_links_to() -> None:
    locked = stand_in_result(event("restore[gpt]"))
    bad = there(event("restore[gpt]", "broken"), name=LOCKED, base={**BASE, **TOLD})
    found = dict(site.pages(Site(made(over(bad), over(there()), locked=(locked,)), {})))
    page = found[f"over-base/{LOCKED}.html"]
    assert "GPU code of sm_90 only" in page
    assert f'href="../cells/{LOCKED}.html"' in page
    (fingerprint,) = {c.failure.fingerprint for c in bad.checks if c.failure}
    assert f"causes/{fingerprint}" not in page, "there is no page of a cause that no cell has"
    cell = found[f"cells/{LOCKED}.html"]
    assert f'href="../over-base/{LOCKED}.html"' in cell
    assert 'href="../over-base/compat-0.16-modelopt0.41-te2.11-torch2.11.0%2Bcu130.html"' in cell
    assert 'id="on-gpu"' not in cell, "not merged into the cell's own"
    assert f"cells/{VENDOR}.html" not in found
    assert 'href="over-base/' in found["index.html"]


def test_of_a_lock_that_is_of_no_cell_it_has_a_page_all_the_same() -> None:
    other = over(there(base={**BASE, "cell": "compat-0.2-modelopt0.3"}))
    found = dict(site.pages(Site(made(other), {})))
    assert "<code>compat-0.2-modelopt0.3</code>" in found[f"over-base/{VENDOR}.html"]
    with pytest.raises(ResultError, match="is not the name of a cell"):
        dict(site.pages(Site(made(over(there(name="compat-../../x"))), {})))


def test_foreign_text_is_text() -> None:
    base = {**BASE, "unmet": [HOSTILE], "changed": {HOSTILE: HOSTILE}, "toolkit": HOSTILE}
    bad = over(there(hostile_event("restore[gpt]"), base=base))
    page = dict(site.pages(Site(made(bad), {})))[f"over-base/{VENDOR}.html"]
    gpu = parts.markdown(GPU, [taken(event("fp8[gpt]"), base=base)])
    for text in (page, compatibility_page.markdown(made(bad)), gpu):
        assert "<img" not in text
        assert "<script>document" not in text
        assert "\x1b" not in text


def test_a_run_over_a_base_counts_as_one_on_a_gpu() -> None:
    needs = event("fp8[gpt]", "needs-gpu", reason="there is no GPU")
    assert parts.never_on_a_gpu([taken(needs, base=BASE)])
    assert not parts.never_on_a_gpu([taken(event("fp8[gpt]"), base=BASE)])


def test_the_tiers_page_says_where_what_and_with_which_implementation() -> None:
    ran = [
        event("fp8[gpt]", details={"implementation": "CUDA extension", parts.MEMORY: 2**20}),
        event("fp8[mla-moe]", "broken", details={"implementation": "plain PyTorch"}),
        event("restore[gpt]"),
    ]
    text = parts.markdown(GPU, [taken(*ran, base={**BASE, **TOLD}), taken(event("restore[gpt]"))])
    heads = ("### Where it ran", f"### `{LOCKED}`\n", f"### `{LOCKED}` (over a base)\n",
             "### What is broken", "### What could not", "### Peak memory")  # fmt: skip
    assert [text.index(head) for head in heads] == sorted(text.index(head) for head in heads)
    assert "| check | gpt | mla-moe | implementation |" in text
    assert "| fp8 | ✓ | ✗ | gpt: CUDA extension; mla-moe: plain PyTorch |" in text
    assert "| restore | ✓ |  |  |" in text
    assert "CUDA toolkit: 13.0" in text
    assert "a stand-in, capability 9.0, driver 1.0" in text
    assert "| check | gpt |\n" in text, "no column of what is known of none"
