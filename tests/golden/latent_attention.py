"""latent_attention_small, compiled by mptc from latent_attention.mpt.

    tokens: int64 [batch, seq]
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
    """One copy of `stack … as layers`, latent_attention.mpt:40."""

    def __init__(self) -> None:
        super().__init__()
        self.pre_attention = Parameters(gain=empty(32))  # [d]
        self.latent_attention = Parameters(D_q=empty(16, 32), D_kv=empty(12, 32), U_q=empty(4, 8, 16), U_k=empty(4, 8, 12), U_v=empty(4, 8, 12), R_q=empty(4, 4, 16), R_k=empty(4, 32), W_o=empty(32, 4, 8))  # [narrow, d], [latent, d], [head, nope, narrow], [head, nope, latent], [head, value, latent], [head, turn, narrow], [turn, d], [d, head, value]
        self.pre_mlp = Parameters(gain=empty(32))  # [d]
        self.swiglu = Parameters(W_gate=empty(64, 32), W_up=empty(64, 32), W_down=empty(32, 64))  # [hidden, d], [hidden, d], [d, hidden]
        self.latent_attention.query_norm = Parameters(gain=empty(16))  # [narrow]
        self.latent_attention.latent_norm = Parameters(gain=empty(12))  # [latent]

    def forward(self, x: Tensor, rotation_4: tuple[Tensor, Tensor]) -> Tensor:
        pre_attention_gain = self.pre_attention()
        D_q, D_kv, U_q, U_k, U_v, R_q, R_k, W_o = self.latent_attention()
        latent_attention_query_norm_gain = self.latent_attention.query_norm()
        latent_attention_latent_norm_gain = self.latent_attention.latent_norm()
        pre_mlp_gain = self.pre_mlp()
        W_gate, W_up, W_down = self.swiglu()
        pre_attention = F.rms_norm(x, (32,), pre_attention_gain, eps=1e-06)                           # [batch, seq, d]  latent_attention.mpt:41
        x2 = F.linear(pre_attention, D_q)                                                             # [batch, seq, narrow]  latent_attention.mpt:27
        a = F.rms_norm(x2, (16,), latent_attention_query_norm_gain, eps=1e-06)                        # [batch, seq, narrow]  latent_attention.mpt:27
        rotated = rope(F.linear(a, R_q.flatten(0, 1)).unflatten(-1, (4, 4)).transpose(1, 2), rotation_4)  # [batch, head, seq, turn]
        value = torch.cat((F.linear(a, U_q.flatten(0, 1)).unflatten(-1, (4, 8)), rotated.transpose(1, 2)), -1)  # [batch, seq, head, nope+turn]
        x2 = F.linear(pre_attention, D_kv)                                                            # [batch, seq, latent]  latent_attention.mpt:28
        latent_norm = F.rms_norm(x2, (12,), latent_attention_latent_norm_gain, eps=1e-06)             # [batch, seq, latent]  latent_attention.mpt:28
        value2 = F.linear(latent_norm, U_k.flatten(0, 1)).unflatten(-1, (4, 8))                       # [batch, seq, head, nope]
        k = rope(F.linear(pre_attention, R_k), rotation_4)                                            # [batch, seq, turn]  latent_attention.mpt:29
        value2 = torch.cat((value2, k[:, :, None].expand(-1, -1, 4, -1)), -1)                         # [batch, seq, head, nope+turn]
        value3 = F.linear(latent_norm, U_v.flatten(0, 1)).unflatten(-1, (4, 8))                       # [batch, seq, head, value]
        o = F.scaled_dot_product_attention(value.transpose(1, 2), value2.transpose(1, 2), value3.transpose(1, 2), is_causal=True, scale=0.28867513459481287)  # [batch, head, seq, value]
        x = x + F.linear(o.transpose(1, 2).flatten(-2), W_o.flatten(1))                               # [batch, seq, d]  latent_attention.mpt:41
        pre_mlp = F.rms_norm(x, (32,), pre_mlp_gain, eps=1e-06)                                       # [batch, seq, d]  latent_attention.mpt:42
        x = x + F.linear(F.linear(pre_mlp, W_up) * F.silu(F.linear(pre_mlp, W_gate)), W_down)         # [batch, seq, d]  latent_attention.mpt:42
        return x


class Model(nn.Module):
    """latent_attention_small. Parameters begin as a function of `seed` and their own names alone."""

    INITIAL = {
        "embed": ("normal", 0.02),
        "unembed": ("normal", 0.02),
        "layers.*.pre_attention.gain": ("fill", 1.0),
        "layers.*.latent_attention.D_q": ("normal", 0.02),
        "layers.*.latent_attention.D_kv": ("normal", 0.02),
        "layers.*.latent_attention.U_q": ("normal", 0.02),
        "layers.*.latent_attention.U_k": ("normal", 0.02),
        "layers.*.latent_attention.U_v": ("normal", 0.02),
        "layers.*.latent_attention.R_q": ("normal", 0.02),
        "layers.*.latent_attention.R_k": ("normal", 0.02),
        "layers.*.latent_attention.W_o": ("normal", 0.02),
        "layers.*.latent_attention.query_norm.gain": ("fill", 1.0),
        "layers.*.latent_attention.latent_norm.gain": ("fill", 1.0),
        "layers.*.pre_mlp.gain": ("fill", 1.0),
        "layers.*.swiglu.W_gate": ("normal", 0.02),
        "layers.*.swiglu.W_up": ("normal", 0.02),
        "layers.*.swiglu.W_down": ("normal", 0.02),
        "rmsnorm.gain": ("fill", 1.0),
    }

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.embed = empty(256, 32)  # [vocab, d]
        self.unembed = empty(256, 32)  # [vocab, d]
        self.rmsnorm = Parameters(gain=empty(32))  # [d]
        self.layers = nn.ModuleList(Layer() for _ in range(2))
        self.reset_parameters(seed)

    def reset_parameters(self, seed: int = 0) -> None:
        for path, parameter in self.named_parameters():
            begin(parameter, path, seed, *self.INITIAL[re.sub(r"\.\d+", ".*", path)])

    def forward(self, tokens: Tensor, *, loss: bool = False, probe: bool = False, **_others: object) -> Output | Evaluation:
        if _others:
            raise TypeError(f"latent_attention_small takes tokens, loss and probe; not {', '.join(_others)}")
        refuse_padding(tokens, True, "tokens holds ids below 0 before others: latent_attention_small would see this padding as tokens; declare `input mask: []` and view `only(past(h), past(mask))`")
        batch, seq = tokens.shape[:2]
        rotation_4 = rotation(seq, 4, 10000.0, next(self.parameters()))
        gain = self.rmsnorm()
        x = lookup(self.embed, tokens)                                                                # [batch, seq, d]  latent_attention.mpt:39
        for layer in self.layers:
            x = layer(x, rotation_4)
        logits = F.linear(F.rms_norm(x, (32,), gain, eps=1e-06), self.unembed)                        # [batch, seq, vocab]  latent_attention.mpt:44
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
