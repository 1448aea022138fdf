"""Every spec of the repository as an ONNX graph: well formed, small, every weight once, and right at any length."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from mptc.backends.deployment import Stored, placed
from mptc.backends.onnx import deployed
from mptc.backends.onnx.graph import NodeSite
from mptc.backends.onnx.stored import file, parameters
from mptc.compile import Deployment
from mptc.derive.explain import layers
from mptc.ops.site import Value
from mptc.ops.stream import Stream
from tests.deploy.agree import CONSTANT, Pair, agrees, derived, outputs, pair
from tests.golden import SPECS, VARIANT

FLOAT16 = 4e-3  # eleven bits, through some dozens of operators


def each(specs: list[Path] = SPECS) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("spec", specs, ids=lambda spec: spec.stem)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Pair]:
    """Every spec deployed, in float32."""
    return {spec: pair(derived(spec, VARIANT), tmp_path_factory.mktemp(spec.stem)) for spec in SPECS}


@each()
def test_it_agrees_with_torch(spec: Path, pairs: dict[Path, Pair], tmp_path: Path) -> None:
    agrees(pairs[spec], tmp_path)


@each()
def test_the_evaluator_of_the_standard_agrees(spec: Path, pairs: dict[Path, Pair], tmp_path: Path) -> None:
    agrees(pairs[spec], tmp_path, standard=True)


@each()
def test_float16(spec: Path, tmp_path: Path) -> None:
    agrees(derived(spec, VARIANT), tmp_path, deployment=Deployment("float16"), tolerance=FLOAT16)


@each()
def test_bfloat16_is_well_formed(spec: Path, tmp_path: Path) -> None:
    made = pair(derived(spec, VARIANT), tmp_path, Deployment("bfloat16"))
    assert made.deployed.remarks[-1] == "onnxruntime does not run bfloat16 on a CPU"
    assert {tensor.data_type for tensor in made.model().graph.initializer if not tensor.name.startswith(CONSTANT)} == {onnx.TensorProto.BFLOAT16}


@each()
def test_what_is_said_of_inputs_and_outputs(spec: Path, pairs: dict[Path, Pair]) -> None:
    """Their names are the spec's, and so are their dimensions: a number, or an axis by its name."""
    program, graph = pairs[spec].program, pairs[spec].model().graph
    known = {str(axis) for axis in program.sizes}
    remarks = [remark.removeprefix("the graph does without ").partition(", which")[0] for remark in pairs[spec].deployed.remarks]
    left = {name for remark in remarks for name in remark.split(", ")}
    assert [value.name for value in graph.input] == [node.op.label for node in program.inputs if node.op.label not in left]
    assert [value.name for value in graph.output] == [output.name for output in program.outputs]
    for value, axes in zip(graph.output, (output.order for output in program.outputs), strict=True):
        dims = [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        assert dims == [program.sizes.get(axis, str(axis)) for axis in axes]
    for value in graph.input:
        names = [dim.dim_param for dim in value.type.tensor_type.shape.dim if dim.dim_param]
        assert names[0] == "batch"
        assert not set(names) & known


@each()
def test_every_weight_is_there_once(spec: Path, pairs: dict[Path, Pair]) -> None:
    """One initializer for each stored parameter, their bytes those of the safetensors file, side by side; what else there is is small."""
    made, graph = pairs[spec], pairs[spec].model().graph
    weights = {tensor.name: tensor for tensor in graph.initializer if not tensor.name.startswith(CONSTANT)}
    constants = [tensor for tensor in graph.initializer if tensor.name.startswith(CONSTANT)]
    assert sorted(made.net.state_dict()) == sorted(path for _, path, _ in parameters(made.program))
    assert weights.keys() == made.net.state_dict().keys()
    assert all(len(tensor.SerializeToString()) < 1500 and tensor.data_location == onnx.TensorProto.DEFAULT for tensor in constants)
    data = made.weights.read_bytes()
    header = int.from_bytes(data[:8], "little")
    places = sorted(_place(tensor) for tensor in weights.values())
    assert {location for _, _, location in places} == {made.weights.name}
    end = 8 + header
    for start, length, _ in places:
        assert start == end
        assert start % 16 == 0 or length % 16, "what has whole 16 bytes begins at a multiple of 16"
        end += length
    assert end == len(data)
    entries = json.loads(data[8 : 8 + header])
    for name, tensor in weights.items():
        start, length, _ = _place(tensor)
        assert entries[name]["data_offsets"] == [start - 8 - header, start - 8 - header + length]
        assert entries[name]["shape"] == list(tensor.dims) == list(made.net.state_dict()[name].shape)


def _place(tensor: Any) -> tuple[int, int, str]:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    return int(entries["offset"]), int(entries["length"]), entries["location"]


@each()
def test_nothing_is_idle_and_all_is_explained(spec: Path, pairs: dict[Path, Pair]) -> None:
    """Standard operators alone, each needed, none written twice; each says which line of which file it comes from."""
    graph = pairs[spec].model().graph
    used = Counter(name for node in graph.node for name in node.input)
    used.update(value.name for value in graph.output)
    assert all(node.domain == "" for node in graph.node)
    assert all(any(used[name] for name in node.output) for node in graph.node)  # of what `TopK` gives, places may be all
    assert all(used[tensor.name] for tensor in graph.initializer)
    texts = [(node.op_type, tuple(node.input), tuple(sorted(attribute.SerializeToString() for attribute in node.attribute))) for node in graph.node]
    assert len(set(texts)) == len([text for text in texts if text[0] != "Identity"]) + len({text for text in texts if text[0] == "Identity"})
    silent = [node.name for node in graph.node if ".mpt:" not in node.doc_string and not node.name.startswith(("/batch.", "/seq.", "output/"))]
    assert len(silent) <= 0.05 * len(graph.node), silent


def test_equations_stand_where_steps_begin(pairs: dict[Path, Pair], root: Path) -> None:
    made = pairs[root / "specs" / "cem_small.mpt"]
    docs = [node.doc_string for node in made.model().graph.node]
    for equation in ("-∂E/∂x = W_qᵀ R_i⁻¹ Σ_j≤i softmax_j≤i(q_i·k_j / √key) k_j", "-∂E/∂x = W_upᵀ (W_gate c_i ⊙ silu(W_up x_i))"):
        assert sum(equation in doc for doc in docs) >= 2, "in each of two layers"


STANDARD = {"cem_small": {"Attention", "RMSNormalization", "RotaryEmbedding"}, "bert": {"Attention", "Gelu", "LayerNormalization"}}


@pytest.mark.parametrize("name", STANDARD)
def test_standard_operators_are_used(name: str, pairs: dict[Path, Pair], root: Path) -> None:
    assert STANDARD[name] <= {node.op_type for node in pairs[root / "specs" / f"{name}.mpt"].model().graph.node}


def test_a_tied_matrix_is_one_initializer_in_both_uses(pairs: dict[Path, Pair], root: Path) -> None:
    graph = pairs[root / "specs" / "cem_small.mpt"].model().graph
    assert {node.op_type for node in graph.node if "embed" in node.input} == {"Gather", "Transpose"}
    assert [tensor.name for tensor in graph.initializer].count("embed") == 1


# -- size ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cem_small", "gpt2"])
def test_full_size_graphs_are_small(name: str, root: Path) -> None:
    found = derived(root / "specs" / f"{name}.mpt")
    (data,) = deployed(found.program, "not asked for", layers(found)[0], Deployment()).files.values()
    assert len(data) < 1_000_000


@pytest.mark.parametrize("packed", [False, True], ids=["float32", "int8"])
def test_bytes_are_a_quarter(packed: bool, root: Path) -> None:
    program = derived(root / "specs" / "cem_small.mpt").program
    whole = sum(4 * int(np.prod(shape)) for _, _, shape in parameters(program))
    size = file(program, Deployment(packed=packed)).size
    assert size / whole <= (0.27 if packed else 1.001)


@pytest.mark.parametrize("spec", ["cem_small", "looped", "encoder_decoder"])
@pytest.mark.parametrize("name", ["depth", "steps", "loops"])
def test_operators_grow_with_copies_and_passes_alone(spec: str, name: str, root: Path) -> None:
    """As a straight line."""
    path = root / "specs" / f"{spec}.mpt"
    if f"const {name}" not in path.read_text():
        return
    counts = [_operators(path, ((name, str(number)),)) for number in (2, 3, 4, 7)]
    assert counts[1] - counts[0] == counts[2] - counts[1] > 0
    assert counts[3] - counts[2] == 3 * (counts[1] - counts[0])


def _operators(path: Path, settings: tuple[tuple[str, str], ...]) -> int:
    found = derived(path, VARIANT, settings)
    (data,) = deployed(found.program, "not asked for", {}, Deployment()).files.values()
    return len(onnx.load_from_string(data).graph.node)


# -- what is seen --------------------------------------------------------------------------------------


def test_a_wrong_scale_is_seen(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Stream.onnx

    def wrong(self: Stream, site: NodeSite) -> Value:
        return right(Stream(self.over, self.inner, self.scale * self.scale, self.causal, self.biased, self.masked), site)

    monkeypatch.setattr(Stream, "onnx", wrong)
    with pytest.raises(AssertionError, match="logits at .* differs by"):
        agrees(derived(root / "specs" / "cem_small.mpt", VARIANT), tmp_path)


def test_a_weight_in_another_place_is_seen(pairs: dict[Path, Pair], root: Path, tmp_path: Path) -> None:
    made = pairs[root / "specs" / "llama_small.mpt"]
    model = made.model()
    first, second = (next(tensor for tensor in model.graph.initializer if tensor.name == f"layers.{copy}.attention.W_k") for copy in (0, 1))
    for one, other in zip(first.external_data, second.external_data, strict=True):
        one.value = other.value
    (tmp_path / made.path.name).write_bytes(model.SerializeToString())
    (tmp_path / made.weights.name).write_bytes(made.weights.read_bytes())
    with pytest.raises(AssertionError, match="differs by"):
        agrees(Pair(made.program, made.deployed, made.net, tmp_path), tmp_path)


# -- probes --------------------------------------------------------------------------------------------

WATCHED = """
dim vocab = 13
dim d = 6
dim e = 4
block sized(x: [d]) {
  param W: [e, d]
  y = W @ x
  probe width = y
  penalty sum[e](y^2)
  return W @ y
}
model m {
  input tokens: id[vocab]
  param embed: [vocab, d]
  x = lookup(embed, tokens)
  probe table = embed
  stack 2 as outer {
    stack 3 as layers {
      repeat 2 {
        x <- x + sized(rms[d](x))
        probe size = sum[d](x^2)
      }
    }
    probe late = x > 0
  }
  output logits = embed @ x
  probe nll = cross_entropy[vocab](logits, tokens)
  loss cross_entropy[vocab](logits, next(tokens))
}
"""


def test_probes_are_outputs_where_they_are_asked_for(tmp_path: Path) -> None:
    found = agrees(WATCHED, tmp_path, deployment=Deployment(probes=True))
    names = [value.name for value in found.model().graph.output]
    assert {"logits", "table", "nll", "outer.1.late", "outer.1.layers.2.size", "outer.0.layers.0.sized.width"} <= set(names)
    plain = pair(WATCHED, tmp_path / "plain")
    assert [value.name for value in plain.model().graph.output] == ["logits"]
    assert len(plain.model().graph.node) < len(found.model().graph.node)


# -- exact values --------------------------------------------------------------------------------------

def test_positions_are_exact_in_float16(tmp_path: Path) -> None:
    """float16 does not tell 2,048 from 2,049."""
    text = "dim d = 2\nmodel m {\n  input x: [d]\n  output y = x * (position == 2_049) + x * (position < 1.5)\n}\n"
    x = torch.ones(1, 2_100, 2)
    found = agrees(text, tmp_path, inputs=[{"x": x}], deployment=Deployment("float16"))
    (wanted,) = outputs(found, {"x": x}).values()
    assert np.flatnonzero(wanted[0, :, 0]).tolist() == [0, 1, 2_049]


def test_distances_are_exact_in_float16(tmp_path: Path) -> None:
    text = "dim d = 2\nmodel m {\n  input x: [d]\n  output y = sum[ctx](only(past(x), distance(ctx) > 2_048))\n}\n"
    agrees(text, tmp_path, inputs=[{"x": torch.ones(1, 2_052, 2)}], deployment=Deployment("float16"), tolerance=1e-3)


# -- the file ------------------------------------------------------------------------------------------


def test_tensors_of_whole_16_bytes_are_aligned() -> None:
    made = placed("f", [Stored(f"t{size}", f"t{size}", "F32", (size,)) for size in (1, 3, 4, 6, 8, 5, 2, 400)])
    assert len(made.header) % 64 == 0
    assert all(tensor.start % 16 == 0 for tensor in made.tensors if tensor.size % 16 == 0)
    assert all(tensor.start % 4 == 0 for tensor in made.tensors)
    ends = [tensor.start + tensor.size for tensor in made.tensors]
    assert [tensor.start for tensor in made.tensors] == [len(made.header), *ends[:-1]]
    assert made.size == ends[-1]
