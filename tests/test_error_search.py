"""An error that somebody has finds what is known of it: from a message, a traceback, a log. All
that is known here is made up; errors are as Python, logs and terminals write them."""

from __future__ import annotations

import io
import json
import random
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
import snapshot
from api_support import index
from error_support import BOOL, CAUSES, DRIFT, GROUPED, IMPORTS, OLD, TRACEBACK
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from test_doctor import PINS, changed, published_of, record

from mcore_compat import cli
from mcore_compat.analysis import error_answer, error_text, known_names
from mcore_compat.analysis.error_search import SHOWN, ErrorSearch, Found
from mcore_compat.analysis.published import Compatibility
from mcore_compat.api import refresh
from mcore_compat.core import workspace
from mcore_compat.publish.site import _STATIC
from mcore_compat.results import verdict


@pytest.fixture(scope="module")
def known() -> Compatibility:
    older = {**PINS, "nvidia-modelopt": "0.44.0"}
    failing = changed(record(older), {"restore[gpt]": "broken"}, name=OLD)
    conditional = changed(
        record(),
        {"restore[gpt]": "works", "restore-state-dict[gpt]": "works-with"},
        conditions={"restore-state-dict[gpt]": "model.load_state_dict(state, strict=False)"},
        by_reason={
            "RuntimeError: Error(s) in loading state_dict for GPTModel: Unexpected key(s) in "
            'state_dict: "decoder.layers.0.linear_q_down_proj._extra_state"': (
                "restore-state-dict[gpt]",
            ),
            "modelopt.torch.quantization has no NVFP4_DEFAULT_CFG": ("modelopt-state-nvfp4[gpt]",),
        },
    )
    unresolvable = changed(
        record(older),
        {},
        name="compat-0.9-modelopt0.44",
        outcome="unresolvable",
        reason="Because nvidia-modelopt>=0.44.0 depends on torch>=2.8 and you require torch==2.6.0",
    )
    made = published_of(failing, conditional, unresolvable, causes=CAUSES)
    return structs.replace(made, schema="3.0.0", drift=DRIFT, findings=(IMPORTS,))


@pytest.fixture(scope="module")
def search(known: Compatibility) -> ErrorSearch:
    return ErrorSearch(known_names.known_errors(known, {"nvidia-modelopt": ("0.44.0", "0.44.1")}))


def found(search: ErrorSearch, text: str) -> Found:
    return search.find(error_text.errors(text))


def first(search: ErrorSearch, text: str) -> str:
    """The key of the known error that a text is; empty where it is none."""
    best = found(search, text)
    return best.matches[0].known.key if best.sure else ""


def test_the_answer_says_which_versions_whose_since_when_and_what_to_take(
    search: ErrorSearch,
) -> None:
    rows = [*error_answer.lines(found(search, TRACEBACK))]
    assert rows == [
        "known: nvidia-modelopt>=0.44.0,<=0.45.0 and (transformer-engine==2.17.1 or "
        "torch==2.13.0): it counts matrices of an argument that has moved",
        f"  message: TypeError: {BOOL} (in {GROUPED})",
        "  maintainer: nvidia-modelopt; https://github.com/NVIDIA/Model-Optimizer/issues/1940",
        "  versions: nvidia-modelopt>=0.44.0,<=0.45.0 (not tested below, works at 0.46.1); "
        "transformer-engine==2.17.1 (not tested below, not tested above); torch==2.13.0 (not "
        "tested below, not tested above)",
        "  take: megatron-core 0.16.1, nvidia-modelopt 0.41.0, transformer-engine 2.11.0, torch "
        "2.9.1, python 3.12 (compat-0.16-modelopt0.41, partial, tested 2026-11-23)",
        "  likely to fail, too, but not run: nvidia-modelopt 0.44.1, transformer-engine newer than "
        "2.17.1, torch newer than 2.13.0",
        "  tested: restore[gpt] fails with it in 1 cell (host, 2026-11-23); "
        "mcore-compat explain compat-0.16-modelopt0.44",
    ]


def test_a_message_of_pythons_own_is_said_to_be_that_where_no_traceback_tells_whose(
    search: ErrorSearch,
) -> None:
    alone = [*error_answer.lines(found(search, BOOL))]
    assert alone[0].startswith(
        "known, if it was raised in plugins.transformer_engine:te_grouped_quantized_linear_fn: "
        "nvidia-modelopt>=0.44.0"
    )
    elsewhere = TRACEBACK.replace("/modelopt/torch/quantization/plugins/", "/mine/").replace(
        "in te_grouped_quantized_linear_fn", "in count"
    )
    assert not found(search, elsewhere).sure


