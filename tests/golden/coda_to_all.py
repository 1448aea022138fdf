"""coda_to_all, compiled by mptc from coda_to_all.mpt.

    tokens: int64 [batch, seq]
    targets: int64 [batch, seq]
    -> logits: float [batch, seq, vocab]
"""

from __future__ import annotations

import hashlib
import math
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
    """One copy of `stack … as layers`, coda_to_all.mpt:29."""

    def __init__(self) -> None:
        super().__init__()
        self.router = empty(32)  # [d]
        self.before_attention = Parameters(gain=empty(32), bias=empty(32))  # [d], [d]
        self.attention_to = Parameters(W_q=empty(2, 1, 16, 32), W_k=empty(2, 16, 32), W_v=empty(2, 16, 32), W_o=empty(32, 2, 1, 16))  # [kv, group, key, d], [kv, key, d], [kv, key, d], [d, kv, group, key]
        self.before_mlp = Parameters(gain=empty(32), bias=empty(32))  # [d], [d]
        self.swiglu = Parameters(W_gate=empty(24, 32), W_up=empty(24, 32), W_down=empty(32, 24))  # [hidden, d], [hidden, d], [d, hidden]
        self.bottleneck = Parameters(W_down=empty(8, 32), W_up=empty(32, 8))  # [narrow, d], [d, narrow]

    def forward(self, x: Tensor, value: Tensor, value2: Tensor, dtype: torch.dtype, position: Tensor, rotation_16: tuple[Tensor, Tensor], probe: bool) -> tuple[Tensor, Tensor | None]:
        before_attention_gain, before_attention_bias = self.before_attention()
        W_q, W_k, W_v, W_o = self.attention_to()
        before_mlp_gain, before_mlp_bias = self.before_mlp()
        W_gate, swiglu_W_up, swiglu_W_down = self.swiglu()
        bottleneck_W_down, bottleneck_W_up = self.bottleneck()
        h = before_attention_bias + F.rms_norm(x - x.mean(-1)[..., None], (32,), before_attention_gain, eps=1e-05)  # [batch, seq, d]  coda_to_all.mpt:30
        m = soft_top_k(h @ self.router, value.to(dtype), 0.03)                                        # [batch, seq]  coda_to_all.mpt:32
        chosen = chosen_tokens(m, value2)                                                             # [batch, chosen]
        q = F.linear(take(h, chosen), W_q.flatten(0, 2)).unflatten(-1, (2, 1, 16))                    # [batch, chosen, kv, group, key]
        q = rope_at(q.permute(0, 2, 3, 1, 4), rotation_at(position[chosen], 16, 10000.0, q.permute(0, 2, 3, 1, 4).dtype))  # [batch, kv, group, chosen, key]  std.mpt:33
        k = rope(F.linear(h, W_k.flatten(0, 1)).unflatten(-1, (2, 16)).transpose(1, 2), rotation_16)  # [batch, kv, seq, key]  std.mpt:34
        v = F.linear(h, W_v.flatten(0, 1)).unflatten(-1, (2, 16))                                     # [batch, seq, kv, key]
        o = F.scaled_dot_product_attention(q.flatten(1, 2), k, v.transpose(1, 2), enable_gqa=True).unflatten(1, (2, 1))  # [batch, kv, group, chosen, key]
        del v, k, q
        a = F.linear(o.permute(0, 3, 1, 2, 4).flatten(-3), W_o.flatten(1))                            # [batch, chosen, d]  coda_to_all.mpt:35
        x2 = take(x, chosen) + a                                                                      # [batch, chosen, d]  coda_to_all.mpt:36
        before_mlp = before_mlp_bias + F.rms_norm(x2 - x2.mean(-1)[..., None], (32,), before_mlp_gain, eps=1e-05)  # [batch, chosen, d]  coda_to_all.mpt:36
        value3 = a + F.linear(F.linear(before_mlp, swiglu_W_up) * F.silu(F.linear(before_mlp, W_gate)), swiglu_W_down)  # [batch, chosen, d]
        del o, x2, before_mlp, a
        z = put(value3, chosen, m)                                                                    # [batch, seq, d]  coda_to_all.mpt:34
        x = x + F.linear(F.relu(F.linear(h, bottleneck_W_down)), bottleneck_W_up) + z * m[..., None]  # [batch, seq, d]  coda_to_all.mpt:38
        chosen2 = m if probe else None
        return x, chosen2


