"""An ONNX graph in the making, and one node's place in it: what the ops' ONNX facets write through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper

from mptc.ir.axis import Axis, Role
from mptc.ir.node import Kind, Node

OPSET, IR = 24, 11  # what onnxruntime 1.31 runs is opset 26 and IR 13 at most; onnx writes newer ones unless it is told


@dataclass
class Graph:
    """`numbers`: the element type of every number. `lengths`: a graph input and its dimension that is as long as an axis, where no size is known."""

    sizes: Mapping[Axis, int]
    lengths: Mapping[Axis, tuple[str, int]]
    numbers: int = onnx.TensorProto.FLOAT
    nodes: list[Any] = field(default_factory=list)
    constants: dict[tuple[str, tuple[int, ...], bytes], Any] = field(default_factory=dict)
    _known: dict[tuple[str, Axis], str] = field(default_factory=dict)

    def write(self, node: Node, *inputs: str) -> str:
        """The operators of one node; the name of its value."""
        return str(node.op.onnx(NodeSite(self, node, inputs)))

    def emit(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, list(inputs), [name], **attributes))
        return name

    def constant(self, value: Any) -> str:
        array = np.asarray(value)
        if array.dtype.kind == "f":
            array = array.astype(helper.tensor_dtype_to_np_dtype(self.numbers))
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self.constants:
            self.constants[key] = onnx.numpy_helper.from_array(array, f"c{len(self.constants)}")
        return str(self.constants[key].name)

    def size(self, axis: Axis) -> str:
        if axis.role is Role.DIM:
            return self.constant(np.asarray(self.sizes[Axis(axis.role, axis.name)], np.int64))
        if ("size", axis) not in self._known:
            name, place = self.lengths[axis]
            shape = self.emit("Shape", name, start=place, end=place + 1)
            self._known["size", axis] = self.emit("Squeeze", shape)
        return self._known["size", axis]

    def positions(self, axis: Axis) -> str:
        if ("positions", axis) not in self._known:
            zero, one = (self.constant(np.asarray(number, np.int64)) for number in (0, 1))
            self._known["positions", axis] = self.emit("Range", zero, self.size(axis), one)
        return self._known["positions", axis]

    def model(self, name: str, inputs: Sequence[tuple[str, Node]], outputs: Sequence[tuple[str, Node]]) -> Any:
        """The model; a dimension is a number, or is called after its axis."""
        graph = helper.make_graph(self.nodes, name, self._values(inputs), self._values(outputs), initializer=list(self.constants.values()))
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR, producer_name="mptc")

    def _values(self, values: Sequence[tuple[str, Node]]) -> list[Any]:
        kinds = {Kind.ID: onnx.TensorProto.INT64, Kind.NUMBER: self.numbers}
        return [helper.make_tensor_value_info(name, kinds[node.type.kind], [self._extent(axis) for axis in node.axes]) for name, node in values]

    def _extent(self, axis: Axis) -> int | str:
        return self.sizes[Axis(axis.role, axis.name)] if axis.role is Role.DIM else str(axis)


@dataclass(frozen=True)
class NodeSite:
    """What an ONNX facet sees of its node."""

    graph: Graph
    node: Node
    inputs: tuple[str, ...]

    @property
    def sizes(self) -> Mapping[Axis, int]:
        return self.graph.sizes

    @property
    def numbers(self) -> int:
        return self.graph.numbers

    def emit(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        return self.graph.emit(op_type, *inputs, **attributes)

    def constant(self, value: Any) -> str:
        return self.graph.constant(value)

    def size(self, axis: Axis) -> str:
        return self.graph.size(axis)

    def positions(self, axis: Axis) -> str:
        return self.graph.positions(axis)
