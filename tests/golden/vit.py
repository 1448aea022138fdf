"""vit, compiled by mptc from vit.mpt.

    patches: float [batch, seq, patch]
    label: int64 [batch]
    -> logits: float [batch, kind]
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

    logits: Tensor  # [batch, kind]


class Evaluation(NamedTuple):
    """The outputs, with the loss and the probes that were asked for."""

    logits: Tensor  # [batch, kind]
    loss: Tensor | None
    probes: dict[str, Tensor]


class Layer(nn.Module):
    """One copy of `stack … as layers`, vit.mpt:25."""

    def __init__(self) -> None:
        super().__init__()
        self.pre_attention = Parameters(gain=empty(32), bias=empty(32))  # [d], [d]
        self.attend = Parameters(W_q=empty(4, 8, 32), b_q=empty(4, 8), W_k=empty(4, 8, 32), b_k=empty(4, 8), W_v=empty(4, 8, 32), b_v=empty(4, 8), W_o=empty(32, 4, 8), b_o=empty(32))  # [head, key, d], [head, key], [head, key, d], [head, key], [head, key, d], [head, key], [d, head, key], [d]
        self.pre_mlp = Parameters(gain=empty(32), bias=empty(32))  # [d], [d]
        self.mlp = Parameters(W_in=empty(128, 32), b_in=empty(128), W_out=empty(32, 128), b_out=empty(32))  # [hidden, d], [hidden], [d, hidden], [d]

    def forward(self, x: Tensor) -> Tensor:
        pre_attention_gain, pre_attention_bias = self.pre_attention()
        W_q, b_q, W_k, b_k, W_v, b_v, W_o, b_o = self.attend()
        pre_mlp_gain, pre_mlp_bias = self.pre_mlp()
        W_in, b_in, W_out, b_out = self.mlp()
        h = pre_attention_bias + F.rms_norm(x - x.mean(-1)[..., None], (32,), pre_attention_gain, eps=1e-05)  # [batch, seq, d]  vit.mpt:26
        q = b_q + F.linear(h, W_q.flatten(0, 1)).unflatten(-1, (4, 8))                                # [batch, seq, head, key]  std.mpt:49
        k = b_k + F.linear(h, W_k.flatten(0, 1)).unflatten(-1, (4, 8))                                # [batch, seq, head, key]  std.mpt:50
        value = b_v + F.linear(h, W_v.flatten(0, 1)).unflatten(-1, (4, 8))                            # [batch, seq, head, key]
        o = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), value.transpose(1, 2))  # [batch, head, seq, key]
        del h, value, k, q
        x = x + b_o + F.linear(o.transpose(1, 2).flatten(-2), W_o.flatten(1))                         # [batch, seq, d]  vit.mpt:27
        pre_mlp = pre_mlp_bias + F.rms_norm(x - x.mean(-1)[..., None], (32,), pre_mlp_gain, eps=1e-05)  # [batch, seq, d]  vit.mpt:28
        x = x + b_out + F.linear(F.gelu(b_in + F.linear(pre_mlp, W_in)), W_out)                       # [batch, seq, d]  vit.mpt:28
        return x


class Model(nn.Module):
    """vit. Parameters begin as a function of `seed` and their own names alone."""

    INITIAL = {
        "W": ("normal", 0.02),
        "b": ("fill", 0.0),
        "place": ("normal", 0.02),
        "W_out": ("normal", 0.02),
        "b_out": ("fill", 0.0),
        "layers.*.pre_attention.gain": ("fill", 1.0),
        "layers.*.pre_attention.bias": ("fill", 0.0),
        "layers.*.attend.W_q": ("normal", 0.02),
        "layers.*.attend.b_q": ("fill", 0.0),
        "layers.*.attend.W_k": ("normal", 0.02),
        "layers.*.attend.b_k": ("fill", 0.0),
        "layers.*.attend.W_v": ("normal", 0.02),
        "layers.*.attend.b_v": ("fill", 0.0),
        "layers.*.attend.W_o": ("normal", 0.02),
        "layers.*.attend.b_o": ("fill", 0.0),
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
        self.W = empty(32, 48)  # [d, patch]
        self.b = empty(32)  # [d]
        self.place = empty(16, 32)  # [places, d]
        self.W_out = empty(10, 32)  # [kind, d]
        self.b_out = empty(10)  # [kind]
        self.layernorm = Parameters(gain=empty(32), bias=empty(32))  # [d], [d]
        self.layers = nn.ModuleList(Layer() for _ in range(2))
        self.reset_parameters(seed)

    def reset_parameters(self, seed: int = 0) -> None:
        for path, parameter in self.named_parameters():
            begin(parameter, path, seed, *self.INITIAL[re.sub(r"\.\d+", ".*", path)])

    def new_cache(self, batch: int = 1, capacity: int = 4096) -> Cache:
        """There is none: it is bidirectional: what it says of a token changes with the tokens after it."""
        raise TypeError("vit cannot decode token by token: it is bidirectional: what it says of a token changes with the tokens after it")

    def forward(self, patches: Tensor, label: Tensor, *, loss: bool = False, probe: bool = False, **_others: object) -> Output | Evaluation:
        if _others:
            raise TypeError(f"vit takes patches, label, loss and probe; not {', '.join(_others)}")
        expect("patches", patches, "numbers", "batch", "seq", 48)
        expect("label", label, "ids", patches.shape[0])
        batch, seq = patches.shape[:2]
        position = torch.arange(seq, device=patches.device)
        gain, bias = self.layernorm()
        x = self.b + entries(self.place, position, 0) + F.linear(patches, self.W)                     # [batch, seq, d]  vit.mpt:24
        for layer in self.layers:
            x = layer(x)
        out = F.linear(((bias + F.rms_norm(x - x.mean(-1)[..., None], (32,), gain, eps=1e-05))).sum(-2), self.W_out)  # [batch, kind]
        logits = self.b_out + 1 / seq * out                                                           # [batch, kind]  vit.mpt:30
        evaluated, probes = None, {}
        if loss:
            evaluated = F.cross_entropy(logits.flatten(0, 0), label.flatten().clamp(min=-1), ignore_index=-1)
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


def entries(table: Tensor, index: Tensor, shared: int) -> Tensor:
    """Entries of a table [shared..., entries, ...] at numbers [shared..., ...]; 0 for a number outside it."""
    index = index.long()
    inside = (index >= 0) & (index < table.shape[shared])
    places = torch.where(inside, index, 0).reshape(*index.shape[:shared], -1, 1)
    rows = table.reshape(*table.shape[: shared + 1], -1)
    taken = rows.gather(shared, places.expand(*places.shape[:-1], rows.shape[-1]))
    rest = table.shape[shared + 1 :]
    return taken.reshape((*index.shape, *rest)) * inside.reshape((*index.shape, *[1] * len(rest)))
