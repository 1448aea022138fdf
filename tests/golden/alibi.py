"""alibi, compiled by mptc from alibi.mpt.

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
    """One copy of `stack … as layers`, alibi.mpt:27."""

    def __init__(self) -> None:
        super().__init__()
        self.pre_attention = Parameters(gain=empty(32), bias=empty(32))  # [d], [d]
        self.attend_near = Parameters(W_q=empty(4, 8, 32), W_k=empty(4, 8, 32), W_v=empty(4, 8, 32), W_o=empty(32, 4, 8))  # [head, key, d], [head, key, d], [head, key, d], [d, head, key]
        self.pre_mlp = Parameters(gain=empty(32), bias=empty(32))  # [d], [d]
        self.mlp = Parameters(W_in=empty(128, 32), b_in=empty(128), W_out=empty(32, 128), b_out=empty(32))  # [hidden, d], [hidden], [d, hidden], [d]

    def forward(self, x: Tensor, value: Tensor, mask: Tensor, dtype: torch.dtype) -> Tensor:
        pre_attention_gain, pre_attention_bias = self.pre_attention()
        W_q, W_k, W_v, W_o = self.attend_near()
        pre_mlp_gain, pre_mlp_bias = self.pre_mlp()
        W_in, b_in, W_out, b_out = self.mlp()
        h = pre_attention_bias + F.rms_norm(x - x.mean(-1)[..., None], (32,), pre_attention_gain, eps=1e-05)  # [batch, seq, d]  alibi.mpt:28
        q = F.linear(h, W_q.flatten(0, 1)).unflatten(-1, (4, 8))                                      # [batch, seq, head, key]
        k = F.linear(h, W_k.flatten(0, 1)).unflatten(-1, (4, 8))                                      # [batch, seq, head, key]
        v = F.linear(h, W_v.flatten(0, 1)).unflatten(-1, (4, 8))                                      # [batch, seq, head, key]
        o = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), attn_mask=value.to(dtype)[None, :, :, :].masked_fill(~mask, -torch.inf))  # [batch, head, seq, key]
        x = x + F.linear(o.transpose(1, 2).flatten(-2), W_o.flatten(1))                               # [batch, seq, d]  alibi.mpt:29
        pre_mlp = pre_mlp_bias + F.rms_norm(x - x.mean(-1)[..., None], (32,), pre_mlp_gain, eps=1e-05)  # [batch, seq, d]  alibi.mpt:30
        x = x + b_out + F.linear(F.gelu(b_in + F.linear(pre_mlp, W_in)), W_out)                       # [batch, seq, d]  alibi.mpt:30
        return x


class Model(nn.Module):
    """alibi. Parameters begin as a function of `seed` and their own names alone."""

    INITIAL = {
        "embed": ("normal", 0.02),
        "layers.*.pre_attention.gain": ("fill", 1.0),
        "layers.*.pre_attention.bias": ("fill", 0.0),
        "layers.*.attend_near.W_q": ("normal", 0.02),
        "layers.*.attend_near.W_k": ("normal", 0.02),
        "layers.*.attend_near.W_v": ("normal", 0.02),
        "layers.*.attend_near.W_o": ("normal", 0.02),
        "layers.*.pre_mlp.gain": ("fill", 1.0),
        "layers.*.pre_mlp.bias": ("fill", 0.0),
        "layers.*.mlp.W_in": ("normal", 0.02),
        "layers.*.mlp.b_in": ("fill", 0.0),
        "layers.*.mlp.W_out": ("normal", 0.02),
        "layers.*.mlp.b_out": ("fill", 0.0),
        "layernorm.gain": ("fill", 1.0),
        "layernorm.bias": ("fill", 0.0),
    }

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.embed = empty(256, 32)  # [vocab, d]
        self.layernorm = Parameters(gain=empty(32), bias=empty(32))  # [d], [d]
        self.layers = nn.ModuleList(Layer() for _ in range(2))
        self.reset_parameters(seed)

    def reset_parameters(self, seed: int = 0) -> None:
        for path, parameter in self.named_parameters():
            begin(parameter, path, seed, *self.INITIAL[re.sub(r"\.\d+", ".*", path)])

    def forward(self, tokens: Tensor, *, loss: bool = False, probe: bool = False, **_others: object) -> Output | Evaluation:
        if _others:
            raise TypeError(f"alibi takes tokens, loss and probe; not {', '.join(_others)}")
        refuse_padding(tokens, True, "tokens holds ids below 0 before others: alibi would see this padding as tokens; declare `input mask: []` and view `only(past(h), past(mask))`")
        batch, seq = tokens.shape[:2]
        dtype = next(self.parameters()).dtype
        wide = torch.float64 if next(self.parameters()).dtype == torch.float64 else torch.float32
        device = tokens.device
        position = torch.arange(seq, device=tokens.device)
        behind = position[:, None] - position
        gain, bias = self.layernorm()
        x = lookup(self.embed, tokens)                                                                # [batch, seq, d]  alibi.mpt:26
        slope = torch.exp(-1.3862943611198906 * (1 + torch.arange(4, device=device)).to(wide))        # [head]  alibi.mpt:18
        value = slope[:, None, None] * (position - position[:, None]).to(wide)                        # [head, seq, ctx]
        mask = behind >= 0                                                                            # [seq, ctx]
        for layer in self.layers:
            x = layer(x, value, mask, dtype)
        logits = F.linear(bias + F.rms_norm(x - x.mean(-1)[..., None], (32,), gain, eps=1e-05), self.embed)  # [batch, seq, vocab]  alibi.mpt:32
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


def lookup(table: Tensor, ids: Tensor) -> Tensor:
    """Rows of a table [rows, ...] at ids; 0 for an id outside it."""
    inside = (ids >= 0) & (ids < table.shape[0])
    rows = F.embedding(torch.where(inside, ids, 0), table.flatten(1))
    return (rows * inside[..., None]).reshape(*ids.shape, *table.shape[1:])
