"""What stands in for the GPU where the GPU tier's checks are tried on a CPU: torch in the place of
Transformer Engine's modules, Mamba's scan and NVFP4's kernel. It runs in a cell's Python, after
the suite's own stand-in.

Products are made in float64 and rounded once, so that the default spec rounds elsewhere than the
ModelOpt spec, whose linears are Megatron's own.
"""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch.nn import functional

from suite import adapter
from suite.gpu import models

STAND_INS = {
    "Transformer Engine's norms, linears and attention": "torch, products in float64",
    "the router's product through Transformer Engine": "Megatron's own, where TE has none",
    "tensors and modules moved to the device": "they stay on the CPU",
    "Mamba's scan, its convolution and gated norm": "a loop over positions; Megatron's fallback",
    "NVFP4's kernel": "E2M1 in blocks of 16 with E4M3 scales, in torch",
    "ModelOpt's CUDA extensions": "none: what it does without",
}


def norm(given: Any, weight: Any, bias: Any, module: Any, kind: str) -> Any:
    weight = weight.float() + 1 if module.zero_centered_gamma else weight.float()
    if kind == "RMSNorm":
        made = functional.rms_norm(given.float(), weight.shape, weight, module.eps)
    else:
        made = functional.layer_norm(given.float(), weight.shape, weight, bias.float(), module.eps)
    return made.to(given.dtype)


def linear(given: Any, module: Any) -> Any:
    """As Transformer Engine's linears return: the bias beside the product where it is wanted so."""
    bias = module.bias if getattr(module, "use_bias", True) else None
    apart = module.return_bias or module.gemm_bias_unfused_add
    product = given.double() @ module.weight.double().t()
    if bias is not None and bias.numel() and not module.return_bias:
        product = product + bias.double()
    product = product.to(given.dtype)
    return (product, bias) if apart and module.return_bias else product


def plain(self: Any, given: Any, *_: Any, **__: Any) -> Any:
    return linear(given, self)


def normed(self: Any, given: Any, *_: Any, **__: Any) -> Any:
    inner = norm(given, self.layer_norm_weight, self.layer_norm_bias, self, self.normalization)
    return linear(inner, self)


def layer_norm(self: Any, given: Any, *_: Any, **__: Any) -> Any:
    return norm(given, self.weight, self.bias, self, "LayerNorm")


def rms_norm(self: Any, given: Any, *_: Any, **__: Any) -> Any:
    return norm(given, self.weight, None, self, "RMSNorm")


def attention(
    self: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any = None,
    *_: Any,
    attn_mask_type: str | None = None,
    **__: Any,
) -> Any:
    """Of [positions, batch, heads, width]. `causal` is aligned to the first key, as in Transformer
    Engine; `self.shifted` moves it, which is the error of a negative control."""
    kind = attn_mask_type or self.attn_mask_type
    groups = query.shape[2] // key.shape[2]
    key, value = (one.repeat_interleave(groups, dim=2) for one in (key, value))
    scores = torch.einsum("qbhd,kbhd->bhqk", query.double(), key.double())
    width = query.shape[-1]
    scores = scores * (getattr(self, "softmax_scale", None) or width**-0.5)
    if "causal" in kind:
        last = key.shape[0] - query.shape[0] if "bottom_right" in kind else 0
        seen = torch.ones(scores.shape[-2:], dtype=torch.bool)
        seen = seen.tril(last + getattr(self, "shifted", 0))
        scores = scores.masked_fill(~seen, -torch.inf)
    else:
        assert kind == "no_mask", f"no stand-in for a mask of type {kind}"
    mixed = torch.einsum("bhqk,kbhd->qbhd", scores.softmax(-1), value.double())
    return mixed.flatten(2).to(query.dtype)


def scan(
    x: Any,
    dt: Any,
    A: Any,
    B: Any,
    C: Any,
    chunk_size: int,
    D: Any = None,
    z: Any = None,
    dt_bias: Any = None,
    dt_softplus: bool = False,
    return_final_states: bool = False,
    **_: Any,
) -> Any:
    """The state-space recurrence, position by position. `x` is [batch, positions, heads, width],
    `B` and `C` are [batch, positions, groups, states]."""
    assert dt_softplus, "Mamba's dt is always passed through softplus"
    assert z is None, "the gate stands in the norm"
    step = functional.softplus(dt.float() + dt_bias)
    of_heads = x.shape[2] // B.shape[2]
    into, out = (one.float().repeat_interleave(of_heads, dim=2) for one in (B, C))
    state = torch.zeros(*x.shape[:1], *x.shape[2:], B.shape[-1])
    made = []
    for place in range(x.shape[1]):
        now, weight = x[:, place].float(), step[:, place, :, None, None]
        added = weight * now[..., None] * into[:, place, :, None, :]
        state = torch.exp(weight * A[None, :, None, None]) * state + added
        seen = (state * out[:, place, :, None, :]).sum(-1)
        made.append(seen + (D if D.dim() == 2 else D[:, None]).float() * now)
    found = torch.stack(made, dim=1).to(x.dtype)
    return (found, state) if return_final_states else found


