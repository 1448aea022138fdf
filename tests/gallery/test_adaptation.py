"""coda.mpt, coda_to_all.mpt and adapter.mpt against their formulas, written densely with masks; and what they have of the dense encoder."""

from __future__ import annotations

import math
import re
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.gallery.common import Tensors, agree, grouped, ids, layernorm, loaded, outputs, rope, softmax, swiglu, top, under

DEPTH, VOCAB, D, KV, HIDDEN, NARROW, TOKENS = 2, 31, 24, 2, 20, 6, 17
SIZES = {"depth": DEPTH, "vocab": VOCAB, "d": D, "kv": KV, "hidden": HIDDEN}
WITH = {**SIZES, "narrow": NARROW}


def inputs() -> Tensors:
    targets = ids(VOCAB, 2, TOKENS, seed=9)
    return {"tokens": ids(VOCAB, 2, TOKENS), "targets": torch.where(ids(4, 2, TOKENS, seed=7) == 0, targets, -1)}


def result(x: Tensor, p: Tensors, targets: Tensor) -> Tensors:
    logits = layernorm(x, under(p, "readout")) @ p["unembed"].T
    return {"logits": logits, "loss": F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1)}


def everyone(length: int) -> Tensor:
    return torch.ones(length, length, dtype=torch.bool)


def bottleneck(x: Tensor, p: Tensors) -> Tensor:
    return F.relu(x @ p["W_down"].T) @ p["W_up"].T


def dense(p: Tensors, tokens: Tensor, targets: Tensor, adapter: bool = False) -> Tensors:
    x = F.embedding(tokens, p["embed"])
    for n in range(DEPTH):
        layer = under(p, f"layers.{n}")
        h = layernorm(x, under(layer, "before_attention"))
        a = grouped(h, under(layer, "attention_to"), everyone(tokens.shape[1]))
        y = x + a + swiglu(layernorm(x + a, under(layer, "before_mlp")), under(layer, "swiglu"))
        x = y + bottleneck(h, under(layer, "bottleneck")) if adapter else y
    return result(x, p, targets)


def level(scores: Tensor, keep: int, eps: float = 0.03) -> Tensor:
    """λ of each token, by bisection for the scalar that all share, then exactly; kept for the largest."""
    s = scores.detach() / eps
    low, high = -s.max(1, keepdim=True).values - 800.0, -s.min(1, keepdim=True).values + 60.0
    for _ in range(200):
        a = (low + high) / 2
        enough = (s + a).clamp(max=0).exp().sum(1, keepdim=True) >= keep
        low, high = torch.where(enough, low, a), torch.where(enough, a, high)
    free = s + a < 0
    inside = scores / eps
    others = torch.logsumexp(inside.masked_fill(~free, -torch.inf), 1, keepdim=True)
    exact = torch.log(keep - (~free).sum(1, keepdim=True).double()) - others
    weights = torch.where(free, (inside + exact).exp(), 1.0)
    best = torch.zeros_like(weights).scatter(1, (-scores).argsort(dim=1, stable=True)[:, :keep], 1.0)  # of equals the lower index
    return weights * best


def coda(p: Tensors, tokens: Tensor, targets: Tensor, reduction: int, to_all: bool) -> Tensors:
    x = F.embedding(tokens, p["embed"])
    for n in range(DEPTH):
        layer = under(p, f"layers.{n}")
        h = layernorm(x, under(layer, "before_attention"))
        m = level(h @ layer["router"], math.ceil(tokens.shape[1] / reduction)) if reduction > 1 else torch.ones(tokens.shape, dtype=torch.float64)
        there = (m > 0)[:, None] if not to_all else torch.ones_like(m, dtype=torch.bool)[:, None]
        a = attended(h, under(layer, "attention_to"), there.expand(-1, tokens.shape[1], -1))
        z = a + swiglu(layernorm(x + a, under(layer, "before_mlp")), under(layer, "swiglu"))
        x = x + bottleneck(h, under(layer, "bottleneck")) + m[..., None] * z
    return result(x, p, targets)


def attended(x: Tensor, p: Tensors, mask: Tensor) -> Tensor:
    q = rope(torch.einsum("vgkd,bnd->bvgnk", p["W_q"], x)).flatten(1, 2)
    k, v = rope(torch.einsum("vkd,bnd->bvnk", p["W_k"], x)), torch.einsum("vkd,bnd->bvnk", p["W_v"], x)
    return torch.einsum("bhnk,dhk->bnd", softmax(q @ k.mT / q.shape[-1] ** 0.5, mask) @ v, p["W_o"].flatten(1, 2))


def test_the_dense_encoder() -> None:
    agree(loaded("coda_dense", **SIZES), dense, inputs())


def test_adapters() -> None:
    agree(loaded("adapter", **WITH), partial(dense, adapter=True), inputs())


@pytest.mark.parametrize("name", ["coda", "coda_to_all"])
@pytest.mark.parametrize("reduction", [1, 3, 5])
def test_chosen_tokens(name: str, reduction: int) -> None:
    agree(loaded(name, **WITH, reduction=reduction), partial(coda, reduction=reduction, to_all=name == "coda_to_all"), inputs())


@pytest.mark.parametrize("name", ["coda", "coda_to_all", "adapter"])
def test_with_all_tokens_and_fresh_adapters_it_is_the_dense_encoder(name: str) -> None:
    base = loaded("coda_dense", **SIZES)
    model = loaded(name, **WITH, **({} if name == "adapter" else {"reduction": 1}))
    with torch.no_grad():
        for path, value in model.named_parameters():
            if path in dict(base.named_parameters()):
                value.copy_(dict(base.named_parameters())[path])
            elif path.endswith("W_up"):
                value.zero_()
    assert top(outputs(model, inputs())["logits"] - outputs(base, inputs())["logits"]) <= 1e-14  # the same sums, in another order


@pytest.mark.parametrize("name", ["coda", "coda_to_all", "adapter"])
def test_training_touches_adapters_routers_and_norms_alone(name: str) -> None:
    trained = {re.sub(r"^layers\.\d+\.", "", path) for path, value in loaded(name, **WITH).named_parameters() if value.requires_grad}
    norms = {f"{norm}.{part}" for norm in ("before_attention", "before_mlp") for part in ("gain", "bias")}
    wanted = {*norms, "bottleneck.W_down", "bottleneck.W_up", *(set() if name == "adapter" else {"router"})}
    assert trained == wanted | {"readout.gain", "readout.bias"}


def test_the_number_chosen() -> None:
    model = loaded("coda", **WITH, reduction=5)
    probes = model(**inputs(), probe=True).probes
    assert {int((value != 0).sum(1).max()) for name, value in probes.items() if name.endswith("chosen")} == {math.ceil(TOKENS / 5)}
