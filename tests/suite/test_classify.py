"""Without a GPU, `broken` is claimed only where a GPU would change nothing."""

from __future__ import annotations

import pytest

from suite import preload
from suite.classify import classify
from suite.failures import headline
from suite.outcomes import BROKEN, NEEDS_GPU, UNSUPPORTED, NeedsGpu, Unsupported


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    try:
        raise error from cause
    except BaseException as caught:
        return caught


@pytest.mark.parametrize(
    "error",
    [
        TypeError("__init__() got an unexpected keyword argument 'cuda_graph'"),
        ImportError("cannot import name 'x' from 'megatron.core'"),
        AttributeError("module 'megatron.core' has no attribute 'y'"),
        KeyError("decoder.layers.0"),
        RuntimeError("Error(s) in loading state_dict for GPTModel:\n size mismatch"),
        OSError("libcudart.so.12: cannot open shared object file: No such file or directory"),
    ],
)
def test_what_python_alone_decides_is_broken_and_says_why(error: BaseException) -> None:
    outcome, why = classify(raised(error), host=True)
    assert outcome == BROKEN
    assert why


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("Found no NVIDIA driver on your system."),
        AssertionError("Torch not compiled with CUDA enabled"),
        ImportError("libcuda.so.1: cannot open shared object file: No such file"),
        RuntimeError("0 active drivers ([]). There should only be one."),
        AttributeError("module 'torch._C' has no attribute '_cuda_getDevice'"),
        NotImplementedError("Could not run 'aten::x' with arguments from the 'CUDA' backend."),
    ],
)
def test_what_misses_a_gpu_needs_one(error: BaseException) -> None:
    assert classify(raised(error), host=True)[0] == NEEDS_GPU


def test_what_was_caused_by_a_missing_gpu_needs_one() -> None:
    error = raised(TypeError("cannot unpack"), RuntimeError("CUDA error: no device"))
    assert classify(error, host=True)[0] == NEEDS_GPU


def test_a_key_that_torchs_checkpoint_reader_misses_is_broken_and_named() -> None:
    message = "ranks:[0]\nTraceback (most recent call last): (RANK 0)\n  File x\n"
    error = raised(
        Exception(message + "RuntimeError: Missing key in checkpoint state_dict: a.b.\n")
    )
    assert classify(error, host=True)[0] == BROKEN
    assert headline(error) == "RuntimeError: Missing key in checkpoint state_dict: a.b."


def test_what_a_worker_process_failed_with_is_what_counts() -> None:
    signature = TypeError("_write_item() missing 2 required positional arguments")
    error = raised(RuntimeError(f"Worker failure: {signature}"), raised(signature))
    outcome, why = classify(error, host=True)
    assert outcome == BROKEN
    assert why.startswith("RuntimeError raised from TypeError: a call that does not fit")
    odd = raised(RuntimeError("Worker failure"), raised(RuntimeError("something odd")))
    assert classify(odd, host=True)[0] == NEEDS_GPU
    missing = raised(RuntimeError("Worker failure"), raised(TypeError("CUDA is not available")))
    assert classify(missing, host=True)[0] == NEEDS_GPU


def test_what_cannot_be_told_needs_a_gpu_and_says_so() -> None:
    outcome, why = classify(raised(RuntimeError("something odd")), host=True)
    assert outcome == NEEDS_GPU
    assert "cannot be told" in why


def test_what_the_check_states_is_taken() -> None:
    error = raised(RuntimeError("something odd"))
    assert classify(error, host=True, stated="pure Python") == (BROKEN, "pure Python")


def test_with_a_gpu_everything_raised_is_broken() -> None:
    assert classify(raised(RuntimeError("CUDA error: no")), host=False)[0] == BROKEN


def test_what_checks_say_is_what_counts() -> None:
    assert classify(raised(Unsupported("no")), host=False) == (UNSUPPORTED, "no")
    assert classify(raised(NeedsGpu("yes")), host=True) == (NEEDS_GPU, "yes")


def test_a_name_bound_only_where_there_is_a_gpu_needs_one(tmp_path) -> None:
    module = tmp_path / "kernels.py"
    module.write_text(
        "def is_available(): return False\nif is_available():\n    fast = 1\ndef f(): return fast\n"
    )
    space: dict = {}
    exec(compile(module.read_text(), str(module), "exec"), space)
    with pytest.raises(NameError) as caught:
        space["f"]()
    assert classify(caught.value, host=True)[0] == NEEDS_GPU


def test_what_a_half_imported_package_lacks_needs_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    error = raised(AttributeError("module 'transformer_engine' has no attribute 'common'"))
    assert classify(error, host=True)[0] == BROKEN
    for said, outcome in (
        ("ImportError: no such name", BROKEN),
        ("RuntimeError: Found no NVIDIA driver on your system", NEEDS_GPU),
    ):
        monkeypatch.setitem(preload.OUTCOMES, "transformer_engine.pytorch", said)
        assert classify(error, host=True)[0] == outcome
    other = raised(AttributeError("module 'modelopt' has no attribute 'torch'"))
    assert classify(other, host=True)[0] == BROKEN, "that one was imported"
    for text in (
        "cannot import name 'gone' from 'transformer_engine.common.recipe'",
        "No module named 'transformer_engine.pytorch_old'",
    ):
        beside = raised(ImportError(text))
        assert classify(beside, host=True)[0] == BROKEN, "another module of the package"
