"""cem_small, compiled by mptc from cem_small.mpt.

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
    """One copy of `stack … as layers`, cem_small.mpt:19."""

    def __init__(self) -> None:
        super().__init__()
        self.context = Parameters(gain=empty(64))  # [d]
        self.query = Parameters(gain=empty(64))  # [d]
        self.interaction = Parameters(W_q=empty(2, 32, 64), W_k=empty(2, 32, 64))  # [head, key, d], [head, key, d]
        self.precondition = Parameters(scale=empty(64), U=empty(4, 64))  # [d], [rank, d]
        self.pre_gate = Parameters(gain=empty(64))  # [d]
        self.gated = Parameters(W_up=empty(128, 64), W_gate=empty(128, 64))  # [hidden, d], [hidden, d]

    def forward(self, x: Tensor, rotation_32: tuple[Tensor, Tensor]) -> Tensor:
        context_gain = self.context()
        query_gain = self.query()
        W_q, W_k = self.interaction()
        scale, U = self.precondition()
        pre_gate_gain = self.pre_gate()
        W_up, W_gate = self.gated()
        # interaction(x | c): E = −√key Σ_head log Σ_j≤i exp(Σ_key q_i ⊙ k_j / √key)
        # -∂E/∂x = W_qᵀ R_i⁻¹ Σ_j≤i softmax_j≤i(q_i·k_j / √key) k_j    cem.mpt:6
        context = F.rms_norm(x, (64,), context_gain, eps=1e-06)                                       # [batch, seq, d]  cem_small.mpt:20
        k = rope(F.linear(context, W_k.flatten(0, 1)).unflatten(-1, (2, 32)).transpose(1, 2), rotation_32)  # [batch, head, seq, key]  cem.mpt:10
        for _ in range(2):
            query = F.rms_norm(x, (64,), query_gain, eps=1e-06)                                       # [batch, seq, d]  cem_small.mpt:22
            q = rope(F.linear(query, W_q.flatten(0, 1)).unflatten(-1, (2, 32)).transpose(1, 2), rotation_32)  # [batch, head, seq, key]  cem.mpt:9
            o = F.scaled_dot_product_attention(q, k, k, is_causal=True)                               # [batch, head, seq, key]
            step = F.linear(rope(o, rotation_32, -1).transpose(1, 2).flatten(-2), W_q.flatten(0, 1).T)  # [batch, seq, d]
            x = x + scale.square() * step + F.linear(F.linear(step, U), U.T)                          # [batch, seq, d]  cem_small.mpt:22
        h = F.rms_norm(x, (64,), pre_gate_gain, eps=1e-06)                                            # [batch, seq, d]  cem_small.mpt:24
        # gated(x | c): E = −Σ_hidden W_gate c_i ⊙ ∫silu(W_up x_i)
        # -∂E/∂x = W_upᵀ (W_gate c_i ⊙ silu(W_up x_i))    cem.mpt:26
        x = x + F.linear(F.silu(F.linear(h, W_up)) * F.linear(h, W_gate), W_up.T)                     # [batch, seq, d]  cem_small.mpt:25
        return x


class Model(nn.Module):
    """cem_small. Parameters begin as a function of `seed` and their own names alone."""

    INITIAL = {
        "embed": ("normal", 0.02),
        "layers.*.context.gain": ("fill", 1.0),
        "layers.*.query.gain": ("fill", 1.0),
        "layers.*.interaction.W_q": ("normal", 0.02),
        "layers.*.interaction.W_k": ("normal", 0.02),
        "layers.*.precondition.scale": ("fill", 1.0),
        "layers.*.precondition.U": ("normal", 0.02),
        "layers.*.pre_gate.gain": ("fill", 1.0),
        "layers.*.gated.W_up": ("normal", 0.02),
        "layers.*.gated.W_gate": ("normal", 0.02),
        "rmsnorm.gain": ("fill", 1.0),
    }

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.embed = empty(256, 64)  # [vocab, d]
        self.rmsnorm = Parameters(gain=empty(64))  # [d]
        self.layers = nn.ModuleList(Layer() for _ in range(2))
        self.reset_parameters(seed)

    def reset_parameters(self, seed: int = 0) -> None:
        for path, parameter in self.named_parameters():
            begin(parameter, path, seed, *self.INITIAL[re.sub(r"\.\d+", ".*", path)])

    def forward(self, tokens: Tensor, *, loss: bool = False, probe: bool = False, **_others: object) -> Output | Evaluation:
        if _others:
            raise TypeError(f"cem_small takes tokens, loss and probe; not {', '.join(_others)}")
        refuse_padding(tokens, True, "tokens holds ids below 0 before others: cem_small would see this padding as tokens; declare `input mask: []` and view `only(past(h), past(mask))`")
        batch, seq = tokens.shape[:2]
        rotation_32 = rotation(seq, 32, 10000.0, next(self.parameters()))
        gain = self.rmsnorm()
        x = lookup(self.embed, tokens)                                                                # [batch, seq, d]  cem_small.mpt:18
        for layer in self.layers:
            x = layer(x, rotation_32)
        logits = F.linear(F.rms_norm(x, (64,), gain, eps=1e-06), self.embed)                          # [batch, seq, vocab]  cem_small.mpt:27
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
