"""hyper_set.mpt against autograd of its two energies, the first of all tokens together."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.gallery.common import Tensors, agree, descent, ids, loaded, rms

STEPS, VOCAB, PLACES = 3, 9, 16
SIZES = {"steps": STEPS, "vocab": VOCAB, "places": PLACES, "d": 24, "head": 3, "hidden": 40}


def repel(z: Tensor) -> Tensor:
    return (z @ z.mT).logsumexp(-1).sum()


def attract(u: Tensor) -> Tensor:
    return -F.relu(u).square().sum() / 2


def reference(p: Tensors, tokens: Tensor, targets: Tensor) -> Tensors:
    x = p["embed"][tokens] + p["place"][: tokens.shape[1]]
    for _ in range(STEPS):
        z = rms(torch.einsum("hkd,bnd->bhnk", p["W"], x))
        x = x - p["alpha"] * torch.einsum("hkd,bhnk->bnd", p["W"], descent(repel, z))
        x = x - p["gamma"] * (descent(attract, rms(x @ p["D"].T)) @ p["D"])
    logits = rms(x) @ p["embed"].T
    return {"logits": logits, "loss": F.cross_entropy(logits.flatten(0, 1), targets.flatten())}


def test_same_as_autograd() -> None:
    agree(loaded("hyper_set", **SIZES), reference, {"tokens": ids(VOCAB, 2, PLACES), "targets": ids(VOCAB, 2, PLACES, seed=9)})
