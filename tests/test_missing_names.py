"""What a message says is missing, looked up in the interfaces of releases that are made up."""

from __future__ import annotations

import pytest
from api_support import index

from mcore_compat.analysis import error_text, missing_names, undefined_symbols
from mcore_compat.api import lives

SO = "/x/site-packages/transformer_engine/transformer_engine_torch.cpython-312-x86_64-linux-gnu.so"


def told(message: str) -> tuple[str, ...]:
    """The first line of an answer, and those below it but for the last; empty if there is none."""
    (error,) = error_text.errors(message)
    answer = missing_names.answer(error, [index()])
    return (answer.first, *answer.rest[:-1]) if answer else ()


@pytest.mark.parametrize(
    ("message", "answer"),
    [
        (
            "ModuleNotFoundError: No module named 'megatron.core.helpers'",
            (
                "megatron.core.helpers is in megatron-core 0.14.0 to 0.15.0, not in 0.16.0",
                "take: megatron-core 0.15.0 or older",
                "now: megatron.core.utils.helpers",
            ),
        ),
        (
            "ImportError: cannot import name 'brand_new' from 'megatron.core.utils.helpers'",
            (
                "megatron.core.utils.helpers.brand_new is in megatron-core 0.16.0, not in 0.15.0",
                "take: megatron-core 0.16.0 or newer",
            ),
        ),
        (
            "AttributeError: module 'megatron.core.parallel_state' has no attribute 'split'",
            (
                "megatron.core.parallel_state.split is in no release of megatron-core from 0.14.0 "
                "to 0.16.0",
                "now: megatron.core.utils.helpers.split",
            ),
        ),
        (
            "ImportError: cannot import name 'Config' from 'megatron.core.transformer' "
            "(unknown location)",
            (
                "megatron.core.transformer.Config is in all releases of megatron-core from 0.14.0 "
                "to 0.16.0",
                "unknown location: Python found a folder of that name without "
                "megatron.core.transformer's own code, e.g. in the working directory, or as "
                "another installation left it",
            ),
        ),
        (
            "AttributeError: type object 'Kind' has no attribute 'second'",
            (
                "megatron.core.models.Kind.second is in megatron-core 0.14.0 to 0.15.0, not in "
                "0.16.0",
                "take: megatron-core 0.15.0 or older",
            ),
        ),
        (
            "TypeError: Config.__init__() got an unexpected keyword argument 'attention_heads'",
            (
                "megatron.core.transformer.config.Config.__init__ takes attention_heads in "
                "megatron-core 0.16.0, not in 0.15.0",
                "take: megatron-core 0.16.0 or newer",
            ),
        ),
        (
            "TypeError: get_embedding_group() got an unexpected keyword argument 'check'",
            (
                "megatron.core.parallel_state.get_embedding_group takes check in megatron-core "
                "0.14.0 to 0.15.0, not in 0.16.0",
                "take: megatron-core 0.15.0 or older",
            ),
        ),
        (
            "TypeError: Mine.join() got an unexpected keyword argument 'group'",
            (),  # theirs is no method
        ),
        # What may be anybody's, what is open, and what is nobody's of these.
        ("TypeError: __init__() got an unexpected keyword argument 'attention_heads'", ()),
        ("TypeError: split() got an unexpected keyword argument 'colour'", ()),
        ("ImportError: cannot import name 'x' from 'megatron.core.plugins' (/x.py)", ()),
        ("ModuleNotFoundError: No module named 'numpy.core'", ()),
        ("ModuleNotFoundError: No module named 'megatron'", ()),
    ],
)
def test_a_message_is_answered_by_which_releases_have_what_it_misses(
    message: str, answer: tuple[str, ...]
) -> None:
    assert told(message) == answer


def test_a_module_beside_the_interface_is_of_the_repository() -> None:
    first, *_ = told("ModuleNotFoundError: No module named 'megatron.training.tokenizer'") or [""]
    assert first == (
        "megatron.training.tokenizer is not below megatron.core, which is what megatron-core is "
        "read for"
    )


def test_a_method_of_another_package_is_from_before_the_argument() -> None:
    made = index()
    made.modules["megatron.core.models"]["Model.forward"].append((2, "def(self, x, mask, context)"))
    (error,) = error_text.errors(
        "TypeError: Mixin.forward() got an unexpected keyword argument 'context'"
    )
    answer = missing_names.answer(error, [made])
    assert answer is not None
    assert (answer.first, answer.rest[0]) == (
        "Mixin.forward is of another package; megatron-core's own methods forward take context "
        "from 0.16.0 on",
        "take: megatron-core 0.15.0 or older, or a release of the other package that goes with "
        "megatron-core 0.16.0",
    )


def test_a_method_that_a_class_inherits_is_found_where_it_is_defined() -> None:
    made = index()
    made.modules["megatron.core.models"]["Big"] = [(0, "class(megatron.core.models.Model)")]
    assert lives.find(made, "Big.forward") == [("megatron.core.models", "Model.forward")]
    assert lives.find(made, "Big.backward") == []


@pytest.mark.parametrize(
    ("message", "first"),
    [
        (
            f"ImportError: {SO}: undefined symbol: _ZNK3c106SymInt6sym_neERKS0_",
            "transformer_engine_torch.cpython-312-x86_64-linux-gnu.so of transformer-engine-torch "
            "was built for another torch than the one that is installed, which lacks "
            "_ZNK3c106SymInt6sym_neERKS0_",
        ),
        (
            "ImportError: /x/causal_conv1d_cuda.so: undefined symbol: cudnnGetVersion",
            "causal_conv1d_cuda.so of causal-conv1d needs another libcudnn than the one that is "
            "loaded, which lacks cudnnGetVersion",
        ),
        ("ImportError: /x/other.so: undefined symbol: _ZN2at4_ops5zerosE", ""),
        (f"ImportError: {SO}: undefined symbol: mine", ""),
    ],
)
def test_an_undefined_symbol_is_answered_by_whose_it_is(message: str, first: str) -> None:
    (error,) = error_text.errors(message)
    answer = undefined_symbols.answer(error)
    assert (answer.first if answer else "") == first
