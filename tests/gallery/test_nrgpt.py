"""nrgpt.mpt against autograd of its energy, tokens strictly before each one held fixed."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.gallery.common import Tensors, agree, descent, ids, loaded, next_token, seen, under

STEPS, VOCAB = 3, 61
SIZES = {"steps": STEPS, "vocab": VOCAB, "d": 24, "head": 3, "hidden": 40}


def energy(g: Tensor, c: Tensor, p: Tensors) -> Tensor:
    """The first token sees none, and its sum over none has no logarithm: only the others have an attraction."""
    s = torch.einsum("bid,hde,bje->bhij", g[:, 1:], p["attraction.J"], c[:, :-1])
    pull = s.masked_fill(~seen(s.shape[-1]), -torch.inf).logsumexp(-1)
    attraction = -torch.einsum("h,bhi->", p["attraction.alpha"], pull)
    return attraction - ((F.gelu(g @ p["feedforward.W_in"].T) @ p["feedforward.W_out"].T) * g).sum()


def reference(p: Tensors, tokens: Tensor) -> Tensors:
    x = p["embed"][tokens]
    for _ in range(STEPS):
        g = F.layer_norm(x, x.shape[-1:])
        x = x - descent(energy, g, g, under(p, "total")) @ p["rate"].T
    logits = x @ p["embed"].T
    return {"logits": logits, "loss": next_token(logits, tokens)}


def test_same_as_autograd() -> None:
    agree(loaded("nrgpt", **SIZES), reference, {"tokens": ids(VOCAB, 2, 11)})


def test_one_token_alone() -> None:
    """No context at all: finite, with finite gradients."""
    model = loaded("nrgpt", **SIZES)
    logits = model(ids(VOCAB, 2, 1)).logits
    logits.square().sum().backward()
    assert logits.isfinite().all()
    assert all(value.grad is None or value.grad.isfinite().all() for value in model.parameters())
