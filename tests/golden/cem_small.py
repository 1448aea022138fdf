"""cem_small, compiled by mptc from cem_small.mpt.

    tokens: int64 [batch, seq]
    -> logits: float [batch, seq, vocab]
"""

from __future__ import annotations

import hashlib
import re
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
    """One copy of `stack … as layers`, cem_small.mpt:19."""

    def __init__(self) -> None:
        super().__init__()
        self.context = Parameters(gain=empty(64))  # [d]
        self.query = Parameters(gain=empty(64))  # [d]
        self.interaction = Parameters(W_q=empty(2, 32, 64), W_k=empty(2, 32, 64))  # [head, key, d], [head, key, d]
        self.precondition = Parameters(scale=empty(64), U=empty(4, 64))  # [d], [rank, d]
        self.pre_gate = Parameters(gain=empty(64))  # [d]
        self.gated = Parameters(W_up=empty(128, 64), W_gate=empty(128, 64))  # [hidden, d], [hidden, d]

    def forward(self, x: Tensor, rotation_32: tuple[Tensor, Tensor]) -> Tensor:
        context_gain = self.context()
        query_gain = self.query()
        W_q, W_k = self.interaction()
        scale, U = self.precondition()
        pre_gate_gain = self.pre_gate()
        W_up, W_gate = self.gated()
        context = F.rms_norm(x, (64,), context_gain, eps=1e-06)                                       # [batch, seq, d]  cem_small.mpt:20
        # interaction(x | c): E = −√key Σ_head log Σ_j≤i exp(Σ_key q_i ⊙ k_j / √key)
        # -∂E/∂x = W_qᵀ R_i⁻¹ Σ_j≤i softmax_j≤i(q_i·k_j / √key) k_j    cem.mpt:6
        k = rope(F.linear(context, W_k.flatten(0, 1)).unflatten(-1, (2, 32)).transpose(1, 2), rotation_32)  # [batch, head, seq, key]  cem.mpt:10
        for _ in range(2):
            query = F.rms_norm(x, (64,), query_gain, eps=1e-06)                                       # [batch, seq, d]  cem_small.mpt:22
            q = rope(F.linear(query, W_q.flatten(0, 1)).unflatten(-1, (2, 32)).transpose(1, 2), rotation_32)  # [batch, head, seq, key]  cem.mpt:9
            o = F.scaled_dot_product_attention(q, k, k, is_causal=True)                               # [batch, head, seq, key]
            step = F.linear(rope(o, rotation_32, -1).transpose(1, 2).flatten(-2), W_q.flatten(0, 1).T)  # [batch, seq, d]
            x = x + scale.square() * step + F.linear(F.linear(step, U), U.T)                          # [batch, seq, d]  cem_small.mpt:22
        del context, query, q, o, step, k
        h = F.rms_norm(x, (64,), pre_gate_gain, eps=1e-06)                                            # [batch, seq, d]  cem_small.mpt:24
        # gated(x | c): E = −Σ_hidden W_gate c_i ⊙ ∫silu(W_up x_i)
        # -∂E/∂x = W_upᵀ (W_gate c_i ⊙ silu(W_up x_i))    cem.mpt:26
        x = x + F.linear(F.linear(h, W_gate) * F.silu(F.linear(h, W_up)), W_up.T)                     # [batch, seq, d]  cem_small.mpt:25
        return x

    def decode(self, x: Tensor, position: Tensor, rotation_32: tuple[Tensor, Tensor], cache: Cache, seen: Tensor | None) -> Tensor:
        context_gain = self.context()
        query_gain = self.query()
        W_q, W_k = self.interaction()
        scale, U = self.precondition()
        pre_gate_gain = self.pre_gate()
        W_up, W_gate = self.gated()
        context = F.rms_norm(x, (64,), context_gain, eps=1e-06)                                       # [batch, seq, d]  cem_small.mpt:20
        k = rope_at(F.linear(context, W_k.flatten(0, 1)).unflatten(-1, (2, 32)).transpose(1, 2), rotation_32)  # [batch, head, seq, key]  cem.mpt:10
        k = cache.keep("k", k, 2)                                                                     # [batch, head, ctx, key]  cem.mpt:10
        for _ in range(2):
            query = F.rms_norm(x, (64,), query_gain, eps=1e-06)                                       # [batch, seq, d]  cem_small.mpt:22
            q = rope_at(F.linear(query, W_q.flatten(0, 1)).unflatten(-1, (2, 32)).transpose(1, 2), rotation_32)  # [batch, head, seq, key]  cem.mpt:9
            o = F.scaled_dot_product_attention(q, k, k, attn_mask=seen)                               # [batch, head, seq, key]
            value = F.linear(rope_at(o, rotation_32, -1).transpose(1, 2).flatten(-2), W_q.flatten(0, 1).T)  # [batch, seq, d]
            x = x + scale.square() * value + F.linear(F.linear(value, U), U.T)                        # [batch, seq, d]  cem_small.mpt:22
        h = F.rms_norm(x, (64,), pre_gate_gain, eps=1e-06)                                            # [batch, seq, d]  cem_small.mpt:24
        x = x + F.linear(F.linear(h, W_gate) * F.silu(F.linear(h, W_up)), W_up.T)                     # [batch, seq, d]  cem_small.mpt:25
        return x


