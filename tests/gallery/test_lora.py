"""lora.mpt is a `transformers` Llama with `peft`'s LoRA on its queries and values."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.gallery.common import Tensors, agree, doubled, ids, loaded, next_token, outputs, rewired, top, under
from tests.gallery.test_mixtral import attention

transformers, peft = pytest.importorskip("transformers"), pytest.importorskip("peft")

DEPTH, VOCAB, D, KV, GROUP, HIDDEN, RANK, ALPHA = 2, 61, 24, 2, 2, 20, 3, 7
SIZES = {"depth": DEPTH, "vocab": VOCAB, "d": D, "kv": KV, "group": GROUP, "hidden": HIDDEN}


def theirs(p: Tensors) -> Tensors:
    state = {"model.embed_tokens.weight": p["embed"], "lm_head.weight": p["unembed"], "model.norm.weight": p["rmsnorm.gain"]}
    for n in range(DEPTH):
        layer = under(p, f"layers.{n}")
        a = under(layer, "attention")
        found = {name.replace("q_proj", "q_proj.base_layer").replace("v_proj", "v_proj.base_layer"): value for name, value in attention(a).items()}
        for name, letter in (("q", "q"), ("v", "v")):
            found[f"self_attn.{name}_proj.lora_A.default.weight"] = a[f"A_{letter}"]
            found[f"self_attn.{name}_proj.lora_B.default.weight"] = a[f"B_{letter}"].flatten(0, -2)
        found |= {f"mlp.{name}_proj.weight": layer[f"swiglu.W_{name}"] for name in ("gate", "up", "down")}
        found |= {"input_layernorm.weight": layer["pre_attention.gain"], "post_attention_layernorm.weight": layer["pre_mlp.gain"]}
        state |= {f"model.layers.{n}.{name}": value for name, value in found.items()}
    return {f"base_model.model.{name}": value for name, value in state.items()}


def reference(p: Tensors, tokens: Tensor) -> Tensors:
    config = transformers.LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=D,
        intermediate_size=HIDDEN,
        num_hidden_layers=DEPTH,
        num_attention_heads=KV * GROUP,
        num_key_value_heads=KV,
        rms_norm_eps=1e-6,
        attn_implementation="eager",
    )
    lora = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=["q_proj", "v_proj"], lora_dropout=0.0)
    model = peft.get_peft_model(transformers.LlamaForCausalLM(config).double(), lora).double().eval()
    logits = rewired(model, theirs(p), input_ids=tokens).logits
    return {"logits": logits, "loss": next_token(logits, tokens)}


def test_same_as_peft(monkeypatch: pytest.MonkeyPatch) -> None:
    doubled(transformers.models.llama.modeling_llama, monkeypatch)
    agree(loaded("lora", **SIZES, rank=RANK, alpha=ALPHA), reference, {"tokens": ids(VOCAB, 2, 17)})


def test_what_is_trained() -> None:
    model = loaded("lora", **SIZES, rank=RANK)
    assert {name.rpartition(".")[2] for name, value in model.named_parameters() if value.requires_grad} == {"A_q", "B_q", "A_v", "B_v"}


def test_fresh_it_is_the_llama_beneath() -> None:
    base, model = loaded("llama_small", **SIZES), loaded("lora", **SIZES, rank=RANK)
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.copy_(dict(base.named_parameters()).get(name, torch.zeros_like(value)))
    tokens = {"tokens": ids(VOCAB, 2, 9)}
    assert top(outputs(model, tokens)["logits"] - outputs(base, tokens)["logits"]) <= 1e-14
