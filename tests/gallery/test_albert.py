"""albert.mpt is `transformers.AlbertForMaskedLM` with the same weights, padding included."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.gallery.common import Tensors, agree, ids, loaded, rewired, under

transformers = pytest.importorskip("transformers")

DEPTH, VOCAB, PLACES, NARROW, D, HEADS, HIDDEN = 3, 61, 32, 10, 24, 3, 40
SIZES = {"depth": DEPTH, "vocab": VOCAB, "places": PLACES, "narrow": NARROW, "d": D, "head": HEADS, "hidden": HIDDEN}
LENGTH, PADDED = 11, 4


def theirs(p: Tensors) -> Tensors:
    a, m = under(p, "attend"), under(p, "mlp_tanh")
    layer = {
        **{f"attention.{long}.weight": a[f"W_{long[0]}"].flatten(0, 1) for long in ("query", "key", "value")},
        **{f"attention.{long}.bias": a[f"b_{long[0]}"].flatten() for long in ("query", "key", "value")},
        "attention.dense.weight": a["W_o"].flatten(1),
        "attention.dense.bias": a["b_o"],
        "attention.LayerNorm.weight": p["post_attention.gain"],
        "attention.LayerNorm.bias": p["post_attention.bias"],
        "ffn.weight": m["W_in"],
        "ffn.bias": m["b_in"],
        "ffn_output.weight": m["W_out"],
        "ffn_output.bias": m["b_out"],
        "full_layer_layer_norm.weight": p["post_mlp.gain"],
        "full_layer_layer_norm.bias": p["post_mlp.bias"],
    }
    return {
        "albert.embeddings.word_embeddings.weight": p["embed"],
        "albert.embeddings.position_embeddings.weight": p["place"],
        "albert.embeddings.token_type_embeddings.weight": p["kind"],
        "albert.embeddings.LayerNorm.weight": p["embedded.gain"],
        "albert.embeddings.LayerNorm.bias": p["embedded.bias"],
        "albert.encoder.embedding_hidden_mapping_in.weight": p["widen"],
        "albert.encoder.embedding_hidden_mapping_in.bias": p["shift"],
        **{f"albert.encoder.albert_layer_groups.0.albert_layers.0.{name}": value for name, value in layer.items()},
        "predictions.LayerNorm.weight": p["readout.gain"],
        "predictions.LayerNorm.bias": p["readout.bias"],
        "predictions.dense.weight": p["narrows"],
        "predictions.dense.bias": p["offset"],
        "predictions.decoder.weight": p["embed"],
        "predictions.decoder.bias": p["bias"],
        "predictions.bias": p["bias"],
    }


def reference(p: Tensors, tokens: Tensor, segments: Tensor, mask: Tensor, targets: Tensor) -> Tensors:
    config = transformers.AlbertConfig(
        vocab_size=VOCAB,
        embedding_size=NARROW,
        hidden_size=D,
        num_hidden_layers=DEPTH,
        num_attention_heads=HEADS,
        intermediate_size=HIDDEN,
        max_position_embeddings=PLACES,
        hidden_dropout_prob=0,
        attention_probs_dropout_prob=0,
        attn_implementation="sdpa",
    )
    model = transformers.AlbertForMaskedLM(config).double().eval()
    result = rewired(model, theirs(p), tokens, token_type_ids=segments, attention_mask=mask.long())
    loss = F.cross_entropy(result.logits.flatten(0, 1), targets.flatten(), ignore_index=-1)
    return {"logits": result.logits, "loss": loss}


def padded() -> Tensors:
    mask = torch.ones(3, LENGTH, dtype=torch.float64)
    mask[1, -PADDED:] = 0
    tokens = ids(VOCAB, 3, LENGTH)
    targets = torch.where((ids(3, 3, LENGTH, seed=8) == 0) & (mask != 0), tokens, -1)
    return {"tokens": tokens, "segments": ids(2, 3, LENGTH, seed=7), "mask": mask, "targets": targets}


def test_same_as_transformers() -> None:
    agree(loaded("albert", **SIZES), reference, padded())
