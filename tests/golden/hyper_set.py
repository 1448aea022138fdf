"""hyper_set, compiled by mptc from hyper_set.mpt.

    tokens: int64 [batch, seq]
    targets: int64 [batch, seq]
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
    """hyper_set. Parameters begin as a function of `seed` and their own names alone."""

    INITIAL = {
        "embed": ("normal", 0.02),
        "place": ("normal", 0.02),
        "W": ("normal", 0.02),
        "D": ("normal", 0.02),
        "alpha": ("fill", 0.1),
        "gamma": ("fill", 0.1),
    }

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.embed = empty(10, 32)  # [vocab, d]
        self.place = empty(64, 32)  # [places, d]
        self.W = empty(4, 8, 32)  # [head, key, d]
        self.D = empty(48, 32)  # [hidden, d]
        self.alpha = empty(32)  # [d]
        self.gamma = empty(32)  # [d]
        self.reset_parameters(seed)

    def reset_parameters(self, seed: int = 0) -> None:
        for path, parameter in self.named_parameters():
            begin(parameter, path, seed, *self.INITIAL[re.sub(r"\.\d+", ".*", path)])

    def new_cache(self, batch: int = 1, capacity: int = 4096) -> Cache:
        """There is none: it is bidirectional: what it says of a token changes with the tokens after it."""
        raise TypeError("hyper_set cannot decode token by token: it is bidirectional: what it says of a token changes with the tokens after it")

    def forward(self, tokens: Tensor, targets: Tensor, *, loss: bool = False, probe: bool = False, **_others: object) -> Output | Evaluation:
        if _others:
            raise TypeError(f"hyper_set takes tokens, targets, loss and probe; not {', '.join(_others)}")
        expect("tokens", tokens, "ids", "batch", "seq")
        expect("targets", targets, "ids", tokens.shape[0], tokens.shape[1])
        refuse_padding(tokens, False, "tokens holds ids below 0: hyper_set would see this padding as tokens; declare `input mask: []` and view `only(all(h), all(mask))`")
        batch, seq = tokens.shape[:2]
        position = torch.arange(seq, device=tokens.device)
        x = lookup(self.embed, tokens) + entries(self.place, position, 0)                             # [batch, seq, d]  hyper_set.mpt:31
        for _ in range(3):
            value = F.rms_norm(F.linear(x, self.W.flatten(0, 1)).unflatten(-1, (4, 8)), (8,), eps=1e-06)  # [batch, seq, head, key]
            value2, value3 = by_rows(self.rows, ((value, 1),), (), (2, None), value)                  # [batch, head, seq, key], [batch, head, seq, key]
            x = x - F.linear((value2 + value3).transpose(1, 2).flatten(-2), self.W.flatten(0, 1).T) * self.alpha  # [batch, seq, d]  hyper_set.mpt:33
            # attract(u): E = −Σ_hidden relu(u_i)² / 2
            # -∂E/∂u = relu(u_i)    hyper_set.mpt:20
            x = x + self.gamma * F.linear(F.relu(F.rms_norm(F.linear(x, self.D), (48,), eps=1e-06)), self.D.T)  # [batch, seq, d]  hyper_set.mpt:34
        logits = F.linear(F.rms_norm(x, (32,), eps=1e-06), self.embed)                                # [batch, seq, vocab]  hyper_set.mpt:36
        evaluated, probes = None, {}
        if loss:
            evaluated = F.cross_entropy(logits.flatten(0, 1), targets.flatten().clamp(min=-1), ignore_index=-1)
        if loss or probe:
            return Evaluation(logits, loss=evaluated, probes=probes)
        return Output(logits)

    def rows(self, value: Tensor, value2: Tensor) -> tuple[Tensor, Tensor]:
        # repel(z): E = Σ_head log Σ_j exp(Σ_key z_i ⊙ z_j)
        # -∂E/∂z = −Σ_j softmax_j(Σ_key z_i z_j) z_j − Σ_j softmax_i(Σ_key z_j z_i) z_j    hyper_set.mpt:15
        weights = torch.softmax(value.transpose(1, 2) @ value2.permute(0, 2, 3, 1), -1)               # [batch, head, seq, ctx]
        value3 = weights @ value2.transpose(1, 2)                                                     # [batch, head, seq, key]
        value = weights.mT @ value.transpose(1, 2)                                                    # [batch, head, seq, key]
        return value3, value


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
