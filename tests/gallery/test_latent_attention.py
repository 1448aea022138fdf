"""latent_attention.mpt is `transformers.DeepseekV3ForCausalLM` with the same weights, its layers dense, for both orders of rotary pairs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.gallery.common import Tensors, agree, ids, loaded, next_token, rewired, under

transformers = pytest.importorskip("transformers")

DEPTH, VOCAB, D, HEADS, HIDDEN = 2, 61, 24, 3, 40
NOPE, TURN, VALUE, LATENT, NARROW = 6, 4, 5, 10, 14
SIZES = {"depth": DEPTH, "vocab": VOCAB, "d": D, "head": HEADS, "hidden": HIDDEN}
SIZES |= {"nope": NOPE, "turn": TURN, "value": VALUE, "latent": LATENT, "narrow": NARROW}


def theirs(p: Tensors, interleaved: bool) -> Tensors:
    """Parts of a query, and keys and values, are one matrix there. Interleaved, it rotates neighbours; here, one half with the other."""
    halves = torch.arange(TURN).view(2, -1).T.flatten() if interleaved else torch.arange(TURN)
    state = {"model.embed_tokens.weight": p["embed"], "lm_head.weight": p["unembed"], "model.norm.weight": p["rmsnorm.gain"]}
    for n in range(DEPTH):
        layer = under(p, f"layers.{n}")
        a, m = under(layer, "latent_attention"), under(layer, "swiglu")
        found = {
            "self_attn.q_a_proj.weight": a["D_q"],
            "self_attn.q_a_layernorm.weight": a["query_norm.gain"],
            "self_attn.q_b_proj.weight": torch.cat((a["U_q"], a["R_q"][:, halves]), 1).flatten(0, 1),
            "self_attn.kv_a_proj_with_mqa.weight": torch.cat((a["D_kv"], a["R_k"][halves])),
            "self_attn.kv_a_layernorm.weight": a["latent_norm.gain"],
            "self_attn.kv_b_proj.weight": torch.cat((a["U_k"], a["U_v"]), 1).flatten(0, 1),
            "self_attn.o_proj.weight": a["W_o"].flatten(1),
            **{f"mlp.{name}_proj.weight": m[f"W_{name}"] for name in ("gate", "up", "down")},
            "input_layernorm.weight": layer["pre_attention.gain"],
            "post_attention_layernorm.weight": layer["pre_mlp.gain"],
        }
        state |= {f"model.layers.{n}.{name}": value for name, value in found.items()}
    return state


def reference(p: Tensors, tokens: Tensor, interleaved: bool) -> Tensors:
    config = transformers.DeepseekV3Config(
        vocab_size=VOCAB,
        hidden_size=D,
        intermediate_size=HIDDEN,
        num_hidden_layers=DEPTH,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        kv_lora_rank=LATENT,
        q_lora_rank=NARROW,
        qk_rope_head_dim=TURN,
        qk_nope_head_dim=NOPE,
        v_head_dim=VALUE,
        first_k_dense_replace=DEPTH,
        rope_interleave=interleaved,
        attn_implementation="sdpa",
    )
    model = transformers.DeepseekV3ForCausalLM(config).double().eval()
    logits = rewired(model, theirs(p, interleaved), tokens).logits
    return {"logits": logits, "loss": next_token(logits, tokens)}


def normalised(self: Any, hidden: Tensor) -> Tensor:
    return self.weight * hidden / (hidden.square().mean(-1, keepdim=True) + self.variance_epsilon).sqrt()


def rotated(self: Any, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
    rates = 10000.0 ** (-torch.arange(0, TURN, 2, dtype=x.dtype) / TURN)
    angles = (position_ids[..., None].to(x.dtype) * rates).repeat(1, 1, 2)
    return angles.cos(), angles.sin()


@pytest.mark.parametrize("interleaved", [True, False])
def test_same_as_transformers(interleaved: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library normalises and rotates in float32."""
    library = transformers.models.deepseek_v3.modeling_deepseek_v3
    monkeypatch.setattr(library.DeepseekV3RMSNorm, "forward", normalised)
    monkeypatch.setattr(library.DeepseekV3RotaryEmbedding, "forward", rotated)
    agree(loaded("latent_attention", **SIZES), lambda p, tokens: reference(p, tokens, interleaved), {"tokens": ids(VOCAB, 2, 13)})
