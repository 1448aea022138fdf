"""Matrices as bytes: the graph means the matrices that those stand for, exactly as any other; ties are kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from mptc.backends.onnx.stored import rows_of
from mptc.compile import Deployment
from mptc.ops.chosen import SoftTopK
from mptc.ops.region import everything
from mptc.runtime.tensors import encoded
from tests.deploy.agree import CONSTANT, Pair, agrees, derived, pair
from tests.golden import SPECS, VARIANT

ELEMENTWISE = {"b_q", "b_k", "b_v", "diag", "begin", "bias"}  # tensors of several axes that nothing is contracted with


def rounded(found: Pair) -> None:
    """Give the torch module the weights that the bytes stand for."""
    state = found.net.state_dict()
    tensors = {tensor.name: tensor for tensor in found.deployed.weights.tensors}
    with torch.no_grad():
        for name, tensor in tensors.items():
            if tensor.rows and name == tensor.parameter:
                values = state[name].numpy()
                scales = encoded(tensors[f"{name}:scale"], values).astype(np.float32)
                bytes_ = encoded(tensor, values).reshape(tensor.rows, -1)
                state[name].copy_(torch.tensor(bytes_ * scales[:, None]).reshape(state[name].shape))


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.stem)
def test_bytes_mean_what_they_stand_for(spec: Path, tmp_path: Path) -> None:
    found = pair(derived(spec, VARIANT), tmp_path, Deployment(packed=True))
    before = {name: value.clone() for name, value in found.net.state_dict().items()}
    rounded(found)
    if any(isinstance(node.op, SoftTopK) for node in everything(found.program.roots)):
        pytest.skip("tokens with one id have one score, and which of them are chosen is for a rounding to decide")
    assert any(not torch.equal(value, before[name]) for name, value in found.net.state_dict().items())
    agrees(found, tmp_path)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.stem)
def test_each_matrix_is_there_once(spec: Path, tmp_path: Path) -> None:
    """As bytes, with a number for each row; what is no matrix stays as it is."""
    found = pair(derived(spec, VARIANT), tmp_path, Deployment(packed=True))
    tensors = {tensor.name: tensor for tensor in found.model().graph.initializer if not tensor.name.startswith(CONSTANT)}
    state = found.net.state_dict()
    assert {name for name in tensors if ":" not in name} == state.keys()
    whole = {name for name, tensor in tensors.items() if tensor.data_type == onnx.TensorProto.FLOAT and ":" not in name}
    assert {name.rpartition(".")[2] for name in whole if state[name].dim() > 1} <= ELEMENTWISE
    for name, tensor in tensors.items():
        if tensor.data_type == onnx.TensorProto.INT8:
            (rows,) = tensors[f"{name}:scale"].dims
            assert 0 < rows < state[name].numel()


def test_rows_are_those_of_the_output(root: Path) -> None:
    assert rows_of(derived(root / "specs/cem_small.mpt").program)["layers[*].interaction.W_q"] == 2
    llama = rows_of(derived(root / "specs/llama_small.mpt").program)
    assert llama["layers[*].attention.W_o"] == 1
    assert llama["embed"] == 1
    assert "layers[*].pre_mlp.gain" not in llama
    assert rows_of(derived(root / "specs/mpt_multimodal.mpt").program)["embedded.experts"] == 2


def test_a_tied_matrix_of_bytes_is_gathered_and_multiplied(root: Path, tmp_path: Path) -> None:
    graph = pair(derived(root / "specs/cem_small.mpt", VARIANT), tmp_path, Deployment(packed=True)).model().graph
    assert {node.op_type for node in graph.node if "embed" in node.input} == {"Gather", "DequantizeLinear"}
