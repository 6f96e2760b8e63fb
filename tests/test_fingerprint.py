"""Equal for equal causes, different for different ones."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcore_compat.base import foreign
from mcore_compat.results import fingerprint

FRAMES = [
    {"module": "suite.check_restore", "function": "check_restore"},
    {"module": "megatron.core.dist_checkpointing.serialization", "function": "load"},
    {"module": "json.decoder", "function": "decode"},
]


def of(kind: str, message: str, frames: Sequence[Mapping[str, Any]]) -> str:
    return fingerprint.of(kind, message, fingerprint.frame_of(frames))


@given(
    st.integers(0x10000, 2**48),
    st.integers(1, 10**6),
    st.floats(0.001, 999),
    st.text("abc", min_size=6),
)
def test_addresses_paths_timings_and_temporary_names_do_not_matter(
    address: int, pid: int, seconds: float, name: str
) -> None:
    def text(a: int, p: int, s: float, n: str) -> str:
        return f"<X at {a:#x}> pid {p} after {s:.3f} s in /some/where/{n}/file.py tmp{n}"

    one = of("KeyError", text(0x7F0000000000, 1, 1.5, "aaaaaa"), FRAMES)
    two = of("KeyError", text(address, pid, seconds, name), FRAMES)
    assert one == two


def test_line_numbers_do_not_matter() -> None:
    moved = [{**frame, "line": 7} for frame in FRAMES]
    a, b = (of("KeyError", "x", f) for f in (FRAMES, moved))
    assert a == b


def test_type_function_and_words_matter() -> None:
    base = of("KeyError", "no such key", FRAMES)
    other = [FRAMES[0], {**FRAMES[1], "function": "save"}]
    assert base != of("TypeError", "no such key", FRAMES)
    assert base != of("KeyError", "no such tensor", FRAMES)
    assert base != of("KeyError", "no such key", other)


def test_the_innermost_frame_in_a_package_under_test_counts() -> None:
    assert fingerprint.frame_of(FRAMES) == "megatron.core.dist_checkpointing.serialization:load"


def test_without_one_the_innermost_frame_counts() -> None:
    assert fingerprint.frame_of([FRAMES[2]]) == "json.decoder:decode"
    assert fingerprint.frame_of([]) == ""


def test_no_path_of_a_machine_stays() -> None:
    text = "/home/me/envs/x/lib/python3.12/site-packages/torch/a.py and /home/me/repo/suite/b.py"
    assert fingerprint.portable(text, ["/home/me/repo"]) == "torch/a.py and suite/b.py"


@pytest.mark.parametrize(
    ("text", "portable"),
    [
        ("envs/compat-0.9-modelopt0.21/bin/python -u x.py", "bin/python -u x.py"),
        ("This process (pid=11962) is multi-threaded", "This process (pid <n>) is multi-threaded"),
        (
            "spawn_main(tracker_fd=93, pipe_handle=95)",
            "spawn_main(tracker_fd=<n>, pipe_handle=<n>)",
        ),
        (
            "-c from multiprocessing.resource_tracker import main;main(92)",
            "-c from multiprocessing.resource_tracker import main;main(<n>)",
        ),
        (
            "bin/python -u suite/run.py --tools t/1-py3.12 --events .cache/mco",
            "bin/python -u suite/run.py",
        ),
        ("main(92), line 93 of envs/readme", "main(92), line 93 of envs/readme"),
    ],
)
def test_what_only_one_run_has_is_replaced(text: str, portable: str) -> None:
    assert fingerprint.portable(text) == portable
    assert fingerprint.portable(portable) == portable
    assert fingerprint.of("E", text, "") == fingerprint.of("E", portable, "") or "pid" not in text


@given(st.text())
def test_control_characters_never_pass(text: str) -> None:
    shown = foreign.plain(text)
    assert not any(ord(c) < 32 and c not in "\t\n" for c in shown)
    assert "\u202e" not in shown


LOST = "a load with all defaults raises X: Missing key in checkpoint state_dict: "


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            f"{LOST}decoder.final_layernorm._extra_state/shard_0_1.",
            f"{LOST}decoder.layers.1.pre_mlp_layernorm._extra_state/shard_0_1.",
        ),
        (
            "2 other quantizers: decoder.layers.0.mixer.conv1d.input_quantizer ((True, '(4, 3) bit "
            "amax=1.0') -> (True, 'dynamic')), decoder.layers.0.mixer.conv1d.weight_quantizer "
            "((True, 'a') -> (True, 'b')); 1 not restored: decoder.layers.0.mixer.conv1d._amax",
            "1 other quantizers: decoder.layers.4.mixer.conv1d.weight_quantizer ((True, '8 bit') "
            "-> (True, 'b')); 3 not restored: decoder.layers.0.mixer.conv1d._amax and 2 more",
        ),
        (
            'Unexpected key(s) in state_dict: "decoder.layers.0.a._extra_state", '
            '"decoder.layers.1.b._extra_state". ',
            'Unexpected key(s) in state_dict: "decoder.layers.7.c._extra_state".',
        ),
    ],
)
def test_which_layers_and_how_many_do_not_matter(one: str, other: str) -> None:
    assert fingerprint.normalised(one) == fingerprint.normalised(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1 of other values: decoder.a.weight", "1 not restored: decoder.a.weight"),
        ("1 of other values: decoder.a.weight", "1 of other values: decoder.b.weight"),
        ("no module megatron.core.a", "no module megatron.core.b"),
        ("Missing: decoder.x._extra_state", "Missing: decoder.x.layer_norm__extra_state"),
    ],
)
def test_what_happened_to_what_does_matter(one: str, other: str) -> None:
    assert fingerprint.normalised(one) != fingerprint.normalised(other)


@given(st.text())
def test_any_text_is_normalised(text: str) -> None:
    once = fingerprint.normalised(text)
    assert "  " not in once


@given(st.lists(st.sampled_from(["a.weight", "layers.3.b.bias", "x._extra_state"]), min_size=1))
def test_a_list_of_names_and_its_set_are_the_same(names: list[str]) -> None:
    def said(some: list[str]) -> str:
        return fingerprint.normalised("lost: " + ", ".join(f"decoder.{n}" for n in some) + "; end")

    assert said(names) == said(sorted(set(names)))


def test_the_folder_of_a_run_and_a_printed_model_are_no_part_of_a_cause() -> None:
    told = [
        f"No such file: 'mcore-compat-suite-{run}/check/checkpoint/common.pt'"
        for run in ("2mb4g72h", "_w0sn6aa")
    ]
    told += [
        f"No such file: 'check{check}0/checkpoint/modelopt_state/common.pt'"
        for check in ("check_modelopt_state_gpt_int8_", "check_te_modelopt_state_hybrid")
    ]
    models = [
        f"only supports GPTModel, received MambaModel(\n  (embedding): {what}(\n    (a): b\n  )\n)"
        for what in ("Embedding", "QuantEmbedding")
    ]
    for one, other in (told[:2], told[2:], models):
        assert fingerprint.of("E", one, "f") == fingerprint.of("E", other, "f")
    assert fingerprint.of("E", told[0], "f") != fingerprint.of("E", models[0], "f")
