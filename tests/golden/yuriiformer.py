"""yuriiformer, compiled by mptc from yuriiformer.mpt.

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
    """One copy of `stack … as layers`, yuriiformer.mpt:34."""

    def __init__(self) -> None:
        super().__init__()
        self.before_attention = Parameters(mu=empty())  # []
        self.attend = Parameters(W_q=empty(4, 8, 32), b_q=empty(4, 8), W_k=empty(4, 8, 32), b_k=empty(4, 8), W_v=empty(4, 8, 32), b_v=empty(4, 8), W_o=empty(32, 4, 8), b_o=empty(32))  # [head, key, d], [head, key], [head, key, d], [head, key], [head, key, d], [head, key], [d, head, key], [d]
        self.after_attention = Parameters(beta=empty(), gamma=empty())  # [], []
        self.before_mlp = Parameters(mu=empty())  # []
        self.mlp_tanh = Parameters(W_in=empty(128, 32), b_in=empty(128), W_out=empty(32, 128), b_out=empty(32))  # [hidden, d], [hidden], [d, hidden], [d]
        self.after_mlp = Parameters(beta=empty(), gamma=empty())  # [], []
        self.before_attention.layernorm = Parameters(gain=empty(32), bias=empty(32))  # [d], [d]
        self.after_attention.layernorm = Parameters(gain=empty(32), bias=empty(32))  # [d], [d]
        self.before_mlp.layernorm = Parameters(gain=empty(32), bias=empty(32))  # [d], [d]
        self.after_mlp.layernorm = Parameters(gain=empty(32), bias=empty(32))  # [d], [d]

    def forward(self, v: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        before_attention_mu = self.before_attention()
        before_attention_layernorm_gain, before_attention_layernorm_bias = self.before_attention.layernorm()
        W_q, b_q, W_k, b_k, W_v, b_v, W_o, b_o = self.attend()
        after_attention_beta, after_attention_gamma = self.after_attention()
        after_attention_layernorm_gain, after_attention_layernorm_bias = self.after_attention.layernorm()
        before_mlp_mu = self.before_mlp()
        before_mlp_layernorm_gain, before_mlp_layernorm_bias = self.before_mlp.layernorm()
        W_in, b_in, W_out, b_out = self.mlp_tanh()
        after_mlp_beta, after_mlp_gamma = self.after_mlp()
        after_mlp_layernorm_gain, after_mlp_layernorm_bias = self.after_mlp.layernorm()
        x2 = x + before_attention_mu * v                                                              # [batch, seq, d]  yuriiformer.mpt:24
        value = x2 - x2.mean(-1)[..., None]                                                           # [batch, seq, d]
        h = before_attention_layernorm_bias + F.rms_norm(value, (32,), before_attention_layernorm_gain, eps=1e-05)  # [batch, seq, d]  yuriiformer.mpt:35
        q = b_q + F.linear(h, W_q.flatten(0, 1)).unflatten(-1, (4, 8))                                # [batch, seq, head, key]  std.mpt:49
        k = b_k + F.linear(h, W_k.flatten(0, 1)).unflatten(-1, (4, 8))                                # [batch, seq, head, key]  std.mpt:50
        value = b_v + F.linear(h, W_v.flatten(0, 1)).unflatten(-1, (4, 8))                            # [batch, seq, head, key]
        o = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), value.transpose(1, 2), is_causal=True)  # [batch, head, seq, key]
        answer = b_o + F.linear(o.transpose(1, 2).flatten(-2), W_o.flatten(1))                        # [batch, seq, d]  yuriiformer.mpt:36
        x2 = v * after_attention_beta + after_attention_gamma * answer                                # [batch, seq, d]  yuriiformer.mpt:19
        value = x2 - x2.mean(-1)[..., None]                                                           # [batch, seq, d]
        after_attention = after_attention_layernorm_bias + F.rms_norm(value, (32,), after_attention_layernorm_gain, eps=1e-05)  # [batch, seq, d]  yuriiformer.mpt:36
        x = x + after_attention                                                                       # [batch, seq, d]  yuriiformer.mpt:37
        x2 = x + before_mlp_mu * after_attention                                                      # [batch, seq, d]  yuriiformer.mpt:24
        before_mlp = before_mlp_layernorm_bias + F.rms_norm(x2 - x2.mean(-1)[..., None], (32,), before_mlp_layernorm_gain, eps=1e-05)  # [batch, seq, d]  yuriiformer.mpt:38
        x2 = b_in + F.linear(before_mlp, W_in)                                                        # [batch, seq, hidden]  std.mpt:76
        out = F.linear((1 + torch.tanh(0.035677408136300125 * x2.pow(3) + 0.7978845608028654 * x2)) * x2, W_out)  # [batch, seq, d]
        answer = b_out + out / 2                                                                      # [batch, seq, d]  yuriiformer.mpt:38
        x2 = after_mlp_beta * after_attention + answer * after_mlp_gamma                              # [batch, seq, d]  yuriiformer.mpt:19
        after_mlp = after_mlp_layernorm_bias + F.rms_norm(x2 - x2.mean(-1)[..., None], (32,), after_mlp_layernorm_gain, eps=1e-05)  # [batch, seq, d]  yuriiformer.mpt:38
        x = x + after_mlp                                                                             # [batch, seq, d]  yuriiformer.mpt:39
        return after_mlp, x


class Model(nn.Module):
    """yuriiformer. Parameters begin as a function of `seed` and their own names alone."""

    INITIAL = {
        "embed": ("normal", 0.02),
        "place": ("normal", 0.02),
        "moving": ("normal", 0.02),
        "layers.*.before_attention.mu": ("fill", 0.9),
        "layers.*.before_attention.layernorm.gain": ("fill", 1.0),
        "layers.*.before_attention.layernorm.bias": ("fill", 0.0),
        "layers.*.attend.W_q": ("normal", 0.02),
        "layers.*.attend.b_q": ("fill", 0.0),
        "layers.*.attend.W_k": ("normal", 0.02),
        "layers.*.attend.b_k": ("fill", 0.0),
        "layers.*.attend.W_v": ("normal", 0.02),
        "layers.*.attend.b_v": ("fill", 0.0),
        "layers.*.attend.W_o": ("normal", 0.02),
        "layers.*.attend.b_o": ("fill", 0.0),
        "layers.*.after_attention.beta": ("fill", 0.9),
        "layers.*.after_attention.gamma": ("fill", 1.0),
        "layers.*.after_attention.layernorm.gain": ("fill", 1.0),
        "layers.*.after_attention.layernorm.bias": ("fill", 0.0),
        "layers.*.before_mlp.mu": ("fill", 0.9),
        "layers.*.before_mlp.layernorm.gain": ("fill", 1.0),
        "layers.*.before_mlp.layernorm.bias": ("fill", 0.0),
        "layers.*.mlp_tanh.W_in": ("normal", 0.02),
        "layers.*.mlp_tanh.b_in": ("fill", 0.0),
        "layers.*.mlp_tanh.W_out": ("normal", 0.02),
        "layers.*.mlp_tanh.b_out": ("fill", 0.0),
        "layers.*.after_mlp.beta": ("fill", 0.9),
        "layers.*.after_mlp.gamma": ("fill", 1.0),
        "layers.*.after_mlp.layernorm.gain": ("fill", 1.0),
        "layers.*.after_mlp.layernorm.bias": ("fill", 0.0),
        "layernorm.gain": ("fill", 1.0),
        "layernorm.bias": ("fill", 0.0),
    }

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.embed = empty(256, 32)  # [vocab, d]
        self.place = empty(64, 32)  # [places, d]
        self.moving = empty(256, 32)  # [vocab, d]
        self.layernorm = Parameters(gain=empty(32), bias=empty(32))  # [d], [d]
        self.layers = nn.ModuleList(Layer() for _ in range(2))
        self.reset_parameters(seed)

    def reset_parameters(self, seed: int = 0) -> None:
        for path, parameter in self.named_parameters():
            begin(parameter, path, seed, *self.INITIAL[re.sub(r"\.\d+", ".*", path)])

    def forward(self, tokens: Tensor, *, loss: bool = False, probe: bool = False, **_others: object) -> Output | Evaluation:
        if _others:
            raise TypeError(f"yuriiformer takes tokens, loss and probe; not {', '.join(_others)}")
        refuse_padding(tokens, True, "tokens holds ids below 0 before others: yuriiformer would see this padding as tokens; declare `input mask: []` and view `only(past(h), past(mask))`")
        batch, seq = tokens.shape[:2]
        position = torch.arange(seq, device=tokens.device)
        gain, bias = self.layernorm()
        v = lookup(self.moving, tokens)                                                               # [batch, seq, d]  yuriiformer.mpt:33
        x = lookup(self.embed, tokens) + entries(self.place, position, 0)                             # [batch, seq, d]  yuriiformer.mpt:32
        for layer in self.layers:
            v, x = layer(v, x)
        logits = F.linear(bias + F.rms_norm(x - x.mean(-1)[..., None], (32,), gain, eps=1e-05), self.embed)  # [batch, seq, vocab]  yuriiformer.mpt:41
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


def entries(table: Tensor, index: Tensor, shared: int) -> Tensor:
    """Entries of a table [shared..., entries, ...] at numbers [shared..., ...]; 0 for a number outside it."""
    index = index.long()
    inside = (index >= 0) & (index < table.shape[shared])
    rest = table.dim() - shared - 1
    places = torch.where(inside, index, 0).flatten(shared)
    rows = table.flatten(shared + 1) if rest else table[..., None]
    taken = rows.gather(shared, places[..., None].expand(*places.shape, rows.shape[-1]))
    return taken.reshape(*index.shape, *table.shape[shared + 1 :]) * inside.reshape(*index.shape, *[1] * rest)
