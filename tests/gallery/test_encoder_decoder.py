"""encoder_decoder.mpt against its formula, the source padded; causal for each token, and padding of the source is not seen."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.gallery.common import Tensors, agree, attend, ids, layernorm, loaded, mlp, next_token, outputs, seen, top, under

DEPTH, VOCAB, SOURCE, PADDED = 2, 61, 7, 3
SIZES = {"depth": DEPTH, "vocab": VOCAB, "d": 24, "head": 3, "hidden": 40}


def reference(p: Tensors, tokens: Tensor, source: Tensor, mask: Tensor) -> Tensors:
    heard = (mask != 0)[:, None]
    m = p["embed"][source] + p["place"][: source.shape[1]]
    for n in range(DEPTH):
        layer = under(p, f"encoder.{n}")
        h = layernorm(m, under(layer, "pre_attention"))
        m = m + attend(h, h, under(layer, "attend"), heard.expand(-1, m.shape[1], -1))
        m = m + mlp(layernorm(m, under(layer, "pre_mlp")), under(layer, "mlp"))
    memory = layernorm(m, under(p, "encoded"))
    length = tokens.shape[1]
    x = p["embed"][tokens] + p["place"][:length]
    for n in range(DEPTH):
        layer = under(p, f"decoder.{n}")
        h = layernorm(x, under(layer, "pre_attention"))
        x = x + attend(h, h, under(layer, "attend"), seen(length))
        x = x + attend(layernorm(x, under(layer, "pre_cross")), memory, under(layer, "cross"), heard.expand(-1, length, -1))
        x = x + mlp(layernorm(x, under(layer, "pre_mlp")), under(layer, "mlp"))
    logits = layernorm(x, under(p, "layernorm")) @ p["embed"].T
    return {"logits": logits, "loss": next_token(logits, tokens)}


def translated() -> Tensors:
    mask = torch.ones(2, SOURCE, dtype=torch.float64)
    mask[1, -PADDED:] = 0
    return {"tokens": ids(VOCAB, 2, 9), "source": ids(VOCAB, 2, SOURCE, seed=8), "mask": mask}


def test_same_as_the_formula() -> None:
    agree(loaded("encoder_decoder", **SIZES), reference, translated())


def test_padding_of_the_source() -> None:
    model, given = loaded("encoder_decoder", **SIZES), translated()
    short = {name: value[1:] if name == "tokens" else value[1:, :-PADDED] for name, value in given.items()}
    assert top(outputs(model, short)["logits"] - outputs(model, given)["logits"][1:]) <= 1e-10
    other = {**given, "source": given["source"].flip(1)}
    assert top(outputs(model, other)["logits"] - outputs(model, given)["logits"]) > 1e-3
