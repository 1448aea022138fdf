"""The graph of the next tokens: what is kept comes in as `past.…` and goes out as `present.…`, the next ones behind it.

`past.length` says how many tokens that is; all sequences of a batch are as long.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from onnx import helper

from mptc.backends.kept import entries, labels
from mptc.backends.onnx.graph import Graph
from mptc.backends.onnx.unrolled import Frame, Unrolled
from mptc.ir.axis import BATCH, SEQ, Axis, Role
from mptc.ir.node import Kind, Node
from mptc.ir.program import Program
from mptc.ops.kept import Earlier, Kept, Place
from mptc.ops.onnx_value import apart, singles
from mptc.ops.site import Element, Value

LENGTH = "past.length"
PAST, TOTAL = Axis(Role.CONTEXT, "past"), Axis(Role.CONTEXT, "total")
ONE = Axis(Role.DIM, "one of it")
Tensor = tuple[str, Sequence[Axis], Element]  # a graph's input or output: its name, its dimensions, its elements


class Behind(Unrolled):
    """Writes a program of the next tokens. `past` and `present` are the tensors of what is kept, in one order."""

    def __init__(self, graph: Graph, program: Program, roots: Sequence[Node], equations: Mapping[Node, Sequence[str]]) -> None:
        self.past: list[Tensor] = []
        self.present: list[Tensor] = []
        self.blank: list[str] = []  # what begins as -1, ids of no token: all else as 0
        graph.start = LENGTH
        graph.sizes[ONE] = 1
        super().__init__(graph, program, roots, equations)

    @cached_property
    def labels(self) -> dict[int, str]:
        return labels(entries(self.program, self.scopes))

    def value(self, node: Node, frame: Frame) -> Any:
        match node.op:
            case Place(axis=axis, window=window):
                return self.place(node, axis, window)
            case Kept(over=over, window=window, number=number):
                found = self.kept(node, frame.values[node.args[0]], self.name(frame, number), None if window is None else window - 1)
                return Value(found.name, singles(tuple(over if axis == SEQ else axis for axis in found.order)), found.element)
            case Earlier(by=by, number=number):
                self.blank += [f"past.{self.name(frame, number)}"] if node.type.kind is Kind.ID else []
                found = self.kept(node, frame.values[node.args[0]], self.name(frame, number), by)
                first = [self.graph.constant([0]), self.graph.length(SEQ), self.graph.constant([found.dims.index((SEQ,))])]
                return found.named(self.graph.emit("Slice", found.name, *first))
        return super().value(node, frame)

    def name(self, frame: Frame, number: int) -> str:
        return ".".join([*(part for part in frame.name.split("/") if part), self.labels[number]])

    def place(self, node: Node, axis: Axis, window: int | None) -> Value:
        """[batch, tokens]"""
        if window is None:
            places = self.graph.positions(axis).name
        else:
            one, last = (self.graph.constant(np.asarray(number, np.int64)) for number in (1, 1 - window))
            places = self.graph.emit("Range", last, self.graph.emit("Squeeze", self.graph.length(SEQ)), one)
            places = self.graph.emit("Add", places, self.graph.start)
        shape = self.graph.emit("Concat", self.graph.length(BATCH), self.graph.constant([1]), axis=0)
        return Value(self.graph.emit("Expand", places, shape), singles((BATCH, axis)), Element.WHOLE)

    def kept(self, node: Node, value: Value, name: str, length: int | None) -> Value:
        """The values kept and the next ones behind them, along `seq`; of a window, the last `length` go on."""
        value = apart(self.site(node), value)
        place = value.dims.index((SEQ,))
        whole = self.graph.emit("Concat", f"past.{name}", value.name, axis=place)
        before, after = (PAST, TOTAL) if length is None else (self.width(length),) * 2
        self.past.append((f"past.{name}", [before if axis == SEQ else axis for axis in value.order], value.element))
        self.present.append((f"present.{name}", [after if axis == SEQ else axis for axis in value.order], value.element))
        kept = whole
        if length is not None:
            ends = [self.graph.constant([number]) for number in (-length, np.iinfo(np.int64).max, place)] if length else []
            kept = self.graph.emit("Slice", whole, *ends) if ends else f"past.{name}"
        self.graph.nodes.append(helper.make_node("Identity", [kept], [f"present.{name}"], name=f"present/{name}"))
        return value.named(whole)

    def width(self, length: int) -> Axis:
        axis = Axis(Role.DIM, f"kept {length}")
        self.graph.sizes[axis] = length
        return axis
