"""t5_bias.mpt is `transformers.T5EncoderModel` with the same weights, its buckets included."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.gallery.common import Tensors, agree, ids, loaded, rewired, under

transformers = pytest.importorskip("transformers")

DEPTH, VOCAB, D, HEADS, KEY, HIDDEN, BUCKETS, REACH = 2, 61, 24, 3, 6, 40, 16, 24
SIZES = {"depth": DEPTH, "vocab": VOCAB, "d": D, "head": HEADS, "key": KEY, "hidden": HIDDEN, "bucket": BUCKETS, "reach": REACH}


def theirs(p: Tensors) -> Tensors:
    state = {"shared.weight": p["embed"], "encoder.embed_tokens.weight": p["embed"], "encoder.final_layer_norm.weight": p["rmsnorm.gain"]}
    state["encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"] = p["bias"]
    for n in range(DEPTH):
        layer = under(p, f"layers.{n}")
        found = {f"0.SelfAttention.{name}.weight": layer[f"attend_biased.W_{name}"].flatten(0, 1) for name in "qkv"}
        found["0.SelfAttention.o.weight"] = layer["attend_biased.W_o"].flatten(1)
        found["0.layer_norm.weight"] = layer["pre_attention.gain"]
        found["1.DenseReluDense.wi.weight"] = layer["mlp_relu.W_in"]
        found["1.DenseReluDense.wo.weight"] = layer["mlp_relu.W_out"]
        found["1.layer_norm.weight"] = layer["pre_mlp.gain"]
        state |= {f"encoder.block.{n}.layer.{name}": value for name, value in found.items()}
    return state


def reference(p: Tensors, tokens: Tensor) -> Tensors:
    config = transformers.T5Config(
        vocab_size=VOCAB,
        d_model=D,
        d_kv=KEY,
        d_ff=HIDDEN,
        num_layers=DEPTH,
        num_heads=HEADS,
        relative_attention_num_buckets=BUCKETS,
        relative_attention_max_distance=REACH,
        attn_implementation="eager",
    )
    model = transformers.T5EncoderModel(config).double().eval()
    return {"hidden_state": rewired(model, theirs(p), tokens).last_hidden_state}


def normalised(self: Any, hidden: Tensor) -> Tensor:
    return self.weight * hidden / (hidden.square().mean(-1, keepdim=True) + self.variance_epsilon).sqrt()


def in_double(scores: Tensor, *arguments: Any, **named: Any) -> Tensor:
    return scores.softmax(-1)


def test_same_as_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library normalises and takes its softmax in float32. At length 40 tokens on both sides are beyond the reach."""
    library = transformers.models.t5.modeling_t5
    monkeypatch.setattr(library.T5LayerNorm, "forward", normalised)
    monkeypatch.setattr(library.nn.functional, "softmax", in_double)
    agree(loaded("t5_bias", **SIZES), reference, {"tokens": ids(VOCAB, 2, 40)})


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["double", "single"])
@pytest.mark.parametrize(("buckets", "reach"), [(32, 128), (16, 24)])
def test_buckets(buckets: int, reach: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number that the bias is looked up by, for each pair of tokens."""
    length = 2 * reach + 10
    model = loaded("t5_bias", depth=1, vocab=length, d=4, head=1, key=2, hidden=2, bucket=buckets, reach=reach).to(dtype)
    scope = type(model).forward.__globals__
    plain, asked = scope["entries"], []

    def recorded(table: Tensor, index: Tensor, *arguments: Any) -> Tensor:
        asked.append(index)
        return plain(table, index, *arguments)

    monkeypatch.setitem(scope, "entries", recorded)
    with torch.no_grad():  # or what is computed by rows is asked for once more
        model(torch.arange(length)[None])
    back = torch.arange(length)[:, None] - torch.arange(length)[None, :]
    library = transformers.models.t5.modeling_t5.T5Attention
    expected = library._relative_position_bucket(-back, True, buckets, reach)
    assert torch.equal(torch.cat([index.reshape(-1, length) for index in asked]).long(), expected)
