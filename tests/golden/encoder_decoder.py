"""encoder_decoder, compiled by mptc from encoder_decoder.mpt.

    tokens: int64 [batch, seq]
    source: int64 [batch, src]
    mask: float [batch, src]
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


class Encoder(nn.Module):
    """One copy of `stack … as encoder`, encoder_decoder.mpt:23."""

    def __init__(self) -> None:
        super().__init__()
        self.pre_attention = Parameters(gain=empty(32), bias=empty(32))  # [d], [d]
        self.attend = Parameters(W_q=empty(4, 8, 32), b_q=empty(4, 8), W_k=empty(4, 8, 32), b_k=empty(4, 8), W_v=empty(4, 8, 32), b_v=empty(4, 8), W_o=empty(32, 4, 8), b_o=empty(32))  # [head, key, d], [head, key], [head, key, d], [head, key], [head, key, d], [head, key], [d, head, key], [d]
        self.pre_mlp = Parameters(gain=empty(32), bias=empty(32))  # [d], [d]
        self.mlp = Parameters(W_in=empty(64, 32), b_in=empty(64), W_out=empty(32, 64), b_out=empty(32))  # [hidden, d], [hidden], [d, hidden], [d]

    def forward(self, m: Tensor, mask: Tensor) -> Tensor:
        pre_attention_gain, pre_attention_bias = self.pre_attention()
        W_q, b_q, W_k, b_k, W_v, b_v, W_o, b_o = self.attend()
        pre_mlp_gain, pre_mlp_bias = self.pre_mlp()
        W_in, b_in, W_out, b_out = self.mlp()
        h = pre_attention_bias + F.rms_norm(m - m.mean(-1)[..., None], (32,), pre_attention_gain, eps=1e-05)  # [batch, src, d]  encoder_decoder.mpt:24
        q = b_q + F.linear(h, W_q.flatten(0, 1)).unflatten(-1, (4, 8))                                # [batch, src, head, key]  std.mpt:49
        k = b_k + F.linear(h, W_k.flatten(0, 1)).unflatten(-1, (4, 8))                                # [batch, far, head, key]  std.mpt:50
        value = b_v + F.linear(h, W_v.flatten(0, 1)).unflatten(-1, (4, 8))                            # [batch, far, head, key]
        o = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), value.transpose(1, 2), attn_mask=mask[:, None, None, :])  # [batch, head, src, key]
        del h, value, k, q
        o = F.linear(o.transpose(1, 2).flatten(-2), W_o.flatten(1))                                   # [batch, src, d]
        m2 = m + b_o + o                                                                              # [batch, src, d]  encoder_decoder.mpt:25
        pre_mlp = pre_mlp_bias + F.rms_norm(m + b_o + o - m2.mean(-1)[..., None], (32,), pre_mlp_gain, eps=1e-05)  # [batch, src, d]  encoder_decoder.mpt:26
        m = b_out + m + b_o + o + F.linear(F.gelu(b_in + F.linear(pre_mlp, W_in)), W_out)             # [batch, src, d]  encoder_decoder.mpt:26
        return m

    def decode(self, m: Tensor, mask: Tensor) -> Tensor:
        pre_attention_gain, pre_attention_bias = self.pre_attention()
        W_q, b_q, W_k, b_k, W_v, b_v, W_o, b_o = self.attend()
        pre_mlp_gain, pre_mlp_bias = self.pre_mlp()
        W_in, b_in, W_out, b_out = self.mlp()
        h = pre_attention_bias + F.rms_norm(m - m.mean(-1)[..., None], (32,), pre_attention_gain, eps=1e-05)  # [batch, src, d]  encoder_decoder.mpt:24
        q = b_q + F.linear(h, W_q.flatten(0, 1)).unflatten(-1, (4, 8))                                # [batch, src, head, key]  std.mpt:49
        k = b_k + F.linear(h, W_k.flatten(0, 1)).unflatten(-1, (4, 8))                                # [batch, far, head, key]  std.mpt:50
        a = masked_softmax(0.3535533905932738 * (k.transpose(1, 2) @ q.permute(0, 2, 3, 1)), mask[:, None, :, None], -2)  # [batch, head, far, src]  std.mpt:51
        value = b_v + F.linear(h, W_v.flatten(0, 1)).unflatten(-1, (4, 8))                            # [batch, far, head, key]
        o = F.linear((a.mT @ value.transpose(1, 2)).transpose(1, 2).flatten(-2), W_o.flatten(1))      # [batch, src, d]
        m2 = m + b_o + o                                                                              # [batch, src, d]  encoder_decoder.mpt:25
        pre_mlp = pre_mlp_bias + F.rms_norm(m + b_o + o - m2.mean(-1)[..., None], (32,), pre_mlp_gain, eps=1e-05)  # [batch, src, d]  encoder_decoder.mpt:26
        m = b_out + m + b_o + o + F.linear(F.gelu(b_in + F.linear(pre_mlp, W_in)), W_out)             # [batch, src, d]  encoder_decoder.mpt:26
        return m


class Decoder(nn.Module):
    """One copy of `stack … as decoder`, encoder_decoder.mpt:30."""

    def __init__(self) -> None:
        super().__init__()
        self.pre_attention = Parameters(gain=empty(32), bias=empty(32))  # [d], [d]
        self.attend = Parameters(W_q=empty(4, 8, 32), b_q=empty(4, 8), W_k=empty(4, 8, 32), b_k=empty(4, 8), W_v=empty(4, 8, 32), b_v=empty(4, 8), W_o=empty(32, 4, 8), b_o=empty(32))  # [head, key, d], [head, key], [head, key, d], [head, key], [head, key, d], [head, key], [d, head, key], [d]
        self.pre_cross = Parameters(gain=empty(32), bias=empty(32))  # [d], [d]
        self.cross = Parameters(W_q=empty(4, 8, 32), b_q=empty(4, 8), W_k=empty(4, 8, 32), b_k=empty(4, 8), W_v=empty(4, 8, 32), b_v=empty(4, 8), W_o=empty(32, 4, 8), b_o=empty(32))  # [head, key, d], [head, key], [head, key, d], [head, key], [head, key, d], [head, key], [d, head, key], [d]
        self.pre_mlp = Parameters(gain=empty(32), bias=empty(32))  # [d], [d]
        self.mlp = Parameters(W_in=empty(64, 32), b_in=empty(64), W_out=empty(32, 64), b_out=empty(32))  # [hidden, d], [hidden], [d, hidden], [d]

    def forward(self, x: Tensor, encoded: Tensor, mask: Tensor) -> Tensor:
        pre_attention_gain, pre_attention_bias = self.pre_attention()
        attend_W_q, attend_b_q, attend_W_k, attend_b_k, attend_W_v, attend_b_v, attend_W_o, attend_b_o = self.attend()
        pre_cross_gain, pre_cross_bias = self.pre_cross()
        cross_W_q, cross_b_q, cross_W_k, cross_b_k, cross_W_v, cross_b_v, cross_W_o, cross_b_o = self.cross()
        pre_mlp_gain, pre_mlp_bias = self.pre_mlp()
        W_in, b_in, W_out, b_out = self.mlp()
        h = pre_attention_bias + F.rms_norm(x - x.mean(-1)[..., None], (32,), pre_attention_gain, eps=1e-05)  # [batch, seq, d]  encoder_decoder.mpt:31
        q = attend_b_q + F.linear(h, attend_W_q.flatten(0, 1)).unflatten(-1, (4, 8))                  # [batch, seq, head, key]  std.mpt:49
        k = attend_b_k + F.linear(h, attend_W_k.flatten(0, 1)).unflatten(-1, (4, 8))                  # [batch, seq, head, key]  std.mpt:50
        value = attend_b_v + F.linear(h, attend_W_v.flatten(0, 1)).unflatten(-1, (4, 8))              # [batch, seq, head, key]
        o = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), value.transpose(1, 2), is_causal=True)  # [batch, head, seq, key]
        del h, value, k, q
        x = x + attend_b_o + F.linear(o.transpose(1, 2).flatten(-2), attend_W_o.flatten(1))           # [batch, seq, d]  encoder_decoder.mpt:32
        pre_cross = pre_cross_bias + F.rms_norm(x - x.mean(-1)[..., None], (32,), pre_cross_gain, eps=1e-05)  # [batch, seq, d]  encoder_decoder.mpt:33
        q = cross_b_q + F.linear(pre_cross, cross_W_q.flatten(0, 1)).unflatten(-1, (4, 8))            # [batch, seq, head, key]  std.mpt:49
        k = cross_b_k + F.linear(encoded, cross_W_k.flatten(0, 1)).unflatten(-1, (4, 8))              # [batch, src, head, key]  std.mpt:50
        value = cross_b_v + F.linear(encoded, cross_W_v.flatten(0, 1)).unflatten(-1, (4, 8))          # [batch, src, head, key]
        o = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), value.transpose(1, 2), attn_mask=mask[:, None, None, :])  # [batch, head, seq, key]
        del pre_cross, value, k, q
        cross = cross_b_o + F.linear(o.transpose(1, 2).flatten(-2), cross_W_o.flatten(1))             # [batch, seq, d]  encoder_decoder.mpt:33
        x = x + cross                                                                                 # [batch, seq, d]  encoder_decoder.mpt:33
        pre_mlp = pre_mlp_bias + F.rms_norm(x - x.mean(-1)[..., None], (32,), pre_mlp_gain, eps=1e-05)  # [batch, seq, d]  encoder_decoder.mpt:34
        x = b_out + F.linear(F.gelu(b_in + F.linear(pre_mlp, W_in)), W_out) + x                       # [batch, seq, d]  encoder_decoder.mpt:34
        return x

    def decode(self, x: Tensor, encoded: Tensor, mask: Tensor, cache: Cache, seen: Tensor | None) -> Tensor:
        pre_attention_gain, pre_attention_bias = self.pre_attention()
        attend_W_q, attend_b_q, attend_W_k, attend_b_k, attend_W_v, attend_b_v, attend_W_o, attend_b_o = self.attend()
        pre_cross_gain, pre_cross_bias = self.pre_cross()
        cross_W_q, cross_b_q, cross_W_k, cross_b_k, cross_W_v, cross_b_v, cross_W_o, cross_b_o = self.cross()
        pre_mlp_gain, pre_mlp_bias = self.pre_mlp()
        W_in, b_in, W_out, b_out = self.mlp()
        h = pre_attention_bias + F.rms_norm(x - x.mean(-1)[..., None], (32,), pre_attention_gain, eps=1e-05)  # [batch, seq, d]  encoder_decoder.mpt:31
        q = attend_b_q + F.linear(h, attend_W_q.flatten(0, 1)).unflatten(-1, (4, 8))                  # [batch, seq, head, key]  std.mpt:49
        k = attend_b_k + F.linear(h, attend_W_k.flatten(0, 1)).unflatten(-1, (4, 8))                  # [batch, seq, head, key]  std.mpt:50
        k = cache.keep("k", k, 1)                                                                     # [batch, ctx, head, key]  std.mpt:50
        value = attend_b_v + F.linear(h, attend_W_v.flatten(0, 1)).unflatten(-1, (4, 8))              # [batch, seq, head, key]
        value = cache.keep("value", value, 1)                                                         # [batch, ctx, head, key]
        o = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), value.transpose(1, 2), attn_mask=seen)  # [batch, head, seq, key]
        x = x + attend_b_o + F.linear(o.transpose(1, 2).flatten(-2), attend_W_o.flatten(1))           # [batch, seq, d]  encoder_decoder.mpt:32
        pre_cross = pre_cross_bias + F.rms_norm(x - x.mean(-1)[..., None], (32,), pre_cross_gain, eps=1e-05)  # [batch, seq, d]  encoder_decoder.mpt:33
        q = cross_b_q + F.linear(pre_cross, cross_W_q.flatten(0, 1)).unflatten(-1, (4, 8))            # [batch, seq, head, key]  std.mpt:49
        k = cross_b_k + F.linear(encoded, cross_W_k.flatten(0, 1)).unflatten(-1, (4, 8))              # [batch, src, head, key]  std.mpt:50
        a = masked_softmax(0.3535533905932738 * (q.transpose(1, 2) @ k.permute(0, 2, 3, 1)), mask[:, None, None], -1)  # [batch, head, seq, src]  std.mpt:51
        value = a @ (cross_b_v + F.linear(encoded, cross_W_v.flatten(0, 1)).unflatten(-1, (4, 8))).transpose(1, 2)  # [batch, head, seq, key]
        cross = cross_b_o + F.linear(value.transpose(1, 2).flatten(-2), cross_W_o.flatten(1))         # [batch, seq, d]  encoder_decoder.mpt:33
        x = x + cross                                                                                 # [batch, seq, d]  encoder_decoder.mpt:33
        pre_mlp = pre_mlp_bias + F.rms_norm(x - x.mean(-1)[..., None], (32,), pre_mlp_gain, eps=1e-05)  # [batch, seq, d]  encoder_decoder.mpt:34
        x = x + b_out + F.linear(F.gelu(b_in + F.linear(pre_mlp, W_in)), W_out)                       # [batch, seq, d]  encoder_decoder.mpt:34
        return x


class Model(nn.Module):
    """encoder_decoder. Parameters begin as a function of `seed` and their own names alone."""

    CACHE = "b86c984989d1bfec"  # what tells a cache of this model from others
    INITIAL = {
        "embed": ("normal", 0.02),
        "place": ("normal", 0.02),
        "encoder.*.pre_attention.gain": ("fill", 1.0),
        "encoder.*.pre_attention.bias": ("fill", 0.0),
        "encoder.*.attend.W_q": ("normal", 0.02),
        "encoder.*.attend.b_q": ("fill", 0.0),
        "encoder.*.attend.W_k": ("normal", 0.02),
        "encoder.*.attend.b_k": ("fill", 0.0),
        "encoder.*.attend.W_v": ("normal", 0.02),
        "encoder.*.attend.b_v": ("fill", 0.0),
        "encoder.*.attend.W_o": ("normal", 0.02),
        "encoder.*.attend.b_o": ("fill", 0.0),
        "encoder.*.pre_mlp.gain": ("fill", 1.0),
        "encoder.*.pre_mlp.bias": ("fill", 0.0),
        "encoder.*.mlp.W_in": ("normal", 0.02),
        "encoder.*.mlp.b_in": ("fill", 0.0),
        "encoder.*.mlp.W_out": ("normal", 0.02),
        "encoder.*.mlp.b_out": ("fill", 0.0),
        "encoded.gain": ("fill", 1.0),
        "encoded.bias": ("fill", 0.0),
        "decoder.*.pre_attention.gain": ("fill", 1.0),
        "decoder.*.pre_attention.bias": ("fill", 0.0),
        "decoder.*.attend.W_q": ("normal", 0.02),
        "decoder.*.attend.b_q": ("fill", 0.0),
        "decoder.*.attend.W_k": ("normal", 0.02),
        "decoder.*.attend.b_k": ("fill", 0.0),
        "decoder.*.attend.W_v": ("normal", 0.02),
        "decoder.*.attend.b_v": ("fill", 0.0),
        "decoder.*.attend.W_o": ("normal", 0.02),
        "decoder.*.attend.b_o": ("fill", 0.0),
        "decoder.*.pre_cross.gain": ("fill", 1.0),
        "decoder.*.pre_cross.bias": ("fill", 0.0),
        "decoder.*.cross.W_q": ("normal", 0.02),
        "decoder.*.cross.b_q": ("fill", 0.0),
        "decoder.*.cross.W_k": ("normal", 0.02),
        "decoder.*.cross.b_k": ("fill", 0.0),
        "decoder.*.cross.W_v": ("normal", 0.02),
        "decoder.*.cross.b_v": ("fill", 0.0),
        "decoder.*.cross.W_o": ("normal", 0.02),
        "decoder.*.cross.b_o": ("fill", 0.0),
        "decoder.*.pre_mlp.gain": ("fill", 1.0),
        "decoder.*.pre_mlp.bias": ("fill", 0.0),
        "decoder.*.mlp.W_in": ("normal", 0.02),
        "decoder.*.mlp.b_in": ("fill", 0.0),
        "decoder.*.mlp.W_out": ("normal", 0.02),
        "decoder.*.mlp.b_out": ("fill", 0.0),
        "layernorm.gain": ("fill", 1.0),
        "layernorm.bias": ("fill", 0.0),
    }

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.embed = empty(256, 32)  # [vocab, d]
        self.place = empty(64, 32)  # [places, d]
        self.encoded = Parameters(gain=empty(32), bias=empty(32))  # [d], [d]
        self.layernorm = Parameters(gain=empty(32), bias=empty(32))  # [d], [d]
        self.encoder = nn.ModuleList(Encoder() for _ in range(2))
        self.decoder = nn.ModuleList(Decoder() for _ in range(2))
        self.reset_parameters(seed)

    def reset_parameters(self, seed: int = 0) -> None:
        for path, parameter in self.named_parameters():
            begin(parameter, path, seed, *self.INITIAL[re.sub(r"\.\d+", ".*", path)])

    def new_cache(self, batch: int = 1, capacity: int = 4096) -> Cache:
        """For `batch` sequences of at most `capacity` tokens, 128 numbers for each: as dtype and device of the parameters are now.

        decoder.*.k: [head, key] of all tokens, 2 times
        decoder.*.value: [head, key] of all tokens, 2 times
        """
        like = next(self.parameters())
        return Cache(self.CACHE, batch, capacity, like.dtype, like.device)

    def forward(self, tokens: Tensor, source: Tensor, mask: Tensor, *, loss: bool = False, probe: bool = False, cache: Cache | None = None, **_others: object) -> Output | Evaluation:
        if _others:
            raise TypeError(f"encoder_decoder takes tokens, source, mask, loss, probe and cache; not {', '.join(_others)}")
        expect("tokens", tokens, "ids", "batch", "seq")
        expect("source", source, "ids", tokens.shape[0], "src")
        expect("mask", mask, "numbers", tokens.shape[0], source.shape[1])
        if cache is not None:
            if getattr(cache, "kind", None) != self.CACHE:
                raise ValueError("this cache is of another model, or none; make one with new_cache()")
            if loss or probe:
                raise ValueError("with a cache there is neither loss nor probes")
            return self.decode(tokens, source, mask, cache)
        refuse_padding(tokens, True, "tokens holds ids below 0 before others: encoder_decoder would see this padding as tokens; declare `input mask: []` and view `only(past(h), past(mask))`")
        batch, seq = tokens.shape[:2]
        device = tokens.device
        length_src = source.shape[1]
        position = torch.arange(seq, device=tokens.device)
        encoded_gain, encoded_bias = self.encoded()
        layernorm_gain, layernorm_bias = self.layernorm()
        x = lookup(self.embed, tokens) + entries(self.place, position, 0)                             # [batch, seq, d]  encoder_decoder.mpt:29
        m = entries(self.place, torch.arange(length_src, device=device), 0) + lookup(self.embed, source)  # [batch, src, d]  encoder_decoder.mpt:22
        mask2 = mask != 0                                                                             # [batch, far]
        for encoder in self.encoder:
            m = encoder(m, mask2)
        encoded = encoded_bias + F.rms_norm(m - m.mean(-1)[..., None], (32,), encoded_gain, eps=1e-05)  # [batch, src, d]  encoder_decoder.mpt:28
        mask = mask != 0                                                                              # [batch, src]
        for decoder in self.decoder:
            x = decoder(x, encoded, mask)
        logits = F.linear(layernorm_bias + F.rms_norm(x - x.mean(-1)[..., None], (32,), layernorm_gain, eps=1e-05), self.embed)  # [batch, seq, vocab]  encoder_decoder.mpt:36
        evaluated, probes = None, {}
        if loss:
            evaluated = F.cross_entropy(logits.flatten(0, 1), F.pad(tokens[:, 1:], (0, 1), value=-1).flatten().clamp(min=-1), ignore_index=-1)
        if loss or probe:
            return Evaluation(logits, loss=evaluated, probes=probes)
        return Output(logits)

    @torch.no_grad()
    def decode(self, tokens: Tensor, source: Tensor, mask: Tensor, cache: Cache) -> Output:
        """The next tokens, behind those that the cache has seen; it grows by them. Ids below 0 at the end of a row are no tokens of it."""
        device = tokens.device
        length_src = source.shape[1]
        cache.begin(tokens, tokens)
        position = cache.position()
        seen = cache.seen()
        encoded_gain, encoded_bias = self.encoded()
        layernorm_gain, layernorm_bias = self.layernorm()
        x = lookup(self.embed, tokens) + entries(self.place, position, 0)                             # [batch, seq, d]  encoder_decoder.mpt:29
        m = entries(self.place, torch.arange(length_src, device=device), 0) + lookup(self.embed, source)  # [batch, src, d]  encoder_decoder.mpt:22
        mask2 = mask != 0                                                                             # [batch, far]
        for encoder in self.encoder:
            m = encoder.decode(m, mask2)
        encoded = encoded_bias + F.rms_norm(m - m.mean(-1)[..., None], (32,), encoded_gain, eps=1e-05)  # [batch, src, d]  encoder_decoder.mpt:28
        mask = mask != 0                                                                              # [batch, src]
        for number, decoder in enumerate(self.decoder):
            x = decoder.decode(x, encoded, mask, cache.at(f"decoder.{number}"), seen)
        logits = F.linear(layernorm_bias + F.rms_norm(x - x.mean(-1)[..., None], (32,), layernorm_gain, eps=1e-05), self.embed)  # [batch, seq, vocab]  encoder_decoder.mpt:36
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


def masked_softmax(scores: Tensor, mask: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    """Softmax over what the mask shows; 0 where it shows nothing at all."""
    scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    weights = (scores - torch.logsumexp(scores, dim, keepdim=True)).exp()
    return weights.masked_fill(~mask, 0.0)


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
