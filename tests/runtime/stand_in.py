"""A generated module's surface, written by hand: a causal model of bytes, small enough to train in seconds."""

from mptc.runtime.surface import Argument, Surface, Target

SURFACE = Surface(
    name="stand_in",
    causal=True,
    inputs=(Argument("tokens", per_token=True, vocabulary=("vocab", 256)),),
    logits="logits",
    loss=True,
    target=Target("tokens", per_token=True, following=True, logits="logits"),
    alone=True,
    masked=("tokens",),
)

TEXT = '''
import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn


class Outputs(NamedTuple):
    logits: torch.Tensor
    loss: torch.Tensor | None = None
    probes: dict | None = None


class Model(nn.Module):
    """One layer of attention."""

    def __init__(self, seed: int = 0, d: int = 32):
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        for name, shape in (("embed", (256, d)), ("query", (d, d)), ("key", (d, d)), ("out", (d, d))):
            self.register_parameter(name, nn.Parameter(torch.randn(shape, generator=draw) / math.sqrt(d)))
        self.gain = nn.Parameter(torch.ones(d))

    def forward(self, tokens, loss=False, probe=False):
        x = F.dropout(F.embedding(tokens, self.embed), 0.1, self.training)
        h = F.rms_norm(x, x.shape[-1:], self.gain, 1e-6)
        k = F.linear(h, self.key)
        a = F.scaled_dot_product_attention(F.linear(h, self.query)[:, None], k[:, None], h[:, None], is_causal=True)[:, 0]
        logits = F.linear(x + F.linear(a, self.out), self.embed)
        total = F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()) if loss else None
        return Outputs(logits, total, {"a": a} if probe else None)
'''
