# Functions that generated modules may need. Not imported by the compiler: it copies the ones a module uses, as they stand.
from __future__ import annotations

import hashlib
import re
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


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


class TiedParameters(Parameters):
    """The parameters of a call site, or those named, of which some are tied in one copy of a stack or another."""

    def forward(self, *names: str | None) -> Tensor | tuple[Tensor, ...]:
        values = tuple(stored(self, name) for name in [name for name in names if name] or self._names)
        return values[0] if len(values) == 1 else values


def tie(module: nn.Module, path: str, home: nn.Module, there: str, order: tuple[int, ...] = ()) -> None:
    """Make `module.path` one tensor with `home.there`, which has its dimensions in this order. It is a parameter there alone."""
    if module is not home or path != there:
        site, _, name = path.rpartition(".")
        here = module.get_submodule(site)
        delattr(here, name)
        setattr(here, name, (home, there, order))


def stored(module: nn.Module, name: str) -> Tensor:
    """A parameter of a module or, where it is tied, what it is tied to, which is read by a call as any other is."""
    own = getattr(module, name)
    if isinstance(own, Tensor):
        return own
    home, there, order = own
    site, _, name = there.rpartition(".")
    value: Tensor = home.get_submodule(site)(name) if site else stored(home, name)
    return value.permute(order) if order else value


def freeze(model: nn.Module, path: str) -> None:
    """Keep a parameter from being trained. A star stands for every copy of a stack."""
    wanted = re.compile(path.replace(".", r"\.").replace("*", r"\d+"))
    for name, parameter in model.named_parameters():
        if wanted.fullmatch(name):
            parameter.requires_grad_(False)


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


def cross_entropy(logits: Tensor, ids: Tensor, reduction: str) -> Tensor:
    """Of logits [rows..., vocabulary] and ids [rows...] that broadcast with each other; ids below 0 do not count."""
    rows = torch.broadcast_shapes(logits.shape[:-1], ids.shape)
    every, ids = logits.expand(*rows, -1).reshape(-1, logits.shape[-1]), ids.expand(rows).reshape(-1).clamp(min=-1)
    losses = F.cross_entropy(every, ids, ignore_index=-1, reduction=reduction)
    return losses if reduction == "mean" else losses.view(rows)


def mean_where(value: Tensor, counts: Tensor) -> Tensor:
    """The mean of what counts, where value and counts broadcast with each other."""
    value, counts = torch.broadcast_tensors(value, counts)
    return value[counts].mean()


def mixture(weights: Tensor | float, table: Tensor, ids: Tensor, size: int, step: int, begins: Tensor | int, bags: int) -> Tensor:
    """Rows `begins + step * ids` of a table [rows, width], summed with weights over all but the first `bags` dimensions; 0 for an id outside."""
    at = torch.where((ids >= 0) & (ids < size), ids * step + begins, -1)
    shares = torch.where(at >= 0, weights, 0.0).to(table.dtype)
    rows, shares_of = (value.flatten(bags).flatten(0, bags - 1) for value in (at.clamp(min=0).expand_as(shares), shares))
    return F.embedding_bag(rows, table, per_sample_weights=shares_of, mode="sum").view(*shares.shape[:bags], table.shape[1])


def shift(x: Tensor, by: int, dim: int, blank: int = 0) -> Tensor:
    """x with every entry `by` places later along a dimension (earlier below 0), and `blank` where nothing came from."""
    length = x.shape[dim]
    kept = x.narrow(dim, min(max(0, -by), length), max(0, length - abs(by)))
    shape = list(x.shape)
    shape[dim] = min(abs(by), length)
    empty_ = x.new_full(shape, blank)
    return torch.cat((empty_, kept) if by > 0 else (kept, empty_), dim)


def entries(table: Tensor, index: Tensor, shared: int) -> Tensor:
    """Entries of a table [shared..., entries, ...] at numbers [shared..., ...]; 0 for a number outside it."""
    index = index.long()
    inside = (index >= 0) & (index < table.shape[shared])
    places = torch.where(inside, index, 0).reshape(*index.shape[:shared], -1, 1)
    rows = table.reshape(*table.shape[: shared + 1], -1)
    taken = rows.gather(shared, places.expand(*places.shape[:-1], rows.shape[-1]))
    rest = table.shape[shared + 1 :]
    return taken.reshape((*index.shape, *rest)) * inside.reshape((*index.shape, *[1] * len(rest)))


def widened(vectors: Tensor, width: int, few: int = 128) -> Tensor:
    """Vectors [..., seq, size] with zeros behind them, as long as those that attention meets them with: else torch makes all pairs on a CPU.

    Of few tokens it may: that is as fast, and nearer where a softmax is almost a choice.
    """
    return vectors if not torch.compiler.is_compiling() and vectors.shape[-2] <= few else F.pad(vectors, (0, width - vectors.shape[-1]))


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


def masked_softmax(scores: Tensor, mask: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    """Softmax over what the mask shows; 0 where it shows nothing at all."""
    scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    weights = (scores - torch.logsumexp(scores, dim, keepdim=True)).exp()
    return weights.masked_fill(~mask, 0.0)


def copies(name: str, values: Tensor) -> dict[str, Tensor]:
    """A value of every copy of a stack, each under its own name: `layers.*.energy` and [copies, ...] give `layers.0.energy` and so on."""
    if "*" not in name:
        return {name: values}
    return {path: part for copy, value in enumerate(values) for path, part in copies(name.replace("*", str(copy), 1), value).items()}


def log_cosh(z: Tensor) -> Tensor:
    """∫ tanh"""
    return z.abs() + F.softplus(-2 * z.abs()) - 0.6931471805599453


def integral_gelu(z: Tensor) -> Tensor:
    """∫ gelu, from 0"""
    normal = (1 + torch.erf(z * 0.7071067811865476)) / 2
    density = torch.exp(-z.square() / 2) * 0.3989422804014327
    return ((z.square() - 1) * normal + z * density) / 2 + 0.25


def integral_silu(z: Tensor) -> Tensor:
    """∫ silu, from 0. What is left of z²/2, ∫ t sigmoid(-t), by quadrature; beyond 40 it is constant."""
    rest = tail(z.abs().clamp(max=40.0), lambda t: t * torch.sigmoid(-t))
    return torch.where(z > 0, z.square() / 2 - rest, rest)


def integral_softplus(z: Tensor) -> Tensor:
    """∫ softplus, from 0. Beside z²/2, ∫ softplus(-t), by quadrature; beyond 40 it is constant."""
    rest = tail(z.abs().clamp(max=40.0), lambda t: F.softplus(-t, threshold=40))
    return torch.where(z > 0, z.square() / 2 + rest, -rest)


def tail(z: Tensor, f: Callable[[Tensor], Tensor], nodes: int = 64) -> Tensor:
    """∫_0^z f by Gauss-Legendre."""
    points, weights = legendre(nodes)
    total = torch.zeros_like(z)
    for point, weight in zip(points, weights, strict=True):
        total = total + weight * f(z * point)
    return total * z


def legendre(nodes: int) -> tuple[list[float], list[float]]:
    """Points and weights of Gauss-Legendre quadrature on (0, 1): eigenvalues of the Jacobi matrix (Golub and Welsch, 1969)."""
    k = torch.arange(1, nodes, dtype=torch.float64)
    off = k / torch.sqrt(4 * k * k - 1)
    values, vectors = torch.linalg.eigh(torch.diag(off, 1) + torch.diag(off, -1))
    return ((values + 1) / 2).tolist(), vectors[0].square().tolist()
