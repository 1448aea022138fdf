"""Weights by name, strictly."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mptc.runtime.errors import WeightsError
from mptc.runtime.load import instantiate
from mptc.runtime.weights import load_weights, save_weights
from tests.runtime.stand_in import TEXT


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    model, other = instantiate("stand_in", TEXT, seed=1), instantiate("stand_in", TEXT, seed=2)
    save_weights(model, tmp_path / "w.safetensors")
    assert not torch.equal(other.embed, model.embed)
    load_weights(other, tmp_path / "w.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))


def test_every_difference_is_named_and_nothing_copied(tmp_path: Path) -> None:
    model = instantiate("stand_in", TEXT)
    save_weights(model, tmp_path / "w.safetensors")
    tensors = load_file(tmp_path / "w.safetensors")
    tensors["spare"] = tensors.pop("gain")
    tensors["query"] = tensors["query"][:3].contiguous()
    tensors["embed"] = tensors["embed"] + 1
    save_file(tensors, tmp_path / "w.safetensors")
    before = model.embed.clone()
    with pytest.raises(WeightsError) as caught:
        load_weights(model, tmp_path / "w.safetensors")
    text = str(caught.value)
    assert "missing: gain" in text
    assert "unexpected: spare" in text
    assert "query: the file has [3, 32], the model [32, 32]" in text
    assert torch.equal(model.embed, before)


@pytest.mark.parametrize("content", [None, b"", b"not safetensors at all"])
def test_what_cannot_be_read(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match="cannot read weights"):
        load_weights(instantiate("stand_in", TEXT), path)
