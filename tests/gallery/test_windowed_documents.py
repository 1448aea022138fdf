"""windowed_documents.mpt against its formula, and against each of its documents alone."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.gallery.common import Tensors, agree, grouped, ids, loaded, next_token, outputs, rms, seen, swiglu, top, under

DEPTH, SPAN, VOCAB = 2, 3, 61
SIZES = {"depth": DEPTH, "span": SPAN, "vocab": VOCAB, "d": 24, "kv": 2, "group": 2, "hidden": 40}
DOCUMENTS = torch.tensor([[3, 3, 3, 3, 3, 1, 1, 1, 1, 1, 1, 2, 2], [0, 0, 5, 5, 5, 5, 5, 5, 5, 5, 5, 4, 0]])


def reference(p: Tensors, tokens: Tensor, doc: Tensor) -> Tensors:
    near = seen(tokens.shape[1]).triu(1 - SPAN) & (doc[:, :, None] == doc[:, None, :])
    x = p["embed"][tokens]
    for n in range(DEPTH):
        layer = under(p, f"layers.{n}")
        x = x + grouped(rms(x) * layer["pre_attention.gain"], under(layer, "attention_to"), near)
        x = x + swiglu(rms(x) * layer["pre_mlp.gain"], under(layer, "swiglu"))
    logits = (rms(x) * p["rmsnorm.gain"]) @ p["unembed"].T
    return {"logits": logits, "loss": next_token(logits, tokens)}


def packed() -> Tensors:
    return {"tokens": ids(VOCAB, *DOCUMENTS.shape), "doc": DOCUMENTS}


def test_same_as_the_formula() -> None:
    agree(loaded("windowed_documents", **SIZES), reference, packed())


def test_a_document_is_alone() -> None:
    """The second of the first sequence by itself: rotary positions are relative, so where it begins does not matter."""
    model, given = loaded("windowed_documents", **SIZES), packed()
    alone = {name: value[:1, 5:11] for name, value in given.items()}
    assert top(outputs(model, given)["logits"][:1, 5:11] - outputs(model, alone)["logits"]) <= 1e-10
