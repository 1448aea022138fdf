"""mpt_multimodal, compiled by mptc from mpt_multimodal.mpt.

    tokens: int64 [batch, seq]
    z: float [batch, fact]
    -> logits: float [batch, seq, vocab]
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Output(NamedTuple):
    """What the spec declares as output."""

    logits: Tensor  # [batch, seq, vocab]


class Evaluation(NamedTuple):
    """The outputs, with the loss and the probes that were asked for."""

    logits: Tensor  # [batch, seq, vocab]
    loss: Tensor | None
    probes: dict[str, Tensor]


class Layer(nn.Module):
    """One copy of `stack … as layers`, mpt_multimodal.mpt:42."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = empty(2, 32)  # [modality, d]
        self.shift = empty(2, 32)  # [modality, d]
        self.rmsnorm = Parameters(gain=empty(32))  # [d]
        self.attention = Parameters(W_q=empty(2, 2, 8, 32), W_k=empty(2, 8, 32), W_v=empty(2, 8, 32), W_o=empty(32, 2, 2, 8))  # [kv, group, key, d], [kv, key, d], [kv, key, d], [d, kv, group, key]
        self.pre_mlp = Parameters(gain=empty(32))  # [d]
        self.swiglu = Parameters(W_gate=empty(64, 32), W_up=empty(64, 32), W_down=empty(32, 64))  # [hidden, d], [hidden, d], [d, hidden]

    def forward(self, x: Tensor, t: Tensor, rotation_8: tuple[Tensor, Tensor]) -> Tensor:
        rmsnorm_gain = self.rmsnorm()
        W_q, W_k, W_v, W_o = self.attention()
        pre_mlp_gain = self.pre_mlp()
        W_gate, W_up, W_down = self.swiglu()
        h = lookup(self.shift, t) + lookup(self.scale, t) * F.rms_norm(x, (32,), rmsnorm_gain, eps=1e-06)  # [batch, seq, d]  mpt_multimodal.mpt:46
        q = rope(F.linear(h, W_q.flatten(0, 2)).unflatten(-1, (2, 2, 8)).permute(0, 2, 3, 1, 4), rotation_8)  # [batch, kv, group, seq, key]  std.mpt:21
        k = rope(F.linear(h, W_k.flatten(0, 1)).unflatten(-1, (2, 8)).transpose(1, 2), rotation_8)    # [batch, kv, seq, key]  std.mpt:22
        v = F.linear(h, W_v.flatten(0, 1)).unflatten(-1, (2, 8))                                      # [batch, seq, kv, key]
        o = F.scaled_dot_product_attention(q.flatten(1, 2), k, v.transpose(1, 2), is_causal=True, enable_gqa=True).unflatten(1, (2, 2))  # [batch, kv, group, seq, key]
        x = x + F.linear(o.permute(0, 3, 1, 2, 4).flatten(-3), W_o.flatten(1))                        # [batch, seq, d]  mpt_multimodal.mpt:47
        pre_mlp = F.rms_norm(x, (32,), pre_mlp_gain, eps=1e-06)                                       # [batch, seq, d]  mpt_multimodal.mpt:48
        x = x + F.linear(F.linear(pre_mlp, W_up) * F.silu(F.linear(pre_mlp, W_gate)), W_down)         # [batch, seq, d]  mpt_multimodal.mpt:48
        return x


