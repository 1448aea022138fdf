"""`mptc.load` on real specs."""

from pathlib import Path

import pytest
import torch

import mptc
from mptc.runtime.run import Run
from mptc.runtime.settings import Settings
from mptc.runtime.weights import save_weights
from tests.runtime.stand_in import SURFACE

CEM = "specs/cem_small.mpt"


@pytest.fixture(scope="module")
def cem(root: Path) -> torch.nn.Module:
    return mptc.load(root / CEM, variant="tiny")


def test_a_module_that_trains(cem: torch.nn.Module) -> None:
    tokens = torch.arange(24).reshape(2, 12)
    out = cem(tokens, loss=True)
    assert out.logits.shape == (2, 12, 256)
    assert out[0] is out.logits
    assert out.loss.ndim == 0
    out.loss.backward()
    assert all(parameter.grad is not None for parameter in cem.parameters())
    assert sum(parameter.numel() for parameter in cem.parameters()) == 66_624


def test_numbers_and_strings_override(root: Path) -> None:
    model = mptc.load(root / CEM, set={"depth": 1, "d": "2 * 16", "vocab": 300}, variant="tiny")
    assert model.state_dict()["embed"].shape == (300, 32)


def test_the_seed_decides_initial_values(root: Path, cem: torch.nn.Module) -> None:
    again, other = mptc.load(root / CEM, variant="tiny"), mptc.load(root / CEM, variant="tiny", seed=1)
    name = "layers.0.interaction.W_q"
    assert torch.equal(again.state_dict()[name], cem.state_dict()[name])
    assert not torch.equal(other.state_dict()[name], cem.state_dict()[name])


def test_weights(root: Path, cem: torch.nn.Module, tmp_path: Path) -> None:
    save_weights(cem, tmp_path / "w.safetensors")
    model = mptc.load(root / CEM, variant="tiny", weights=tmp_path / "w.safetensors", seed=3)
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in cem.state_dict().items())
    with pytest.raises(mptc.WeightsError, match=r"embed: the file has \[256, 64\], the model \[256, 32\]"):
        mptc.load(root / CEM, variant="tiny", set={"d": 32}, weights=tmp_path / "w.safetensors")


def test_weights_of_a_run(root: Path, cem: torch.nn.Module, tmp_path: Path) -> None:
    run = Run(tmp_path, CEM, "tiny", {}, SURFACE, Settings(), "data.txt", {}, "")
    run.create()
    with pytest.raises(mptc.UserError, match="has no checkpoint yet"):
        mptc.load(root / CEM, variant="tiny", weights=tmp_path)
    (tmp_path / "step-00000001").mkdir()
    save_weights(cem, tmp_path / "step-00000001" / "model.safetensors")
    for weights in (tmp_path, tmp_path / "step-00000001"):
        model = mptc.load(root / CEM, variant="tiny", weights=weights, seed=3)
        assert torch.equal(model.state_dict()["embed"], cem.state_dict()["embed"])
    with pytest.raises(mptc.UserError, match="specs is not a run directory"):
        mptc.load(root / CEM, variant="tiny", weights=root / "specs")


def test_a_mistake_in_the_spec_is_rendered(tmp_path: Path) -> None:
    (tmp_path / "wrong.mpt").write_text("dim d = 4\nmodel m {\n  input x: [d]\n  output y = x + nowhere\n}\n")
    with pytest.raises(mptc.SpecError, match=r"wrong.mpt:4:18: error\[E\d{4}\]: .*nowhere"):
        mptc.load(tmp_path / "wrong.mpt")


def test_a_missing_file_and_a_library(tmp_path: Path) -> None:
    with pytest.raises(mptc.SpecError, match="none.mpt:1:1: error.*No such file"):
        mptc.load(tmp_path / "none.mpt")
    (tmp_path / "library.mpt").write_text("dim d = 4\n")
    with pytest.raises(mptc.SpecError, match="library.mpt"):
        mptc.load(tmp_path / "library.mpt")


def test_what_is_not_a_spec_at_all(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="one of auto, torch, triton"):
        mptc.load(root / CEM, kernels="cuda")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(mptc.UserError, match="needs a GPU, and there is none"):
        mptc.load(root / CEM, kernels="triton")
    with pytest.raises(TypeError, match=r"set\['d'\] is None"):
        mptc.load(root / CEM, set={"d": None})  # type: ignore[dict-item]


def test_compiles_as_a_whole_graph(cem: torch.nn.Module) -> None:
    compiled = torch.compile(cem, fullgraph=True, backend="eager")
    tokens = torch.arange(12).reshape(1, 12)
    torch.testing.assert_close(compiled(tokens).logits, cem(tokens).logits)


def test_names_of_functions_that_the_module_is_given_are_free(tmp_path: Path) -> None:
    """`entries` is what a lookup by number becomes."""
    path = tmp_path / "m.mpt"
    block = "block f(x: [d]) {\n  param entries: [d] = 2\n  param places: [n, d] = 1\n  return x * entries + lookup[n](places, position)\n}\n"
    path.write_text("dim d = 2\ndim n = 3\n" + block + "model m {\n  input x: [d]\n  output y = f(x)\n}\n")
    assert mptc.load(path)(torch.ones(1, 4, 2)).y.tolist() == [[[3, 3], [3, 3], [3, 3], [2, 2]]]
