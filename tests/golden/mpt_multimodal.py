"""mpt_multimodal, compiled by mptc from mpt_multimodal.mpt.

    tokens: int64 [batch, seq]
    z: float [batch, fact]
    -> logits: float [batch, seq, vocab]
"""

from __future__ import annotations

import hashlib
import math
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
    """One copy of `stack … as layers`, mpt_multimodal.mpt:42."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = empty(2, 32)  # [modality, d]
        self.shift = empty(2, 32)  # [modality, d]
        self.rmsnorm = Parameters(gain=empty(32))  # [d]
        self.attention = Parameters(W_q=empty(2, 2, 8, 32), W_k=empty(2, 8, 32), W_v=empty(2, 8, 32), W_o=empty(32, 2, 2, 8))  # [kv, group, key, d], [kv, key, d], [kv, key, d], [d, kv, group, key]
        self.pre_mlp = Parameters(gain=empty(32))  # [d]
        self.swiglu = Parameters(W_gate=empty(64, 32), W_up=empty(64, 32), W_down=empty(32, 64))  # [hidden, d], [hidden, d], [d, hidden]

    def forward(self, x: Tensor, t: Tensor, rotation_8: tuple[Tensor, Tensor]) -> Tensor:
        rmsnorm_gain = self.rmsnorm()
        W_q, W_k, W_v, W_o = self.attention()
        pre_mlp_gain = self.pre_mlp()
        W_gate, W_up, W_down = self.swiglu()
        h = lookup(self.shift, t) + lookup(self.scale, t) * F.rms_norm(x, (32,), rmsnorm_gain, eps=1e-06)  # [batch, seq, d]  mpt_multimodal.mpt:46
        q = rope(F.linear(h, W_q.flatten(0, 2)).unflatten(-1, (2, 2, 8)).permute(0, 2, 3, 1, 4), rotation_8)  # [batch, kv, group, seq, key]  std.mpt:21
        k = rope(F.linear(h, W_k.flatten(0, 1)).unflatten(-1, (2, 8)).transpose(1, 2), rotation_8)    # [batch, kv, seq, key]  std.mpt:22
        v = F.linear(h, W_v.flatten(0, 1)).unflatten(-1, (2, 8))                                      # [batch, seq, kv, key]
        o = F.scaled_dot_product_attention(q.flatten(1, 2), k, v.transpose(1, 2), is_causal=True, enable_gqa=True).unflatten(1, (2, 2))  # [batch, kv, group, seq, key]
        del h, v, k, q
        x = x + F.linear(o.permute(0, 3, 1, 2, 4).flatten(-3), W_o.flatten(1))                        # [batch, seq, d]  mpt_multimodal.mpt:47
        pre_mlp = F.rms_norm(x, (32,), pre_mlp_gain, eps=1e-06)                                       # [batch, seq, d]  mpt_multimodal.mpt:48
        x = x + F.linear(F.linear(pre_mlp, W_up) * F.silu(F.linear(pre_mlp, W_gate)), W_down)         # [batch, seq, d]  mpt_multimodal.mpt:48
        return x

    def decode(self, x: Tensor, t: Tensor, position: Tensor, rotation_8: tuple[Tensor, Tensor], cache: Cache, seen: Tensor | None) -> Tensor:
        rmsnorm_gain = self.rmsnorm()
        W_q, W_k, W_v, W_o = self.attention()
        pre_mlp_gain = self.pre_mlp()
        W_gate, W_up, W_down = self.swiglu()
        h = lookup(self.shift, t) + lookup(self.scale, t) * F.rms_norm(x, (32,), rmsnorm_gain, eps=1e-06)  # [batch, seq, d]  mpt_multimodal.mpt:46
        q = rope_at(F.linear(h, W_q.flatten(0, 2)).unflatten(-1, (2, 2, 8)).permute(0, 2, 3, 1, 4), rotation_8)  # [batch, kv, group, seq, key]  std.mpt:21
        k = rope_at(F.linear(h, W_k.flatten(0, 1)).unflatten(-1, (2, 8)).transpose(1, 2), rotation_8)  # [batch, kv, seq, key]  std.mpt:22
        k = cache.keep("k", k, 2)                                                                     # [batch, kv, ctx, key]  std.mpt:22
        value = cache.keep("v", F.linear(h, W_v.flatten(0, 1)).unflatten(-1, (2, 8)), 1)              # [batch, ctx, kv, key]
        o = F.scaled_dot_product_attention(q.flatten(1, 2), k, value.transpose(1, 2), attn_mask=seen, enable_gqa=True).unflatten(1, (2, 2))  # [batch, kv, group, seq, key]
        x = x + F.linear(o.permute(0, 3, 1, 2, 4).flatten(-3), W_o.flatten(1))                        # [batch, seq, d]  mpt_multimodal.mpt:47
        pre_mlp = F.rms_norm(x, (32,), pre_mlp_gain, eps=1e-06)                                       # [batch, seq, d]  mpt_multimodal.mpt:48
        x = x + F.linear(F.silu(F.linear(pre_mlp, W_gate)) * F.linear(pre_mlp, W_up), W_down)         # [batch, seq, d]  mpt_multimodal.mpt:48
        return x


class Model(nn.Module):
    """mpt_multimodal. Parameters begin as a function of `seed` and their own names alone."""

    CACHE = "675b04152bfdf28e"  # what tells a cache of this model from others
    INITIAL = {
        "unembed": ("normal", 0.02),
        "embedded.words": ("normal", 0.02),
        "embedded.patches": ("normal", 0.02),
        "embedded.W_text": ("normal", 0.02),
        "embedded.W_image": ("normal", 0.02),
        "embedded.experts": ("normal", 0.02),
        "embedded.B": ("normal", 0.02),
        "embedded.W_mix": ("normal", 0.02),
        "embedded.W_basis": ("normal", 0.02),
        "embedded.W_scale": ("normal", 0.02),
        "embedded.W_shift": ("normal", 0.02),
        "layers.*.scale": ("fill", 1.0),
        "layers.*.shift": ("fill", 0.0),
        "layers.*.rmsnorm.gain": ("fill", 1.0),
        "layers.*.attention.W_q": ("normal", 0.02),
        "layers.*.attention.W_k": ("normal", 0.02),
        "layers.*.attention.W_v": ("normal", 0.02),
        "layers.*.attention.W_o": ("normal", 0.02),
        "layers.*.pre_mlp.gain": ("fill", 1.0),
        "layers.*.swiglu.W_gate": ("normal", 0.02),
        "layers.*.swiglu.W_up": ("normal", 0.02),
        "layers.*.swiglu.W_down": ("normal", 0.02),
        "readout.gain": ("fill", 1.0),
    }

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.unembed = empty(64, 32)  # [vocab, d]
        self.embedded = Parameters(words=empty(48, 24), patches=empty(16, 12), W_text=empty(32, 24), W_image=empty(32, 12), experts=empty(4, 64, 32), B=empty(8, 64, 32), W_mix=empty(4, 6), W_basis=empty(8, 6), W_scale=empty(32, 6), W_shift=empty(32, 6))  # [text, wide], [image, narrow], [d, wide], [d, narrow], [expert, vocab, d], [basis, vocab, d], [expert, fact], [basis, fact], [d, fact], [d, fact]
        self.readout = Parameters(gain=empty(32))  # [d]
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

    def forward(self, tokens: Tensor, z: Tensor, *, loss: bool = False, probe: bool = False, cache: Cache | None = None, **_others: object) -> Output | Evaluation:
        if _others:
            raise TypeError(f"mpt_multimodal takes tokens, z, loss, probe and cache; not {', '.join(_others)}")
        expect("tokens", tokens, "ids", "batch", "seq")
        expect("z", z, "numbers", tokens.shape[0], 6)
        if cache is not None:
            if getattr(cache, "kind", None) != self.CACHE:
                raise ValueError("this cache is of another model, or none; make one with new_cache()")
            if loss or probe:
                raise ValueError("with a cache there is neither loss nor probes")
            return self.decode(tokens, z, cache)
        refuse_padding(tokens, True, "tokens holds ids below 0 before others: mpt_multimodal would see this padding as tokens; declare `input mask: []` and view `only(past(h), past(mask))`")
        batch, seq = tokens.shape[:2]
        wide = torch.float64 if next(self.parameters()).dtype == torch.float64 else torch.float32
        device = tokens.device
        rotation_8 = rotation(seq, 8, 10000.0, next(self.parameters()))
        words, patches, W_text, W_image, experts, B, W_mix, W_basis, W_scale, W_shift = self.embedded()
        gain = self.readout()
        value = F.relu(F.linear(z, W_basis))                                                          # [batch, basis]
        r = mixture(value[:, None], B.flatten(0, 1), tokens[..., None], 64, 1, torch.arange(0, 512, 64, device=device), 2)  # [batch, seq, d]  mpt_multimodal.mpt:33
        weights = torch.softmax(F.linear(z, W_mix), -1)                                               # [batch, expert]
        m = mixture(weights[:, None], experts.flatten(0, 1), tokens[..., None], 64, 1, torch.arange(0, 256, 64, device=device), 2)  # [batch, seq, d]  mpt_multimodal.mpt:32
        value = (tokens >= 0).to(wide) * (tokens < 48).to(wide)                                       # [batch, seq]
        chosen = chosen_tokens(value)                                                                 # [batch, chosen]
        value2 = (tokens < 64).to(wide) * (tokens >= 48).to(wide)                                     # [batch, seq]
        chosen2 = chosen_tokens(value2)                                                               # [batch, chosen2]
        value2 = put(F.linear(lookup(patches, take(tokens, chosen2) - 48), W_image), chosen2, value2)  # [batch, seq, d]
        e = put(F.linear(lookup(words, take(tokens, chosen)), W_text), chosen, value) + value2        # [batch, seq, d]  mpt_multimodal.mpt:31
        x = F.linear(z, W_shift)[:, None] + (1 + F.linear(z, W_scale))[:, None] * (r + m + e)         # [batch, seq, d]  mpt_multimodal.mpt:41
        del value2, e, m, r
        t = sum([(tokens >= 48).long()], start=(tokens >= 0).long() - 1)                              # [batch, seq]  mpt_multimodal.mpt:45
        for layer in self.layers:
            x = layer(x, t, rotation_8)
        readout = F.rms_norm(x, (32,), gain, eps=1e-06)                                               # [batch, seq, d]  mpt_multimodal.mpt:50
        logits = F.linear(readout, self.unembed)                                                      # [batch, seq, vocab]  mpt_multimodal.mpt:50
        evaluated, probes = None, {}
        if loss:
            evaluated = F.cross_entropy(logits.flatten(0, 1), F.pad(tokens[:, 1:], (0, 1), value=-1).flatten().clamp(min=-1), ignore_index=-1)
        if loss or probe:
            return Evaluation(logits, loss=evaluated, probes=probes)
        return Output(logits)

    @torch.no_grad()
    def decode(self, tokens: Tensor, z: Tensor, cache: Cache) -> Output:
        """The next tokens, behind those that the cache has seen; it grows by them. Ids below 0 at the end of a row are no tokens of it."""
        dtype = next(self.parameters()).dtype
        wide = torch.float64 if next(self.parameters()).dtype == torch.float64 else torch.float32
        device = tokens.device
        cache.begin(tokens, tokens)
        position = cache.position()
        seen = cache.seen()
        rotation_8 = rotation_at(position, 8, 10000.0, dtype)
        words, patches, W_text, W_image, experts, B, W_mix, W_basis, W_scale, W_shift = self.embedded()
        gain = self.readout()
        value = F.relu(F.linear(z, W_basis))                                                          # [batch, basis]
        r = mixture(value[:, None], B.flatten(0, 1), tokens[..., None], 64, 1, torch.arange(0, 512, 64, device=device), 2)  # [batch, seq, d]  mpt_multimodal.mpt:33
        weights = torch.softmax(F.linear(z, W_mix), -1)                                               # [batch, expert]
        m = mixture(weights[:, None], experts.flatten(0, 1), tokens[..., None], 64, 1, torch.arange(0, 256, 64, device=device), 2)  # [batch, seq, d]  mpt_multimodal.mpt:32
        value = (tokens >= 0).to(wide) * (tokens < 48).to(wide)                                       # [batch, seq]
        chosen = chosen_tokens(value)                                                                 # [batch, chosen]
        value2 = (tokens < 64).to(wide) * (tokens >= 48).to(wide)                                     # [batch, seq]
        chosen2 = chosen_tokens(value2)                                                               # [batch, chosen2]
        value2 = put(F.linear(lookup(patches, take(tokens, chosen2) - 48), W_image), chosen2, value2)  # [batch, seq, d]
        e = put(F.linear(lookup(words, take(tokens, chosen)), W_text), chosen, value) + value2        # [batch, seq, d]  mpt_multimodal.mpt:31
        x = F.linear(z, W_shift)[:, None] + (1 + F.linear(z, W_scale))[:, None] * (r + m + e)         # [batch, seq, d]  mpt_multimodal.mpt:41
        t = sum([(tokens >= 48).long()], start=(tokens >= 0).long() - 1)                              # [batch, seq]  mpt_multimodal.mpt:45
        for number, layer in enumerate(self.layers):
            x = layer.decode(x, t, position, rotation_8, cache.at(f"layers.{number}"), seen)
        readout = F.rms_norm(x, (32,), gain, eps=1e-06)                                               # [batch, seq, d]  mpt_multimodal.mpt:50
        logits = F.linear(readout, self.unembed)                                                      # [batch, seq, vocab]  mpt_multimodal.mpt:50
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


def mixture(weights: Tensor | float, table: Tensor, ids: Tensor, size: int, step: int, begins: Tensor | int, bags: int) -> Tensor:
    """Rows `begins + step * ids` of a table [rows, width], summed with weights over all but the first `bags` dimensions; 0 for an id outside."""
    at = torch.where((ids >= 0) & (ids < size), ids * step + begins, -1)
    shares = torch.where(at >= 0, weights, 0.0).to(table.dtype)
    rows, shares_of = (value.flatten(bags).flatten(0, bags - 1) for value in (at.clamp(min=0).expand_as(shares), shares))
    return F.embedding_bag(rows, table, per_sample_weights=shares_of, mode="sum").view(*shares.shape[:bags], table.shape[1])


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
