"""looped.mpt against its formula."""

from __future__ import annotations

from torch import Tensor

from tests.gallery.common import Tensors, agree, grouped, ids, loaded, next_token, rms, seen, swiglu, under

LOOPS, DEPTH, VOCAB = 3, 2, 61
SIZES = {"loops": LOOPS, "depth": DEPTH, "vocab": VOCAB, "d": 24, "kv": 2, "group": 2, "hidden": 40}


def reference(p: Tensors, tokens: Tensor) -> Tensors:
    e = x = p["embed"][tokens]
    for _ in range(LOOPS):
        x = x + e
        for n in range(DEPTH):
            layer = under(p, f"layers.{n}")
            x = x + grouped(rms(x) * layer["pre_attention.gain"], under(layer, "attention"), seen(tokens.shape[1]))
            x = x + swiglu(rms(x) * layer["pre_mlp.gain"], under(layer, "swiglu"))
    logits = (rms(x) * p["rmsnorm.gain"]) @ p["embed"].T
    return {"logits": logits, "loss": next_token(logits, tokens)}


def test_same_as_the_formula() -> None:
    model = loaded("looped", **SIZES)
    assert sum(name.endswith("W_q") for name, _ in model.named_parameters()) == DEPTH
    agree(model, reference, {"tokens": ids(VOCAB, 2, 11)})