class Model(nn.Module):
    """coda_to_all. Parameters begin as a function of `seed` and their own names alone."""

    INITIAL = {
        "embed": ("normal", 0.02),
        "unembed": ("normal", 0.02),
        "layers.*.before_attention.gain": ("fill", 1.0),
        "layers.*.before_attention.bias": ("fill", 0.0),
        "layers.*.router": ("normal", 0.02),
        "layers.*.attention_to.W_q": ("normal", 0.02),
        "layers.*.attention_to.W_k": ("normal", 0.02),
        "layers.*.attention_to.W_v": ("normal", 0.02),
        "layers.*.attention_to.W_o": ("normal", 0.02),
        "layers.*.before_mlp.gain": ("fill", 1.0),
        "layers.*.before_mlp.bias": ("fill", 0.0),
        "layers.*.swiglu.W_gate": ("normal", 0.02),
        "layers.*.swiglu.W_up": ("normal", 0.02),
        "layers.*.swiglu.W_down": ("normal", 0.02),
        "layers.*.bottleneck.W_down": ("normal", 0.02),
        "layers.*.bottleneck.W_up": ("fill", 0.0),
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
        freeze(self, "embed")
        freeze(self, "unembed")
        freeze(self, "layers.*.attention_to.W_q")
        freeze(self, "layers.*.attention_to.W_k")
        freeze(self, "layers.*.attention_to.W_v")
        freeze(self, "layers.*.attention_to.W_o")
        freeze(self, "layers.*.swiglu.W_gate")
        freeze(self, "layers.*.swiglu.W_up")
        freeze(self, "layers.*.swiglu.W_down")

    def reset_parameters(self, seed: int = 0) -> None:
        for path, parameter in self.named_parameters():
            begin(parameter, path, seed, *self.INITIAL[re.sub(r"\.\d+", ".*", path)])

    def new_cache(self, batch: int = 1, capacity: int = 4096) -> Cache:
        """There is none: it is bidirectional: what it says of a token changes with the tokens after it."""
        raise TypeError("coda_to_all cannot decode token by token: it is bidirectional: what it says of a token changes with the tokens after it")

    def forward(self, tokens: Tensor, targets: Tensor, *, loss: bool = False, probe: bool = False, **_others: object) -> Output | Evaluation:
        if _others:
            raise TypeError(f"coda_to_all takes tokens, targets, loss and probe; not {', '.join(_others)}")
        expect("tokens", tokens, "ids", "batch", "seq")
        expect("targets", targets, "ids", tokens.shape[0], tokens.shape[1])
        refuse_padding(tokens, False, "tokens holds ids below 0: coda_to_all would see this padding as tokens; declare `input mask: []` and view `only(all(h), all(mask))`")
        batch, seq = tokens.shape[:2]
        dtype = next(self.parameters()).dtype
        wide = torch.float64 if next(self.parameters()).dtype == torch.float64 else torch.float32
        device = tokens.device
        position = torch.arange(seq, device=tokens.device)
        rotation_16 = rotation(seq, 16, 10000.0, next(self.parameters()))
        gain, bias = self.readout()
        x = lookup(self.embed, tokens)                                                                # [batch, seq, d]  coda_to_all.mpt:28
        value = seq / 3                                                                               # []
        value2 = torch.ceil(torch.full((), value, dtype=wide, device=device))                         # []
        chosens = []
        for layer in self.layers:
            x, chosen = layer(x, value2, value, dtype, position, rotation_16, probe)
            chosens.append(chosen)
        readout = bias + F.rms_norm(x - x.mean(-1)[..., None], (32,), gain, eps=1e-05)                # [batch, seq, d]  coda_to_all.mpt:40
        logits = F.linear(readout, self.unembed)                                                      # [batch, seq, vocab]  coda_to_all.mpt:40
        evaluated, probes = None, {}
        if loss:
            evaluated = F.cross_entropy(logits.flatten(0, 1), targets.flatten().clamp(min=-1), ignore_index=-1)
        if probe:
            probes.update(copies("layers.*.chosen", torch.stack(chosens)))
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


def soft_top_k(scores: Tensor, keep: Tensor | float, eps: float, steps: int = 0, among: Tensor | None = None) -> Tensor:
    """Soft top-k along the last dimension (arXiv 2304.04947): min(1, exp((s + a) / eps)), which sum to `keep`, for the largest; 0 for the others.

    With m of them at 1, a / eps = ln(keep - m) - LSE of the others; m is the first that leaves the next at most at 1. Gradients flow through a, which
    makes them the implicit ones. `steps`: the paper's dual updates instead. `among`: the tokens to choose from.
    """
    s = scores.to(torch.promote_types(scores.dtype, torch.float32)) / eps
    s = s if among is None else s.masked_fill(~among, -torch.inf)
    n, count = s.shape[-1], torch.arange(s.shape[-1], device=s.device)
    keep = torch.as_tensor(keep, dtype=s.dtype, device=s.device).ceil()
    values, order = s.detach().sort(dim=-1, descending=True, stable=True)
    rank = order.argsort(-1)
    if steps:
        level = below = torch.zeros_like(s[..., :1])
        for _ in range(steps):
            level = keep.log() - torch.logsumexp(s + below, -1, keepdim=True)
            below = (-s - level).clamp(max=0)
        weights = (s + level + below).exp()
    else:
        left = keep - count
        tails = values.flip(-1).logcumsumexp(-1).flip(-1)
        at_one = ((values + left.clamp(min=1).log() - tails > 0) & (left > 0)).sum(-1, keepdim=True)
        everything = keep >= (n if among is None else among.sum(-1, keepdim=True))
        full = (rank < at_one) | everything
        others = s.masked_fill(full & ~everything, -torch.inf)
        level = (keep - at_one).clamp(min=1).log() - torch.logsumexp(others, -1, keepdim=True)
        weights = torch.where(full, 1.0, (s + level).clamp(max=0).exp())
    kept = rank < keep if among is None else (rank < keep) & among
    return torch.where(kept, weights, 0.0).to(scores.dtype)


def chosen_tokens(chosen: Tensor, most: float | None = None) -> Tensor:
    """The numbers of the tokens that are chosen (not 0), in order, and then of others where a sequence has fewer: [batch, seq] gives [batch, chosen].

    `most`: no sequence has more. Where that is not known, a compiled graph, which is one for all, takes every token.
    """
    there = chosen != 0
    if most is not None:
        count = min(math.ceil(most), there.shape[1])
    else:
        count = there.shape[1] if torch.compiler.is_compiling() or not there.numel() else int(there.sum(1).max())
    return there.byte().argsort(dim=1, descending=True, stable=True)[:, :count]


def take(x: Tensor, at: Tensor) -> Tensor:
    """What tokens at numbers [batch, chosen] have of x [batch, seq, ...]."""
    batch, seq = x.shape[:2]
    rows = at + seq * torch.arange(batch, device=at.device)[:, None]
    return x.flatten(0, 1).index_select(0, rows.flatten()).view(*at.shape, *x.shape[2:])


def put(x: Tensor, at: Tensor, chosen: Tensor) -> Tensor:
    """x [batch, chosen, ...] where it belongs, 0 for the tokens [batch, seq] that are not chosen."""
    batch, seq = chosen.shape
    rows = at + seq * torch.arange(batch, device=at.device)[:, None]
    there = (chosen != 0).gather(1, at)
    x = torch.where(there.view(*there.shape, *[1] * (x.dim() - 2)), x, 0)
    return x.new_zeros(batch * seq, *x.shape[2:]).index_copy(0, rows.flatten(), x.flatten(0, 1)).view(batch, seq, *x.shape[2:])


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
