"""gpt2.mpt is `transformers.GPT2LMHeadModel` with the same weights."""

from __future__ import annotations

import pytest
import torch

from tests.gallery.common import Tensors, agree, ids, loaded, next_token, rewired, under

transformers = pytest.importorskip("transformers")

DEPTH, VOCAB, PLACES, D, HEADS = 3, 61, 32, 24, 3
SIZES = {"depth": DEPTH, "vocab": VOCAB, "places": PLACES, "d": D, "head": HEADS}


def theirs(p: Tensors) -> Tensors:
    """Its linear maps are [in, out], and query, key and value are one."""
    state = {"transformer.wte.weight": p["embed"], "lm_head.weight": p["embed"], "transformer.wpe.weight": p["place"]}
    state |= {"transformer.ln_f.weight": p["layernorm.gain"], "transformer.ln_f.bias": p["layernorm.bias"]}
    for n in range(DEPTH):
        layer = under(p, f"layers.{n}")
        a, m = under(layer, "attend"), under(layer, "mlp_tanh")
        found = {
            "ln_1.weight": layer["pre_attention.gain"],
            "ln_1.bias": layer["pre_attention.bias"],
            "attn.c_attn.weight": torch.cat([a[f"W_{name}"].flatten(0, 1) for name in "qkv"]).T,
            "attn.c_attn.bias": torch.cat([a[f"b_{name}"].flatten() for name in "qkv"]),
            "attn.c_proj.weight": a["W_o"].flatten(1).T,
            "attn.c_proj.bias": a["b_o"],
            "ln_2.weight": layer["pre_mlp.gain"],
            "ln_2.bias": layer["pre_mlp.bias"],
            "mlp.c_fc.weight": m["W_in"].T,
            "mlp.c_fc.bias": m["b_in"],
            "mlp.c_proj.weight": m["W_out"].T,
            "mlp.c_proj.bias": m["b_out"],
        }
        state |= {f"transformer.h.{n}.{name}": value for name, value in found.items()}
    return state


def reference(p: Tensors, tokens: torch.Tensor) -> Tensors:
    config = transformers.GPT2Config(vocab_size=VOCAB, n_positions=PLACES, n_embd=D, n_layer=DEPTH, n_head=HEADS)
    logits = rewired(transformers.GPT2LMHeadModel(config).double().eval(), theirs(p), tokens).logits
    return {"logits": logits, "loss": next_token(logits, tokens)}


def test_same_as_transformers() -> None:
    agree(loaded("gpt2", **SIZES), reference, {"tokens": ids(VOCAB, 2, 17)})