class Model(nn.Module):
    """mpt_multimodal. Parameters begin as a function of `seed` and their own names alone."""

    INITIAL = {
        "unembed": ("normal", 0.02),
        "embedded.words": ("normal", 0.02),
        "embedded.patches": ("normal", 0.02),
        "embedded.W_text": ("normal", 0.02),
        "embedded.W_image": ("normal", 0.02),
        "embedded.experts": ("normal", 0.02),
        "embedded.B": ("normal", 0.02),
        "embedded.W_mix": ("normal", 0.02),
        "embedded.W_basis": ("normal", 0.02),
        "embedded.W_scale": ("normal", 0.02),
        "embedded.W_shift": ("normal", 0.02),
        "layers.*.scale": ("fill", 1.0),
        "layers.*.shift": ("fill", 0.0),
        "layers.*.rmsnorm.gain": ("fill", 1.0),
        "layers.*.attention.W_q": ("normal", 0.02),
        "layers.*.attention.W_k": ("normal", 0.02),
        "layers.*.attention.W_v": ("normal", 0.02),
        "layers.*.attention.W_o": ("normal", 0.02),
        "layers.*.pre_mlp.gain": ("fill", 1.0),
        "layers.*.swiglu.W_gate": ("normal", 0.02),
        "layers.*.swiglu.W_up": ("normal", 0.02),
        "layers.*.swiglu.W_down": ("normal", 0.02),
        "readout.gain": ("fill", 1.0),
    }

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.unembed = empty(64, 32)  # [vocab, d]
        self.embedded = Parameters(words=empty(48, 24), patches=empty(16, 12), W_text=empty(32, 24), W_image=empty(32, 12), experts=empty(4, 64, 32), B=empty(8, 64, 32), W_mix=empty(4, 6), W_basis=empty(8, 6), W_scale=empty(32, 6), W_shift=empty(32, 6))  # [text, wide], [image, narrow], [d, wide], [d, narrow], [expert, vocab, d], [basis, vocab, d], [expert, fact], [basis, fact], [d, fact], [d, fact]
        self.readout = Parameters(gain=empty(32))  # [d]
        self.layers = nn.ModuleList(Layer() for _ in range(2))
        self.reset_parameters(seed)

    def reset_parameters(self, seed: int = 0) -> None:
        for path, parameter in self.named_parameters():
            begin(parameter, path, seed, *self.INITIAL[re.sub(r"\.\d+", ".*", path)])

    def forward(self, tokens: Tensor, z: Tensor, *, loss: bool = False, probe: bool = False, **_others: object) -> Output | Evaluation:
        if _others:
            raise TypeError(f"mpt_multimodal takes tokens, z, loss and probe; not {', '.join(_others)}")
        refuse_padding(tokens, True, "tokens holds ids below 0 before others: mpt_multimodal would see this padding as tokens; declare `input mask: []` and view `only(past(h), past(mask))`")
        batch, seq = tokens.shape[:2]
        wide = torch.float64 if next(self.parameters()).dtype == torch.float64 else torch.float32
        device = tokens.device
        rotation_8 = rotation(seq, 8, 10000.0, next(self.parameters()))
        words, patches, W_text, W_image, experts, B, W_mix, W_basis, W_scale, W_shift = self.embedded()
        gain = self.readout()
        value = F.relu(F.linear(z, W_basis))                                                          # [batch, basis]
        r = mixture(value[:, None], B.flatten(0, 1), tokens[..., None], 64, 1, torch.arange(0, 512, 64, device=device), 2)  # [batch, seq, d]  mpt_multimodal.mpt:33
        weights = torch.softmax(F.linear(z, W_mix), -1)                                               # [batch, expert]
        m = mixture(weights[:, None], experts.flatten(0, 1), tokens[..., None], 64, 1, torch.arange(0, 256, 64, device=device), 2)  # [batch, seq, d]  mpt_multimodal.mpt:32
        value = (tokens < 64).to(wide) * (tokens >= 48).to(wide)                                      # [batch, seq]
        value = torch.where(value[..., None] != 0, F.linear(lookup(patches, tokens - 48), W_image), 0)  # [batch, seq, d]
        value2 = (tokens >= 0).to(wide) * (tokens < 48).to(wide)                                      # [batch, seq]
        value2 = torch.where(value2[..., None] != 0, F.linear(lookup(words, tokens), W_text), 0)      # [batch, seq, d]
        e = value + value2                                                                            # [batch, seq, d]  mpt_multimodal.mpt:31
        x = F.linear(z, W_shift)[:, None] + (1 + F.linear(z, W_scale))[:, None] * (r + m + e)         # [batch, seq, d]  mpt_multimodal.mpt:41
        t = sum([(tokens >= 48).long()], start=(tokens >= 0).long() - 1)                              # [batch, seq]  mpt_multimodal.mpt:45
        for layer in self.layers:
            x = layer(x, t, rotation_8)
        readout = F.rms_norm(x, (32,), gain, eps=1e-06)                                               # [batch, seq, d]  mpt_multimodal.mpt:50
        logits = F.linear(readout, self.unembed)                                                      # [batch, seq, vocab]  mpt_multimodal.mpt:50
        evaluated, probes = None, {}
        if loss:
            evaluated = F.cross_entropy(logits.flatten(0, 1), F.pad(tokens[:, 1:], (0, 1), value=-1).flatten().clamp(min=-1), ignore_index=-1)
        if loss or probe:
            return Evaluation(logits, loss=evaluated, probes=probes)
        return Output(logits)


