"""ModelOpt's quantizers in a model: how they are set, beside what the configuration asks for."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from suite import checkpoints, compare, quantizer_config, te_classes
from suite.quantizer_config import INDEX, Asked, Rule

WEIGHT = "weight_quantizer"

LEFT_OUT: Mapping[str, str] = {
    "_calibrator": "collects statistics while it calibrates; a restored quantizer has a new one",
    "_bias_calibrator": "as `_calibrator`",
    "_original_shape": "of the tensor last seen, set anew when one passes",
    "_block_reshape_size": "as `_original_shape`",
    "_padding": "as `_original_shape`",
    "_amax_shape_for_export": "as `_original_shape`",
    "_slices": "as `_original_shape`",
    "_pytorch_state_metadata": "shapes noted while restoring; the tensors themselves are compared",
    "_input_dtype": "of the tensor last seen, and set anew where a model is restored",
    "_quantizer_cache": "what a backend computed and can compute again",
    "training": "what the model was last told by `train()` or `eval()`, no setting of a quantizer",
}
"""Attributes of a quantizer that may differ after a restore, each with the reason."""

LEFT_OUT_OF_MODES: Mapping[str, str] = {
    "quantizer_state": "the quantizers' own settings, which are compared with the quantizers",
}
"""Parts of a mode's state that are not compared as such, each with the reason."""

SETTINGS: Mapping[str, str] = {
    "num_bits": "_num_bits",
    "axis": "_axis",
    "block_sizes": "_block_sizes",
    "unsigned": "_unsigned",
    "narrow_range": "_narrow_range",
    "fake_quant": "_fake_quant",
}
"""By setting of a configuration: the quantizer's attribute for it."""


@dataclasses.dataclass(frozen=True)
class Weighed:
    """An enabled quantizer of weights, what was asked of it, and the weights that it is for."""

    name: str
    quantizer: Any
    settings: Mapping[str, Any]
    weights: list[Any]
    module: Any


def of(model: Any) -> dict[str, Any]:
    """ModelOpt's quantizers in a model, by name."""
    nn = importlib.import_module("modelopt.torch.quantization.nn")
    return {n: m for n, m in model.named_modules() if isinstance(m, nn.TensorQuantizer)}


def enabled(quantizer: Any) -> bool:
    return not getattr(quantizer, "_disabled", False)


def described(model: Any) -> dict[str, Any]:
    """All settings and tensors of all quantizers, disabled ones too, by `quantizer attribute`."""
    import torch

    plain = vars(torch.nn.Module()).keys()
    found = {}
    for name, quantizer in of(model).items():
        values = {k: v for k, v in vars(quantizer).items() if k not in plain}
        values.update(quantizer.named_buffers(recurse=False))
        values.update(quantizer.named_parameters(recurse=False))
        for key, value in values.items():
            if key not in LEFT_OUT:
                found[f"{name} {key}"] = shown(value)
    return found


def shown(value: Any) -> Any:
    """A value that equals another's where the two say the same, after a restore, too."""
    import torch

    if isinstance(value, torch.Tensor):
        return checkpoints.of_tensor(value)
    if isinstance(value, Mapping):
        return {str(key): shown(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, torch.Size)):
        return tuple(shown(one) for one in value)
    if isinstance(value, (set, frozenset)):
        return tuple(sorted(str(shown(one)) for one in value))
    if value is None or isinstance(value, (bool, int, float, str, torch.dtype, torch.device)):
        return value
    return specific(value)


def specific(value: Any) -> str:
    """The class of an object, which has no text that would be the same for another such."""
    kind = value if isinstance(value, type) else type(value)
    return f"{kind.__module__}.{kind.__qualname__}"


def modes(model: Any) -> dict[str, str]:
    """ModelOpt's record of what was done to a model: the modes, by the order of them."""
    return {str(place): mode for place, (mode, _) in enumerate(_states(model))}


def mode_states(model: Any) -> dict[str, Any]:
    """Each mode's whole state, its configuration and its metadata, by the path of each value."""
    found: dict[str, Any] = {}
    for place, (mode, state) in enumerate(_states(model)):
        found.update(leaves(f"{place} {mode}", shown(dict(state))))
    return found


def _states(model: Any) -> list[Any]:
    opt = importlib.import_module("modelopt.torch.opt")
    return list(opt.modelopt_state(model)["modelopt_state_dict"])


def leaves(path: str, value: Any) -> dict[str, Any]:
    """The values in nested dicts by their paths, without those that are `LEFT_OUT_OF_MODES`."""
    if not isinstance(value, dict):
        return {path: value}
    found: dict[str, Any] = {}
    for key, one in value.items():
        if key not in LEFT_OUT_OF_MODES:
            found.update(leaves(f"{path}.{key}", one))
    return found or {path: {}}


