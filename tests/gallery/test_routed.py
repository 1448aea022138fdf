"""mixture_of_depths.mpt and early_exit.mpt by their formulas, written densely: every token through every layer, and masks."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.gallery.common import Tensors, agree, ids, loaded, next_token, outputs, rms, rope, seen, softmax, swiglu, under

VOCAB, D, KV, GROUP, HIDDEN, TOKENS = 31, 24, 2, 2, 20, 13
SIZES = {"vocab": VOCAB, "d": D, "kv": KV, "group": GROUP, "hidden": HIDDEN}


def attended(x: Tensor, c: Tensor, p: Tensors, mask: Tensor) -> Tensor:
    q = rope(torch.einsum("vgkd,bnd->bvgnk", p["W_q"], x)).flatten(1, 2)
    k, v = (torch.einsum("vkd,bnd->bvnk", p[f"W_{name}"], c).repeat_interleave(GROUP, 1) for name in "kv")
    return torch.einsum("bhnk,dhk->bnd", softmax(q @ rope(k).mT / q.shape[-1] ** 0.5, mask) @ v, p["W_o"].flatten(1, 2))


def layer(x: Tensor, p: Tensors, mask: Tensor) -> Tensor:
    h = rms(x) * p["pre_attention.gain"]
    y = x + attended(h, h, under(p, "attention"), mask)
    return y + swiglu(rms(y) * p["pre_mlp.gain"], under(p, "swiglu")) - x


def by_rank(s: Tensor, every: int) -> Tensor:
    """Whether a token's score is among the best of its own past."""
    found = torch.zeros(s.shape, dtype=torch.bool)
    for i in range(s.shape[1]):
        found[:, i] = (s[:, : i + 1] > s[:, i : i + 1]).sum(1) < math.ceil((i + 1) / every)
    return found


def depths(p: Tensors, tokens: Tensor, depth: int = 2) -> Tensors:
    x, past = F.embedding(tokens, p["embed"]), seen(tokens.shape[1])
    for n in range(depth):
        own = under(p, f"layers.{n}")
        x = x + layer(x, under(own, "whole"), past)
        s = x @ own["router"]
        m = by_rank(s, 4)
        among = past & m[:, None] | torch.eye(tokens.shape[1], dtype=torch.bool)  # one that is not chosen sees itself, and is left out after
        x = x + (2 * s.sigmoid() * m)[..., None] * layer(x, under(own, "routed"), among)
    logits = (rms(x) * p["rmsnorm.gain"]) @ p["unembed"].T
    return {"logits": logits, "loss": next_token(logits, tokens)}


def exits(p: Tensors, tokens: Tensor, depth: int = 3, sure: float = 0.05) -> Tensors:
    x, past = F.embedding(tokens, p["embed"]), seen(tokens.shape[1])
    left = torch.ones(tokens.shape, dtype=torch.bool)
    loss = torch.zeros((), dtype=torch.float64)
    for n in range(depth):
        own = under(p, f"layers.{n}")
        y = x + attended(rms(x) * own["pre_attention.gain"], rms(x) * own["seen.gain"], under(own, "attention_to"), past)
        z = y + swiglu(rms(y) * own["pre_mlp.gain"], under(own, "swiglu"))
        x = torch.where(left[..., None], z, x)
        exit_ = (rms(x) * p["final.gain"]) @ p["unembed"].T
        before = torch.cat((torch.zeros_like(exit_[:, :1]), exit_[:, :-1]), 1)
        loss = loss + 0.1 * F.cross_entropy(before.flatten(0, 1), tokens.flatten())
        left = left & (exit_.softmax(-1).amax(-1) < sure)
    logits = (rms(x) * p["final.gain"]) @ p["unembed"].T
    return {"logits": logits, "loss": loss + next_token(logits, tokens)}


def test_mixture_of_depths() -> None:
    agree(loaded("mixture_of_depths", depth=2, **SIZES), depths, {"tokens": ids(VOCAB, 2, TOKENS)})


@pytest.mark.parametrize("sure", [0.05, 0.12, 1])
def test_early_exit(sure: float) -> None:
    model = loaded("early_exit", **SIZES, sure=sure)
    agree(model, lambda p, tokens: exits(p, tokens, sure=sure), {"tokens": ids(VOCAB, 2, TOKENS)})
    left = model(ids(VOCAB, 2, TOKENS), probe=True).probes
    counts = [int(left[f"layers.{n}.left"].sum()) for n in range(3)]
    assert counts == [26, 26, 26] if sure == 1 else counts[0] == 26 > counts[2]


# -- embeddings -----------------------------------------------------------------------------------------------


def per_layer(p: Tensors, tokens: Tensor) -> Tensors:
    first = D**0.5 * F.embedding(tokens, p["embed"])
    x, past = first, seen(tokens.shape[1])
    for n in range(2):
        own = under(p, f"layers.{n}")
        e = under(own, "per_layer")
        h = rms(x) * own["pre_attention.gain"]
        x = x + attended(h, h, under(own, "attention"), past)
        x = x + swiglu(rms(x) * own["pre_mlp.gain"], under(own, "swiglu"))
        narrow = e["table"].shape[1]
        token = narrow**0.5 * F.embedding(tokens, e["table"])
        mixed = (token + e["gain_context"] * rms(first @ e["W_context"].T / D**0.5)) / 2**0.5
        x = x + e["gain"] * rms((F.gelu(x @ e["W_gate"].T, approximate="tanh") * mixed) @ e["W_out"].T)
    logits = (rms(x) * p["rmsnorm.gain"]) @ p["unembed"].T
    return {"logits": logits, "loss": next_token(logits, tokens)}


def test_per_layer_embeddings() -> None:
    agree(loaded("per_layer_embeddings", **SIZES, narrow=6), per_layer, {"tokens": ids(VOCAB, 2, TOKENS)})


def prefixed(p: Tensors, tokens: Tensor, kind: Tensor) -> Tensors:
    """Learned keys and values of a sequence's kind before its own, in one softmax."""
    x, past = F.embedding(tokens, p["embed"]), seen(tokens.shape[1])
    for n in range(2):
        own = under(p, f"layers.{n}")
        a, h = under(own, "attention"), rms(x) * own["pre_attention.gain"]
        q, k, v = (torch.einsum("hkd,bnd->bhnk", a[f"W_{name}"], h) for name in "qkv")
        keys, values = (a[name][kind].transpose(1, 2) for name in ("keys", "values"))
        scores = torch.cat((q @ keys.mT, (rope(q) @ rope(k).mT).masked_fill(~past, -torch.inf)), -1) / q.shape[-1] ** 0.5
        x = x + torch.einsum("bhnk,dhk->bnd", scores.softmax(-1) @ torch.cat((values, v), 2), a["W_o"])
        x = x + swiglu(rms(x) * own["pre_mlp.gain"], under(own, "swiglu"))
    logits = (rms(x) * p["rmsnorm.gain"]) @ p["unembed"].T
    return {"logits": logits, "loss": next_token(logits, tokens)}


def test_typed_prefix() -> None:
    sizes = {"vocab": VOCAB, "d": D, "head": 3, "hidden": HIDDEN, "place": 4}
    model = loaded("typed_prefix", **sizes)
    given = {"tokens": ids(VOCAB, 3, TOKENS), "kind": torch.tensor([0, 2, 1])}
    assert {name.rpartition(".")[2] for name, value in model.named_parameters() if value.requires_grad} == {"keys", "values"}
    agree(model, prefixed, given)
    assert not torch.equal(outputs(model, given)["logits"], outputs(model, {**given, "kind": torch.tensor([1, 2, 1])})["logits"])