# What the code above is made with.


class Parameters(nn.Module):
    """The parameters of one call site. A parent reads them by calling it, so that FSDP2, hooks and LoRA see every read."""

    def __init__(self, **parameters: nn.Parameter) -> None:
        super().__init__()
        for name, parameter in parameters.items():
            self.register_parameter(name, parameter)

    def forward(self) -> Tensor | tuple[Tensor, ...]:
        values = tuple(self.parameters(recurse=False))
        return values[0] if len(values) == 1 else values


def empty(*shape: int) -> nn.Parameter:
    """A parameter that `reset_parameters` will fill."""
    return nn.Parameter(torch.empty(shape))


@torch.no_grad()
def begin(parameter: Tensor, path: str, seed: int, kind: str, value: float) -> None:
    """Initial values: a function of the seed and the parameter's path alone."""
    if kind == "fill":
        parameter.fill_(value)
        return
    key = hashlib.sha256(f"{seed}:{path}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(key[:8], "little") >> 1)
    begun = torch.empty(parameter.shape)
    if kind == "normal":
        begun.normal_(0.0, value, generator=generator)
    else:
        begun.uniform_(-value, value, generator=generator)
    parameter.copy_(begun)


def refuse_padding(ids: Tensor, behind_is_harmless: bool, message: str) -> None:
    """An error where an id is below 0: any, or, where tokens see earlier ones alone, one before one that is not. Does not wait for the device."""
    real = ids >= 0
    torch._assert_async((real.cumprod(1) == real).all() if behind_is_harmless else real.all(), message)


def rotation(seq: int, size: int, base: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines of rotary position, each [seq, size]."""
    wide = torch.float64 if like.dtype == torch.float64 else torch.float32
    rates = base ** (-torch.arange(0, size, 2, device=like.device, dtype=wide) / size)
    angles = (torch.arange(seq, device=like.device, dtype=wide)[:, None] * rates).repeat(1, 2)
    return angles.cos().to(like.dtype), angles.sin().to(like.dtype)


def rope(x: Tensor, table: tuple[Tensor, Tensor], sign: int = 1) -> Tensor:
    """Rotary position of x [..., seq, size], halves rotated against each other; `sign` -1 rotates back."""
    cos, sin = table
    first, second = x.chunk(2, dim=-1)
    turned = torch.cat((-second, first), dim=-1)
    return x * cos + turned * sin if sign > 0 else x * cos - turned * sin


def lookup(table: Tensor, ids: Tensor) -> Tensor:
    """Rows of a table [rows, ...] at ids; 0 for an id outside it."""
    inside = (ids >= 0) & (ids < table.shape[0])
    rows = F.embedding(torch.where(inside, ids, 0), table.flatten(1))
    return (rows * inside[..., None]).reshape(*ids.shape, *table.shape[1:])


def mixture(weights: Tensor | float, table: Tensor, ids: Tensor, size: int, step: int, begins: Tensor | int, bags: int) -> Tensor:
    """Rows `begins + step * ids` of a table [rows, width], summed with weights over all but the first `bags` dimensions; 0 for an id outside."""
    at = torch.where((ids >= 0) & (ids < size), ids * step + begins, -1)
    shares = torch.where(at >= 0, weights, 0.0).to(table.dtype)
    rows, shares_of = (value.flatten(bags).flatten(0, bags - 1) for value in (at.clamp(min=0).expand_as(shares), shares))
    return F.embedding_bag(rows, table, per_sample_weights=shares_of, mode="sum").view(*shares.shape[:bags], table.shape[1])
