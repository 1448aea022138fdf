"""coda_dense, compiled by mptc from coda_dense.mpt.

    tokens: int64 [batch, seq]
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


class Layer(nn.Module):
    """One copy of `stack … as layers`, coda_dense.mpt:20."""

    def __init__(self) -> None:
        super().__init__()
        self.before_attention = Parameters(gain=empty(32), bias=empty(32))  # [d], [d]
        self.attention_to = Parameters(W_q=empty(2, 1, 16, 32), W_k=empty(2, 16, 32), W_v=empty(2, 16, 32), W_o=empty(32, 2, 1, 16))  # [kv, group, key, d], [kv, key, d], [kv, key, d], [d, kv, group, key]
        self.before_mlp = Parameters(gain=empty(32), bias=empty(32))  # [d], [d]
        self.swiglu = Parameters(W_gate=empty(24, 32), W_up=empty(24, 32), W_down=empty(32, 24))  # [hidden, d], [hidden, d], [d, hidden]

    def forward(self, x: Tensor, rotation_16: tuple[Tensor, Tensor]) -> Tensor:
        before_attention_gain, before_attention_bias = self.before_attention()
        W_q, W_k, W_v, W_o = self.attention_to()
        before_mlp_gain, before_mlp_bias = self.before_mlp()
        W_gate, W_up, W_down = self.swiglu()
        h = before_attention_bias + F.rms_norm(x - x.mean(-1)[..., None], (32,), before_attention_gain, eps=1e-05)  # [batch, seq, d]  coda_dense.mpt:21
        q = rope(F.linear(h, W_q.flatten(0, 2)).unflatten(-1, (2, 1, 16)).permute(0, 2, 3, 1, 4), rotation_16)  # [batch, kv, group, seq, key]  std.mpt:33
        k = rope(F.linear(h, W_k.flatten(0, 1)).unflatten(-1, (2, 16)).transpose(1, 2), rotation_16)  # [batch, kv, seq, key]  std.mpt:34
        v = F.linear(h, W_v.flatten(0, 1)).unflatten(-1, (2, 16))                                     # [batch, seq, kv, key]
        o = F.scaled_dot_product_attention(q.flatten(1, 2), k, v.transpose(1, 2), enable_gqa=True).unflatten(1, (2, 1))  # [batch, kv, group, seq, key]
        del h, v, k, q
        a = F.linear(o.permute(0, 3, 1, 2, 4).flatten(-3), W_o.flatten(1))                            # [batch, seq, d]  coda_dense.mpt:22
        x2 = x + a                                                                                    # [batch, seq, d]  coda_dense.mpt:23
        before_mlp = before_mlp_bias + F.rms_norm(x2 - x2.mean(-1)[..., None], (32,), before_mlp_gain, eps=1e-05)  # [batch, seq, d]  coda_dense.mpt:23
        x = x + a + F.linear(F.linear(before_mlp, W_up) * F.silu(F.linear(before_mlp, W_gate)), W_down)  # [batch, seq, d]  coda_dense.mpt:23
        return x


class Model(nn.Module):
    """coda_dense. Parameters begin as a function of `seed` and their own names alone."""

    INITIAL = {
        "embed": ("normal", 0.02),
        "unembed": ("normal", 0.02),
        "layers.*.before_attention.gain": ("fill", 1.0),
        "layers.*.before_attention.bias": ("fill", 0.0),
        "layers.*.attention_to.W_q": ("normal", 0.02),
        "layers.*.attention_to.W_k": ("normal", 0.02),
        "layers.*.attention_to.W_v": ("normal", 0.02),
        "layers.*.attention_to.W_o": ("normal", 0.02),
        "layers.*.before_mlp.gain": ("fill", 1.0),
        "layers.*.before_mlp.bias": ("fill", 0.0),
        "layers.*.swiglu.W_gate": ("normal", 0.02),
        "layers.*.swiglu.W_up": ("normal", 0.02),
        "layers.*.swiglu.W_down": ("normal", 0.02),
        "readout.gain": ("fill", 1.0),
        "readout.bias": ("fill", 0.0),
    }

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.embed = empty(64, 32)  # [vocab, d]
        self.unembed = empty(64, 32)  # [vocab, d]
        self.readout = Parameters(gain=empty(32), bias=empty(32))  # [d], [d]
        self.layers = nn.ModuleList(Layer() for _ in range(2))
        self.reset_parameters(seed)

    def reset_parameters(self, seed: int = 0) -> None:
        for path, parameter in self.named_parameters():
            begin(parameter, path, seed, *self.INITIAL[re.sub(r"\.\d+", ".*", path)])

    def new_cache(self, batch: int = 1, capacity: int = 4096) -> Cache:
        """There is none: it is bidirectional: what it says of a token changes with the tokens after it."""
        raise TypeError("coda_dense cannot decode token by token: it is bidirectional: what it says of a token changes with the tokens after it")

    def forward(self, tokens: Tensor, targets: Tensor, *, loss: bool = False, probe: bool = False, **_others: object) -> Output | Evaluation:
        if _others:
            raise TypeError(f"coda_dense takes tokens, targets, loss and probe; not {', '.join(_others)}")
        expect("tokens", tokens, "ids", "batch", "seq")
        expect("targets", targets, "ids", tokens.shape[0], tokens.shape[1])
        refuse_padding(tokens, False, "tokens holds ids below 0: coda_dense would see this padding as tokens; declare `input mask: []` and view `only(all(h), all(mask))`")
        batch, seq = tokens.shape[:2]
        rotation_16 = rotation(seq, 16, 10000.0, next(self.parameters()))
        gain, bias = self.readout()
        x = lookup(self.embed, tokens)                                                                # [batch, seq, d]  coda_dense.mpt:19
        for layer in self.layers:
            x = layer(x, rotation_16)
        readout = bias + F.rms_norm(x - x.mean(-1)[..., None], (32,), gain, eps=1e-05)                # [batch, seq, d]  coda_dense.mpt:25
        logits = F.linear(readout, self.unembed)                                                      # [batch, seq, vocab]  coda_dense.mpt:25
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


def refuse_padding(ids: Tensor, behind_is_harmless: bool, message: str) -> None:
    """An error where an id is below 0: any, or, where tokens see earlier ones alone, one before one that is not. Does not wait for the device."""
    real = ids >= 0
    torch._assert_async((real.cumprod(1) == real).all() if behind_is_harmless else real.all(), message)


def rotation(seq: int, size: int, base: float, like: Tensor, made: dict[object, tuple[Tensor, Tensor]] = {}) -> tuple[Tensor, Tensor]:
    """Cosines and sines of rotary position, each [seq, size]. `made`: those of the lengths met last, as every call asks for the same again."""
    key = (seq, size, base, like.dtype, like.device)
    if not torch.compiler.is_compiling() and key in made:  # a compiled graph is one for all lengths
        return made[key]
    wide = torch.float64 if like.dtype == torch.float64 else torch.float32
    rates = base ** (-torch.arange(0, size, 2, device=like.device, dtype=wide) / size)
    angles = torch.arange(seq, device=like.device, dtype=wide)[:, None] * rates
    table = angles.cos().to(like.dtype).repeat(1, 2), angles.sin().to(like.dtype).repeat(1, 2)
    if torch.compiler.is_compiling():  # a view by strides is of a buffer: what is fused would compute its cosines for each head anew
        return table[0].as_strided(table[0].shape, table[0].stride()), table[1].as_strided(table[1].shape, table[1].stride())
    captured = like.is_cuda and torch.cuda.is_current_stream_capturing()
    if not captured and type(table[0]) is Tensor and not table[0].is_inference():
        if len(made) == 8:
            del made[next(iter(made))]
        made[key] = table
    return table


def rope(x: Tensor, table: tuple[Tensor, Tensor], sign: int = 1) -> Tensor:
    """Rotary position of x [..., seq, size], halves rotated against each other; `sign` -1 rotates back."""
    cos, sin = table
    first, second = x.chunk(2, dim=-1)
    turned = torch.cat((-second, first), dim=-1)
    return x * cos + turned * sin if sign > 0 else x * cos - turned * sin


def lookup(table: Tensor, ids: Tensor) -> Tensor:
    """Rows of a table [rows, ...] at ids; 0 for an id outside it."""
    inside = (ids >= 0) & (ids < table.shape[0])
    rows = F.embedding(torch.where(inside, ids, 0), table.reshape(table.shape[0], -1))
    return (rows * inside[..., None]).reshape((*ids.shape, *table.shape[1:]))
