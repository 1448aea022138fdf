"""energy_transformer, compiled by mptc from energy_transformer.mpt.

    tokens: int64 [batch, seq]
    -> logits: float [batch, seq, vocab]
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

    logits: Tensor  # [batch, seq, vocab]


class Evaluation(NamedTuple):
    """The outputs, with the loss and the probes that were asked for."""

    logits: Tensor  # [batch, seq, vocab]
    loss: Tensor | None
    probes: dict[str, Tensor]


class Model(nn.Module):
    """energy_transformer. Parameters begin as a function of `seed` and their own names alone."""

    INITIAL = {
        "embed": ("normal", 0.02),
        "center.gain": ("fill", 1.0),
        "center.bias": ("fill", 0.0),
        "total.attend.W_q": ("normal", 0.002),
        "total.attend.W_k": ("normal", 0.002),
        "total.hopfield.Xi": ("normal", 0.02),
        "readout.gain": ("fill", 1.0),
        "readout.bias": ("fill", 0.0),
    }

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.embed = empty(256, 64)  # [vocab, d]
        self.center = Parameters(gain=empty(), bias=empty(64))  # [], [d]
        self.readout = Parameters(gain=empty(), bias=empty(64))  # [], [d]
        self.total = Parameters()
        self.total.attend = Parameters(W_q=empty(2, 32, 64), W_k=empty(2, 32, 64))  # [head, key, d], [head, key, d]
        self.total.hopfield = Parameters(Xi=empty(128, 64))  # [memory, d]
        self.reset_parameters(seed)

    def reset_parameters(self, seed: int = 0) -> None:
        for path, parameter in self.named_parameters():
            begin(parameter, path, seed, *self.INITIAL[re.sub(r"\.\d+", ".*", path)])

    def new_cache(self, batch: int = 1, capacity: int = 4096) -> Cache:
        """There is none: it is bidirectional: what it says of a token changes with the tokens after it."""
        raise TypeError("energy_transformer cannot decode token by token: it is bidirectional: what it says of a token changes with the tokens after it")

    def forward(self, tokens: Tensor, *, loss: bool = False, probe: bool = False, **_others: object) -> Output | Evaluation:
        if _others:
            raise TypeError(f"energy_transformer takes tokens, loss and probe; not {', '.join(_others)}")
        expect("tokens", tokens, "ids", "batch", "seq")
        refuse_padding(tokens, False, "tokens holds ids below 0: energy_transformer would see this padding as tokens; declare `input mask: []` and view `only(all(h), all(mask))`")
        center_gain, center_bias = self.center()
        W_q, W_k = self.total.attend()
        Xi = self.total.hopfield()
        readout_gain, readout_bias = self.readout()
        x = lookup(self.embed, tokens)                                                                # [batch, seq, d]  energy_transformer.mpt:38
        for _ in range(4):
            g = center_bias + center_gain * F.rms_norm(x - x.mean(-1)[..., None], (64,), eps=1e-05)   # [batch, seq, d]  energy_transformer.mpt:40
            # total(g): E = −√key Σ_head log Σ_j exp(Σ_key q_i ⊙ k_j / √key) − Σ_memory relu(Xi g_i)² / 2
            # -∂E/∂g = Xiᵀ relu(Xi g_i) + W_qᵀ Σ_j softmax_j(Σ_key q_i k_j / √key) k_j + W_kᵀ Σ_j softmax_i(Σ_key q_j k_i / √key) q_j    energy_transformer.mpt:26
            value = F.linear(F.relu(F.linear(g, Xi)), Xi.T)                                           # [batch, seq, d]
            q = F.linear(g, W_q.flatten(0, 1)).unflatten(-1, (2, 32))                                 # [batch, seq, head, key]  energy_transformer.mpt:16
            k = F.linear(g, W_k.flatten(0, 1)).unflatten(-1, (2, 32))                                 # [batch, seq, head, key]  energy_transformer.mpt:17
            value2, value3 = by_rows(self.rows, ((q, 1),), (), (2, None), k)                          # [batch, head, seq, key], [batch, head, seq, key]
            value3 = F.linear(value3.transpose(1, 2).flatten(-2), W_k.flatten(0, 1).T)                # [batch, seq, d]
            value = value + F.linear(value2.transpose(1, 2).flatten(-2), W_q.flatten(0, 1).T) + value3  # [batch, seq, d]
            x = x + value / 10                                                                        # [batch, seq, d]  energy_transformer.mpt:41
        del g, value3, value2, value
        readout = readout_bias + F.rms_norm(x - x.mean(-1)[..., None], (64,), eps=1e-05) * readout_gain  # [batch, seq, d]  energy_transformer.mpt:43
        logits = F.linear(readout, self.embed)                                                        # [batch, seq, vocab]  energy_transformer.mpt:43
        evaluated, probes = None, {}
        if loss:
            raise ValueError("energy_transformer declares no loss")
        if loss or probe:
            return Evaluation(logits, loss=evaluated, probes=probes)
        return Output(logits)

    def rows(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        weights = torch.softmax(0.1767766952966369 * (q.transpose(1, 2) @ k.permute(0, 2, 3, 1)), -1)  # [batch, head, seq, ctx]
        value = weights @ k.transpose(1, 2)                                                           # [batch, head, seq, key]
        value2 = weights.mT @ q.transpose(1, 2)                                                       # [batch, head, seq, key]
        return value, value2


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