NOISY = (
    "\n".join(f"[rank3]: {row}" for row in TRACEBACK.splitlines()),
    "\n".join(f"10.0.0.1: [rank3]: {row}" for row in TRACEBACK.splitlines()),
    "\n".join(f"(Trainer pid=12, ip=10.0.0.1) {row}" for row in TRACEBACK.splitlines()),
    "\n".join(f"2026-01-02 10:11:12,123 - ERROR - {row}" for row in TRACEBACK.splitlines()),
    "\n".join(f"\x1b[31m{row}\x1b[0m" for row in TRACEBACK.splitlines()),
    "\n".join(f"trainer-0  | {row}" for row in TRACEBACK.splitlines()),
    "\n".join(f"[1,0]<stderr>: {row}" for row in TRACEBACK.splitlines()),
    TRACEBACK.replace("\n", "\r\n"),
    TRACEBACK.replace("transformer_engine.py", "transformer\n_engine.py"),  # a terminal's end
    TRACEBACK.replace("/opt/venv/lib/python3.12/site-packages", "/opt/src").replace("99", "7"),
    TRACEBACK.replace('  File "/opt/', '\N{BOX DRAWINGS LIGHT VERTICAL}   File "/opt/'),
    "epoch 1\nloss 2.0\n" * 300 + TRACEBACK + "wandb: exiting\n" * 300,
    TRACEBACK + "\nDuring handling of the above exception, another exception occurred:\n\n"
    "Traceback (most recent call last):\n  File \"/opt/x.py\", line 1, in y\nKeyError: 'z'\n",
)


@pytest.mark.parametrize("text", NOISY, ids=range(len(NOISY)))
def test_ranks_times_colours_and_other_paths_do_not_matter(text: str, search: ErrorSearch) -> None:
    assert first(search, text) == "a" * 12


MESSAGES = {
    f"TypeError: {BOOL}": "a" * 12,
    "object of type 'bool' has\nno len()": "a" * 12,
    "object of type 'bo\nol' has no len()": "a" * 12,
    "ImportError: cannot import name '_type_utils' from 'torch.onnx' "
    "(C:\\env\\site-packages\\torch\\onnx\\__init__.py)": "b" * 12,
    "ImportError: cannot import name '_type_utils' from 'torch.onnx' "
    "(/x/y/site-packages/torch/onnx/__init__.py)": "b" * 12,
    "[rank7]: RuntimeError: Missing key in checkpoint state_dict: "
    "decoder.layers.23.pre_mlp_layernorm._extra_state/shard_7_24.": "c" * 12,
    "E1201 10:11:12.345000 140 torch/distributed/x.py:869] failed: RuntimeError: Missing key in "
    "checkpoint state_dict: decoder.layers.pre_mlp_layernorm._extra_state/shard_7_24.": "c" * 12,
    "no weight quantizer has a scale in the checkpoint, none of 7 quantizers is enabled": "d" * 12,
    "TypeError: GPTModel.forward() got an unexpected keyword argument 'inference_params'": (
        "GPTModel.forward() got an unexpected keyword argument 'inference_params'"
    ),
    "ImportError: cannot import name 'get_spec_of_old' from "
    "'megatron.core.inference.modelopt_support.gpt.model_specs' (/a/b/model_specs.py)": (
        "cannot import name 'get_spec_of_old' from "
        "'megatron.core.inference.modelopt_support.gpt.model_specs'"
    ),
    "ModuleNotFoundError: No module named 'requests'": (
        "import requests modelopt.torch.utils.dataset_utils"
    ),
    "AttributeError: module 'modelopt.torch.quantization' has no attribute 'NVFP4_DEFAULT_CFG'": (
        "modelopt.torch.quantization has no NVFP4_DEFAULT_CFG"
    ),
    "TypeError: object of type 'int' has no len()": "",
    "ImportError: cannot import name 'other_name' from 'somewhere.else'": "",
    "ModuleNotFoundError: No module named 'wandb'": "",
    "RuntimeError: CUDA error: an illegal memory access was encountered": "",
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.": "",
    "has no": "",
    # A weight that is missing is not the state of which nothing is lost.
    "RuntimeError: Error(s) in loading state_dict for GPTModel:\n\tUnexpected key(s) in "
    'state_dict: "decoder.layers.0.mlp.experts.weight1", "decoder.layers.0.mlp.weight2"': "",
}


@pytest.mark.parametrize(("text", "key"), MESSAGES.items(), ids=range(len(MESSAGES)))
def test_a_message_is_known_or_it_is_not(text: str, key: str, search: ErrorSearch) -> None:
    assert first(search, text) == key


