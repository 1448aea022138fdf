"""vit.mpt against its formula."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from tests.gallery.common import Tensors, agree, attend, ids, layernorm, loaded, mlp, numbers, outputs, top, under

DEPTH, PATCH, PLACES, KINDS = 2, 11, 9, 7
SIZES = {"depth": DEPTH, "patch": PATCH, "places": PLACES, "kind": KINDS, "d": 24, "head": 3, "hidden": 40}


def reference(p: Tensors, patches: Tensor, label: Tensor) -> Tensors:
    x = patches @ p["W"].T + p["b"] + p["place"][: patches.shape[1]]
    for n in range(DEPTH):
        layer = under(p, f"layers.{n}")
        h = layernorm(x, under(layer, "pre_attention"))
        x = x + attend(h, h, under(layer, "attend"))
        x = x + mlp(layernorm(x, under(layer, "pre_mlp")), under(layer, "mlp"))
    logits = layernorm(x, under(p, "layernorm")).mean(1) @ p["W_out"].T + p["b_out"]
    return {"logits": logits, "loss": F.cross_entropy(logits, label)}


def images() -> Tensors:
    return {"patches": numbers(3, PLACES, PATCH), "label": ids(KINDS, 3)}


def test_same_as_the_formula() -> None:
    agree(loaded("vit", **SIZES), reference, images())


def test_places_matter() -> None:
    model, given = loaded("vit", **SIZES), images()
    other = {**given, "patches": given["patches"].flip(1)}
    assert top(outputs(model, other)["logits"] - outputs(model, given)["logits"]) > 1e-3
