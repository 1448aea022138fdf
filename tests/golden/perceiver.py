"""perceiver, compiled by mptc from perceiver.mpt.

    asked: float [batch, seq, feature]
    places: float [batch, src, feature]
    mask: float [batch, src]
    answer: int64 [batch, seq]
    -> logits: float [batch, seq, kind]
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

    logits: Tensor  # [batch, seq, kind]


class Evaluation(NamedTuple):
    """The outputs, with the loss and the probes that were asked for."""

    logits: Tensor  # [batch, seq, kind]
    loss: Tensor | None
    probes: dict[str, Tensor]


class Layer(nn.Module):
    """One copy of `stack … as layers`, perceiver.mpt:40."""

    def __init__(self) -> None:
        super().__init__()
        self.pre_attention = Parameters(gain=empty(32), bias=empty(32))  # [d], [d]
        self.look = Parameters(W_q=empty(4, 8, 32), W_k=empty(4, 8, 32), W_v=empty(4, 8, 32), W_o=empty(32, 4, 8))  # [head, key, d], [head, key, d], [head, key, d], [d, head, key]
        self.pre_mlp = Parameters(gain=empty(32), bias=empty(32))  # [d], [d]
        self.mlp = Parameters(W_in=empty(64, 32), b_in=empty(64), W_out=empty(32, 64), b_out=empty(32))  # [hidden, d], [hidden], [d, hidden], [d]

    def forward(self, z: Tensor) -> Tensor:
        pre_attention_gain, pre_attention_bias = self.pre_attention()
        W_q, W_k, W_v, W_o = self.look()
        pre_mlp_gain, pre_mlp_bias = self.pre_mlp()
        W_in, b_in, W_out, b_out = self.mlp()
        h = pre_attention_bias + F.rms_norm((z - z.mean(-2)[:, None]).mT, (32,), pre_attention_gain, eps=1e-05)  # [batch, latent, d]  perceiver.mpt:41
        q = F.linear(h, W_q.flatten(0, 1)).unflatten(-1, (4, 8))                                      # [batch, latent, head, key]
        k = F.linear(h, W_k.flatten(0, 1)).unflatten(-1, (4, 8))                                      # [batch, other, head, key]
        v = F.linear(h, W_v.flatten(0, 1)).unflatten(-1, (4, 8))                                      # [batch, other, head, key]
        o = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))   # [batch, head, latent, key]
        z = z + F.linear(o.transpose(1, 2).flatten(-2), W_o.flatten(1)).mT                            # [batch, d, latent]  perceiver.mpt:42
        pre_mlp = pre_mlp_bias + F.rms_norm((z - z.mean(-2)[:, None]).mT, (32,), pre_mlp_gain, eps=1e-05)  # [batch, latent, d]  perceiver.mpt:43
        z = z + (b_out + F.linear(F.gelu(b_in + F.linear(pre_mlp, W_in)), W_out)).mT                  # [batch, d, latent]  perceiver.mpt:43
        return z


class Model(nn.Module):
    """perceiver. Parameters begin as a function of `seed` and their own names alone."""

    INITIAL = {
        "W_asked": ("normal", 0.02),
        "W_place": ("normal", 0.02),
        "begin": ("normal", 0.02),
        "W_out": ("normal", 0.02),
        "read.gain": ("fill", 1.0),
        "read.bias": ("fill", 0.0),
        "pre_first.gain": ("fill", 1.0),
        "pre_first.bias": ("fill", 0.0),
        "first.W_q": ("normal", 0.02),
        "first.b_q": ("fill", 0.0),
        "first.W_k": ("normal", 0.02),
        "first.b_k": ("fill", 0.0),
        "first.W_v": ("normal", 0.02),
        "first.b_v": ("fill", 0.0),
        "first.W_o": ("normal", 0.02),
        "first.b_o": ("fill", 0.0),
        "layers.*.pre_attention.gain": ("fill", 1.0),
        "layers.*.pre_attention.bias": ("fill", 0.0),
        "layers.*.look.W_q": ("normal", 0.02),
        "layers.*.look.W_k": ("normal", 0.02),
        "layers.*.look.W_v": ("normal", 0.02),
        "layers.*.look.W_o": ("normal", 0.02),
        "layers.*.pre_mlp.gain": ("fill", 1.0),
        "layers.*.pre_mlp.bias": ("fill", 0.0),
        "layers.*.mlp.W_in": ("normal", 0.02),
        "layers.*.mlp.b_in": ("fill", 0.0),
        "layers.*.mlp.W_out": ("normal", 0.02),
        "layers.*.mlp.b_out": ("fill", 0.0),
        "pre_cross.gain": ("fill", 1.0),
        "pre_cross.bias": ("fill", 0.0),
        "cross.W_q": ("normal", 0.02),
        "cross.b_q": ("fill", 0.0),
        "cross.W_k": ("normal", 0.02),
        "cross.b_k": ("fill", 0.0),
        "cross.W_v": ("normal", 0.02),
        "cross.b_v": ("fill", 0.0),
        "cross.W_o": ("normal", 0.02),
        "cross.b_o": ("fill", 0.0),
        "encoded.gain": ("fill", 1.0),
        "encoded.bias": ("fill", 0.0),
        "decoded.W_q": ("normal", 0.02),
        "decoded.W_k": ("normal", 0.02),
        "decoded.W_v": ("normal", 0.02),
        "decoded.W_o": ("normal", 0.02),
        "readout.gain": ("fill", 1.0),
        "readout.bias": ("fill", 0.0),
    }

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.W_asked = empty(32, 12)  # [d, feature]
        self.W_place = empty(32, 12)  # [d, feature]
        self.begin = empty(6, 32)  # [latent, d]
        self.W_out = empty(10, 32)  # [kind, d]
        self.read = Parameters(gain=empty(32), bias=empty(32))  # [d], [d]
        self.pre_first = Parameters(gain=empty(32), bias=empty(32))  # [d], [d]
        self.first = Parameters(W_q=empty(4, 8, 32), b_q=empty(4, 8), W_k=empty(4, 8, 32), b_k=empty(4, 8), W_v=empty(4, 8, 32), b_v=empty(4, 8), W_o=empty(32, 4, 8), b_o=empty(32))  # [head, key, d], [head, key], [head, key, d], [head, key], [head, key, d], [head, key], [d, head, key], [d]
        self.pre_cross = Parameters(gain=empty(32), bias=empty(32))  # [d], [d]
        self.cross = Parameters(W_q=empty(4, 8, 32), b_q=empty(4, 8), W_k=empty(4, 8, 32), b_k=empty(4, 8), W_v=empty(4, 8, 32), b_v=empty(4, 8), W_o=empty(32, 4, 8), b_o=empty(32))  # [head, key, d], [head, key], [head, key, d], [head, key], [head, key, d], [head, key], [d, head, key], [d]
        self.encoded = Parameters(gain=empty(32), bias=empty(32))  # [d], [d]
        self.decoded = Parameters(W_q=empty(4, 8, 32), W_k=empty(4, 8, 32), W_v=empty(4, 8, 32), W_o=empty(32, 4, 8))  # [head, key, d], [head, key, d], [head, key, d], [d, head, key]
        self.readout = Parameters(gain=empty(32), bias=empty(32))  # [d], [d]
        self.layers = nn.ModuleList(Layer() for _ in range(2))
        self.reset_parameters(seed)

    def reset_parameters(self, seed: int = 0) -> None:
        for path, parameter in self.named_parameters():
            begin(parameter, path, seed, *self.INITIAL[re.sub(r"\.\d+", ".*", path)])

    def new_cache(self, batch: int = 1, capacity: int = 4096) -> Cache:
        """There is none: it is bidirectional: what it says of a token changes with the tokens after it."""
        raise TypeError("perceiver cannot decode token by token: it is bidirectional: what it says of a token changes with the tokens after it")

    def forward(self, asked: Tensor, places: Tensor, mask: Tensor, answer: Tensor, *, loss: bool = False, probe: bool = False, **_others: object) -> Output | Evaluation:
        if _others:
            raise TypeError(f"perceiver takes asked, places, mask, answer, loss and probe; not {', '.join(_others)}")
        expect("asked", asked, "numbers", "batch", "seq", 12)
        expect("places", places, "numbers", asked.shape[0], "src", 12)
        expect("mask", mask, "numbers", asked.shape[0], places.shape[1])
        expect("answer", answer, "ids", asked.shape[0], asked.shape[1])
        batch, seq = asked.shape[:2]
        read_gain, read_bias = self.read()
        pre_first_gain, pre_first_bias = self.pre_first()
        first_W_q, first_b_q, first_W_k, first_b_k, first_W_v, first_b_v, first_W_o, first_b_o = self.first()
        pre_cross_gain, pre_cross_bias = self.pre_cross()
        cross_W_q, cross_b_q, cross_W_k, cross_b_k, cross_W_v, cross_b_v, cross_W_o, cross_b_o = self.cross()
        encoded_gain, encoded_bias = self.encoded()
        decoded_W_q, decoded_W_k, decoded_W_v, decoded_W_o = self.decoded()
        readout_gain, readout_bias = self.readout()
        x = F.linear(asked, self.W_asked)                                                             # [batch, seq, d]  perceiver.mpt:48
        pre_first = pre_first_bias + F.rms_norm(self.begin - self.begin.mean(-1)[:, None], (32,), pre_first_gain, eps=1e-05)  # [latent, d]  perceiver.mpt:38
        q = first_b_q + torch.einsum("ld,hkd->lhk", pre_first, first_W_q)                             # [latent, head, key]  std.mpt:49
        x2 = F.linear(places, self.W_place)                                                           # [batch, src, d]  perceiver.mpt:37
        read = read_bias + F.rms_norm(x2 - 0.03125 * x2.sum(-1)[..., None], (32,), read_gain, eps=1e-05)  # [batch, src, d]  perceiver.mpt:37
        k = first_b_k + F.linear(read, first_W_k.flatten(0, 1)).unflatten(-1, (4, 8))                 # [batch, src, head, key]  std.mpt:50
        value = first_b_v + F.linear(read, first_W_v.flatten(0, 1)).unflatten(-1, (4, 8))             # [batch, src, head, key]
        mask = mask != 0                                                                              # [batch, src]
        o = F.scaled_dot_product_attention(q.transpose(0, 1)[None].expand(batch, -1, -1, -1), k.transpose(1, 2), value.transpose(1, 2), attn_mask=mask[:, None, None, :])  # [batch, head, latent, key]
        del x2, value, k
        first = first_b_o + F.linear(o.transpose(1, 2).flatten(-2), first_W_o.flatten(1))             # [batch, latent, d]  perceiver.mpt:38
        z = self.begin + first                                                                        # [batch, latent, d]  perceiver.mpt:38
        k = cross_b_k + F.linear(read, cross_W_k.flatten(0, 1)).unflatten(-1, (4, 8))                 # [batch, src, head, key]  std.mpt:50
        value = cross_b_v + F.linear(read, cross_W_v.flatten(0, 1)).unflatten(-1, (4, 8))             # [batch, src, head, key]
        z = z.mT                                                                                      # [batch, d, latent]
        for _ in range(2):
            for layer in self.layers:
                z = layer(z)
            pre_cross = pre_cross_bias + F.rms_norm((z - z.mean(-2)[:, None]).mT, (32,), pre_cross_gain, eps=1e-05)  # [batch, latent, d]  perceiver.mpt:45
            q = cross_b_q + F.linear(pre_cross, cross_W_q.flatten(0, 1)).unflatten(-1, (4, 8))        # [batch, latent, head, key]  std.mpt:49
            o = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), value.transpose(1, 2), attn_mask=mask[:, None, None, :])  # [batch, head, latent, key]
            cross = cross_b_o + F.linear(o.transpose(1, 2).flatten(-2), cross_W_o.flatten(1))         # [batch, latent, d]  perceiver.mpt:45
            z = z + cross.mT                                                                          # [batch, d, latent]  perceiver.mpt:45
        del read, k, value
        memory = encoded_bias + F.rms_norm((z - z.mean(-2)[:, None]).mT, (32,), encoded_gain, eps=1e-05)  # [batch, latent, d]  perceiver.mpt:47
        value = torch.einsum("hkd,bohk->bhdo", decoded_W_q, F.linear(memory, decoded_W_k.flatten(0, 1)).unflatten(-1, (4, 8)))  # [batch, head, d, other]
        a = torch.softmax(0.3535533905932738 * torch.einsum("bsd,bhdo->bsho", x, value), -1)          # [batch, seq, head, other]  perceiver.mpt:24
        o = torch.einsum("dhk,bohk->bdho", decoded_W_o, F.linear(memory, decoded_W_v.flatten(0, 1)).unflatten(-1, (4, 8)))  # [batch, d, head, other]
        x = torch.einsum("bsho,bdho->bsd", a, o)                                                      # [batch, seq, d]  perceiver.mpt:48
        readout = readout_bias + F.rms_norm(x - x.mean(-1)[..., None], (32,), readout_gain, eps=1e-05)  # [batch, seq, d]  perceiver.mpt:49
        logits = F.linear(readout, self.W_out)                                                        # [batch, seq, kind]  perceiver.mpt:49
        evaluated, probes = None, {}
        if loss:
            evaluated = F.cross_entropy(logits.flatten(0, 1), answer.flatten().clamp(min=-1), ignore_index=-1)
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
