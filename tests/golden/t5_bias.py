"""t5_bias, compiled by mptc from t5_bias.mpt.

    tokens: int64 [batch, seq]
    -> hidden_state: float [batch, seq, d]
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class Output(NamedTuple):
    """What the spec declares as output."""

    hidden_state: Tensor  # [batch, seq, d]


class Evaluation(NamedTuple):
    """The outputs, with the loss and the probes that were asked for."""

    hidden_state: Tensor  # [batch, seq, d]
    loss: Tensor | None
    probes: dict[str, Tensor]


class Layer(nn.Module):
    """One copy of `stack … as layers`, t5_bias.mpt:43."""

    def __init__(self) -> None:
        super().__init__()
        self.pre_attention = Parameters(gain=empty(32))  # [d]
        self.attend_biased = Parameters(W_q=empty(4, 8, 32), W_k=empty(4, 8, 32), W_v=empty(4, 8, 32), W_o=empty(32, 4, 8))  # [head, key, d], [head, key, d], [head, key, d], [d, head, key]
        self.pre_mlp = Parameters(gain=empty(32))  # [d]
        self.mlp_relu = Parameters(W_in=empty(64, 32), W_out=empty(32, 64))  # [hidden, d], [d, hidden]

    def forward(self, x: Tensor, bias: Tensor, position: Tensor, wide: torch.dtype) -> Tensor:
        pre_attention_gain = self.pre_attention()
        W_q, W_k, W_v, W_o = self.attend_biased()
        pre_mlp_gain = self.pre_mlp()
        W_in, W_out = self.mlp_relu()
        h = F.rms_norm(x, (32,), pre_attention_gain, eps=1e-06)                                       # [batch, seq, d]  t5_bias.mpt:44
        q = F.linear(h, W_q.flatten(0, 1)).unflatten(-1, (4, 8))                                      # [batch, seq, head, key]
        k = F.linear(h, W_k.flatten(0, 1)).unflatten(-1, (4, 8))                                      # [batch, seq, head, key]
        v = F.linear(h, W_v.flatten(0, 1)).unflatten(-1, (4, 8))                                      # [batch, seq, head, key]
        o = by_rows(self.rows, ((position, 0), (q, 1)), (), (2,), bias, k, v, position, wide)         # [batch, head, seq, key]
        x = x + F.linear(o.transpose(1, 2).flatten(-2), W_o.flatten(1))                               # [batch, seq, d]  t5_bias.mpt:45
        pre_mlp = F.rms_norm(x, (32,), pre_mlp_gain, eps=1e-06)                                       # [batch, seq, d]  t5_bias.mpt:46
        x = x + F.linear(F.relu(F.linear(pre_mlp, W_in)), W_out)                                      # [batch, seq, d]  t5_bias.mpt:46
        return x

    def rows(self, here: Tensor, q: Tensor, bias: Tensor, k: Tensor, v: Tensor, position: Tensor, wide: torch.dtype) -> Tensor:
        back = here[:, None] - position                                                               # [seq, ctx]  t5_bias.mpt:28
        n = torch.abs(back.to(wide))                                                                  # [seq, ctx]  t5_bias.mpt:18
        far = 4 + torch.floor(0.0001 + 2.232442506204989 * torch.log(n.clamp(min=1) / 4))             # [seq, ctx]  t5_bias.mpt:19
        value = torch.where(back < 0, 8, 0).to(wide) + torch.where(n < 4, n, far.clamp(max=7))        # [seq, ctx]
        del far, n, back
        value = entries(bias, value, 0)                                                               # [seq, ctx, head]
        o = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), attn_mask=value.permute(2, 0, 1)[None, :, :, :], scale=1)  # [batch, head, seq, key]
        return o


class Model(nn.Module):
    """t5_bias. Parameters begin as a function of `seed` and their own names alone."""

    INITIAL = {
        "embed": ("normal", 1.0),
        "bias": ("normal", 0.02),
        "layers.*.pre_attention.gain": ("fill", 1.0),
        "layers.*.attend_biased.W_q": ("normal", 0.02),
        "layers.*.attend_biased.W_k": ("normal", 0.02),
        "layers.*.attend_biased.W_v": ("normal", 0.02),
        "layers.*.attend_biased.W_o": ("normal", 0.02),
        "layers.*.pre_mlp.gain": ("fill", 1.0),
        "layers.*.mlp_relu.W_in": ("normal", 0.02),
        "layers.*.mlp_relu.W_out": ("normal", 0.02),
        "rmsnorm.gain": ("fill", 1.0),
    }

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.embed = empty(256, 32)  # [vocab, d]
        self.bias = empty(16, 4)  # [bucket, head]
        self.rmsnorm = Parameters(gain=empty(32))  # [d]
        self.layers = nn.ModuleList(Layer() for _ in range(2))
        self.reset_parameters(seed)

    def reset_parameters(self, seed: int = 0) -> None:
        for path, parameter in self.named_parameters():
            begin(parameter, path, seed, *self.INITIAL[re.sub(r"\.\d+", ".*", path)])

    def new_cache(self, batch: int = 1, capacity: int = 4096) -> Cache:
        """There is none: it is bidirectional: what it says of a token changes with the tokens after it."""
        raise TypeError("t5_bias cannot decode token by token: it is bidirectional: what it says of a token changes with the tokens after it")

    def forward(self, tokens: Tensor, *, loss: bool = False, probe: bool = False, **_others: object) -> Output | Evaluation:
        if _others:
            raise TypeError(f"t5_bias takes tokens, loss and probe; not {', '.join(_others)}")
        expect("tokens", tokens, "ids", "batch", "seq")
        refuse_padding(tokens, False, "tokens holds ids below 0: t5_bias would see this padding as tokens; declare `input mask: []` and view `only(all(h), all(mask))`")
        batch, seq = tokens.shape[:2]
        wide = torch.float64 if next(self.parameters()).dtype == torch.float64 else torch.float32
        position = torch.arange(seq, device=tokens.device)
        gain = self.rmsnorm()
        x = lookup(self.embed, tokens)                                                                # [batch, seq, d]  t5_bias.mpt:42
        for layer in self.layers:
            x = layer(x, self.bias, position, wide)
        hidden_state = F.rms_norm(x, (32,), gain, eps=1e-06)                                          # [batch, seq, d]  t5_bias.mpt:48
        evaluated, probes = None, {}
        if loss:
            raise ValueError("t5_bias declares no loss")
        if loss or probe:
            return Evaluation(hidden_state, loss=evaluated, probes=probes)
        return Output(hidden_state)


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


def by_rows(
    compute: Callable[..., Tensor | tuple[Tensor, ...]],
    asking: tuple[tuple[Tensor, int], ...],
    seen: tuple[tuple[Tensor, int], ...],
    joined: tuple[int | None, ...],
    *whole: object,
    window: int | None = None,
    size: int = 128,
) -> Tensor | tuple[Tensor, ...]:
    """What is made of pairs of tokens, for `size` of those that ask at a time: no tensor of all pairs is made, and what training needs is made again.

    `asking`: what those that ask have, and the dimension in which they lie. `seen`: likewise of those that are seen up to the last that asks, in a
    window of that length. `joined`: where results are put together; None: they are added.
    """
    length = asking[0][0].shape[asking[0][1]]
    if torch.compiler.is_compiling() or length <= size:  # a compiled graph is one for all lengths, and has all pairs
        return compute(*(each for each, _ in (*asking, *seen)), *whole)
    found: list[list[Tensor]] = [[] for _ in joined]
    for start in range(0, length, size):
        stop, first = min(start + size, length), 0 if window is None else max(0, start - window + 1)
        some = [each.narrow(dim, start, stop - start) for each, dim in asking] + [each.narrow(dim, first, stop - first) for each, dim in seen]
        made = checkpoint(compute, *some, *whole, use_reentrant=False) if torch.is_grad_enabled() else compute(*some, *whole)
        for parts, dim, part in zip(found, joined, (made,) if len(joined) == 1 else made, strict=True):
            parts[:] = [*parts, part] if dim is not None or not parts else [parts[0] + part]
    results = tuple(parts[0] if dim is None else torch.cat(parts, dim) for parts, dim in zip(found, joined, strict=True))
    return results[0] if len(joined) == 1 else results
