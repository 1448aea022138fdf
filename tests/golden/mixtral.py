"""mixtral, compiled by mptc from mixtral.mpt.

    tokens: int64 [batch, seq]
    -> logits: float [batch, seq, vocab]
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from copy import copy
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
    """One copy of `stack … as layers`, mixtral.mpt:23."""

    def __init__(self) -> None:
        super().__init__()
        self.pre_attention = Parameters(gain=empty(32))  # [d]
        self.attention = Parameters(W_q=empty(2, 2, 8, 32), W_k=empty(2, 8, 32), W_v=empty(2, 8, 32), W_o=empty(32, 2, 2, 8))  # [kv, group, key, d], [kv, key, d], [kv, key, d], [d, kv, group, key]
        self.pre_experts = Parameters(gain=empty(32))  # [d]
        self.experts = Parameters(router=empty(4, 32))  # [expert, d]
        self.experts.swiglu = Parameters(W_gate=empty(4, 24, 32), W_up=empty(4, 24, 32), W_down=empty(4, 32, 24))  # [expert, hidden, d], [expert, hidden, d], [expert, d, hidden]

    def forward(self, x: Tensor, value2: Tensor, rotation_8: tuple[Tensor, Tensor], dtype: torch.dtype, loss: bool, probe: bool) -> tuple[Tensor, Tensor | None, Tensor | None]:
        pre_attention_gain = self.pre_attention()
        W_q, W_k, W_v, W_o = self.attention()
        pre_experts_gain = self.pre_experts()
        router = self.experts()
        W_gate, W_up, W_down = self.experts.swiglu()
        pre_attention = F.rms_norm(x, (32,), pre_attention_gain, eps=1e-06)                           # [batch, seq, d]  mixtral.mpt:24
        q = rope(F.linear(pre_attention, W_q.flatten(0, 2)).unflatten(-1, (2, 2, 8)).permute(0, 2, 3, 1, 4), rotation_8)  # [batch, kv, group, seq, key]  std.mpt:21
        k = rope(F.linear(pre_attention, W_k.flatten(0, 1)).unflatten(-1, (2, 8)).transpose(1, 2), rotation_8)  # [batch, kv, seq, key]  std.mpt:22
        v = F.linear(pre_attention, W_v.flatten(0, 1)).unflatten(-1, (2, 8))                          # [batch, seq, kv, key]
        o = F.scaled_dot_product_attention(q.flatten(1, 2), k, v.transpose(1, 2), is_causal=True, enable_gqa=True).unflatten(1, (2, 2))  # [batch, kv, group, seq, key]
        del pre_attention, v, k, q
        x = x + F.linear(o.permute(0, 3, 1, 2, 4).flatten(-3), W_o.flatten(1))                        # [batch, seq, d]  mixtral.mpt:24
        pre_experts = F.rms_norm(x, (32,), pre_experts_gain, eps=1e-06)                               # [batch, seq, d]  mixtral.mpt:25
        s = F.linear(pre_experts, router)                                                             # [batch, seq, expert]  moe.mpt:7
        best = among(s, 2)                                                                            # [batch, seq, expert]
        w = torch.softmax(torch.where(best, s, -torch.inf), -1)                                       # [batch, seq, expert]  moe.mpt:8
        pairs = pairs_of(best.permute(2, 0, 1), 2)                                                    # [pair]
        pre_experts_pair = pre_experts.flatten(0, 1).index_select(0, pairs.token)                     # [pair, d]
        del o, best, pre_experts
        value = F.silu(grouped(pre_experts_pair, W_gate, pairs.counts)) * grouped(pre_experts_pair, W_up, pairs.counts)  # [pair, hidden]
        value = w.permute(2, 0, 1).flatten(0, 2).index_select(0, pairs.place)[:, None] * grouped(value, W_down, pairs.counts)  # [pair, d]
        experts = combined(value, pairs)                                                              # [batch, seq, d]  mixtral.mpt:25
        x = x + experts                                                                               # [batch, seq, d]  mixtral.mpt:25
        del pre_experts_pair, value, experts
        if loss:
            weights = torch.softmax(s, -1)                                                            # [batch, seq, expert]
        penalty = (load_balance(weights, w, value2[..., None]) / 50).mean() if loss else None
        load = (w > 0).to(dtype) if probe else None
        return x, penalty, load

    def decode(self, x: Tensor, position: Tensor, rotation_8: tuple[Tensor, Tensor], cache: Cache, seen: Tensor | None) -> Tensor:
        pre_attention_gain = self.pre_attention()
        W_q, W_k, W_v, W_o = self.attention()
        pre_experts_gain = self.pre_experts()
        router = self.experts()
        W_gate, W_up, W_down = self.experts.swiglu()
        pre_attention = F.rms_norm(x, (32,), pre_attention_gain, eps=1e-06)                           # [batch, seq, d]  mixtral.mpt:24
        q = rope_at(F.linear(pre_attention, W_q.flatten(0, 2)).unflatten(-1, (2, 2, 8)).permute(0, 2, 3, 1, 4), rotation_8)  # [batch, kv, group, seq, key]  std.mpt:21
        k = rope_at(F.linear(pre_attention, W_k.flatten(0, 1)).unflatten(-1, (2, 8)).transpose(1, 2), rotation_8)  # [batch, kv, seq, key]  std.mpt:22
        k = cache.keep("k", k, 2)                                                                     # [batch, kv, ctx, key]  std.mpt:22
        value = cache.keep("v", F.linear(pre_attention, W_v.flatten(0, 1)).unflatten(-1, (2, 8)), 1)  # [batch, ctx, kv, key]
        o = F.scaled_dot_product_attention(q.flatten(1, 2), k, value.transpose(1, 2), attn_mask=seen, enable_gqa=True).unflatten(1, (2, 2))  # [batch, kv, group, seq, key]
        x = x + F.linear(o.permute(0, 3, 1, 2, 4).flatten(-3), W_o.flatten(1))                        # [batch, seq, d]  mixtral.mpt:24
        pre_experts = F.rms_norm(x, (32,), pre_experts_gain, eps=1e-06)                               # [batch, seq, d]  mixtral.mpt:25
        s = F.linear(pre_experts, router)                                                             # [batch, seq, expert]  moe.mpt:7
        best = among(s, 2)                                                                            # [batch, seq, expert]
        w = torch.softmax(torch.where(best, s, -torch.inf), -1)                                       # [batch, seq, expert]  moe.mpt:8
        pairs = pairs_of(best.permute(2, 0, 1), 2)                                                    # [pair]
        pre_experts_pair = pre_experts.flatten(0, 1).index_select(0, pairs.token)                     # [pair, d]
        value = grouped(pre_experts_pair, W_up, pairs.counts) * F.silu(grouped(pre_experts_pair, W_gate, pairs.counts))  # [pair, hidden]
        value = w.permute(2, 0, 1).flatten(0, 2).index_select(0, pairs.place)[:, None] * grouped(value, W_down, pairs.counts)  # [pair, d]
        experts = combined(value, pairs)                                                              # [batch, seq, d]  mixtral.mpt:25
        x = x + experts                                                                               # [batch, seq, d]  mixtral.mpt:25
        return x


class Model(nn.Module):
    """mixtral. Parameters begin as a function of `seed` and their own names alone."""

    CACHE = "6c1aa14ac6d4cb00"  # what tells a cache of this model from others
    INITIAL = {
        "embed": ("normal", 0.02),
        "unembed": ("normal", 0.02),
        "layers.*.pre_attention.gain": ("fill", 1.0),
        "layers.*.attention.W_q": ("normal", 0.02),
        "layers.*.attention.W_k": ("normal", 0.02),
        "layers.*.attention.W_v": ("normal", 0.02),
        "layers.*.attention.W_o": ("normal", 0.02),
        "layers.*.pre_experts.gain": ("fill", 1.0),
        "layers.*.experts.router": ("normal", 0.02),
        "layers.*.experts.swiglu.W_gate": ("normal", 0.02),
        "layers.*.experts.swiglu.W_up": ("normal", 0.02),
        "layers.*.experts.swiglu.W_down": ("normal", 0.02),
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

    def new_cache(self, batch: int = 1, capacity: int = 4096) -> Cache:
        """For `batch` sequences of at most `capacity` tokens, 64 numbers for each: as dtype and device of the parameters are now.

        layers.*.k: [key, kv] of all tokens, 2 times
        layers.*.v: [key, kv] of all tokens, 2 times
        """
        like = next(self.parameters())
        return Cache(self.CACHE, batch, capacity, like.dtype, like.device)

    def forward(self, tokens: Tensor, *, loss: bool = False, probe: bool = False, cache: Cache | None = None, **_others: object) -> Output | Evaluation:
        if _others:
            raise TypeError(f"mixtral takes tokens, loss, probe and cache; not {', '.join(_others)}")
        expect("tokens", tokens, "ids", "batch", "seq")
        if cache is not None:
            if getattr(cache, "kind", None) != self.CACHE:
                raise ValueError("this cache is of another model, or none; make one with new_cache()")
            if loss or probe:
                raise ValueError("with a cache there is neither loss nor probes")
            return self.decode(tokens, cache)
        refuse_padding(tokens, True, "tokens holds ids below 0 before others: mixtral would see this padding as tokens; declare `input mask: []` and view `only(past(h), past(mask))`")
        batch, seq = tokens.shape[:2]
        dtype = next(self.parameters()).dtype
        rotation_8 = rotation(seq, 8, 10000.0, next(self.parameters()))
        gain = self.rmsnorm()
        x = lookup(self.embed, tokens)                                                                # [batch, seq, d]  mixtral.mpt:22
        evaluated, probes = None, {}
        if loss:
            value = tokens >= 0                                                                       # [batch, seq]
        penalties, loads = [], []
        for layer in self.layers:
            x, penalty, load = layer(x, value if loss else None, rotation_8, dtype, loss, probe)
            penalties.append(penalty)
            loads.append(load)
        logits = F.linear(F.rms_norm(x, (32,), gain, eps=1e-06), self.unembed)                        # [batch, seq, vocab]  mixtral.mpt:27
        if loss:
            evaluated = torch.stack(penalties).sum(-1) + F.cross_entropy(logits.flatten(0, 1), F.pad(tokens[:, 1:], (0, 1), value=-1).flatten().clamp(min=-1), ignore_index=-1)
        if probe:
            probes.update(copies("layers.*.experts.load", torch.stack(loads)))
        if loss or probe:
            return Evaluation(logits, loss=evaluated, probes=probes)
        return Output(logits)

    @torch.no_grad()
    def decode(self, tokens: Tensor, cache: Cache) -> Output:
        """The next tokens, behind those that the cache has seen; it grows by them. Ids below 0 at the end of a row are no tokens of it."""
        dtype = next(self.parameters()).dtype
        cache.begin(tokens, tokens)
        position = cache.position()
        seen = cache.seen()
        rotation_8 = rotation_at(position, 8, 10000.0, dtype)
        gain = self.rmsnorm()
        x = lookup(self.embed, tokens)                                                                # [batch, seq, d]  mixtral.mpt:22
        for number, layer in enumerate(self.layers):
            x = layer.decode(x, position, rotation_8, cache.at(f"layers.{number}"), seen)
        logits = F.linear(F.rms_norm(x, (32,), gain, eps=1e-06), self.unembed)                        # [batch, seq, vocab]  mixtral.mpt:27
        cache.end()
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


def copies(name: str, values: Tensor) -> dict[str, Tensor]:
    """A value of every copy of a stack, each under its own name: `layers.*.energy` and [copies, ...] give `layers.0.energy` and so on."""
    if "*" not in name:
        return {name: values}
    return {path: part for copy, value in enumerate(values) for path, part in copies(name.replace("*", str(copy), 1), value).items()}


def among(by: Tensor, n: int, mask: Tensor | None = None, dims: int = 1) -> Tensor:
    """Where a value is among the n largest along the last `dims` dimensions together, of those that the mask shows. Equal ones: the lower index."""
    by = by.long() if by.dtype == torch.bool else by
    if mask is not None:
        by, mask = torch.broadcast_tensors(by, mask)
        by = by.masked_fill(~mask, -torch.inf if by.is_floating_point() else torch.iinfo(by.dtype).min)
    rows = by.detach().flatten(-dims)
    if n >= rows.shape[-1]:
        return torch.ones_like(by, dtype=torch.bool) if mask is None else mask
    least = rows.topk(n, -1).values[..., -1:]
    above, equal = rows > least, rows == least
    chosen = (above | (equal & (equal.cumsum(-1) <= n - above.sum(-1, keepdim=True)))).view(by.shape)
    return chosen if mask is None else chosen & mask


def load_balance(p: Tensor, w: Tensor, *conditions: Tensor) -> Tensor:
    """size of the last dimension * Σ (share of all choices w != 0) (mean of p), over the tokens [batch, seq, ...] that count."""
    counts = torch.ones((), device=p.device, dtype=torch.bool)
    for condition in conditions:
        counts = counts & (condition != 0)
    p, chosen, counts = torch.broadcast_tensors(p, w.detach() != 0, counts)
    chosen = (chosen & counts).sum((0, 1)).to(p.dtype)
    mean = (p * counts).sum((0, 1)) / counts.sum((0, 1)).clamp(min=1)
    share = chosen / chosen.sum(-1, keepdim=True).clamp(min=1)
    balance: Tensor = (share * mean).sum(-1) * p.shape[-1]
    return balance


class Pairs(NamedTuple):
    """Pairs of an expert and a token, one expert's after another's: the number of each one's expert, of its token among all, and of both; how many
    each expert has; how many sequences and tokens there are."""

    expert: Tensor
    token: Tensor
    place: Tensor
    counts: Tensor
    shape: tuple[int, int]


def pairs_of(chosen: Tensor, most: int | None = None) -> Pairs:
    """The pairs where a choice [experts, batch, tokens] is not 0. `most`: so many experts each token has.

    Where that is not known, a compiled graph, which is one for all, takes every pair.
    """
    experts, batch, tokens = chosen.shape
    flat = (chosen != 0).flatten()
    if not torch.compiler.is_compiling():
        place = flat.nonzero().squeeze(1)
    elif most is None:
        place = torch.arange(flat.shape[0], device=flat.device)
    else:
        place = flat.byte().argsort(descending=True, stable=True)[: batch * tokens * min(most, experts)]
    expert = place // (batch * tokens)
    counts = (expert == torch.arange(experts, device=place.device)[:, None]).sum(1)
    return Pairs(expert, place % (batch * tokens), place, counts, (batch, tokens))


def combined(x: Tensor, pairs: Pairs) -> Tensor:
    """The sum of x [pairs, ...] over the pairs of each token: [batch, tokens, ...]."""
    batch, tokens = pairs.shape
    return x.new_zeros(batch * tokens, *x.shape[1:]).index_add(0, pairs.token, x).view(batch, tokens, *x.shape[1:])


def grouped(x: Tensor, w: Tensor, counts: Tensor) -> Tensor:
    """x [rows, in] times the transposed w [experts, out, in] of each row's expert: [rows, out]. The first counts[0] rows are the first expert's."""
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    made: Tensor = grouped_rows(x.to(dtype), w.to(dtype), counts)
    return made


def opaque(fake: Callable[..., Tensor], backward: Callable[..., object] | None = None) -> Callable[..., Callable[..., Tensor]]:
    """A function that a compiled graph calls as it stands. `fake`: the shape of what it returns. All models of a process share one."""

    def made(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        if not hasattr(torch.ops.mptc, function.__name__):  # to make it again would take it from models that have it
            op = torch.library.custom_op(f"mptc::{function.__name__}", function, mutates_args=())
            op.register_fake(fake)
            if backward is not None:
                op.register_autograd(backward, setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs))
        found: Callable[..., Tensor] = getattr(torch.ops.mptc, function.__name__).default
        return found

    return made


def rows_shape(x: Tensor, w: Tensor, counts: Tensor) -> Tensor:
    assert counts.shape[0] == w.shape[0]
    return x.new_empty(x.shape[0], w.shape[1])


def weight_shape(grad: Tensor, x: Tensor, counts: Tensor) -> Tensor:
    return x.new_empty(counts.shape[0], grad.shape[1], x.shape[1])


def rows_back(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
    x, w, counts = ctx.saved_tensors  # type: ignore[attr-defined]
    wants = ctx.needs_input_grad  # type: ignore[attr-defined]
    return grouped_rows(grad, w.mT, counts) if wants[0] else None, grouped_weight(grad, x, counts) if wants[1] else None, None


def fits_grouped_mm(*operands: Tensor) -> bool:
    """Whether torch has one kernel for all of these products: on a GPU, of bfloat16, where rows are whole multiples of 16 bytes."""
    return all(each.is_cuda and each.dtype == torch.bfloat16 and each.shape[-1] % 8 == 0 for each in operands)


def ends(counts: Tensor) -> Tensor:
    """Where each expert's rows end."""
    return counts.cumsum(0).to(torch.int32)


