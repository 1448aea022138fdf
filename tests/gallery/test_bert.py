"""bert.mpt is `transformers.BertForMaskedLM` with the same weights, padding included."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.gallery.common import Tensors, agree, ids, loaded, outputs, rewired, top, under

transformers = pytest.importorskip("transformers")

DEPTH, VOCAB, PLACES, D, HEADS, HIDDEN = 2, 61, 32, 24, 3, 40
SIZES = {"depth": DEPTH, "vocab": VOCAB, "places": PLACES, "d": D, "head": HEADS, "hidden": HIDDEN}
LENGTH, PADDED = 11, 4


def theirs(p: Tensors) -> Tensors:
    state = {
        "bert.embeddings.word_embeddings.weight": p["embed"],
        "bert.embeddings.position_embeddings.weight": p["place"],
        "bert.embeddings.token_type_embeddings.weight": p["kind"],
        "bert.embeddings.LayerNorm.weight": p["embedded.gain"],
        "bert.embeddings.LayerNorm.bias": p["embedded.bias"],
        "cls.predictions.transform.dense.weight": p["dense.W"],
        "cls.predictions.transform.dense.bias": p["dense.b"],
        "cls.predictions.transform.LayerNorm.weight": p["readout.gain"],
        "cls.predictions.transform.LayerNorm.bias": p["readout.bias"],
        "cls.predictions.decoder.weight": p["embed"],
        "cls.predictions.decoder.bias": p["bias"],
        "cls.predictions.bias": p["bias"],
    }
    for n in range(DEPTH):
        layer = under(p, f"layers.{n}")
        a, m = under(layer, "attend"), under(layer, "mlp")
        found = {
            **{f"attention.self.{long}.weight": a[f"W_{long[0]}"].flatten(0, 1) for long in ("query", "key", "value")},
            **{f"attention.self.{long}.bias": a[f"b_{long[0]}"].flatten() for long in ("query", "key", "value")},
            "attention.output.dense.weight": a["W_o"].flatten(1),
            "attention.output.dense.bias": a["b_o"],
            "attention.output.LayerNorm.weight": layer["post_attention.gain"],
            "attention.output.LayerNorm.bias": layer["post_attention.bias"],
            "intermediate.dense.weight": m["W_in"],
            "intermediate.dense.bias": m["b_in"],
            "output.dense.weight": m["W_out"],
            "output.dense.bias": m["b_out"],
            "output.LayerNorm.weight": layer["post_mlp.gain"],
            "output.LayerNorm.bias": layer["post_mlp.bias"],
        }
        state |= {f"bert.encoder.layer.{n}.{name}": value for name, value in found.items()}
    return state


def reference(p: Tensors, tokens: Tensor, segments: Tensor, mask: Tensor, targets: Tensor) -> Tensors:
    config = transformers.BertConfig(
        vocab_size=VOCAB,
        hidden_size=D,
        num_hidden_layers=DEPTH,
        num_attention_heads=HEADS,
        intermediate_size=HIDDEN,
        max_position_embeddings=PLACES,
        attn_implementation="sdpa",
    )
    model = transformers.BertForMaskedLM(config).double().eval()
    arguments = {"token_type_ids": segments, "attention_mask": mask.long(), "output_hidden_states": True}
    result = rewired(model, theirs(p), tokens, **arguments)
    loss = F.cross_entropy(result.logits.flatten(0, 1), targets.flatten(), ignore_index=-1)
    return {"hidden_state": result.hidden_states[-1], "logits": result.logits, "loss": loss}


def padded() -> Tensors:
    mask = torch.ones(3, LENGTH, dtype=torch.float64)
    mask[1, -PADDED:] = 0
    tokens = ids(VOCAB, 3, LENGTH)
    targets = torch.where((ids(3, 3, LENGTH, seed=8) == 0) & (mask != 0), tokens, -1)
    return {"tokens": tokens, "segments": ids(2, 3, LENGTH, seed=7), "mask": mask, "targets": targets}


def test_same_as_transformers() -> None:
    agree(loaded("bert", **SIZES), reference, padded())


def test_padding_is_not_seen() -> None:
    """Other tokens there, or none at all: the rest stays as it is."""
    model, given = loaded("bert", **SIZES), padded()
    logits = outputs(model, given)["logits"][1, :-PADDED]
    other = {**given, "tokens": torch.where(given["mask"] != 0, given["tokens"], 0)}
    assert not torch.equal(other["tokens"], given["tokens"])
    assert torch.equal(outputs(model, other)["logits"][1, :-PADDED], logits)
    short = {name: value[1:2, :-PADDED] for name, value in given.items()}
    assert top(outputs(model, short)["logits"][0] - logits) <= 1e-10
