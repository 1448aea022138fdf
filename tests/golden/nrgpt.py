"""nrgpt, compiled by mptc from nrgpt.mpt.

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


class Model(nn.Module):
    """nrgpt. Parameters begin as a function of `seed` and their own names alone."""

    INITIAL = {
        "embed": ("normal", 0.02),
        "rate": ("normal", 0.02),
        "total.attraction.J": ("normal", 0.02),
        "total.attraction.alpha": ("fill", 1.0),
        "total.feedforward.W_in": ("normal", 0.02),
        "total.feedforward.W_out": ("normal", 0.02),
    }

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.embed = empty(256, 32)  # [vocab, d]
        self.rate = empty(32, 32)  # [d, other]
        self.total = Parameters()
        self.total.attraction = Parameters(J=empty(4, 32, 32), alpha=empty(4))  # [head, d, other], [head]
        self.total.feedforward = Parameters(W_in=empty(128, 32), W_out=empty(32, 128))  # [hidden, d], [d, hidden]
        self.reset_parameters(seed)

    def reset_parameters(self, seed: int = 0) -> None:
        for path, parameter in self.named_parameters():
            begin(parameter, path, seed, *self.INITIAL[re.sub(r"\.\d+", ".*", path)])

    def forward(self, tokens: Tensor, *, loss: bool = False, probe: bool = False, **_others: object) -> Output | Evaluation:
        if _others:
            raise TypeError(f"nrgpt takes tokens, loss and probe; not {', '.join(_others)}")
        refuse_padding(tokens, True, "tokens holds ids below 0 before others: nrgpt would see this padding as tokens; declare `input mask: []` and view `only(past(h), past(mask))`")
        batch, seq = tokens.shape[:2]
        position = torch.arange(seq, device=tokens.device)
        behind = position[:, None] - position
        J, alpha = self.total.attraction()
        W_in, W_out = self.total.feedforward()
        x = lookup(self.embed, tokens)                                                                # [batch, seq, d]  nrgpt.mpt:33
        mask = (behind >= 0) & (position[:, None] - position > 0)                                     # [seq, ctx]
        for _ in range(3):
            g = F.rms_norm(x - x.mean(-1)[..., None], (32,), eps=1e-05)                               # [batch, seq, d]  nrgpt.mpt:35
            in_ = F.linear(g, W_in)                                                                   # [batch, seq, hidden]
            value = F.linear(g, J.mT.flatten(0, 1)).unflatten(-1, (4, 32))                            # [batch, seq, head, other]
            o = F.scaled_dot_product_attention(value.transpose(1, 2), g.unsqueeze(1), g.unsqueeze(1), attn_mask=mask, scale=1, enable_gqa=True)  # [batch, head, seq, other]
            value = F.linear((o * alpha[:, None, None]).transpose(1, 2).flatten(-2), J.transpose(0, 1).flatten(1))  # [batch, seq, d]
            value2 = F.linear(F.linear(g, W_out.T) * torch.ops.aten.gelu_backward(torch.ones_like(in_), in_), W_in.T)  # [batch, seq, d]
            value = F.linear(F.gelu(in_), W_out) + value + value2                                     # [batch, seq, d]
            x = x + F.linear(value, self.rate)                                                        # [batch, seq, d]  nrgpt.mpt:37
        logits = F.linear(x, self.embed)                                                              # [batch, seq, vocab]  nrgpt.mpt:39
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
