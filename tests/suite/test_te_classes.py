"""Which of Transformer Engine's classes a release registers, and which a model has."""

from __future__ import annotations

from typing import Any

from suite import te_classes

SOURCE = """
@QuantModuleRegistry.register({te.pytorch.Linear: "te_Linear"})
class _QuantTELinear: ...
if HAS_TE:
    @QuantModuleRegistry.register(
        {TERowParallelLinear: "row", module.TELinear: "plain"}
    )
    class _QuantRow: ...
other({NotThis: "x"})
register_something({NorThis: "x"})
"""


def kind(name: str, module: str, *bases: type[Any]) -> type[Any]:
    return type(name, bases or (object,), {"__module__": module})


TE_LINEAR = kind("Linear", "transformer_engine.pytorch.module.linear")
TE_NORM = kind("LayerNorm", "transformer_engine.pytorch.module.layernorm")
ROW = kind("TERowParallelLinear", "megatron.core.extensions.transformer_engine", TE_LINEAR)


class Model:
    def named_modules(self) -> list[tuple[str, Any]]:
        norm = kind("TENorm", "megatron.core.extensions.transformer_engine", TE_NORM)
        return [("proj", ROW()), ("norm", norm()), ("own", object())]


def test_classes_are_read_from_what_is_registered_even_where_that_is_guarded() -> None:
    names = te_classes.registered_in(SOURCE)
    assert names == {"Linear", "TERowParallelLinear", "TELinear"}


def test_a_release_without_the_plugin_registers_nothing() -> None:
    assert te_classes.claimed("json.no_such_plugin") == frozenset()
    assert te_classes.claimed("no_such_package.plugin") == frozenset()


def test_a_linear_is_known_by_what_it_is_derived_from() -> None:
    assert te_classes.base_of(ROW) is TE_LINEAR
    assert te_classes.base_of(TE_NORM) is None
    assert te_classes.linears(Model()) == {"proj": ROW}


def test_a_class_that_is_not_registered_is_named_once() -> None:
    assert te_classes.lacking([ROW, ROW, TE_LINEAR], {TE_LINEAR}) == ["TERowParallelLinear"]
