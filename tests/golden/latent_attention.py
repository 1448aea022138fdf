"""latent_attention_small, compiled by mptc from latent_attention.mpt.

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
    """One copy of `stack … as layers`, latent_attention.mpt:40."""

    def __init__(self) -> None:
        super().__init__()
        self.pre_attention = Parameters(gain=empty(32))  # [d]
        self.latent_attention = Parameters(D_q=empty(16, 32), D_kv=empty(12, 32), U_q=empty(4, 8, 16), U_k=empty(4, 8, 12), U_v=empty(4, 8, 12), R_q=empty(4, 4, 16), R_k=empty(4, 32), W_o=empty(32, 4, 8))  # [narrow, d], [latent, d], [head, nope, narrow], [head, nope, latent], [head, value, latent], [head, turn, narrow], [turn, d], [d, head, value]
        self.pre_mlp = Parameters(gain=empty(32))  # [d]
        self.swiglu = Parameters(W_gate=empty(64, 32), W_up=empty(64, 32), W_down=empty(32, 64))  # [hidden, d], [hidden, d], [d, hidden]
        self.latent_attention.query_norm = Parameters(gain=empty(16))  # [narrow]
        self.latent_attention.latent_norm = Parameters(gain=empty(12))  # [latent]

    def forward(self, x: Tensor, rotation_4: tuple[Tensor, Tensor]) -> Tensor:
        pre_attention_gain = self.pre_attention()
        D_q, D_kv, U_q, U_k, U_v, R_q, R_k, W_o = self.latent_attention()
        latent_attention_query_norm_gain = self.latent_attention.query_norm()
        latent_attention_latent_norm_gain = self.latent_attention.latent_norm()
        pre_mlp_gain = self.pre_mlp()
        W_gate, W_up, W_down = self.swiglu()
        pre_attention = F.rms_norm(x, (32,), pre_attention_gain, eps=1e-06)                           # [batch, seq, d]  latent_attention.mpt:41
        x2 = F.linear(pre_attention, D_q)                                                             # [batch, seq, narrow]  latent_attention.mpt:27
        a = F.rms_norm(x2, (16,), latent_attention_query_norm_gain, eps=1e-06)                        # [batch, seq, narrow]  latent_attention.mpt:27
        rotated = rope(F.linear(a, R_q.flatten(0, 1)).unflatten(-1, (4, 4)).transpose(1, 2), rotation_4)  # [batch, head, seq, turn]
        value = torch.cat((F.linear(a, U_q.flatten(0, 1)).unflatten(-1, (4, 8)), rotated.transpose(1, 2)), -1)  # [batch, seq, head, nope+turn]
        del x2, rotated, a
        x2 = F.linear(pre_attention, D_kv)                                                            # [batch, seq, latent]  latent_attention.mpt:28
        latent_norm = F.rms_norm(x2, (12,), latent_attention_latent_norm_gain, eps=1e-06)             # [batch, seq, latent]  latent_attention.mpt:28
        value2 = F.linear(latent_norm, U_k.flatten(0, 1)).unflatten(-1, (4, 8))                       # [batch, seq, head, nope]
        k = rope(F.linear(pre_attention, R_k), rotation_4)                                            # [batch, seq, turn]  latent_attention.mpt:29
        value2 = torch.cat((value2, k[:, :, None].expand(-1, -1, 4, -1)), -1)                         # [batch, seq, head, nope+turn]
        del x2, pre_attention, k
        value3 = F.linear(latent_norm, U_v.flatten(0, 1)).unflatten(-1, (4, 8))                       # [batch, seq, head, value]
        o = F.scaled_dot_product_attention(value.transpose(1, 2), value2.transpose(1, 2), widened(value3.transpose(1, 2), 12), is_causal=True, scale=0.28867513459481287)[..., :8]  # [batch, head, seq, value]
        del latent_norm, value3, value2, value
        x = x + F.linear(o.transpose(1, 2).flatten(-2), W_o.flatten(1))                               # [batch, seq, d]  latent_attention.mpt:41
        pre_mlp = F.rms_norm(x, (32,), pre_mlp_gain, eps=1e-06)                                       # [batch, seq, d]  latent_attention.mpt:42
        x = x + F.linear(F.linear(pre_mlp, W_up) * F.silu(F.linear(pre_mlp, W_gate)), W_down)         # [batch, seq, d]  latent_attention.mpt:42
        return x

    def decode(self, x: Tensor, mask: Tensor, position: Tensor, rotation_4: tuple[Tensor, Tensor], cache: Cache) -> Tensor:
        pre_attention_gain = self.pre_attention()
        D_q, D_kv, U_q, U_k, U_v, R_q, R_k, W_o = self.latent_attention()
        latent_attention_query_norm_gain = self.latent_attention.query_norm()
        latent_attention_latent_norm_gain = self.latent_attention.latent_norm()
        pre_mlp_gain = self.pre_mlp()
        W_gate, W_up, W_down = self.swiglu()
        pre_attention = F.rms_norm(x, (32,), pre_attention_gain, eps=1e-06)                           # [batch, seq, d]  latent_attention.mpt:41
        k = rope_at(F.linear(pre_attention, R_k), rotation_4)                                         # [batch, seq, turn]  latent_attention.mpt:29
        k = cache.keep("k", k, 1)                                                                     # [batch, ctx, turn]  latent_attention.mpt:29
        x2 = F.linear(pre_attention, D_q)                                                             # [batch, seq, narrow]  latent_attention.mpt:27
        a = F.rms_norm(x2, (16,), latent_attention_query_norm_gain, eps=1e-06)                        # [batch, seq, narrow]  latent_attention.mpt:27
        rotated = rope_at(F.linear(a, R_q.flatten(0, 1)).unflatten(-1, (4, 4)).transpose(1, 2), rotation_4)  # [batch, head, seq, turn]
        value = torch.einsum("bct,bhst->bchs", k, rotated)                                            # [batch, ctx, head, seq]
        value2 = torch.einsum("hnl,bshn->bhls", U_k, F.linear(a, U_q.flatten(0, 1)).unflatten(-1, (4, 8)))  # [batch, head, latent, seq]
        x2 = F.linear(pre_attention, D_kv)                                                            # [batch, seq, latent]  latent_attention.mpt:28
        latent_norm = F.rms_norm(x2, (12,), latent_attention_latent_norm_gain, eps=1e-06)             # [batch, seq, latent]  latent_attention.mpt:28
        latent_norm = cache.keep("latent_norm", latent_norm, 1)                                       # [batch, ctx, latent]  latent_attention.mpt:28
        value2 = torch.einsum("bhls,bcl->bhsc", value2, latent_norm)                                  # [batch, head, seq, ctx]
        value = value + value2.permute(0, 3, 1, 2)                                                    # [batch, ctx, head, seq]
        weights = torch.softmax((0.28867513459481287 * value).masked_fill(~mask.mT[:, :, None], -torch.inf), -3)  # [batch, ctx, head, seq]
        value = torch.einsum("bhsl,hvl->bhsv", torch.einsum("bchs,bcl->bhsl", weights, latent_norm), U_v)  # [batch, head, seq, value]
        x = x + F.linear(value.transpose(1, 2).flatten(-2), W_o.flatten(1))                           # [batch, seq, d]  latent_attention.mpt:41
        pre_mlp = F.rms_norm(x, (32,), pre_mlp_gain, eps=1e-06)                                       # [batch, seq, d]  latent_attention.mpt:42
        x = F.linear(F.linear(pre_mlp, W_up) * F.silu(F.linear(pre_mlp, W_gate)), W_down) + x         # [batch, seq, d]  latent_attention.mpt:42
        return x


class Model(nn.Module):
    """latent_attention_small. Parameters begin as a function of `seed` and their own names alone."""

    CACHE = "9383063fe0a7cc12"  # what tells a cache of this model from others
    INITIAL = {
        "embed": ("normal", 0.02),
        "unembed": ("normal", 0.02),
        "layers.*.pre_attention.gain": ("fill", 1.0),
        "layers.*.latent_attention.D_q": ("normal", 0.02),
        "layers.*.latent_attention.D_kv": ("normal", 0.02),
        "layers.*.latent_attention.U_q": ("normal", 0.02),
        "layers.*.latent_attention.U_k": ("normal", 0.02),
        "layers.*.latent_attention.U_v": ("normal", 0.02),
        "layers.*.latent_attention.R_q": ("normal", 0.02),
        "layers.*.latent_attention.R_k": ("normal", 0.02),
        "layers.*.latent_attention.W_o": ("normal", 0.02),
        "layers.*.latent_attention.query_norm.gain": ("fill", 1.0),
        "layers.*.latent_attention.latent_norm.gain": ("fill", 1.0),
        "layers.*.pre_mlp.gain": ("fill", 1.0),
        "layers.*.swiglu.W_gate": ("normal", 0.02),
        "layers.*.swiglu.W_up": ("normal", 0.02),
        "layers.*.swiglu.W_down": ("normal", 0.02),
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
        """For `batch` sequences of at most `capacity` tokens, 32 numbers for each: as dtype and device of the parameters are now.

        layers.*.k: [turn] of all tokens, 2 times
        layers.*.latent_norm: [latent] of all tokens, 2 times
        """
        like = next(self.parameters())
        return Cache(self.CACHE, batch, capacity, like.dtype, like.device)

    def forward(self, tokens: Tensor, *, loss: bool = False, probe: bool = False, cache: Cache | None = None, **_others: object) -> Output | Evaluation:
        if _others:
            raise TypeError(f"latent_attention_small takes tokens, loss, probe and cache; not {', '.join(_others)}")
        expect("tokens", tokens, "ids", "batch", "seq")
        if cache is not None:
            if getattr(cache, "kind", None) != self.CACHE:
                raise ValueError("this cache is of another model, or none; make one with new_cache()")
            if loss or probe:
                raise ValueError("with a cache there is neither loss nor probes")
            return self.decode(tokens, cache)
        refuse_padding(tokens, True, "tokens holds ids below 0 before others: latent_attention_small would see this padding as tokens; declare `input mask: []` and view `only(past(h), past(mask))`")
        batch, seq = tokens.shape[:2]
        rotation_4 = rotation(seq, 4, 10000.0, next(self.parameters()))
        gain = self.rmsnorm()
        x = lookup(self.embed, tokens)                                                                # [batch, seq, d]  latent_attention.mpt:39
        for layer in self.layers:
            x = layer(x, rotation_4)
        logits = F.linear(F.rms_norm(x, (32,), gain, eps=1e-06), self.unembed)                        # [batch, seq, vocab]  latent_attention.mpt:44
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
        rotation_4 = rotation_at(position, 4, 10000.0, dtype)
        gain = self.rmsnorm()
        x = lookup(self.embed, tokens)                                                                # [batch, seq, d]  latent_attention.mpt:39
        mask = position[..., None] >= cache.places()[:, None]                                         # [batch, seq, ctx]
        for number, layer in enumerate(self.layers):
            x = layer.decode(x, mask, position, rotation_4, cache.at(f"layers.{number}"))
        logits = F.linear(F.rms_norm(x, (32,), gain, eps=1e-06), self.unembed)                        # [batch, seq, vocab]  latent_attention.mpt:44
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


def widened(vectors: Tensor, width: int, few: int = 128) -> Tensor:
    """Vectors [..., seq, size] with zeros behind them, as long as those that attention meets them with: else torch makes all pairs on a CPU.

    Of few tokens it may: that is as fast, and nearer where a softmax is almost a choice.
    """
    return vectors if not torch.compiler.is_compiling() and vectors.shape[-2] <= few else F.pad(vectors, (0, width - vectors.shape[-1]))


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
