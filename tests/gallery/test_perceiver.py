"""perceiver.mpt against its formula, the input padded."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.gallery.common import Tensors, agree, attend, ids, layernorm, loaded, mlp, numbers, outputs, softmax, top, under

LOOPS, DEPTH, FEATURES, KINDS, LENGTH, PADDED, ASKED = 2, 2, 7, 5, 11, 4, 3
SIZES = {"loops": LOOPS, "depth": DEPTH, "feature": FEATURES, "kind": KINDS, "latent": 6, "d": 24, "head": 3, "hidden": 40}


def look(x: Tensor, c: Tensor, p: Tensors) -> Tensor:
    q, k, v = (torch.einsum("hkd,bnd->bhnk", p[name], y) for name, y in (("W_q", x), ("W_k", c), ("W_v", c)))
    return torch.einsum("bhnk,dhk->bnd", softmax(q @ k.mT / q.shape[-1] ** 0.5) @ v, p["W_o"])


def reference(p: Tensors, asked: Tensor, places: Tensor, mask: Tensor, answer: Tensor) -> Tensors:
    c = layernorm(places @ p["W_place"].T, under(p, "read"))
    z = p["begin"].expand(len(places), -1, -1)
    heard = (mask != 0)[:, None].expand(-1, z.shape[1], -1)
    z = z + attend(layernorm(z, under(p, "pre_first")), c, under(p, "first"), heard)
    for _ in range(LOOPS):
        for n in range(DEPTH):
            layer = under(p, f"layers.{n}")
            h = layernorm(z, under(layer, "pre_attention"))
            z = z + look(h, h, under(layer, "look"))
            z = z + mlp(layernorm(z, under(layer, "pre_mlp")), under(layer, "mlp"))
        z = z + attend(layernorm(z, under(p, "pre_cross")), c, under(p, "cross"), heard)
    x = look(asked @ p["W_asked"].T, layernorm(z, under(p, "encoded")), under(p, "decoded"))
    logits = layernorm(x, under(p, "readout")) @ p["W_out"].T
    return {"logits": logits, "loss": F.cross_entropy(logits.flatten(0, 1), answer.flatten())}


def padded() -> Tensors:
    mask = torch.ones(3, LENGTH, dtype=torch.float64)
    mask[1, -PADDED:] = 0
    asked = numbers(3, ASKED, FEATURES, seed=8)
    return {"asked": asked, "places": numbers(3, LENGTH, FEATURES), "mask": mask, "answer": ids(KINDS, 3, ASKED)}


def test_same_as_the_formula() -> None:
    agree(loaded("perceiver", **SIZES), reference, padded())


def test_padding_is_not_seen() -> None:
    model, given = loaded("perceiver", **SIZES), padded()
    short = {name: value[1:2, :-PADDED] if name in ("places", "mask") else value[1:2] for name, value in given.items()}
    assert top(outputs(model, short)["logits"] - outputs(model, given)["logits"][1:2]) <= 1e-10