@opaque(weight_shape)
def grouped_weight(grad: Tensor, x: Tensor, counts: Tensor) -> Tensor:
    """Σ over each expert's rows of grad [rows, out] x [rows, in]: [experts, out, in]."""
    if fits_grouped_mm(grad, x):
        return F.grouped_mm(grad.contiguous().t(), x.contiguous(), offs=ends(counts))
    out, start = x.new_zeros(counts.shape[0], grad.shape[1], x.shape[1]), 0
    for expert, count in enumerate(counts.tolist()):
        if count:
            torch.mm(grad[start : start + count].t(), x[start : start + count], out=out[expert])
        start += count
    return out


@opaque(rows_shape, rows_back)
def grouped_rows(x: Tensor, w: Tensor, counts: Tensor) -> Tensor:
    """One product after another, of each expert's rows, on a GPU all of them at once where torch can."""
    if fits_grouped_mm(x, w) and w.shape[1] % 8 == 0:
        return F.grouped_mm(x.contiguous(), w.contiguous().mT, offs=ends(counts))
    out, start = x.new_empty(x.shape[0], w.shape[1]), 0
    for expert, count in enumerate(counts.tolist()):
        if count:
            torch.mm(x[start : start + count], w[expert].t(), out=out[start : start + count])
        start += count
    return out