def test_one_that_was_raised_elsewhere_is_only_near_and_says_where(search: ErrorSearch) -> None:
    text = (
        'Traceback (most recent call last):\n  File "/opt/mine/utils.py", line 8, in <module>\n'
        "ImportError: cannot import name '_type_utils' from 'torch.onnx' (/x/onnx/__init__.py)"
    )
    rows = [*error_answer.lines(found(search, text))]
    assert rows[0] == "not known; the most similar known errors:"
    assert rows[2] == (
        "  but: raised in quantization.export_onnx:<module>, yours in mine.utils:<module>"
    )


def test_what_is_not_known_is_said_to_be_that_and_what_is_near_to_it(search: ErrorSearch) -> None:
    far, near = "zzz qqq", "TypeError: object of type 'int' has no len()"
    assert [*error_answer.lines(found(search, far))] == ["not known, and no known error is similar"]
    rows = [*error_answer.lines(found(search, near))]
    assert rows[0] == "not known; the most similar known errors:"
    assert rows[1].startswith("similar: ")


def test_a_log_of_several_errors_tells_those_that_are_known_and_names_the_others(
    search: ErrorSearch,
) -> None:
    rows = [*error_answer.lines(found(search, f"{TRACEBACK}\nValueError: of mine alone, zzz\n"))]
    assert rows[0].startswith("known: nvidia-modelopt")
    assert rows[-2:] == [
        "not known, among the other errors in it:",
        "  ValueError: of mine alone, zzz",
    ]


def test_an_error_that_left_cells_without_a_verdict_is_found(known: Compatibility) -> None:
    why = f"import-packages: {verdict.UNSURE}RuntimeError: curand shared object not found."
    cell = changed(record(), {"restore[gpt]": "needs-gpu"}, outcome="untested", name="compat-new")
    cell = changed(cell, by_reason={why: ("restore[gpt]",)})
    more = structs.replace(known, cells=(*known.cells, cell))
    search = ErrorSearch(known_names.known_errors(more, {}))
    rows = [*error_answer.lines(found(search, "RuntimeError: curand shared object not found."))]
    assert rows == [
        "known: everything ended in RuntimeError: curand shared object not found; not known "
        "whether a GPU would change that",
        "  message: RuntimeError: curand shared object not found.",
        "  with: torch 2.9.1, transformer-engine 2.11.0",
        "  tested: 1 cell of megatron-core 0.16.1, nvidia-modelopt 0.41.0 (2026-11-23)",
        "  more: mcore-compat explain compat-new",
    ]


def test_under_a_condition_it_works_and_that_is_the_answer(search: ErrorSearch) -> None:
    text = (
        "RuntimeError: Error(s) in loading state_dict for GPTModel:\n\tUnexpected key(s) in "
        'state_dict: "decoder.layers.5.linear_q_down_proj._extra_state", '
        '"decoder.layers.6.linear_q_down_proj._extra_state".\n'
    )
    best = found(search, text)
    assert best.sure
    answer = best.matches[0].known.tell()
    assert answer.first == (
        "works, and nothing is lost, with: model.load_state_dict(state, strict=False)"
    )


def test_published_frames_are_of_the_exception_that_says_the_message() -> None:
    """ModelOpt raises another one in its place; the suite's own frames are nobody else's."""
    first = TRACEBACK.replace("/opt/train.py", "suite/check_restore.py")
    other = (
        "\nDuring handling of the above exception, another exception occurred:\n\n"
        'Traceback (most recent call last):\n  File "modelopt/torch/__init__.py", line 5, in '
        "<module>\nImportError: Please install optional dependencies.\n"
    )
    assert error_text.frames_of(first + other, BOOL, "suite.") == (
        "plugins.transformer_engine:te_grouped_quantized_linear_fn",
        "module.grouped_linear:forward",
    )
    rank = (
        "Traceback (most recent call last):\n"
        '  File "torch/distributed/checkpoint/utils.py", line 1, in reduce_scatter\n'
        "torch.distributed.checkpoint.api.CheckpointException: CheckpointException ranks: [0]\n"
        "Traceback (most recent call last): (RANK 0)\n"
        '  File "torch/distributed/checkpoint/default_planner.py", line 3, in create\n'
        "ValueError: Size mismatch\n"
    )
    assert error_text.frames_of(rank, "ValueError: Size mismatch", "suite.") == (
        "checkpoint.default_planner:create",
        "checkpoint.utils:reduce_scatter",
    )


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    for error in error_text.errors(text):
        assert error.messages
        assert error.count > 0
    assert all(word.isascii() and word.islower() for word in error_text.words(text))


