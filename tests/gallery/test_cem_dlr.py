"""cem_dlr.mpt against autograd of its two energies."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.gallery.common import Tensors, agree, descent, ids, loaded, next_token, numbers, rms, rope, seen, silu_integral, under

DEPTH, STEPS, VOCAB = 2, 2, 61
SIZES = {"depth": DEPTH, "steps": STEPS, "vocab": VOCAB, "d": 24, "head": 3, "hidden": 40}


def interaction(x: Tensor, c: Tensor, p: Tensors) -> Tensor:
    q, k = (rope(torch.einsum("hkd,bnd->bhnk", p[name], y)) for name, y in (("W_q", x), ("W_k", c)))
    scale = q.shape[-1] ** 0.5
    s = (q @ k.mT + torch.einsum("bid,hd,bjd->bhij", x, p["diag"], c)) / scale
    return -scale * s.masked_fill(~seen(x.shape[1]), -torch.inf).logsumexp(-1).sum(1)


def gated(x: Tensor, c: Tensor, p: Tensors) -> Tensor:
    return -((c @ p["W_gate"].T) * silu_integral(x @ p["W_up"].T)).sum(-1)


def metric(g: Tensor, p: Tensors) -> Tensor:
    """diag(scale²) + UUᵀ, as one matrix."""
    return g @ (p["scale"].square().diag() + p["U"].T @ p["U"])


def reference(p: Tensors, tokens: Tensor) -> Tensors:
    x = p["embed"][tokens]
    for n in range(DEPTH):
        layer = under(p, f"layers.{n}")
        c = rms(x) * layer["context.gain"]
        for _ in range(STEPS):
            step = descent(interaction, rms(x) * layer["query.gain"], c, under(layer, "interaction_diagonal"))
            x = x - metric(step, under(layer, "attention_metric"))
        h = rms(x) * layer["gate.gain"]
        for _ in range(STEPS):
            x = x - metric(descent(gated, rms(x) * layer["pre_gated.gain"], h, under(layer, "gated")), under(layer, "gated_metric"))
    logits = (rms(x) * p["rmsnorm.gain"]) @ p["embed"].T
    return {"logits": logits, "loss": next_token(logits, tokens)}


def test_same_as_autograd() -> None:
    agree(loaded("cem_dlr", **SIZES), reference, {"tokens": ids(VOCAB, 2, 11)})


def test_the_integral_of_silu() -> None:
    """What stands for it above has it as its derivative."""
    z = (3 * numbers(50)).requires_grad_()
    (slope,) = torch.autograd.grad(silu_integral(z).sum(), z)
    assert torch.equal(slope, F.silu(z))
