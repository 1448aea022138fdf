"""The ONNX operators of every op, checked by onnx and run by onnxruntime, against the reference; however their operands lie in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from mptc.backends.onnx.graph import IR, OPSET, Graph, NodeSite
from mptc.ir.axis import BATCH, CTX, SEQ, Axis, Role
from mptc.ir.node import Kind, Node, Type
from mptc.ops.contract import Contract
from mptc.ops.elementwise import Map
from mptc.ops.leaf import Input, Position
from mptc.ops.onnx_value import BFLOAT16, DOUBLE, FLOAT, FLOAT16, Dims, laid, number, singles
from mptc.ops.rotary import Rope
from mptc.ops.sample import E, K, Sample, of
from mptc.ops.site import Element, Value
from tests.ops.cases import SIZES, ZETA, arrays, cases, node_of, reference, shape

DIMS = {axis: size for axis, size in SIZES.items() if axis.role is Role.DIM}
TOKENS = Node(Input("tokens", (), kind=Kind.ID), (), Type((BATCH, SEQ), Kind.ID))
LENGTHS = {BATCH: ("tokens", 0), **dict.fromkeys((SEQ, CTX, ZETA), ("tokens", 1))}

SINGLE_ONLY = {"Erf", "Gelu", "Softplus"}  # in onnxruntime 1.31, on CPU
ROUGH = {"Attention": 1e-6, "RMSNormalization": 1e-8}  # it computes the one in float32; the epsilon of the other is a float32
LAYOUTS = ("sorted", "shuffled", "folded")


def lying(axes: tuple[Axis, ...], layout: str, generator: np.random.Generator) -> Dims:
    """How a value may lie in memory: its axes in order, in any order, or so with neighbours of known size in one dimension."""
    if layout == "sorted":
        return singles(axes)
    order = [axes[place] for place in generator.permutation(len(axes))]
    dims = [(axis,) for axis in order]
    if layout == "folded":
        order.sort(key=lambda axis: axis.role is Role.DIM)
        known = tuple(axis for axis in order if axis.role is Role.DIM)
        dims = [*((axis,) for axis in order if axis not in known), *([known] if known else [])]
    return tuple(dims)


def element(node: Node) -> Element:
    return Element.WHOLE if node.type.kind is Kind.ID else Element.NUMBER


def given(sample: Sample, layout: str, seed: int) -> list[Value]:
    generator = np.random.default_rng(seed)
    return [Value(f"x{index}", lying(arg.axes, layout, generator), element(arg)) for index, arg in enumerate(node_of(sample).args)]


def written(sample: Sample, numbers: int, values: list[Value]) -> Any:
    """A model of one node; `tokens` is there to tell how many tokens there are. Folded dimensions of its inputs have no name."""
    node = node_of(sample)
    graph = Graph(DIMS, LENGTHS, numbers)
    result, site = graph.write(node, *values), NodeSite(graph, node, ())
    result = result.named(laid(site, result if node.type.kind is Kind.ID else number(site, result), singles(node.axes)))
    graph.nodes.append(onnx.helper.make_node("Identity", [result.name], ["y"]))
    inputs = [("tokens", TOKENS.axes, Element.WHOLE), *((value.name, value.order, value.element) for value in values)]
    model = graph.model("one", inputs, [("y", node.axes, element(node))])
    lies = {value.name: value.dims for value in values}
    for each in model.graph.input:
        if each.name in lies:
            kind = onnx.TensorProto.INT64 if each.type.tensor_type.elem_type == onnx.TensorProto.INT64 else numbers
            sizes = [str(dim[0]) if dim[0].role is not Role.DIM else int(np.prod(shape(dim))) for dim in lies[each.name]]
            each.CopyFrom(onnx.helper.make_tensor_value_info(each.name, kind, sizes))
    onnx.checker.check_model(model, full_check=True)
    assert all(each.domain == "" for each in model.graph.node)
    return model


def computed(model: Any, sample: Sample, arguments: tuple[Any, ...], values: list[Value]) -> Any:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    kinds = {"tensor(int64)": np.int64, "tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}
    feed = {"tokens": np.zeros((SIZES[BATCH], SIZES[SEQ]), np.int64)}
    for array, value, arg in zip(arguments, values, node_of(sample).args, strict=True):
        turned = np.transpose(array, [arg.axes.index(axis) for axis in value.order])
        feed[value.name] = turned.reshape([int(np.prod(shape(dim))) for dim in value.dims])
    return session.run(["y"], {each.name: feed[each.name].astype(kinds[each.type]) for each in session.get_inputs()})[0]


def compare(found: Any, wanted: Any, tolerance: float) -> None:
    finite = np.isfinite(wanted)
    assert found.shape == wanted.shape
    np.testing.assert_array_equal(found[~finite], wanted[~finite])
    np.testing.assert_allclose(found[finite], wanted[finite], rtol=tolerance, atol=tolerance * np.max(np.abs(wanted[finite]), initial=0.0))


@cases("onnx", "reference")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_onnx(seed: int, sample: Sample, layout: str) -> None:
    values, arguments = given(sample, layout, seed), arrays(sample, seed)
    model = written(sample, FLOAT, values)
    compare(computed(model, sample, arguments, values), reference(sample, node_of(sample), arguments), 1e-5)


@cases("onnx", "reference")
def test_onnx_in_float64(seed: int, sample: Sample) -> None:
    values, arguments = given(sample, "sorted", seed), arrays(sample, seed)
    model = written(sample, DOUBLE, values)
    used = {node.op_type for node in model.graph.node}
    if used & SINGLE_ONLY:
        with pytest.raises(ort.capi.onnxruntime_pybind11_state.NotImplemented):
            computed(model, sample, arguments, values)
        return
    tolerance = max(ROUGH.get(op_type, 1e-12) for op_type in used)
    compare(computed(model, sample, arguments, values), reference(sample, node_of(sample), arguments), tolerance)


@cases("onnx", "reference")
@pytest.mark.parametrize("numbers", [FLOAT16, BFLOAT16], ids=["float16", "bfloat16"])
def test_halves_are_well_formed(seed: int, sample: Sample, numbers: int) -> None:
    """onnxruntime runs float16; of bfloat16 it has next to nothing on CPU."""
    values, arguments = given(sample, "shuffled", seed), arrays(sample, seed)
    model = written(sample, numbers, values)
    if numbers == BFLOAT16:
        return
    wanted = reference(sample, node_of(sample), arguments)
    finite = np.isfinite(wanted)
    found = computed(model, sample, arguments, values).astype(np.float64)
    scale = max(1.0, float(np.max(np.abs(wanted[finite]), initial=0.0)))
    if not isinstance(sample.op, Map):  # where a function is steep, or its argument large, rounding that is worth anything
        np.testing.assert_allclose(found[finite], wanted[finite], rtol=0, atol=2e-2 * scale)


@pytest.mark.parametrize("numbers", [FLOAT, DOUBLE], ids=["operator", "parts"])
@pytest.mark.parametrize("inverse", [False, True])
def test_rotation_by_positions_that_are_given(numbers: int, inverse: bool) -> None:
    """Of each sequence its own, as decoding has them; of a value that has no batch too."""
    for type_ in (of(BATCH, SEQ, E, K), of(SEQ, K), of(BATCH, CTX, K)):
        token = SEQ if SEQ in type_.axes else CTX
        sample = Sample(Rope(K, inverse=inverse), (type_, of(BATCH, token)), low=0, high=50)
        values, arguments = given(sample, "shuffled", 3), arrays(sample, 3)
        model = written(sample, numbers, values)
        compare(computed(model, sample, arguments, values), reference(sample, node_of(sample), arguments), 2e-5)


def test_what_is_exact_stays_exact_in_float16() -> None:
    """Positions beyond 2,048 that float16 does not tell apart."""
    graph = Graph(DIMS, LENGTHS, FLOAT16)
    here = graph.write(Node(Position(), (), Type((SEQ,))))
    assert here.element is Element.WHOLE


def test_versions_that_onnxruntime_runs() -> None:
    assert OPSET <= 26
    assert IR <= 13
    sample = Contract.samples()[1]
    model = written(sample, FLOAT, given(sample, "sorted", 0))
    assert ([entry.version for entry in model.opset_import], model.ir_version) == ([OPSET], IR)


def test_a_wrong_operator_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def product(self: Contract, site: NodeSite) -> Value:
        return site.values[0].named(site.emit("Mul", *(value.name for value in site.values)))

    monkeypatch.setattr(Contract, "onnx", product)
    with pytest.raises(AssertionError):
        test_onnx(1, Contract.samples()[1], "sorted")
