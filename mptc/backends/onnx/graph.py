"""An ONNX graph in the making, and one node's place in it: what the ops' ONNX facets write through."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import onnx
from onnx import helper

from mptc.backends.deployment import SCALES, File, Stored
from mptc.ir.axis import SEQ, Axis, Role
from mptc.ir.node import Node
from mptc.ops.base import Operation
from mptc.ops.onnx_value import HALVES, apart, laid, number, singles
from mptc.ops.site import Element, OnnxSite, Value

OPSET, IR = 24, 11  # what onnxruntime 1.31 runs is opset 26 and IR 13 at most; onnx writes newer ones unless it is told
NONE: Mapping[Node, Value] = {}
ELEMENTS = {"F32": onnx.TensorProto.FLOAT, "F16": onnx.TensorProto.FLOAT16, "BF16": onnx.TensorProto.BFLOAT16, "I8": onnx.TensorProto.INT8}


@dataclass(frozen=True)
class Packed:
    """A matrix of bytes with a scale for each row: the names of both, and the axes of the rows among those of the tensor."""

    name: str
    scales: str
    order: tuple[Axis, ...]
    rows: tuple[Axis, ...]


@dataclass
class Graph:
    """`numbers`: the element type of every number. `lengths`: a graph input and its dimension that is as long as an axis, where no size is known
    (contexts that are not there are as long as the sequence). `file`: where the parameters lie.

    The same operator on the same inputs is written once, so what does not change from copy to copy or from pass to pass is computed once.
    `scope`, `label` and `doc` are what the next operators are called after, and carry.
    """

    sizes: dict[Axis, int]
    lengths: dict[Axis, tuple[str, int]]
    numbers: int = onnx.TensorProto.FLOAT
    file: File | None = None
    nodes: list[Any] = field(default_factory=list)
    initializers: dict[str, Any] = field(default_factory=dict)
    packed: dict[str, Packed] = field(default_factory=dict)
    scope: str = ""
    label: str = ""
    doc: str = ""
    needed: set[str] = field(default_factory=set)
    public: frozenset[str] = frozenset()  # what inputs and outputs are called
    start: str = ""  # a vector of one int64, the tokens before those of this run; in a graph that goes on behind them
    _written: dict[tuple[object, ...], str] = field(default_factory=dict)
    _names: dict[str, int] = field(default_factory=dict)

    @property
    def wide(self) -> int:
        return onnx.TensorProto.FLOAT if self.numbers in HALVES else self.numbers

    def write(self, node: Node, *values: Value, known: Mapping[Node, Value] = NONE) -> Value:
        """The operators of one node. Exact values become numbers where the op wants those. `known`: what is written already."""
        op = node.op
        assert isinstance(op, Operation)
        given = tuple(value if op.takes_exact(node, place) else number(NodeSite(self, node, ()), value) for place, value in enumerate(values))
        found = op.onnx(NodeSite(self, node, given, known))
        assert isinstance(found, Value)
        assert sorted(found.order) == list(node.axes), (node, found)
        return found

    # -- operators -------------------------------------------------------------------------------------

    def emit(self, op_type: str, *inputs: str, output: tuple[int, int] = (0, 1), **attributes: Any) -> str:
        key = (op_type, inputs, output[1], *((name, str(attributes[name])) for name in sorted(attributes)))
        if (*key, 0) not in self._written:
            own = f"{self.scope}/{self.label + '.' if self.label else ''}{op_type}"
            names = [self._fresh(own) for _ in range(output[1])]
            self._written.update(((*key, place), name) for place, name in enumerate(names))
            self.nodes.append(helper.make_node(op_type, list(inputs), names, name=names[0], doc_string=self.doc or None, **attributes))
        return self._written[*key, output[0]]

    def _fresh(self, name: str) -> str:
        """A name that no other tensor has: those of inputs, outputs and parameters have no slash."""
        count = self._names[name] = self._names.get(name, 0) + 1
        return name if count == 1 else f"{name}.{count}"

    @contextmanager
    def called(self, scope: str, label: str = "", doc: str = "") -> Iterator[None]:
        """What is written in this block belongs there."""
        before = self.scope, self.label, self.doc
        self.scope, self.label, self.doc = scope, label, doc
        try:
            yield
        finally:
            self.scope, self.label, self.doc = before

    def constant(self, value: Any, to: int | None = None) -> str:
        array = np.asarray(value)
        if array.dtype.kind == "f":
            array = array.astype(helper.tensor_dtype_to_np_dtype(self.numbers if to is None else to))
        key = ("constant", array.dtype.str, array.dtype.name, array.shape, array.tobytes())
        if key not in self._written:
            name = self._written[key] = self._fresh("constant/" + "x".join([array.dtype.name, *map(str, array.shape)]))
            self.initializers[name] = onnx.numpy_helper.from_array(array, name)
        return self._written[key]

    def length(self, axis: Axis) -> str:
        axis = Axis(axis.role, axis.name)
        if axis.role is Role.DIM:
            return self.constant([self.sizes[axis]])
        if self.start and axis.role is Role.CONTEXT and axis not in self.lengths:
            return self.emit("Add", self.start, self.length(SEQ))
        name, place = self.lengths.get(axis) or self.lengths[SEQ]
        with self.called("", axis.name):
            return self.emit("Shape", name, start=place, end=place + 1)

    def positions(self, axis: Axis) -> Value:
        with self.called("", axis.name):
            zero, one = (self.constant(np.asarray(number_, np.int64)) for number_ in (0, 1))
            places = self.emit("Range", zero, self.emit("Squeeze", self.length(axis)), one)
            places = self.emit("Add", places, self.start) if self.start and axis == SEQ else places
            return Value(places, ((axis,),), Element.WHOLE)

    # -- parameters ------------------------------------------------------------------------------------

    def parameter(self, path: str, order: tuple[Axis, ...]) -> Value:
        """A tensor of the file, in its declared order; of a matrix of bytes, the numbers that they stand for."""
        stored = self._stored[path]
        path = self._external(stored)
        if not stored.rows:
            return Value(path, singles(order))
        lead = next(count for count in range(len(order) + 1) if prod(stored.shape[:count]) == stored.rows)
        scales = self._external(self._stored[stored.name + SCALES])
        matrix = path if len(order) == 2 and lead == 1 else self.emit("Reshape", path, self.constant([stored.rows, -1]))
        name = self.emit("DequantizeLinear", matrix, scales, axis=0)
        self.packed[name] = Packed(path, scales, order, order[:lead])
        return Value(name, (order[:lead], order[lead:]))

    @cached_property
    def _stored(self) -> dict[str, Stored]:
        assert self.file is not None
        return {tensor.name: tensor for tensor in self.file.tensors}

    def _external(self, stored: Stored) -> str:
        """An initializer whose data are in the file, and its name: its own, unless an input or an output has that."""
        assert self.file is not None
        name = f"parameter/{stored.name}" if stored.name in self.public else stored.name
        entries = {"location": self.file.name, "offset": stored.start, "length": stored.size}
        self.initializers[name] = onnx.TensorProto(
            name=name,
            data_type=ELEMENTS[stored.dtype],
            dims=stored.shape,
            data_location=onnx.TensorProto.EXTERNAL,
            external_data=[onnx.StringStringEntryProto(key=key, value=str(value)) for key, value in entries.items()],
        )
        return name

    def rows(self, table: Value, axis: Axis, ids: str, site: OnnxSite) -> str:
        packed = self.packed.get(table.name)
        if packed is None or axis not in packed.rows:
            table = apart(site, table)
            return self.emit("Gather", table.name, ids, axis=table.order.index(axis))
        place = packed.order.index(axis)
        taken = self.emit("Cast", self.emit("Gather", packed.name, ids, axis=place), to=self.numbers)
        scales = laid(site, Value(packed.scales, (packed.rows,)), singles(packed.rows))
        inner = range(-1, len(packed.rows) - len(packed.order) - 1, -1)
        return self.emit("Mul", taken, self.emit("Unsqueeze", self.emit("Gather", scales, ids, axis=place), self.constant(sorted(inner))))

    # -- the whole -------------------------------------------------------------------------------------

    def model(self, name: str, inputs: Sequence[tuple[str, Sequence[Axis], Element]], outputs: Sequence[tuple[str, Sequence[Axis], Element]]) -> Any:
        """The model, of what its outputs need, inputs too; a dimension is a number, or is called after its axis."""
        self._prune([name for name, _, _ in outputs])
        used = [given for given in inputs if given[0] in self.needed]
        graph = helper.make_graph(self.nodes, name, self._values(used), self._values(outputs), initializer=list(self.initializers.values()))
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR, producer_name="mptc")

    def _prune(self, outputs: Sequence[str]) -> None:
        needed = set(outputs)
        kept = []
        for node in reversed(self.nodes):
            if needed.intersection(node.output):
                needed.update(node.input)
                kept.append(node)
        self.nodes, self.needed = kept[::-1], needed
        self.initializers = {name: tensor for name, tensor in self.initializers.items() if name in needed}

    def _values(self, values: Sequence[tuple[str, Sequence[Axis], Element]]) -> list[Any]:
        kinds = {Element.WHOLE: onnx.TensorProto.INT64, Element.TRUTH: onnx.TensorProto.BOOL, Element.NUMBER: self.numbers}
        return [helper.make_tensor_value_info(name, kinds[kind], [self._extent(axis) for axis in axes]) for name, axes, kind in values]

    def _extent(self, axis: Axis) -> int | str:
        return self.sizes[Axis(axis.role, axis.name)] if axis.role is Role.DIM else str(axis)


@dataclass(frozen=True)
class NodeSite:
    """What an ONNX facet sees of its node."""

    graph: Graph
    node: Node
    values: tuple[Value, ...]
    known: Mapping[Node, Value] = field(default_factory=dict)

    @property
    def sizes(self) -> Mapping[Axis, int]:
        return self.graph.sizes

    @property
    def numbers(self) -> int:
        return self.graph.numbers

    @property
    def wide(self) -> int:
        return self.graph.wide

    def emit(self, op_type: str, *inputs: str, output: tuple[int, int] = (0, 1), **attributes: Any) -> str:
        return self.graph.emit(op_type, *inputs, output=output, **attributes)

    def constant(self, value: Any, to: int | None = None) -> str:
        return self.graph.constant(value, to)

    def length(self, axis: Axis) -> str:
        return self.graph.length(axis)

    def measure(self, axis: Axis, name: str, place: int) -> None:
        self.graph.lengths[axis] = (name, place)

    def positions(self, axis: Axis) -> Value:
        return self.graph.positions(axis)

    def find(self, node: Node) -> Value | None:
        return self.known.get(node)

    def rows(self, table: Value, axis: Axis, ids: str) -> str:
        return self.graph.rows(table, axis, ids, self)
