"""encoder_decoder, compiled by mptc from encoder_decoder.mpt.

    tokens: int64 [batch, seq]
    source: int64 [batch, src]
    mask: float [batch, src]
    -> logits: float [batch, seq, vocab]
"""

from __future__ import annotations

import hashlib
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
        o = F.linear(o.transpose(1, 2).flatten(-2), W_o.flatten(1))                                   # [batch, src, d]
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
        x = x + attend_b_o + F.linear(o.transpose(1, 2).flatten(-2), attend_W_o.flatten(1))           # [batch, seq, d]  encoder_decoder.mpt:32
        pre_cross = pre_cross_bias + F.rms_norm(x - x.mean(-1)[..., None], (32,), pre_cross_gain, eps=1e-05)  # [batch, seq, d]  encoder_decoder.mpt:33
        q = cross_b_q + F.linear(pre_cross, cross_W_q.flatten(0, 1)).unflatten(-1, (4, 8))            # [batch, seq, head, key]  std.mpt:49
        k = cross_b_k + F.linear(encoded, cross_W_k.flatten(0, 1)).unflatten(-1, (4, 8))              # [batch, src, head, key]  std.mpt:50
        value = cross_b_v + F.linear(encoded, cross_W_v.flatten(0, 1)).unflatten(-1, (4, 8))          # [batch, src, head, key]
        o = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), value.transpose(1, 2), attn_mask=mask[:, None, None, :])  # [batch, head, seq, key]
        cross = cross_b_o + F.linear(o.transpose(1, 2).flatten(-2), cross_W_o.flatten(1))             # [batch, seq, d]  encoder_decoder.mpt:33
        x = x + cross                                                                                 # [batch, seq, d]  encoder_decoder.mpt:33
        pre_mlp = pre_mlp_bias + F.rms_norm(x - x.mean(-1)[..., None], (32,), pre_mlp_gain, eps=1e-05)  # [batch, seq, d]  encoder_decoder.mpt:34
        x = x + b_out + F.linear(F.gelu(b_in + F.linear(pre_mlp, W_in)), W_out)                       # [batch, seq, d]  encoder_decoder.mpt:34
        return x


class Model(nn.Module):
    """encoder_decoder. Parameters begin as a function of `seed` and their own names alone."""

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

    def forward(self, tokens: Tensor, source: Tensor, mask: Tensor, *, loss: bool = False, probe: bool = False, **_others: object) -> Output | Evaluation:
        if _others:
            raise TypeError(f"encoder_decoder takes tokens, source, mask, loss and probe; not {', '.join(_others)}")
        refuse_padding(tokens, True, "tokens holds ids below 0 before others: encoder_decoder would see this padding as tokens; declare `input mask: []` and view `only(past(h), past(mask))`")
        batch, seq = tokens.shape[:2]
        device = tokens.device
        position = torch.arange(seq, device=tokens.device)
        length_src = source.shape[1]
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


# What the code above is made with.


class Parameters(nn.Module):
    """The parameters of one call site. A parent reads them by calling it, so that FSDP2, hooks and LoRA see every read."""

    def __init__(self, **parameters: nn.Parameter) -> None:
        super().__init__()
        for name, parameter in parameters.items():
            self.register_parameter(name, parameter)

    def forward(self) -> Tensor | tuple[Tensor, ...]:
        values = tuple(self.parameters(recurse=False))
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


def refuse_padding(ids: Tensor, behind_is_harmless: bool, message: str) -> None:
    """An error where an id is below 0: any, or, where tokens see earlier ones alone, one before one that is not. Does not wait for the device."""
    real = ids >= 0
    torch._assert_async((real.cumprod(1) == real).all() if behind_is_harmless else real.all(), message)


def lookup(table: Tensor, ids: Tensor) -> Tensor:
    """Rows of a table [rows, ...] at ids; 0 for an id outside it."""
    inside = (ids >= 0) & (ids < table.shape[0])
    rows = F.embedding(torch.where(inside, ids, 0), table.flatten(1))
    return (rows * inside[..., None]).reshape(*ids.shape, *table.shape[1:])


def entries(table: Tensor, index: Tensor, shared: int) -> Tensor:
    """Entries of a table [shared..., entries, ...] at numbers [shared..., ...]; 0 for a number outside it."""
    index = index.long()
    inside = (index >= 0) & (index < table.shape[shared])
    rest = table.dim() - shared - 1
    places = torch.where(inside, index, 0).flatten(shared)
    rows = table.flatten(shared + 1) if rest else table[..., None]
    taken = rows.gather(shared, places[..., None].expand(*places.shape, rows.shape[-1]))
    return taken.reshape(*index.shape, *table.shape[shared + 1 :]) * inside.reshape(*index.shape, *[1] * rest)
