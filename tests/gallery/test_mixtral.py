"""mixtral.mpt is `transformers.MixtralForCausalLM` with the same weights, its balance loss included."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.gallery.common import Tensors, agree, doubled, ids, loaded, next_token, rewired, under

transformers = pytest.importorskip("transformers")

VOCAB, D, KV, GROUP, HIDDEN, EXPERTS, BALANCE = 61, 24, 2, 2, 20, 5, 0.3
SIZES = {"vocab": VOCAB, "d": D, "kv": KV, "group": GROUP, "hidden": HIDDEN, "expert": EXPERTS, "balance": BALANCE}


def attention(a: Tensors) -> Tensors:
    """Query heads of one key and value follow one another, as here."""
    return {
        "self_attn.q_proj.weight": a["W_q"].flatten(0, 2),
        "self_attn.k_proj.weight": a["W_k"].flatten(0, 1),
        "self_attn.v_proj.weight": a["W_v"].flatten(0, 1),
        "self_attn.o_proj.weight": a["W_o"].flatten(1),
    }


def theirs(p: Tensors, depth: int) -> Tensors:
    state = {"model.embed_tokens.weight": p["embed"], "lm_head.weight": p["unembed"], "model.norm.weight": p["rmsnorm.gain"]}
    for n in range(depth):
        layer = under(p, f"layers.{n}")
        e = under(layer, "experts")
        found = {
            **attention(under(layer, "attention")),
            "input_layernorm.weight": layer["pre_attention.gain"],
            "post_attention_layernorm.weight": layer["pre_experts.gain"],
            "mlp.gate.weight": e["router"],
            "mlp.experts.gate_up_proj": torch.cat((e["swiglu.W_gate"], e["swiglu.W_up"]), 1),
            "mlp.experts.down_proj": e["swiglu.W_down"],
        }
        state |= {f"model.layers.{n}.{name}": value for name, value in found.items()}
    return state


def reference(p: Tensors, tokens: Tensor, depth: int) -> Tensors:
    config = transformers.MixtralConfig(
        vocab_size=VOCAB,
        hidden_size=D,
        intermediate_size=HIDDEN,
        num_hidden_layers=depth,
        num_attention_heads=KV * GROUP,
        num_key_value_heads=KV,
        head_dim=D // (KV * GROUP),
        num_local_experts=EXPERTS,
        num_experts_per_tok=2,
        rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        attn_implementation="eager",
        experts_implementation="eager",
    )
    found = rewired(transformers.MixtralForCausalLM(config).double().eval(), theirs(p, depth), tokens, output_router_logits=True)
    loss = next_token(found.logits, tokens)
    if depth == 1:  # theirs takes means over all layers together, of two choices a token the sum: so it is twice ours of a model of one layer
        loss = loss + BALANCE * found.aux_loss / 2
    else:
        loss = loss + BALANCE * sum(balance(scores.view(-1, EXPERTS)) for scores in found.router_logits)
    return {"logits": found.logits, "loss": loss}


def balance(scores: Tensor) -> Tensor:
    """Of one layer, by its formula."""
    chosen = torch.zeros_like(scores).scatter(1, scores.topk(2, -1).indices, 1.0)
    return EXPERTS * (chosen.sum(0) / chosen.sum() * scores.softmax(-1).mean(0)).sum()


@pytest.mark.parametrize("depth", [1, 3])
def test_same_as_transformers(depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    doubled(transformers.models.mixtral.modeling_mixtral, monkeypatch)
    agree(loaded("mixtral", depth=depth, **SIZES), lambda p, tokens: reference(p, tokens, depth), {"tokens": ids(VOCAB, 2, 17)})