def linears(model: Any) -> list[str]:
    """The names of the linears in a model that is not quantized yet: Megatron's parallel ones,
    Transformer Engine's, and torch's own where no class has changed what it computes."""
    import torch

    layers = importlib.import_module("megatron.core.tensor_parallel.layers")
    parallel = (layers.ColumnParallelLinear, layers.RowParallelLinear)
    return [
        name
        for name, module in model.named_modules()
        if weights_of(module)
        and (
            isinstance(module, parallel)
            or te_classes.base_of(type(module)) is not None
            or type(module).forward is torch.nn.Linear.forward
        )
    ]


def other_linears(model: Any, known: list[str]) -> list[str]:
    """Linears that compute in a way of their own, of which ModelOpt does not say it knows them."""
    import torch

    found = (name for name, m in model.named_modules() if isinstance(m, torch.nn.Linear))
    return sorted(set(found) - set(known))


def weights_of(module: Any) -> list[Any]:
    """The weight of a linear, or one for each of its matrices where it has several."""
    own = dict(module.named_parameters(recurse=False))
    if "weight" in own:
        return [own["weight"]]
    names = [name for name in own if name.removeprefix("weight").isdecimal()]
    return [own[name] for name in sorted(names, key=lambda name: int(name[len("weight") :]))]


def asked(model: Any, rules: list[Rule]) -> dict[str, Asked]:
    """What the configuration asks of each quantizer that the model has."""
    modules = dict(model.named_modules())
    return {
        name: quantizer_config.asked(rules, name, is_a(modules[layer_of(name)]))
        for name in of(model)
    }


def layer_of(name: str) -> str:
    """The name of the module that a quantizer belongs to."""
    return INDEX.sub(r"\1", name).rpartition(".")[0]


def is_a(module: Any) -> Callable[[str], bool]:
    """Says whether a module is of a class, by the name that ModelOpt knows the class by."""
    registry = importlib.import_module("modelopt.torch.quantization.nn").QuantModuleRegistry
    return lambda key: key in registry and isinstance(module, registry[key])


def unlike(model: Any, rules: list[Rule], names: list[str]) -> list[str]:
    """In words, where a quantized model's quantizers are not as the configuration asks.

    `names` are its linears, found before it was quantized: each that the configuration names must
    have an enabled quantizer of its weight, whatever ModelOpt made of it.
    """
    found, wanted = of(model), asked(model, rules)
    off = [n for n, one in found.items() if wanted[n].enabled and not enabled(one)]
    on = [n for n, one in found.items() if wanted[n].enabled is False and enabled(one)]
    modules = dict(model.named_modules())
    lacking = [
        name
        for name in names
        if quantizer_config.asked(rules, f"{name}.{WEIGHT}", is_a(modules[name])).enabled
        and not any(quantizer.startswith(f"{name}.{WEIGHT}") for quantizer in found)
    ]
    problems = listed("linears without a quantizer of their weight", lacking)
    problems += listed("quantizers off, which the configuration turns on", off)
    problems += listed("quantizers on, which the configuration turns off", on)
    said = {}
    for name, one in wanted.items():
        said.update({f"{name} {key}": v for key, v in comparable(one.settings).items()})
    set_to = {}
    for key in said:
        name, setting = key.split(" ")
        set_to[key] = shown(getattr(found[name], SETTINGS[setting], None))
    return problems + compare.differing(said, set_to, "settings than the configuration's")


def comparable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those settings that a quantizer has under a name of its own. With blocks, a quantizer's
    axis is what follows from them once it has seen a tensor."""
    found = {key: shown(value) for key, value in settings.items() if key in SETTINGS}
    if settings.get("block_sizes"):
        found.pop("axis", None)
        block_sizes = found["block_sizes"]
        found["block_sizes"] = {k: v for k, v in block_sizes.items() if v is not None}
    return found


def weighed(model: Any, rules: list[Rule]) -> Iterator[Weighed]:
    """The enabled quantizers of weights, each with its weights."""
    modules, wanted = dict(model.named_modules()), asked(model, rules)
    for name, quantizer in of(model).items():
        layer = layer_of(name)
        if enabled(quantizer) and INDEX.sub(r"\1", name).endswith(f"{layer}.{WEIGHT}"):
            weights = weights_of(modules[layer])
            place = name.rpartition(".")[2]
            if place.isdecimal() and len(weights) > 1:  # one quantizer for each matrix
                weights = weights[int(place) : int(place) + 1]
            yield Weighed(name, quantizer, wanted[name].settings, weights, modules[layer])


def listed(what: str, names: list[str]) -> list[str]:
    """One line that names the first few, none where there are none."""
    if not names:
        return []
    more = f" and {len(names) - compare.SHOWN} more" if len(names) > compare.SHOWN else ""
    return [f"{len(names)} {what}: {', '.join(sorted(names)[: compare.SHOWN])}{more}"]
