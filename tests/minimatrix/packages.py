"""The toy packages: named as the real ones, a few lines each. What a release breaks is in its code,
where the toy suite finds it by asking, as the real suite does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

MEGATRON = '''\
"""A toy megatron-core."""

_KEYS = {keys}


def default_spec(family{option}):
    return list(_KEYS[family])


def modelopt_spec(family):
    return [{renamed}.get(key, key) for key in _KEYS[family]]


def restore(family, checkpoint):
    found = {{}}
    for key in modelopt_spec(family):
        found[key] = checkpoint[key]
    return found
'''

MODELOPT = '''\
"""A toy ModelOpt."""

import os


def convert(keys):
    for key in keys:
        if key in {refused}:
            raise ValueError(f"no quantized layer stands for {{key}}")
    return list(keys)


def quantize(keys):
    {quantize}
'''

OLD = {"gpt": ("embedding", "attention"), "moe": ("embedding", "router")}
NEW = {"gpt": ("embedding", "self_attention"), "moe": ("self_attention", "router")}


@dataclass(frozen=True, kw_only=True)
class Toy:
    """One release of a toy package: `files` are its modules, by path."""

    name: str
    version: str
    uploaded: str
    requires: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)


def _megatron(
    version: str,
    uploaded: str,
    *,
    option: str = "",
    new: bool = False,
    broken: bool = False,
    needs: str = "toy-math",
) -> Toy:
    code = MEGATRON.format(
        keys=NEW if new else OLD, option=option, renamed={"router": "moe_router"} if broken else {}
    )
    return Toy(
        name="megatron-core",
        version=version,
        uploaded=uploaded,
        requires=("torch", needs),
        files={"megatron/core/__init__.py": code},
    )


def _modelopt(version: str, uploaded: str, *, requires: str, bad: bool = False) -> Toy:
    code = MODELOPT.format(
        refused=("self_attention",) if bad else (),
        quantize="os.abort()" if bad else 'return {key: "fp8" for key in keys}',
    )
    return Toy(
        name="nvidia-modelopt",
        version=version,
        uploaded=uploaded,
        requires=(requires,),
        files={"modelopt/__init__.py": code},
    )


def _plain(name: str, version: str, uploaded: str, *requires: str, module: str = "") -> Toy:
    files = {f"{module}/__init__.py": "def version():\n    return 1\n"} if module else {}
    return Toy(name=name, version=version, uploaded=uploaded, requires=requires, files=files)


RELEASES = (
    _plain("toy-math", "1.0.0", "2025-01-01", module="toy_math"),
    _plain("torch", "2.9.0", "2025-01-02", module="torch"),
    _plain("torch", "2.10.0", "2025-05-02", module="torch"),
    _plain("transformer-engine", "2.8.0", "2025-01-03", module="transformer_engine"),
    _plain("transformer-engine-cu12", "2.8.0", "2025-01-03"),
    _plain("transformer-engine-cu13", "2.9.0", "2025-01-03"),
    Toy(
        name="transformer-engine-torch",
        version="2.8.0",
        uploaded="2025-01-03",
        requires=("torch",),
        files={"transformer_engine_torch.so": "no code\n"},
    ),
    _plain("mamba-ssm", "2.3.0", "2025-01-03"),
    _plain("causal-conv1d", "1.6.0", "2025-01-03"),
    _plain("pytest", "9.0.0", "2025-01-03"),
    _megatron("1.0.0", "2025-01-10"),
    _megatron("1.1.0", "2025-02-10", option=", layers=1"),
    _megatron("1.2.0", "2025-03-10", option=", layers=1", broken=True),
    _megatron("1.3.0", "2025-04-10", option=", layers=1", broken=True, new=True),
    _modelopt("0.50.0", "2025-01-20", requires="torch"),
    _modelopt("0.51.0", "2025-03-20", requires="torch", bad=True),
    _modelopt("0.52.0", "2025-05-20", requires="toy-math>=2"),
)
"""From 1.2 on a family of models does not restore; 0.51 dies when it quantizes, and refuses the
layers of 1.3; 0.52 requires what there is not."""

LATER = (
    _megatron("1.1.1", "2025-06-01", option=", layers=1", needs="toy-math>=2"),
    _megatron("1.3.1", "2025-06-10", option=", layers=1", new=True),
    _megatron("1.4.0", "2025-06-20", option=", layers=1", new=True),
)
"""What appears on the index overnight: a patch that cannot be installed, one that mends 1.3, and a
new series."""