def rotation_at(position: Tensor, size: int, base: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and sines of rotary position at positions [batch, seq], each [batch, seq, size]."""
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    rates = base ** (-torch.arange(0, size, 2, device=position.device, dtype=wide) / size)
    angles = (position[..., None] * rates).repeat(1, 1, 2)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rope_at(x: Tensor, table: tuple[Tensor, Tensor], sign: int = 1) -> Tensor:
    """Rotary position of x [batch, ..., seq, size] by tables [batch, seq, size]."""
    cos, sin = (each.view(each.shape[0], *[1] * (x.dim() - 3), *each.shape[1:]) for each in table)
    return rope(x, (cos, sin), sign)


class Cache:
    """What decoding keeps of the tokens so far, for a batch of sequences. `model(tokens, cache=cache)` adds its tokens to it.

    `lengths`: how many tokens each sequence has had, [batch]. Entries are made when they are first written, and grow up to `capacity` tokens;
    those of windows stay as long as the window.
    """

    def __init__(self, kind: str, batch: int, capacity: int, dtype: torch.dtype | None, device: torch.device) -> None:
        if batch < 1 or capacity < 1:
            raise ValueError(f"a cache is of one sequence and one token or more; batch={batch}, capacity={capacity} were given")
        self.kind, self.batch, self.capacity, self.dtype = kind, batch, capacity, dtype
        self.lengths = torch.zeros(batch, dtype=torch.int64, device=device)
        self.path = ""
        self.kept: dict[str, Tensor] = {}
        self.later: dict[str, Tensor] = {}  # what windows will hold after this call
        self.state = {"most": 0, "seq": 0, "even": True}  # the longest sequence, the tokens of this call, whether all are of one length
        self.counts: list[Tensor] = []

    @property
    def bytes(self) -> int:
        """How much memory it takes now."""
        return sum(each.numel() * each.element_size() for each in self.kept.values())

    def at(self, path: str) -> Cache:
        """The part of it below a path."""
        part = copy(self)
        part.path = f"{self.path}{path}."
        return part

    def reorder(self, rows: Tensor) -> None:
        """The sequences at `rows` [new batch] in the place of all: some of them again, others not, as beams go on."""
        self.kept.update({name: each.index_select(0, rows) for name, each in self.kept.items()})
        self.lengths = self.lengths.index_select(0, rows)
        self.batch = len(rows)

    # -- one call ----------------------------------------------------------------------------------

    def begin(self, first: Tensor, ids: Tensor | None) -> None:
        """Before the tokens of a call: are they such as it can take?"""
        batch, seq = first.shape[:2]
        most = self.state["most"]
        if batch != self.batch:
            raise ValueError(f"this cache is for {self.batch} sequences, and {batch} go on")
        if not seq:
            raise ValueError("there is no token to go on with: give one at least")
        if most + seq > self.capacity:
            full = f"the cache holds {most} tokens of {self.capacity} at most"
            raise ValueError(f"{full}; {seq} more do not fit: new_cache(capacity=...) says how many")
        there = None if ids is None else ids >= 0
        if there is not None and not bool(there.all()):
            if bool((there[:, 1:] > there[:, :-1]).any()):
                raise ValueError("ids below 0 come after all tokens of a row, not before")
            self.state["even"] = False
        self.counts[:] = [torch.full_like(self.lengths, seq) if there is None else there.sum(1)]
        self.state["seq"] = seq
        self.later.clear()

    def end(self) -> None:
        """After them."""
        self.kept.update(self.later)
        self.lengths += self.counts[0]
        self.state["most"] += self.state["seq"] if self.state["even"] else int(self.counts[0].max())

    def position(self) -> Tensor:
        """Where the tokens of this call stand: [batch, seq]."""
        return self.lengths[:, None] + torch.arange(self.state["seq"], device=self.lengths.device)

    def places(self, window: int | None = None) -> Tensor:
        """Where those kept stand, as `keep` gives them: [batch, kept]."""
        device = self.lengths.device
        if window is None:
            return torch.arange(self.state["most"] + self.state["seq"], device=device).expand(self.batch, -1)
        return self.lengths[:, None] + torch.arange(1 - window, self.state["seq"], device=device)

    def seen(self) -> Tensor | None:
        """Which of those kept each token of this call sees, [batch, 1, seq, kept]; None where it is one token, that sees all."""
        if self.state["even"] and self.state["seq"] == 1:
            return None
        return (self.position()[:, :, None] >= self.places()[:, None])[:, None]

    def keep(self, name: str, value: Tensor, dim: int, window: int | None = None) -> Tensor:
        """The value of the tokens of this call, which lie along `dim`, behind that of those before them."""
        if window is not None:
            return self.behind(name, value, dim, window - 1)
        whole = self.room(self.path + name, value, dim)
        most, seq = self.state["most"], self.state["seq"]
        if self.state["even"]:
            whole.narrow(dim, most, seq).copy_(value)
        else:
            whole.scatter_(dim, self.spread(self.position(), value, dim), value)
        return whole.narrow(dim, 0, most + seq)

    def earlier(self, name: str, value: Tensor, dim: int, by: int, blank: int = 0) -> Tensor:
        """The value `by` tokens before each token of this call."""
        return self.behind(name, value, dim, by, blank).narrow(dim, 0, self.state["seq"])

    def behind(self, name: str, value: Tensor, dim: int, length: int, blank: int = 0) -> Tensor:
        """The values of the last `length` tokens, and then of those of this call."""
        shape = [*value.shape[:dim], length, *value.shape[dim + 1 :]]
        old = self.checked(self.kept.get(self.path + name, value.new_full(shape, blank)), value)
        whole = torch.cat((old, value), dim)
        last = self.counts[0][:, None] + torch.arange(length, device=value.device)
        self.later[self.path + name] = whole.gather(dim, self.spread(last, old, dim))
        return whole

    def room(self, name: str, value: Tensor, dim: int) -> Tensor:
        """Where an entry is written: twice as long as it was, whenever it is full."""
        needed = self.state["most"] + self.state["seq"]
        old = self.checked(self.kept.get(name, value.narrow(dim, 0, 0)), value)
        if old.shape[dim] < needed:
            length = min(self.capacity, max(needed, 2 * old.shape[dim], 64))
            made = value.new_zeros([*value.shape[:dim], length, *value.shape[dim + 1 :]])
            made.narrow(dim, 0, old.shape[dim]).copy_(old)
            self.kept[name] = made
        return self.kept[name]

    def checked(self, old: Tensor, value: Tensor) -> Tensor:
        if old.dtype != value.dtype or (self.dtype and value.is_floating_point() and value.dtype != self.dtype):
            raise ValueError(f"the cache holds {self.dtype}, and the model computes {value.dtype}; make a new one")
        return old

    @staticmethod
    def spread(index: Tensor, like: Tensor, dim: int) -> Tensor:
        """An index [batch, n] along `dim` of a tensor."""
        shape = [1] * like.dim()
        shape[0], shape[dim] = index.shape
        return index.view(shape).expand([*like.shape[:dim], index.shape[1], *like.shape[dim + 1 :]])
