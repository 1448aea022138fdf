"""albert, compiled by mptc from albert.mpt.

    tokens: int64 [batch, seq]
    segments: int64 [batch, seq]
    mask: float [batch, seq]
    targets: int64 [batch, seq]
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
    """albert. Parameters begin as a function of `seed` and their own names alone."""

    INITIAL = {
        "embed": ("normal", 0.02),
        "place": ("normal", 0.02),
        "kind": ("normal", 0.02),
        "widen": ("normal", 0.02),
        "shift": ("fill", 0.0),
        "narrows": ("normal", 0.02),
        "offset": ("fill", 0.0),
        "bias": ("fill", 0.0),
        "embedded.gain": ("fill", 1.0),
        "embedded.bias": ("fill", 0.0),
        "attend.W_q": ("normal", 0.02),
        "attend.b_q": ("fill", 0.0),
        "attend.W_k": ("normal", 0.02),
        "attend.b_k": ("fill", 0.0),
        "attend.W_v": ("normal", 0.02),
        "attend.b_v": ("fill", 0.0),
        "attend.W_o": ("normal", 0.02),
        "attend.b_o": ("fill", 0.0),
        "post_attention.gain": ("fill", 1.0),
        "post_attention.bias": ("fill", 0.0),
        "mlp_tanh.W_in": ("normal", 0.02),
        "mlp_tanh.b_in": ("fill", 0.0),
        "mlp_tanh.W_out": ("normal", 0.02),
        "mlp_tanh.b_out": ("fill", 0.0),
        "post_mlp.gain": ("fill", 1.0),
        "post_mlp.bias": ("fill", 0.0),
        "readout.gain": ("fill", 1.0),
        "readout.bias": ("fill", 0.0),
    }

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.embed = empty(256, 12)  # [vocab, narrow]
        self.place = empty(64, 12)  # [places, narrow]
        self.kind = empty(2, 12)  # [segment, narrow]
        self.widen = empty(32, 12)  # [d, narrow]
        self.shift = empty(32)  # [d]
        self.narrows = empty(12, 32)  # [narrow, d]
        self.offset = empty(12)  # [narrow]
        self.bias = empty(256)  # [vocab]
        self.embedded = Parameters(gain=empty(12), bias=empty(12))  # [narrow], [narrow]
        self.attend = Parameters(W_q=empty(4, 8, 32), b_q=empty(4, 8), W_k=empty(4, 8, 32), b_k=empty(4, 8), W_v=empty(4, 8, 32), b_v=empty(4, 8), W_o=empty(32, 4, 8), b_o=empty(32))  # [head, key, d], [head, key], [head, key, d], [head, key], [head, key, d], [head, key], [d, head, key], [d]
        self.post_attention = Parameters(gain=empty(32), bias=empty(32))  # [d], [d]
        self.mlp_tanh = Parameters(W_in=empty(128, 32), b_in=empty(128), W_out=empty(32, 128), b_out=empty(32))  # [hidden, d], [hidden], [d, hidden], [d]
        self.post_mlp = Parameters(gain=empty(32), bias=empty(32))  # [d], [d]
        self.readout = Parameters(gain=empty(12), bias=empty(12))  # [narrow], [narrow]
        self.reset_parameters(seed)

    def reset_parameters(self, seed: int = 0) -> None:
        for path, parameter in self.named_parameters():
            begin(parameter, path, seed, *self.INITIAL[re.sub(r"\.\d+", ".*", path)])

    def new_cache(self, batch: int = 1, capacity: int = 4096) -> Cache:
        """There is none: it is bidirectional: what it says of a token changes with the tokens after it."""
        raise TypeError("albert cannot decode token by token: it is bidirectional: what it says of a token changes with the tokens after it")

    def forward(self, tokens: Tensor, segments: Tensor, mask: Tensor, targets: Tensor, *, loss: bool = False, probe: bool = False, **_others: object) -> Output | Evaluation:
        if _others:
            raise TypeError(f"albert takes tokens, segments, mask, targets, loss and probe; not {', '.join(_others)}")
        expect("tokens", tokens, "ids", "batch", "seq")
        expect("segments", segments, "ids", tokens.shape[0], tokens.shape[1])
        expect("mask", mask, "numbers", tokens.shape[0], tokens.shape[1])
        expect("targets", targets, "ids", tokens.shape[0], tokens.shape[1])
        batch, seq = tokens.shape[:2]
        position = torch.arange(seq, device=tokens.device)
        embedded_gain, embedded_bias = self.embedded()
        W_q, b_q, W_k, b_k, W_v, b_v, W_o, b_o = self.attend()
        post_attention_gain, post_attention_bias = self.post_attention()
        W_in, b_in, W_out, b_out = self.mlp_tanh()
        post_mlp_gain, post_mlp_bias = self.post_mlp()
        readout_gain, readout_bias = self.readout()
        e = entries(self.place, position, 0) + lookup(self.embed, tokens) + lookup(self.kind, segments)  # [batch, seq, narrow]  albert.mpt:35
        embedded = embedded_bias + F.rms_norm(e - e.mean(-1)[..., None], (12,), embedded_gain, eps=1e-12)  # [batch, seq, narrow]  albert.mpt:36
        x = self.shift + F.linear(embedded, self.widen)                                               # [batch, seq, d]  albert.mpt:36
        mask = mask != 0                                                                              # [batch, ctx]
        for _ in range(3):
            q = b_q + F.linear(x, W_q.flatten(0, 1)).unflatten(-1, (4, 8))                            # [batch, seq, head, key]  std.mpt:49
            k = b_k + F.linear(x, W_k.flatten(0, 1)).unflatten(-1, (4, 8))                            # [batch, seq, head, key]  std.mpt:50
            value = b_v + F.linear(x, W_v.flatten(0, 1)).unflatten(-1, (4, 8))                        # [batch, seq, head, key]
            o = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), value.transpose(1, 2), attn_mask=mask[:, None, None, :])  # [batch, head, seq, key]
            x = x + b_o + F.linear(o.transpose(1, 2).flatten(-2), W_o.flatten(1))                     # [batch, seq, d]  albert.mpt:38
            post_attention = post_attention_bias + F.rms_norm(x - x.mean(-1)[..., None], (32,), post_attention_gain, eps=1e-12)  # [batch, seq, d]  albert.mpt:38
            x = b_in + F.linear(post_attention, W_in)                                                 # [batch, seq, hidden]  std.mpt:76
            out = F.linear(x * (1 + torch.tanh(0.7978845608028654 * x + 0.035677408136300125 * x.pow(3))), W_out)  # [batch, seq, d]
            x = post_attention + b_out + out / 2                                                      # [batch, seq, d]  albert.mpt:39
            post_mlp = post_mlp_bias + F.rms_norm(x - x.mean(-1)[..., None], (32,), post_mlp_gain, eps=1e-12)  # [batch, seq, d]  albert.mpt:39
            x = post_mlp
        del e, embedded, value, k, q, o, out, post_attention
        x = self.offset + F.linear(x, self.narrows)                                                   # [batch, seq, narrow]  albert.mpt:41
        x = x * (1 + torch.tanh(0.7978845608028654 * x + 0.035677408136300125 * x.pow(3)))            # [batch, seq, narrow]
        readout = readout_bias + F.rms_norm(x / 2 - x.mean(-1)[..., None] / 2, (12,), readout_gain, eps=1e-12)  # [batch, seq, narrow]  albert.mpt:41
        logits = self.bias + F.linear(readout, self.embed)                                            # [batch, seq, vocab]  albert.mpt:41
        evaluated, probes = None, {}
        if loss:
            evaluated = F.cross_entropy(logits.flatten(0, 1), targets.flatten().clamp(min=-1), ignore_index=-1)
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
        self._names = tuple(parameters)

    def forward(self, *_: None) -> Tensor | tuple[Tensor, ...]:
        values = tuple([getattr(self, name) for name in self._names])
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


def expect(name: str, value: Tensor, kind: str, *sizes: int | str) -> None:
    """An error where an input is not a tensor of ids or numbers of these sizes, of which names stand for any."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} is a tensor of {kind}, [{', '.join(map(str, sizes))}]; a {type(value).__name__} was given")
    if kind == "ids" and (value.is_floating_point() or value.is_complex()):
        raise TypeError(f"{name} holds ids, which are whole numbers; a tensor of {value.dtype} was given")
    if value.dim() != len(sizes) or any(isinstance(size, int) and size != given for size, given in zip(sizes, value.shape, strict=True)):
        raise ValueError(f"{name} is [{', '.join(map(str, sizes))}]; a tensor of shape {list(value.shape)} was given")


def lookup(table: Tensor, ids: Tensor) -> Tensor:
    """Rows of a table [rows, ...] at ids; 0 for an id outside it."""
    inside = (ids >= 0) & (ids < table.shape[0])
    rows = F.embedding(torch.where(inside, ids, 0), table.reshape(table.shape[0], -1))
    return (rows * inside[..., None]).reshape((*ids.shape, *table.shape[1:]))


def entries(table: Tensor, index: Tensor, shared: int) -> Tensor:
    """Entries of a table [shared..., entries, ...] at numbers [shared..., ...]; 0 for a number outside it."""
    index = index.long()
    inside = (index >= 0) & (index < table.shape[shared])
    places = torch.where(inside, index, 0).reshape(*index.shape[:shared], -1, 1)
    rows = table.reshape(*table.shape[: shared + 1], -1)
    taken = rows.gather(shared, places.expand(*places.shape[:-1], rows.shape[-1]))
    rest = table.shape[shared + 1 :]
    return taken.reshape((*index.shape, *rest)) * inside.reshape((*index.shape, *[1] * len(rest)))
