"""Is the ModelOpt-spec model the default-spec model, module by module, but for what it replaces?

Both are built and compared: which modules there are, what each computes with, what each was
configured with. `suite.structure.REPLACED` names all differences that the design wants.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from suite import adapter, families, parallel, parts, sabotage, specs, structure
from suite.outcomes import Unsupported
from suite.record import Record

pytestmark = pytest.mark.feature("interface")

BUILT = ("build-default", "build-modelopt")


@pytest.mark.after(*BUILT)
def check_structure(family: str, record: Record, tmp_path: Path) -> None:
    assert_alike(family, record, tmp_path)


@pytest.mark.after(*BUILT)
def check_structure_options(family: str, record: Record, tmp_path: Path) -> None:
    # With its defaults, a setting that is ignored is as good as one that is kept.
    chosen = {"local_core_attention": True} if family == "gpt" else {}
    assert_alike(family, record, tmp_path, chosen=chosen, **options(family))


@pytest.mark.families("hybrid-mamba")
@pytest.mark.after(*BUILT)
def check_structure_epsilon(family: str, record: Record, tmp_path: Path) -> None:
    assert_alike(family, record, tmp_path, layernorm_epsilon=1e-4)


@pytest.mark.families("hybrid-mamba")
@pytest.mark.after(*BUILT)
def check_structure_experts(family: str, record: Record, tmp_path: Path) -> None:
    adapter.need_experts()
    assert_alike(family, record, tmp_path, **families.GROUPED, **families.VARIANTS["experts"])


@pytest.mark.families("hybrid-mamba")
@pytest.mark.after("import-modules")
def check_structure_stack(family: str, record: Record) -> None:
    """Every layer of the default stack has its like in the ModelOpt stack."""
    default, modelopt = adapter.stack_default_spec(), adapter.stack_modelopt_spec()
    if modelopt is None:
        raise Unsupported("the release has no ModelOpt stack spec")
    assert default is not None, "there is a ModelOpt stack spec, but no default stack spec"
    spec = adapter.call(modelopt.object, {"remap_te_layernorm": True})
    compared = structure.compare(parts.of_spec(default.object), parts.of_spec(spec))
    record("layers", [sorted(specs.stack_layers(one)) for one in (default.object, spec)])
    told(compared, record)
    assert not compared.problems, "; ".join(compared.problems)


def options(family: str) -> dict[str, Any]:
    """Settings of the family's configuration, other than those that it has anyway."""
    torch = importlib.import_module("torch")
    gated = {
        "layernorm_zero_centered_gamma": True,
        "gated_linear_unit": True,
        "activation_func": torch.nn.functional.silu,
        "num_query_groups": 2,
    }
    if family == "hybrid-mamba":
        return {**gated, "normalization": "LayerNorm", "add_bias_linear": False}
    if family == "gpt":
        gated.update(add_bias_linear=False, qk_layernorm=True, normalization="RMSNorm")
    if family == "mla-moe":
        del gated["num_query_groups"]
        gated.update(moe_grouped_gemm=True)
    if family == "llama4-moe":
        gated.update(moe_grouped_gemm=True, qk_layernorm=True, **families.ROTARY)
    return {**gated, "layernorm_epsilon": 1e-4}


def assert_alike(
    family: str,
    record: Record,
    folder: Path,
    *,
    chosen: dict[str, Any] | None = None,
    **changed: Any,
) -> None:
    """Build both models, `changed` so as `checkpoints.model` takes it, and compare them.

    `chosen` are arguments of the ModelOpt spec function, left out where it does not take them.
    """
    parallel.start(folder, families.SEED)
    of_config, of_model = families.split(changed)
    config = families.config(family, **of_config)
    try:
        spec = adapter.default_spec(family, config)
        default = parts.of_model(adapter.build_model(family, spec, config, **of_model))
    except NameError as error:
        # Guarded imports of optional packages: without Apex, old default specs name what is not
        # there. That says nothing of the ModelOpt spec.
        raise Unsupported(f"the default spec needs a package for these settings: {error}") from None
    # A configuration of its own: what a spec function changes in it must not change the other.
    other = families.config(family, **of_config)
    takes = adapter.parameters_of(adapter.modelopt_places(family))
    given = {name: value for name, value in (chosen or {}).items() if name in takes}
    spec = sabotage.spec(adapter.modelopt_spec(family, other, **given))
    modelopt = parts.of_model(adapter.build_model(family, spec, other, **of_model))
    compared = structure.compare(default, modelopt)
    record("configured", {name: specs.text(value) for name, value in {**changed, **given}.items()})
    record("norms", {p: list(one.facts.values()) for p, one in default.items() if is_norm(one)})
    record("cores", {p: dict(one.facts) for p, one in modelopt.items() if is_core(one)})
    told(compared, record)
    qk_norm = configured_qk_norm(family, config)
    wrong = structure.unlike_config(default, config, qk_norm=qk_norm)
    problems = compared.problems + [f"default-spec model: {problem}" for problem in wrong]
    assert compared.facts, "nothing was found that both models have"
    assert not problems, "; ".join(problems)


def is_norm(part: parts.Part) -> bool:
    return part.kind == parts.NORM


def is_core(part: parts.Part) -> bool:
    return part.kind in parts.CORES


def configured_qk_norm(family: str, config: Any) -> str | None:
    """What stands after the queries' and keys' linears, as the family's spec is asked for it;
    None where the stack's spec alone decides."""
    if family == "hybrid-mamba":
        return None
    if family == "llama4-moe":
        return "L2Norm"
    return str(config.normalization) if config.qk_layernorm else "nothing"


def told(compared: structure.Comparison, record: Record) -> None:
    for name, value in compared.described().items():
        record(name, value)
