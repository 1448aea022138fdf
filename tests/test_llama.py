"""Llama in the language is `transformers.LlamaForCausalLM` with the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mptc

transformers = pytest.importorskip("transformers")

SIZES = {"depth": 3, "vocab": 97, "d": 48, "kv": 2, "group": 3, "hidden": 80}
HEADS = SIZES["kv"] * SIZES["group"]

# Where each weight of a layer lives over there. A linear map there is [out, in]; here every axis has a name, and out comes first too.
LAYER = {
    "attention.W_q": "self_attn.q_proj.weight",
    "attention.W_k": "self_attn.k_proj.weight",
    "attention.W_v": "self_attn.v_proj.weight",
    "attention.W_o": "self_attn.o_proj.weight",
    "swiglu.W_gate": "mlp.gate_proj.weight",
    "swiglu.W_up": "mlp.up_proj.weight",
    "swiglu.W_down": "mlp.down_proj.weight",
    "pre_attention.gain": "input_layernorm.weight",
    "pre_mlp.gain": "post_attention_layernorm.weight",
}
MODEL = {"embed": "model.embed_tokens.weight", "unembed": "lm_head.weight", "rmsnorm.gain": "model.norm.weight"}


def names() -> dict[str, str]:
    layers = {f"layers.{n}.{ours}": f"model.layers.{n}.{theirs}" for n in range(SIZES["depth"]) for ours, theirs in LAYER.items()}
    return {**MODEL, **layers}


def llama(dtype: torch.dtype) -> nn.Module:
    """The library's model, its weights drawn large enough for every term to count."""
    config = transformers.LlamaConfig(
        vocab_size=SIZES["vocab"],
        hidden_size=SIZES["d"],
        intermediate_size=SIZES["hidden"],
        num_hidden_layers=SIZES["depth"],
        num_attention_heads=HEADS,
        num_key_value_heads=SIZES["kv"],
        max_position_embeddings=256,
        rms_norm_eps=1e-6,
        rope_theta=10000.0,
        tie_word_embeddings=False,
        attn_implementation="sdpa",
    )
    model = transformers.LlamaForCausalLM(config).to(dtype).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(1 + 0.2 * drawn if parameter.dim() == 1 else drawn / parameter.shape[-1] ** 0.5)
    return model


def ours(root: Path, dtype: torch.dtype) -> nn.Module:
    return mptc.load(root / "specs" / "llama_small.mpt", set=SIZES).to(dtype)


def copied(source: dict[str, Tensor], target: nn.Module, paths: dict[str, str]) -> None:
    """Weights by the other side's names, in the shapes of `target`: the numbers lie in the same order."""
    shapes = {name: value.shape for name, value in target.named_parameters()}
    state = {name: source[path].reshape(shapes[name]) for name, path in paths.items()}
    target.load_state_dict(state, strict=True)


def difference(found: Tensor, expected: Tensor) -> float:
    """The largest, relative to the largest of what is expected."""
    found, expected = found.detach(), expected.detach()
    return float((found - expected).abs().max() / expected.abs().max())


def compared(root: Path, dtype: torch.dtype) -> dict[str, float]:
    """The differences in logits, loss and the gradient of every weight. The library takes logits to float32 before its loss."""
    theirs, mine = llama(dtype), ours(root, dtype)
    copied(dict(theirs.named_parameters()), mine, names())
    tokens = torch.randint(0, SIZES["vocab"], (2, 33), generator=torch.Generator().manual_seed(4))
    expected, found = theirs(tokens, labels=tokens), mine(tokens, loss=True)
    loss = expected.loss if dtype == torch.float32 else F.cross_entropy(expected.logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    loss.backward()
    found.loss.backward()
    differences = {
        "logits": difference(found.logits, expected.logits),
        "loss": difference(found.loss, loss),
    }
    gradients = dict(theirs.named_parameters())
    for name, parameter in mine.named_parameters():
        wanted = gradients[names()[name]].grad.reshape(parameter.shape)
        differences[f"d {name}"] = difference(parameter.grad, wanted)
    return differences


def normalised(self: Any, hidden: Tensor) -> Tensor:
    return self.weight * (hidden / (hidden.square().mean(-1, keepdim=True) + self.variance_epsilon).sqrt())


def rotated(self: Any, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
    size = 2 * self.inv_freq.shape[0]
    rates = 10000.0 ** (-torch.arange(0, size, 2, dtype=x.dtype) / size)
    angles = (position_ids[..., None].to(x.dtype) * rates).repeat(1, 1, 2)
    return angles.cos(), angles.sin()


def test_same_weights_same_model(root: Path) -> None:
    found = compared(root, torch.float32)
    assert max(found["logits"], found["loss"]) <= 1e-6, found
    assert max(found.values()) <= 2e-5, found


def test_same_in_double_precision(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library normalises and rotates in float32 whatever its weights are; in float64 throughout, not even rounding is left to hide behind."""
    library = transformers.models.llama.modeling_llama
    monkeypatch.setattr(library.LlamaRMSNorm, "forward", normalised)
    monkeypatch.setattr(library.LlamaRotaryEmbedding, "forward", rotated)
    found = compared(root, torch.float64)
    assert max(found.values()) <= 1e-12, found


def test_back_again(root: Path) -> None:
    """The same weights go back, and nothing is lost on the way."""
    mine, theirs = ours(root, torch.float32), llama(torch.float32)
    copied(dict(mine.named_parameters()), theirs, {theirs_: ours_ for ours_, theirs_ in names().items()})
    tokens = torch.randint(0, SIZES["vocab"], (1, 12), generator=torch.Generator().manual_seed(5))
    assert torch.allclose(theirs(tokens).logits, mine(tokens).logits, rtol=0, atol=1e-6)
