"""A model filled from another one's checkpoint: by name, by a map, from files and directories of several kinds; mistakes fill nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import mptc
from tests.conftest import ROOT, Shell

SPECS = ROOT / "specs"
SIZES = {"depth": 2, "d": 16, "kv": 2, "hidden": 12, "vocab": 256}


@pytest.fixture
def dense() -> torch.nn.Module:
    return mptc.load(SPECS / "coda_dense.mpt", set=SIZES, seed=7)


@pytest.fixture
def coda() -> torch.nn.Module:
    return mptc.load(SPECS / "coda.mpt", set={**SIZES, "narrow": 4, "reduction": 1})


def shards(state: dict[str, torch.Tensor], folder: Path) -> Path:
    """A Hugging Face directory of two files."""
    names = sorted(state)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, own in parts.items():
        save_file({name: state[name].contiguous() for name in own}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {name: file for file, own in parts.items() for name in own}}))
    return folder


@pytest.mark.parametrize("kind", ["file", "pickle", "directory", "shards"])
def test_a_frozen_branch_is_the_dense_model(kind: str, dense: torch.nn.Module, coda: torch.nn.Module, tmp_path: Path) -> None:
    state = dense.state_dict()
    path = tmp_path / {"file": "dense.safetensors", "pickle": "dense.pt"}.get(kind, "")
    if kind == "pickle":
        torch.save(state, path)
    elif kind == "shards":
        shards(state, tmp_path)
    else:
        save_file(state, path if kind == "file" else path / "model.safetensors")
    found = mptc.fill(coda, path)
    assert set(found.filled) == set(state)
    assert {name.rpartition(".")[2] for name in found.left} == {"router", "W_down", "W_up"}
    assert not found.unused
    assert f"{len(state)} tensors filled" in str(found)
    assert "layers.*.router" in str(found)
    tokens = torch.randint(0, 256, (2, 9))
    with torch.no_grad():
        torch.testing.assert_close(coda(tokens, tokens).logits, dense(tokens, tokens).logits, rtol=0, atol=1e-6)


def test_a_map_joins_names_and_folds_dimensions(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    model = mptc.load(SPECS / "llama_small.mpt", variant="tiny")
    config = transformers.LlamaConfig(
        vocab_size=256, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, rms_norm_eps=1e-6
    )
    torch.manual_seed(0)
    theirs = transformers.LlamaForCausalLM(config).eval()
    theirs.save_pretrained(tmp_path / "hf")
    layer = "model.layers.*."
    ours = {"self_attn": "attention", "mlp": "swiglu"}
    map = {"model.embed_tokens.weight": "embed", "lm_head.weight": "unembed", "model.norm.weight": "rmsnorm.gain"}
    map |= {f"{layer}self_attn.{letter}_proj.weight": f"layers.*.attention.W_{letter}" for letter in "qkvo"}
    map |= {f"{layer}mlp.{name}_proj.weight": f"layers.*.{ours['mlp']}.W_{name}" for name in ("gate", "up", "down")}
    map |= {f"{layer}input_layernorm.weight": "layers.*.pre_attention.gain", f"{layer}post_attention_layernorm.weight": "layers.*.pre_mlp.gain"}
    loaded = mptc.load(SPECS / "llama_small.mpt", variant="tiny", weights=tmp_path / "hf", map=map)
    assert str(mptc.fill(model, tmp_path / "hf", map)) == "21 tensors filled"
    tokens = torch.randint(0, 256, (2, 11))
    with torch.no_grad():
        for each in (model, loaded):
            torch.testing.assert_close(each(tokens).logits, theirs(tokens).logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"nothing": "embed"}, "has no tensor nothing"),
        ({"embed": "nowhere"}, "the model has no tensor nowhere"),
        ({"layers.*.swiglu.W_up": "layers.0.swiglu.W_up"}, "would both fill layers.0.swiglu.W_up"),
        ({"readout.gain": "embed"}, "readout.gain [16] does not fill embed [256, 16]"),
    ],
)
def test_mistakes_fill_nothing(entries: dict[str, str], message: str, dense: torch.nn.Module, coda: torch.nn.Module, tmp_path: Path) -> None:
    save_file(dense.state_dict(), tmp_path / "dense.safetensors")
    before = {name: value.clone() for name, value in coda.state_dict().items()}
    with pytest.raises(mptc.WeightsError, match="^error: ") as caught:
        mptc.fill(coda, tmp_path / "dense.safetensors", entries)
    assert message in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in coda.state_dict().items())


def test_what_cannot_be_read(coda: torch.nn.Module, tmp_path: Path) -> None:
    (tmp_path / "text.safetensors").write_text("no tensors")
    (tmp_path / "text.pt").write_text("no tensors")
    torch.save({"model": {"W": torch.ones(2)}}, tmp_path / "nested.pt")
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"W": "../text.safetensors"}}))
    save_file({"other": torch.ones(2)}, tmp_path / "other.safetensors")
    for name in ("text.safetensors", "text.pt", "nested.pt", "hf", "absent.safetensors", "other.safetensors"):
        with pytest.raises(mptc.UserError, match="^error: "):
            mptc.fill(coda, tmp_path / name)


def test_training_begins_with_them_and_leaves_what_is_frozen(mptc: Shell, dense: torch.nn.Module, tmp_path: Path) -> None:
    save_file(dense.state_dict(), tmp_path / "dense.safetensors")
    draw = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 256, (40, 12), generator=draw)
    save_file({"tokens": tokens, "targets": tokens.clone()}, tmp_path / "data.safetensors")
    sizes = [word for name, value in {**SIZES, "narrow": 4}.items() for word in ("--set", f"{name}={value}")]
    asked = ["train", SPECS / "coda.mpt", *sizes, "--data", "data.safetensors", "--steps", 3, "--batch", 2, "--out", "run"]
    said = mptc(*asked, "--weights", "dense.safetensors")
    assert f"{len(dense.state_dict())} tensors filled" in said.stdout
    from safetensors.torch import load_file

    after = load_file(next((tmp_path / "run").glob("step-*")) / "model.safetensors")
    moved = {name for name, value in dense.state_dict().items() if not torch.equal(after[name], value)}
    assert moved == {name for name in dense.state_dict() if name.rpartition(".")[2] in ("gain", "bias")}
    assert mptc(*asked, "--map", "a=b", "--out", "other").returncode == 1
    assert mptc(*asked, "--weights", "dense.safetensors", "--map", "a", "--out", "other").returncode == 1