@given(st.lists(st.sampled_from([*TRACEBACK.splitlines(), *MESSAGES, "", " x", "[rank0]: "])))
def test_pieces_of_errors_in_any_order_give_an_answer(
    search: ErrorSearch, rows: Sequence[str]
) -> None:
    best = found(search, "\n".join(rows))
    assert len(best.matches) <= SHOWN
    assert all(0 < match.score <= 1.0 + 1e-9 for match in best.matches)
    assert [*error_answer.lines(best)]


def test_megabytes_of_a_log_take_seconds_at_most(search: ErrorSearch) -> None:
    rows = [f"2026-01-02 10:11:12,123 - INFO - iteration {n}, loss 1.0" for n in range(100_000)]
    rows[50_000:50_000] = TRACEBACK.splitlines()
    start = time.process_time()
    assert first(search, "\n".join(rows)) == "a" * 12
    assert time.process_time() - start < 2


@pytest.fixture
def place(known: Compatibility, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace in which that is published."""
    workspace = snapshot.workspace_in(tmp_path, monkeypatch)
    workspace.published.parent.mkdir(parents=True, exist_ok=True)
    workspace.published.write_bytes(msgspec.json.encode(known))
    return tmp_path


def test_the_command_takes_a_text_a_file_and_standard_input(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["explain", "--error", TRACEBACK]) == 0
    told = capsys.readouterr().out
    assert told.startswith("known: nvidia-modelopt>=0.44.0")
    log = place / "train.log"
    log.write_text(TRACEBACK)
    assert cli.main(["explain", "--error", str(log)]) == 0
    assert capsys.readouterr().out == told
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(TRACEBACK.encode())))
    assert cli.main(["explain", "--error", "-"]) == 0
    assert capsys.readouterr().out == told
    assert cli.main(["explain", "--error", "of mine alone"]) == 1
    assert capsys.readouterr().out.startswith("not known")


@pytest.mark.usefixtures("place")
def test_what_no_result_knows_is_answered_from_the_interfaces_of_all_releases(
    capsys: pytest.CaptureFixture[str],
) -> None:
    gone = "ImportError: cannot import name 'Gone' from 'megatron.core.models'"
    assert cli.main(["explain", "--error", gone]) == 1
    capsys.readouterr()
    constraints = workspace.find().constraints
    shared = constraints.resolve()
    constraints.unlink()
    shutil.copytree(shared, constraints)
    refresh.write(index(), workspace.find().interfaces)
    assert cli.main(["explain", "--error", gone]) == 0
    alone = capsys.readouterr().out
    assert alone.startswith("known: megatron.core.models.Gone is in no release of megatron-core")
    strange = "KeyError: 'mine'"
    assert cli.main(["explain", "--error", "\n".join((TRACEBACK, "", gone, "", strange))]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert rows[0].startswith("known: nvidia-modelopt>=0.44.0")
    assert alone.splitlines()[0] in rows
    assert "  KeyError: 'mine'" in rows
    assert f"  {gone}" not in rows


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "name either a cell or an error: --error TEXT, FILE or -"),
        (["0.16-modelopt0.41", "--error", "x y"], "name either a cell or an error"),
        (["--error", "12 34"], "has no error message in it"),
        (["--error", "no/such/train.log"], "no/such/train.log does not exist"),
        (["--error", "."], "is not a regular file"),
    ],
)
def test_what_is_no_error_is_refused_in_a_line(
    words: list[str], said: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["explain", *words]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert said in told.err


SCRIPT = """
require(process.argv[1]);
const { data, texts } = JSON.parse(require("fs").readFileSync(0, "utf8"));
const find = errorSearch.searchIn(data);
console.log(JSON.stringify(texts.map((text) => {
  const { sure, matches } = find(text);
  return [sure, matches.map((match) => [match.known.title, match.score])];
})));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not on PATH")
def test_the_sites_script_finds_the_same_in_the_same_order(search: ErrorSearch) -> None:
    pieces = [*TRACEBACK.splitlines(), *MESSAGES, *NOISY, "", "\u2028", "é0xff", "\u017f error: x"]
    draw = random.Random(1)
    mixed = ["\n".join(draw.choices(pieces, k=draw.randint(1, 9))) for _ in range(300)]
    texts = [*MESSAGES, *NOISY, *mixed]
    asked = json.dumps({"data": search.data(), "texts": texts})
    path = str(_STATIC / "error_search.js")
    ended = subprocess.run(
        ["node", "-e", SCRIPT, path], input=asked, capture_output=True, text=True, check=True
    )
    for text, (sure, matches) in zip(texts, json.loads(ended.stdout), strict=True):
        best = found(search, text)
        assert (best.sure, [[m.known.title, m.score] for m in best.matches]) == (sure, matches), (
            text
        )