class Model(nn.Module):
    """cem_small. Parameters begin as a function of `seed` and their own names alone."""

    CACHE = "02006946a77709fc"  # what tells a cache of this model from others
    INITIAL = {
        "embed": ("normal", 0.02),
        "layers.*.context.gain": ("fill", 1.0),
        "layers.*.query.gain": ("fill", 1.0),
        "layers.*.interaction.W_q": ("normal", 0.02),
        "layers.*.interaction.W_k": ("normal", 0.02),
        "layers.*.precondition.scale": ("fill", 1.0),
        "layers.*.precondition.U": ("normal", 0.02),
        "layers.*.pre_gate.gain": ("fill", 1.0),
        "layers.*.gated.W_up": ("normal", 0.02),
        "layers.*.gated.W_gate": ("normal", 0.02),
        "rmsnorm.gain": ("fill", 1.0),
    }

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.embed = empty(256, 64)  # [vocab, d]
        self.rmsnorm = Parameters(gain=empty(64))  # [d]
        self.layers = nn.ModuleList(Layer() for _ in range(2))
        self.reset_parameters(seed)

    def reset_parameters(self, seed: int = 0) -> None:
        for path, parameter in self.named_parameters():
            begin(parameter, path, seed, *self.INITIAL[re.sub(r"\.\d+", ".*", path)])

    def new_cache(self, batch: int = 1, capacity: int = 4096) -> Cache:
        """For `batch` sequences of at most `capacity` tokens, 128 numbers for each: as dtype and device of the parameters are now.

        layers.*.k: [head, key] of all tokens, 2 times
        """
        like = next(self.parameters())
        return Cache(self.CACHE, batch, capacity, like.dtype, like.device)

    def forward(self, tokens: Tensor, *, loss: bool = False, probe: bool = False, cache: Cache | None = None, **_others: object) -> Output | Evaluation:
        if _others:
            raise TypeError(f"cem_small takes tokens, loss, probe and cache; not {', '.join(_others)}")
        expect("tokens", tokens, "ids", "batch", "seq")
        if cache is not None:
            if getattr(cache, "kind", None) != self.CACHE:
                raise ValueError("this cache is of another model, or none; make one with new_cache()")
            if loss or probe:
                raise ValueError("with a cache there is neither loss nor probes")
            return self.decode(tokens, cache)
        refuse_padding(tokens, True, "tokens holds ids below 0 before others: cem_small would see this padding as tokens; declare `input mask: []` and view `only(past(h), past(mask))`")
        batch, seq = tokens.shape[:2]
        rotation_32 = rotation(seq, 32, 10000.0, next(self.parameters()))
        gain = self.rmsnorm()
        x = lookup(self.embed, tokens)                                                                # [batch, seq, d]  cem_small.mpt:18
        for layer in self.layers:
            x = layer(x, rotation_32)
        logits = F.linear(F.rms_norm(x, (64,), gain, eps=1e-06), self.embed)                          # [batch, seq, vocab]  cem_small.mpt:27
        evaluated, probes = None, {}
        if loss:
            evaluated = F.cross_entropy(logits.flatten(0, 1), F.pad(tokens[:, 1:], (0, 1), value=-1).flatten().clamp(min=-1), ignore_index=-1)
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
        rotation_32 = rotation_at(position, 32, 10000.0, dtype)
        gain = self.rmsnorm()
        x = lookup(self.embed, tokens)                                                                # [batch, seq, d]  cem_small.mpt:18
        for number, layer in enumerate(self.layers):
            x = layer.decode(x, position, rotation_32, cache.at(f"layers.{number}"), seen)
        logits = F.linear(F.rms_norm(x, (64,), gain, eps=1e-06), self.embed)                          # [batch, seq, vocab]  cem_small.mpt:27
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
