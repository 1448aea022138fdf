"""windowed_documents, compiled by mptc from windowed_documents.mpt.

    tokens: int64 [batch, seq]
    doc: int64 [batch, seq]
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
    """One copy of `stack … as layers`, windowed_documents.mpt:22."""

    def __init__(self) -> None:
        super().__init__()
        self.pre_attention = Parameters(gain=empty(32))  # [d]
        self.attention_to = Parameters(W_q=empty(2, 2, 8, 32), W_k=empty(2, 8, 32), W_v=empty(2, 8, 32), W_o=empty(32, 2, 2, 8))  # [kv, group, key, d], [kv, key, d], [kv, key, d], [d, kv, group, key]
        self.pre_mlp = Parameters(gain=empty(32))  # [d]
        self.swiglu = Parameters(W_gate=empty(64, 32), W_up=empty(64, 32), W_down=empty(32, 64))  # [hidden, d], [hidden, d], [d, hidden]

    def forward(self, x: Tensor, mask: Tensor, rotation_8: tuple[Tensor, Tensor]) -> Tensor:
        pre_attention_gain = self.pre_attention()
        W_q, W_k, W_v, W_o = self.attention_to()
        pre_mlp_gain = self.pre_mlp()
        W_gate, W_up, W_down = self.swiglu()
        h = F.rms_norm(x, (32,), pre_attention_gain, eps=1e-06)                                       # [batch, seq, d]  windowed_documents.mpt:23
        q = rope(F.linear(h, W_q.flatten(0, 2)).unflatten(-1, (2, 2, 8)).permute(0, 2, 3, 1, 4), rotation_8)  # [batch, kv, group, seq, key]  std.mpt:33
        k = rope(F.linear(h, W_k.flatten(0, 1)).unflatten(-1, (2, 8)).transpose(1, 2), rotation_8)    # [batch, kv, seq, key]  std.mpt:34
        v = F.linear(h, W_v.flatten(0, 1)).unflatten(-1, (2, 8))                                      # [batch, seq, kv, key]
        o = F.scaled_dot_product_attention(q.flatten(1, 2), k, v.transpose(1, 2), attn_mask=mask[:, None, :, :], enable_gqa=True).unflatten(1, (2, 2))  # [batch, kv, group, seq, key]
        x = x + F.linear(o.permute(0, 3, 1, 2, 4).flatten(-3), W_o.flatten(1))                        # [batch, seq, d]  windowed_documents.mpt:24
        pre_mlp = F.rms_norm(x, (32,), pre_mlp_gain, eps=1e-06)                                       # [batch, seq, d]  windowed_documents.mpt:25
        x = x + F.linear(F.linear(pre_mlp, W_up) * F.silu(F.linear(pre_mlp, W_gate)), W_down)         # [batch, seq, d]  windowed_documents.mpt:25
        return x


class Model(nn.Module):
    """windowed_documents. Parameters begin as a function of `seed` and their own names alone."""

    INITIAL = {
        "embed": ("normal", 0.02),
        "unembed": ("normal", 0.02),
        "layers.*.pre_attention.gain": ("fill", 1.0),
        "layers.*.attention_to.W_q": ("normal", 0.02),
        "layers.*.attention_to.W_k": ("normal", 0.02),
        "layers.*.attention_to.W_v": ("normal", 0.02),
        "layers.*.attention_to.W_o": ("normal", 0.02),
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

    def forward(self, tokens: Tensor, doc: Tensor, *, loss: bool = False, probe: bool = False, **_others: object) -> Output | Evaluation:
        if _others:
            raise TypeError(f"windowed_documents takes tokens, doc, loss and probe; not {', '.join(_others)}")
        batch, seq = tokens.shape[:2]
        position = torch.arange(seq, device=tokens.device)
        behind = position[:, None] - position
        rotation_8 = rotation(seq, 8, 10000.0, next(self.parameters()))
        gain = self.rmsnorm()
        x = lookup(self.embed, tokens)                                                                # [batch, seq, d]  windowed_documents.mpt:21
        mask = (behind >= 0) & (behind < 4) & (doc[:, None] == doc[..., None])                        # [batch, seq, ctx]
        for layer in self.layers:
            x = layer(x, mask, rotation_8)
        logits = F.linear(F.rms_norm(x, (32,), gain, eps=1e-06), self.unembed)                        # [batch, seq, vocab]  windowed_documents.mpt:27
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
