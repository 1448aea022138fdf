"""yuriiformer.mpt against its formula."""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from torch import Tensor

from tests.gallery.common import Tensors, agree, attend, ids, layernorm, loaded, mlp, next_token, seen, under

DEPTH, VOCAB = 2, 61
SIZES = {"depth": DEPTH, "vocab": VOCAB, "d": 24, "head": 3, "hidden": 40}


def reference(p: Tensors, tokens: Tensor) -> Tensors:
    x, v = p["embed"][tokens] + p["place"][: tokens.shape[1]], p["moving"][tokens]
    for n in range(DEPTH):
        layer = under(p, f"layers.{n}")
        for name, oracle in (("attention", attended), ("mlp", fed_forward)):
            h = layernorm(x + layer[f"before_{name}.mu"] * v, under(layer, f"before_{name}.layernorm"))
            v = layer[f"after_{name}.beta"] * v + layer[f"after_{name}.gamma"] * oracle(h, layer)
            v = layernorm(v, under(layer, f"after_{name}.layernorm"))
            x = x + v
    logits = layernorm(x, under(p, "layernorm")) @ p["embed"].T
    return {"logits": logits, "loss": next_token(logits, tokens)}


def attended(h: Tensor, p: Tensors) -> Tensor:
    return attend(h, h, under(p, "attend"), seen(h.shape[1]))


def fed_forward(h: Tensor, p: Tensors) -> Tensor:
    return mlp(h, under(p, "mlp_tanh"), partial(F.gelu, approximate="tanh"))


def test_same_as_the_formula() -> None:
    agree(loaded("yuriiformer", **SIZES), reference, {"tokens": ids(VOCAB, 2, 11)})
