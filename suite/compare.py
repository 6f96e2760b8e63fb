"""Compares models and checkpoints by the digests of their tensors. Pure: needs no torch.

Every function takes plain mappings and returns, in words, what is wrong; an empty list says
that all is well.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

EXTRA = "_extra_state"
"""Ends the name of what Transformer Engine keeps beside parameters; it is no tensor."""

SHOWN = 6
"""How many names a message gives before it only counts."""

FUSED = (
    ("self_attention.linear_qkv.layer_norm_", "input_layernorm."),
    ("self_attention.linear_q_up_proj.layer_norm_", "self_attention.q_layernorm."),
    ("self_attention.linear_kv_up_proj.layer_norm_", "self_attention.kv_layernorm."),
    ("mlp.linear_fc1.layer_norm_", "pre_mlp_layernorm."),
    ("mixer.in_proj.layer_norm_", "norm."),
)
"""Where a fused linear keeps its norm, and the norm of its own that stands for it. Known here
apart from the packages' own maps, so that a wrong map does not prove itself right."""

FUSED_END = ".layer_norm_"
"""Ends the place of a norm that a linear has inside; what follows is `weight` or `bias`."""

GROUPED = re.compile(r"experts\.(?P<linear>linear_fc[12]\.(?:weight|bias))(?P<expert>\d+)$")
"""How a linear that holds the matrices of all experts names them."""


@dataclass(frozen=True)
class Digest:
    """What one tensor is: the SHA-256 of its bytes, its shape, its dtype's name."""

    sha256: str
    shape: tuple[int, ...]
    dtype: str


def digest(data: bytes, shape: Iterable[int], dtype: str) -> Digest:
    """The digest of a tensor of `shape` whose elements, in row-major order, are `data`."""
    return Digest(hashlib.sha256(data).hexdigest(), tuple(shape), dtype)


def total(digests: Mapping[str, Digest]) -> str:
    """One SHA-256 for all names and tensors, whatever their order."""
    whole = hashlib.sha256()
    for name, one in sorted(digests.items()):
        whole.update(f"{name}|{one.sha256}|{one.shape}|{one.dtype}\n".encode())
    return whole.hexdigest()


def unfused(name: str) -> str:
    """The name that a tensor of a fused model has in a model with norms of their own.

    Fused are norms with linears, and the matrices of all experts with one another.
    """
    for inside, own in FUSED:
        if inside in name:
            return name.replace(inside, own)
    return GROUPED.sub(r"experts.local_experts.\g<expert>.\g<linear>", name)


def norm_of(name: str) -> str:
    """The fused norm, `...layer_norm_`, of which a tensor is a part."""
    return name[: name.index(FUSED_END) + len(FUSED_END)]


def renamed(
    tensors: Mapping[str, Digest], rename: Callable[[str], str] = unfused
) -> dict[str, Digest]:
    """`tensors` under the names that `rename` gives; ValueError where two would share one."""
    result: dict[str, Digest] = {}
    for name, one in tensors.items():
        other = rename(name)
        if other in result:
            raise ValueError(f"two tensors would be named {other}")
        result[other] = one
    return result


def tensors(wanted: Mapping[str, Digest], actual: Mapping[str, Digest]) -> list[str]:
    """Where `actual` is not, name by name and bit for bit, `wanted`; nothing wanted is wrong."""
    if not wanted:
        return ["there is no tensor to compare"]
    problems = _listed("not restored, nothing has its name", set(wanted) - set(actual))
    problems += _listed("not from the checkpoint", set(actual) - set(wanted))
    shared = [name for name in sorted(wanted) if name in actual]
    shapes = [n for n in shared if wanted[n].shape != actual[n].shape]
    dtypes = [n for n in shared if wanted[n].dtype != actual[n].dtype]
    problems += _listed("of another shape", shapes, lambda n: _was(wanted[n], actual[n]))
    problems += _listed("of another dtype", dtypes, lambda n: _was(wanted[n], actual[n]))
    same = [n for n in shared if n not in shapes and n not in dtypes]
    changed = [n for n in same if wanted[n].sha256 != actual[n].sha256]
    return problems + _listed("of other values", changed)


def untouched(before: Mapping[str, Digest], after: Mapping[str, Digest]) -> list[str]:
    """Which tensors still hold the sentinel that they were filled with `before` the load."""
    still = [name for name in before if after.get(name) == before[name]]
    return _listed("not loaded, still the sentinel", still)


def keys(missing: Collection[str], unexpected: Collection[str]) -> list[str]:
    """What a strict load reports, without extra states.

    `missing`: in the checkpoint, not asked for; `unexpected`: asked for, not in it.
    """
    left = [name for name in missing if EXTRA not in name]
    asked = [name for name in unexpected if EXTRA not in name]
    return _listed("in the checkpoint, but not asked for", left) + _listed(
        "asked for, but not in the checkpoint", asked
    )


def differing(wanted: Mapping[str, object], actual: Mapping[str, object], what: str) -> list[str]:
    """Where two mappings of plain data differ; `what` names an entry."""
    problems = _listed(f"missing {what}", set(wanted) - set(actual))
    problems += _listed(f"additional {what}", set(actual) - set(wanted))
    changed = [n for n in wanted if n in actual and wanted[n] != actual[n]]
    return problems + _listed(f"other {what}", changed, lambda n: f"{wanted[n]} -> {actual[n]}")


def last_line(error: BaseException) -> str:
    """The last line of an exception's text that says something: the cause, where it has many."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else "no message"


def _was(wanted: Digest, actual: Digest) -> str:
    return f"{wanted.shape} {wanted.dtype} -> {actual.shape} {actual.dtype}"


def _listed(
    what: str, names: Collection[str], more: Callable[[str], str] | None = None
) -> list[str]:
    if not names:
        return []
    ordered = sorted(names)
    shown = [f"{n} ({more(n)})" if more else n for n in ordered[:SHOWN]]
    rest = f" and {len(ordered) - SHOWN} more" if len(ordered) > SHOWN else ""
    return [f"{len(ordered)} {what}: {', '.join(shown)}{rest}"]
