"""mixture_of_depths, compiled by mptc from mixture_of_depths.mpt.

    tokens: int64 [batch, seq]
    -> logits: float [batch, seq, vocab]
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable
from copy import copy
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


class Layer(nn.Module):
    """One copy of `stack … as layers`, mixture_of_depths.mpt:26."""

    def __init__(self) -> None:
        super().__init__()
        self.router = empty(32)  # [d]
        self.whole = Parameters()
        self.whole.pre_attention = Parameters(gain=empty(32))  # [d]
        self.whole.attention = Parameters(W_q=empty(2, 2, 8, 32), W_k=empty(2, 8, 32), W_v=empty(2, 8, 32), W_o=empty(32, 2, 2, 8))  # [kv, group, key, d], [kv, key, d], [kv, key, d], [d, kv, group, key]
        self.whole.pre_mlp = Parameters(gain=empty(32))  # [d]
        self.whole.swiglu = Parameters(W_gate=empty(24, 32), W_up=empty(24, 32), W_down=empty(32, 24))  # [hidden, d], [hidden, d], [d, hidden]
        self.routed = Parameters()
        self.routed.pre_attention = Parameters(gain=empty(32))  # [d]
        self.routed.attention = Parameters(W_q=empty(2, 2, 8, 32), W_k=empty(2, 8, 32), W_v=empty(2, 8, 32), W_o=empty(32, 2, 2, 8))  # [kv, group, key, d], [kv, key, d], [kv, key, d], [d, kv, group, key]
        self.routed.pre_mlp = Parameters(gain=empty(32))  # [d]
        self.routed.swiglu = Parameters(W_gate=empty(24, 32), W_up=empty(24, 32), W_down=empty(32, 24))  # [hidden, d], [hidden, d], [d, hidden]

    def forward(self, x: Tensor, value2: Tensor, rotation_8: tuple[Tensor, Tensor], position: Tensor, wide: torch.dtype, dtype: torch.dtype, probe: bool) -> tuple[Tensor, Tensor | None]:
        whole_pre_attention_gain = self.whole.pre_attention()
        whole_attention_W_q, whole_attention_W_k, whole_attention_W_v, whole_attention_W_o = self.whole.attention()
        whole_pre_mlp_gain = self.whole.pre_mlp()
        whole_swiglu_W_gate, whole_swiglu_W_up, whole_swiglu_W_down = self.whole.swiglu()
        routed_pre_attention_gain = self.routed.pre_attention()
        routed_attention_W_q, routed_attention_W_k, routed_attention_W_v, routed_attention_W_o = self.routed.attention()
        routed_pre_mlp_gain = self.routed.pre_mlp()
        routed_swiglu_W_gate, routed_swiglu_W_up, routed_swiglu_W_down = self.routed.swiglu()
        pre_attention = F.rms_norm(x, (32,), whole_pre_attention_gain, eps=1e-06)                     # [batch, seq, d]  mixture_of_depths.mpt:17
        q = F.linear(pre_attention, whole_attention_W_q.flatten(0, 2)).unflatten(-1, (2, 2, 8))       # [batch, seq, kv, group, key]
        q = rope(q.permute(0, 2, 3, 1, 4), rotation_8)                                                # [batch, kv, group, seq, key]  std.mpt:21
        k = F.linear(pre_attention, whole_attention_W_k.flatten(0, 1)).unflatten(-1, (2, 8))          # [batch, seq, kv, key]
        k = rope(k.transpose(1, 2), rotation_8)                                                       # [batch, kv, seq, key]  std.mpt:22
        v = F.linear(pre_attention, whole_attention_W_v.flatten(0, 1)).unflatten(-1, (2, 8))          # [batch, seq, kv, key]
        o = F.scaled_dot_product_attention(q.flatten(1, 2), k, v.transpose(1, 2), is_causal=True, enable_gqa=True).unflatten(1, (2, 2))  # [batch, kv, group, seq, key]
        del pre_attention, v, k, q
        y = x + F.linear(o.permute(0, 3, 1, 2, 4).flatten(-3), whole_attention_W_o.flatten(1))        # [batch, seq, d]  mixture_of_depths.mpt:17
        pre_mlp = F.rms_norm(y, (32,), whole_pre_mlp_gain, eps=1e-06)                                 # [batch, seq, d]  mixture_of_depths.mpt:18
        value = F.silu(F.linear(pre_mlp, whole_swiglu_W_gate))                                        # [batch, seq, hidden]
        whole = y + F.linear(F.linear(pre_mlp, whole_swiglu_W_up) * value, whole_swiglu_W_down) - x   # [batch, seq, d]  mixture_of_depths.mpt:28
        del o, value, pre_mlp, y
        x = x + whole                                                                                 # [batch, seq, d]  mixture_of_depths.mpt:28
        s = x @ self.router                                                                           # [batch, seq]  mixture_of_depths.mpt:29
        value = by_rows(self.rows, ((position, 0), (s, 1)), ((position, 0), (s, 1)), (1,), wide)      # [batch, seq]
        m = value < value2                                                                            # [batch, seq]  mixture_of_depths.mpt:30
        chosen = chosen_tokens(m)                                                                     # [batch, chosen]
        x_chosen = take(x, chosen)                                                                    # [batch, chosen, d]
        pre_attention = F.rms_norm(x_chosen, (32,), routed_pre_attention_gain, eps=1e-06)             # [batch, chosen, d]  mixture_of_depths.mpt:17
        q = F.linear(pre_attention, routed_attention_W_q.flatten(0, 2)).unflatten(-1, (2, 2, 8))      # [batch, chosen, kv, group, key]
        value_chosen = position[chosen]                                                               # [batch, chosen]
        q = rope_at(q.permute(0, 2, 3, 1, 4), rotation_at(value_chosen, 8, 10000.0, q.permute(0, 2, 3, 1, 4).dtype))  # [batch, kv, group, chosen, key]  std.mpt:21
        k = F.linear(pre_attention, routed_attention_W_k.flatten(0, 1)).unflatten(-1, (2, 8))         # [batch, chosen, kv, key]
        k = rope_at(k.transpose(1, 2), rotation_at(value_chosen, 8, 10000.0, k.transpose(1, 2).dtype))  # [batch, kv, chosen, key]  std.mpt:22
        v = F.linear(pre_attention, routed_attention_W_v.flatten(0, 1)).unflatten(-1, (2, 8))         # [batch, chosen, kv, key]
        o = F.scaled_dot_product_attention(q.flatten(1, 2), k, v.transpose(1, 2), is_causal=True, enable_gqa=True).unflatten(1, (2, 2))  # [batch, kv, group, chosen, key]
        del whole, pre_attention, v, k, q
        y = x_chosen + F.linear(o.permute(0, 3, 1, 2, 4).flatten(-3), routed_attention_W_o.flatten(1))  # [batch, chosen, d]  mixture_of_depths.mpt:17
        pre_mlp = F.rms_norm(y, (32,), routed_pre_mlp_gain, eps=1e-06)                                # [batch, chosen, d]  mixture_of_depths.mpt:18
        value = F.silu(F.linear(pre_mlp, routed_swiglu_W_gate))                                       # [batch, chosen, hidden]
        routed = F.linear(F.linear(pre_mlp, routed_swiglu_W_up) * value, routed_swiglu_W_down) + y - x_chosen  # [batch, chosen, d]  mixture_of_depths.mpt:32
        del o, x_chosen, y, value, pre_mlp
        x = put(2 * torch.sigmoid(take(s, chosen))[..., None] * routed, chosen, m) + x                # [batch, seq, d]  mixture_of_depths.mpt:32
        chosen2 = m.to(dtype) if probe else None
        return x, chosen2

    def decode(self, x: Tensor, mask: Tensor, value2: Tensor, value3: Tensor, position: Tensor, rotation_8: tuple[Tensor, Tensor], cache: Cache, seen: Tensor | None, wide: torch.dtype) -> Tensor:
        whole_pre_attention_gain = self.whole.pre_attention()
        whole_attention_W_q, whole_attention_W_k, whole_attention_W_v, whole_attention_W_o = self.whole.attention()
        whole_pre_mlp_gain = self.whole.pre_mlp()
        whole_swiglu_W_gate, whole_swiglu_W_up, whole_swiglu_W_down = self.whole.swiglu()
        routed_pre_attention_gain = self.routed.pre_attention()
        routed_attention_W_q, routed_attention_W_k, routed_attention_W_v, routed_attention_W_o = self.routed.attention()
        routed_pre_mlp_gain = self.routed.pre_mlp()
        routed_swiglu_W_gate, routed_swiglu_W_up, routed_swiglu_W_down = self.routed.swiglu()
        pre_attention = F.rms_norm(x, (32,), whole_pre_attention_gain, eps=1e-06)                     # [batch, seq, d]  mixture_of_depths.mpt:17
        q = F.linear(pre_attention, whole_attention_W_q.flatten(0, 2)).unflatten(-1, (2, 2, 8))       # [batch, seq, kv, group, key]
        q = rope_at(q.permute(0, 2, 3, 1, 4), rotation_8)                                             # [batch, kv, group, seq, key]  std.mpt:21
        k = F.linear(pre_attention, whole_attention_W_k.flatten(0, 1)).unflatten(-1, (2, 8))          # [batch, seq, kv, key]
        k = rope_at(k.transpose(1, 2), rotation_8)                                                    # [batch, kv, seq, key]  std.mpt:22
        k = cache.keep("k", k, 2)                                                                     # [batch, kv, ctx, key]  std.mpt:22
        value = cache.keep("v", F.linear(pre_attention, whole_attention_W_v.flatten(0, 1)).unflatten(-1, (2, 8)), 1)  # [batch, ctx, kv, key]
        o = F.scaled_dot_product_attention(q.flatten(1, 2), k, value.transpose(1, 2), attn_mask=seen, enable_gqa=True).unflatten(1, (2, 2))  # [batch, kv, group, seq, key]
        y = x + F.linear(o.permute(0, 3, 1, 2, 4).flatten(-3), whole_attention_W_o.flatten(1))        # [batch, seq, d]  mixture_of_depths.mpt:17
        pre_mlp = F.rms_norm(y, (32,), whole_pre_mlp_gain, eps=1e-06)                                 # [batch, seq, d]  mixture_of_depths.mpt:18
        value = F.silu(F.linear(pre_mlp, whole_swiglu_W_gate))                                        # [batch, seq, hidden]
        whole = y + F.linear(F.linear(pre_mlp, whole_swiglu_W_up) * value, whole_swiglu_W_down) - x   # [batch, seq, d]  mixture_of_depths.mpt:28
        x = x + whole                                                                                 # [batch, seq, d]  mixture_of_depths.mpt:28
        pre_attention = F.rms_norm(x, (32,), routed_pre_attention_gain, eps=1e-06)                    # [batch, seq, d]  mixture_of_depths.mpt:17
        q = F.linear(pre_attention, routed_attention_W_q.flatten(0, 2)).unflatten(-1, (2, 2, 8))      # [batch, seq, kv, group, key]
        q = rope_at(q.permute(0, 2, 3, 1, 4), rotation_8)                                             # [batch, kv, group, seq, key]  std.mpt:21
        k = F.linear(pre_attention, routed_attention_W_k.flatten(0, 1)).unflatten(-1, (2, 8))         # [batch, seq, kv, key]
        k = rope_at(k.transpose(1, 2), rotation_8)                                                    # [batch, kv, seq, key]  std.mpt:22
        k = cache.keep("k_", k, 2)                                                                    # [batch, kv, ctx, key]  std.mpt:22
        value = cache.keep("v_", F.linear(pre_attention, routed_attention_W_v.flatten(0, 1)).unflatten(-1, (2, 8)), 1)  # [batch, ctx, kv, key]
        s = x @ self.router                                                                           # [batch, seq]  mixture_of_depths.mpt:29
        s2 = cache.keep("s", s, 1)                                                                    # [batch, ctx]  mixture_of_depths.mpt:30
        m = torch.where(mask, (s2[:, None] > s[..., None]).to(wide), 0).sum(-1) < value2              # [batch, seq]  mixture_of_depths.mpt:30
        m2 = cache.keep("m", m, 1)                                                                    # [batch, ctx]  mixture_of_depths.mpt:30
        mask2 = (value3) & (torch.where(m[..., None], m2.to(wide)[:, None], 1) != 0)                  # [batch, seq, ctx]
        o = F.scaled_dot_product_attention(q.flatten(1, 2), k, value.transpose(1, 2), attn_mask=mask2[:, None, :, :], enable_gqa=True).unflatten(1, (2, 2))  # [batch, kv, group, seq, key]
        chosen = chosen_tokens(m)                                                                     # [batch, chosen]
        x_chosen = take(x, chosen)                                                                    # [batch, chosen, d]
        y = F.linear(take(o.permute(0, 3, 1, 2, 4), chosen).flatten(-3), routed_attention_W_o.flatten(1)) + x_chosen  # [batch, chosen, d]  mixture_of_depths.mpt:17
        pre_mlp = F.rms_norm(y, (32,), routed_pre_mlp_gain, eps=1e-06)                                # [batch, chosen, d]  mixture_of_depths.mpt:18
        value = F.silu(F.linear(pre_mlp, routed_swiglu_W_gate))                                       # [batch, chosen, hidden]
        routed = y + F.linear(value * F.linear(pre_mlp, routed_swiglu_W_up), routed_swiglu_W_down) - x_chosen  # [batch, chosen, d]  mixture_of_depths.mpt:32
        x = put(2 * routed * torch.sigmoid(take(s, chosen))[..., None], chosen, m) + x                # [batch, seq, d]  mixture_of_depths.mpt:32
        return x

    def rows(self, here: Tensor, s2: Tensor, there: Tensor, s: Tensor, wide: torch.dtype) -> Tensor:
        mask = here[:, None] >= there                                                                 # [seq, ctx]
        value = torch.where(mask, (s[:, None] > s2[..., None]).to(wide), 0).sum(-1)                   # [batch, seq]
        return value


class Model(nn.Module):
    """mixture_of_depths. Parameters begin as a function of `seed` and their own names alone."""

    CACHE = "5015ad16e22e751f"  # what tells a cache of this model from others
    INITIAL = {
        "embed": ("normal", 0.02),
        "unembed": ("normal", 0.02),
        "layers.*.router": ("normal", 0.02),
        "layers.*.whole.pre_attention.gain": ("fill", 1.0),
        "layers.*.whole.attention.W_q": ("normal", 0.02),
        "layers.*.whole.attention.W_k": ("normal", 0.02),
        "layers.*.whole.attention.W_v": ("normal", 0.02),
        "layers.*.whole.attention.W_o": ("normal", 0.02),
        "layers.*.whole.pre_mlp.gain": ("fill", 1.0),
        "layers.*.whole.swiglu.W_gate": ("normal", 0.02),
        "layers.*.whole.swiglu.W_up": ("normal", 0.02),
        "layers.*.whole.swiglu.W_down": ("normal", 0.02),
        "layers.*.routed.pre_attention.gain": ("fill", 1.0),
        "layers.*.routed.attention.W_q": ("normal", 0.02),
        "layers.*.routed.attention.W_k": ("normal", 0.02),
        "layers.*.routed.attention.W_v": ("normal", 0.02),
        "layers.*.routed.attention.W_o": ("normal", 0.02),
        "layers.*.routed.pre_mlp.gain": ("fill", 1.0),
        "layers.*.routed.swiglu.W_gate": ("normal", 0.02),
        "layers.*.routed.swiglu.W_up": ("normal", 0.02),
        "layers.*.routed.swiglu.W_down": ("normal", 0.02),
        "rmsnorm.gain": ("fill", 1.0),
    }

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.embed = empty(256, 32)  # [vocab, d]
        self.unembed = empty(256, 32)  # [vocab, d]
        self.rmsnorm = Parameters(gain=empty(32))  # [d]
        self.layers = nn.ModuleList(Layer() for _ in range(1))
        self.reset_parameters(seed)

    def reset_parameters(self, seed: int = 0) -> None:
        for path, parameter in self.named_parameters():
            begin(parameter, path, seed, *self.INITIAL[re.sub(r"\.\d+", ".*", path)])

    def new_cache(self, batch: int = 1, capacity: int = 4096) -> Cache:
        """For `batch` sequences of at most `capacity` tokens, 66 numbers for each: as dtype and device of the parameters are now.

        layers.*.k: [key, kv] of all tokens, 1 times
        layers.*.v: [key, kv] of all tokens, 1 times
        layers.*.k_: [key, kv] of all tokens, 1 times
        layers.*.v_: [key, kv] of all tokens, 1 times
        layers.*.s: [] of all tokens, 1 times
        layers.*.m: [] of all tokens, 1 times
        """
        like = next(self.parameters())
        return Cache(self.CACHE, batch, capacity, like.dtype, like.device)

    def forward(self, tokens: Tensor, *, loss: bool = False, probe: bool = False, cache: Cache | None = None, **_others: object) -> Output | Evaluation:
        if _others:
            raise TypeError(f"mixture_of_depths takes tokens, loss, probe and cache; not {', '.join(_others)}")
        expect("tokens", tokens, "ids", "batch", "seq")
        if cache is not None:
            if getattr(cache, "kind", None) != self.CACHE:
                raise ValueError("this cache is of another model, or none; make one with new_cache()")
            if loss or probe:
                raise ValueError("with a cache there is neither loss nor probes")
            return self.decode(tokens, cache)
        refuse_padding(tokens, True, "tokens holds ids below 0 before others: mixture_of_depths would see this padding as tokens; declare `input mask: []` and view `only(past(h), past(mask))`")
        batch, seq = tokens.shape[:2]
        dtype = next(self.parameters()).dtype
        wide = torch.float64 if next(self.parameters()).dtype == torch.float64 else torch.float32
        position = torch.arange(seq, device=tokens.device)
        rotation_8 = rotation(seq, 8, 10000.0, next(self.parameters()))
        gain = self.rmsnorm()
        x = lookup(self.embed, tokens)                                                                # [batch, seq, d]  mixture_of_depths.mpt:25
        value = torch.ceil((1 + position).to(wide) / 4)                                               # [seq]
        chosens = []
        for layer in self.layers:
            x, chosen = layer(x, value, rotation_8, position, wide, dtype, probe)
            chosens.append(chosen)
        logits = F.linear(F.rms_norm(x, (32,), gain, eps=1e-06), self.unembed)                        # [batch, seq, vocab]  mixture_of_depths.mpt:34
        evaluated, probes = None, {}
        if loss:
            evaluated = F.cross_entropy(logits.flatten(0, 1), F.pad(tokens[:, 1:], (0, 1), value=-1).flatten().clamp(min=-1), ignore_index=-1)
        if probe:
            probes.update(copies("layers.*.chosen", torch.stack(chosens)))
        if loss or probe:
            return Evaluation(logits, loss=evaluated, probes=probes)
        return Output(logits)

    @torch.no_grad()
    def decode(self, tokens: Tensor, cache: Cache) -> Output:
        """The next tokens, behind those that the cache has seen; it grows by them. Ids below 0 at the end of a row are no tokens of it."""
        dtype = next(self.parameters()).dtype
        wide = torch.float64 if next(self.parameters()).dtype == torch.float64 else torch.float32
        cache.begin(tokens, tokens)
        position = cache.position()
        seen = cache.seen()
        rotation_8 = rotation_at(position, 8, 10000.0, dtype)
        gain = self.rmsnorm()
        x = lookup(self.embed, tokens)                                                                # [batch, seq, d]  mixture_of_depths.mpt:25
        value = position[..., None] >= cache.places()[:, None]                                        # [batch, seq, ctx]
        mask = value                                                                                  # [batch, seq, ctx]
        value2 = torch.ceil((position + 1).to(wide) / 4)                                              # [batch, seq]
        for number, layer in enumerate(self.layers):
            x = layer.decode(x, mask, value2, value, position, rotation_8, cache.at(f"layers.{number}"), seen, wide)
        logits = F.linear(F.rms_norm(x, (32,), gain, eps=1e-06), self.unembed)                        # [batch, seq, vocab]  mixture_of_depths.mpt:34
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


def copies(name: str, values: Tensor) -> dict[str, Tensor]:
    """A value of every copy of a stack, each under its own name: `layers.*.energy` and [copies, ...] give `layers.0.energy` and so on."""
    if "*" not in name:
        return {name: values}
    return {path: part for copy, value in enumerate(values) for path, part in copies(name.replace("*", str(copy), 1), value).items()}


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
