"""alibi.mpt against its formula, with the slopes that `transformers` gives Bloom."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.gallery.common import Tensors, agree, ids, layernorm, loaded, mlp, next_token, seen, softmax, under

bloom = pytest.importorskip("transformers.models.bloom.modeling_bloom")

DEPTH, VOCAB, HEADS = 2, 61, 4
SIZES = {"depth": DEPTH, "vocab": VOCAB, "d": 24, "head": HEADS}


def bias(length: int) -> Tensor:
    """[head, i, j]. The library's grows along j; a softmax over j sees no difference to one that falls along i - j."""
    found = bloom.build_alibi_tensor(torch.ones(1, length), HEADS, torch.float64)
    return found.view(HEADS, 1, length).expand(HEADS, length, length)


def reference(p: Tensors, tokens: Tensor) -> Tensors:
    x = p["embed"][tokens]
    for n in range(DEPTH):
        layer = under(p, f"layers.{n}")
        a = under(layer, "attend_near")
        h = layernorm(x, under(layer, "pre_attention"))
        q, k, v = (torch.einsum("hkd,bnd->bhnk", a[name], h) for name in ("W_q", "W_k", "W_v"))
        length = tokens.shape[1]
        weights = softmax(q @ k.mT / q.shape[-1] ** 0.5 + bias(length), seen(length))
        x = x + torch.einsum("bhnk,dhk->bnd", weights @ v, a["W_o"])
        x = x + mlp(layernorm(x, under(layer, "pre_mlp")), under(layer, "mlp"))
    logits = layernorm(x, under(p, "layernorm")) @ p["embed"].T
    return {"logits": logits, "loss": next_token(logits, tokens)}


def test_same_as_the_formula() -> None:
    agree(loaded("alibi", **SIZES), reference, {"tokens": ids(VOCAB, 2, 17)})
