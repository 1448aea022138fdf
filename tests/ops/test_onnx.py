"""The ONNX operators of every op, checked by onnx and run by onnxruntime, against the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from mptc.backends.onnx.graph import IR, OPSET, Graph
from mptc.ir.axis import BATCH, CTX, SEQ, Role
from mptc.ir.node import Kind, Node, Type
from mptc.ops.contract import Contract
from mptc.ops.leaf import Input
from mptc.ops.sample import Sample
from tests.ops.cases import SIZES, ZETA, arrays, cases, node_of, reference

DIMS = {axis: size for axis, size in SIZES.items() if axis.role is Role.DIM}
TOKENS = Node(Input("tokens", (), kind=Kind.ID), (), Type((BATCH, SEQ), Kind.ID))
LENGTHS = {BATCH: ("tokens", 0), **dict.fromkeys((SEQ, CTX, ZETA), ("tokens", 1))}
ONE, TWO = onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE

SINGLE_ONLY = {"Erf", "Gelu", "Softplus"}  # in onnxruntime 1.31, on CPU
ROUGH = {"Attention": 1e-6, "RMSNormalization": 1e-8}  # it computes the one in float32; the epsilon of the other is a float32


def written(sample: Sample, numbers: int = ONE) -> Any:
    """A model of one node; `tokens` is there to tell how many tokens there are."""
    node = node_of(sample)
    names = [f"x{index}" for index in range(len(node.args))]
    graph = Graph(DIMS, LENGTHS, numbers)
    result = graph.write(node, *names)
    graph.nodes.append(onnx.helper.make_node("Identity", [result], ["y"]))
    return graph.model("one", [("tokens", TOKENS), *zip(names, node.args, strict=True)], [("y", node)])


def computed(model: Any, sample: Sample, values: tuple[Any, ...], numbers: int) -> Any:
    real = {ONE: np.float32, TWO: np.float64}[numbers]
    kinds = [np.int64 if type_.kind is Kind.ID else real for type_ in sample.types]
    feed = {f"x{index}": value.astype(kind) for index, (value, kind) in enumerate(zip(values, kinds, strict=True))}
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["y"], {"tokens": np.zeros((SIZES[BATCH], SIZES[SEQ]), np.int64), **feed})[0]


def compare(found: Any, wanted: Any, tolerance: float) -> None:
    finite = np.isfinite(wanted)
    assert found.shape == wanted.shape
    np.testing.assert_array_equal(found[~finite], wanted[~finite])
    np.testing.assert_allclose(found[finite], wanted[finite], rtol=tolerance, atol=tolerance * np.max(np.abs(wanted[finite]), initial=0.0))


@cases("onnx", "reference")
def test_onnx(seed: int, sample: Sample) -> None:
    model = written(sample)
    onnx.checker.check_model(model, full_check=True)
    assert all(node.domain == "" for node in model.graph.node)
    values = arrays(sample, seed)
    compare(computed(model, sample, values, ONE), reference(sample, node_of(sample), values), 1e-5)


@cases("onnx", "reference")
def test_onnx_in_float64(seed: int, sample: Sample) -> None:
    model = written(sample, TWO)
    onnx.checker.check_model(model, full_check=True)
    used = {node.op_type for node in model.graph.node}
    values = arrays(sample, seed)
    if used & SINGLE_ONLY:
        with pytest.raises(ort.capi.onnxruntime_pybind11_state.NotImplemented):
            computed(model, sample, values, TWO)
        return
    tolerance = max(ROUGH.get(op_type, 1e-12) for op_type in used)
    compare(computed(model, sample, values, TWO), reference(sample, node_of(sample), values), tolerance)


def test_versions_that_onnxruntime_runs() -> None:
    assert OPSET <= 26
    assert IR <= 13
    model = written(Contract.samples()[1])
    assert ([entry.version for entry in model.opset_import], model.ir_version) == ([OPSET], IR)


def test_a_wrong_operator_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Contract, "onnx", lambda self, site: site.emit("Mul", *site.inputs))
    with pytest.raises(AssertionError):
        test_onnx(1, Contract.samples()[1])