def split_scan(
    given: Any,
    weight: Any,
    bias: Any,
    dt_bias: Any,
    A: Any,
    D: Any,
    chunk_size: int,
    headdim: int | None = None,
    ngroups: int = 1,
    rmsnorm_weight: Any = None,
    **_: Any,
) -> Any:
    """The convolution and the scan of a layer in training, [batch, positions, width]; the gate is
    applied here, as no norm is given."""
    assert rmsnorm_weight is None, "Megatron passes no norm"
    heads, of_head = A.shape[0], headdim or D.shape[1]
    width = heads * of_head
    states = (given.shape[-1] - 2 * width - heads) // (2 * ngroups)
    gate, mixed, dt = given.split([width, width + 2 * ngroups * states, heads], dim=-1)
    taps = weight.shape[-1]
    padded = functional.pad(mixed.transpose(1, 2), (taps - 1, 0))
    mixed = functional.conv1d(padded, weight[:, None], bias, groups=weight.shape[0])
    mixed = functional.silu(mixed).transpose(1, 2)
    x, into, out = mixed.split([width, ngroups * states, ngroups * states], dim=-1)
    made = scan(
        x.unflatten(-1, (heads, of_head)),
        dt,
        A,
        into.unflatten(-1, (ngroups, states)),
        out.unflatten(-1, (ngroups, states)),
        chunk_size,
        D=D,
        dt_bias=dt_bias,
        dt_softplus=True,
    )
    return made.flatten(2) * functional.silu(gate)


def gated_norm(self: Any, given: Any, z: Any = None) -> Any:
    values = given.float()
    if z is not None and not self.norm_before_gate:
        values = values * functional.silu(z.float())
    groups = values.unflatten(-1, (-1, self.group_size or values.shape[-1]))
    groups = groups * torch.rsqrt(groups.square().mean(-1, keepdim=True) + self.eps)
    values = groups.flatten(-2) * self.weight.float()
    if z is not None and self.norm_before_gate:
        values = values * functional.silu(z.float())
    return values.to(given.dtype)


GRID = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])


def four_bits(inputs: Any, block_size: int, amax: Any, *_: Any) -> Any:
    """NVFP4, quantized and back."""
    blocks = inputs.float().unflatten(-1, (-1, block_size))
    of_tensor = amax.float().amax() / (6 * 448)
    largest = blocks.abs().amax(-1, keepdim=True)
    scale = (largest / 6 / of_tensor).clamp(max=448).to(torch.float8_e4m3fn).float() * of_tensor
    scaled = (blocks / scale.clamp_min(1e-30)).clamp(-6, 6)
    near = (scaled.abs()[..., None] - GRID).abs().argmin(-1)
    return (scaled.sign() * GRID[near] * scale).flatten(-2).to(inputs.dtype)


def stay(self: Any, *given: Any, device: Any = None, **keywords: Any) -> Any:
    return moved(self, *given, **keywords)


moved = torch.nn.Module.to


def install() -> None:
    """Put all of it in place."""
    te = importlib.import_module("transformer_engine.pytorch")
    torch.nn.Module.to = stay  # type: ignore[method-assign]
    te.Linear.forward, te.LayerNormLinear.forward = plain, normed
    te.LayerNorm.forward, te.RMSNorm.forward = layer_norm, rms_norm
    te.DotProductAttention.forward = attention
    experts = importlib.import_module("megatron.core.transformer.moe.moe_utils")
    if hasattr(experts, "te_general_gemm"):
        experts.te_general_gemm = None
    if adapter.find(adapter.STACK_MODEL) is not None:
        mixer = importlib.import_module("megatron.core.ssm.mamba_mixer")
        mixer.mamba_chunk_scan_combined, mixer.mamba_split_conv1d_scan_combined = scan, split_scan
        mixer.causal_conv1d_fn = mixer.causal_conv1d_update = mixer.selective_state_update = None
        mixer.ExtendedRMSNorm.forward = gated_norm
    quant = importlib.import_module("modelopt.torch.quantization.tensor_quant")
    quant.dynamic_block_quantize_op = four_bits
    extensions = importlib.import_module("modelopt.torch.quantization.extensions")
    for name in ("get_cuda_ext", "get_cuda_ext_fp8", "get_cuda_ext_mx"):
        setattr(extensions, name, lambda raise_if_failed=False: None)
    changed = models.changed
    models.changed = lambda dtype: {**changed(dtype), "use_cpu_initialization": True}
    models.four_bits = lambda: "plain PyTorch"
