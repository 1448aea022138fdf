"""A program written out: every copy of a stack and every pass of a repeat, what does not change with them once, further out."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mptc.backends.deployment import MOST, TooLarge
from mptc.backends.layout import token_major
from mptc.backends.onnx.graph import Graph, NodeSite
from mptc.ir.axis import Axis, Role
from mptc.ir.node import Kind, Node
from mptc.ir.path import Path, stored
from mptc.ir.program import Program
from mptc.ops.contract import Contract
from mptc.ops.leaf import Input, Param
from mptc.ops.onnx_value import common, expanded, number, singles
from mptc.ops.region import Gathered, Loop, Result, everything, passes_of
from mptc.ops.site import Element, Value
from mptc.passes.asked import needed
from mptc.passes.scopes import Scope, Scopes
from mptc.source.text import Span


@dataclass
class Frame:
    """One pass of one scope: its values and, behind them, those around it; which copies of each stack are at work; its name."""

    values: ChainMap[Node, Any] = field(default_factory=ChainMap)
    copies: Mapping[str, tuple[int, ...]] = field(default_factory=lambda: {"": ()})
    name: str = ""
    said: set[int] = field(default_factory=set)


class Unrolled:
    """Writes the values of `roots` into a graph. `equations`: lines for where the step of an energy begins."""

    def __init__(self, graph: Graph, program: Program, roots: Sequence[Node], equations: Mapping[Node, Sequence[str]]) -> None:
        self.graph, self.program, self.equations = graph, program, equations
        self.scopes, self.needed = Scopes(roots), needed(roots)
        self.places = _places(program, roots)
        self._check_size()
        self.frame = Frame()
        self.scope(self.scopes.root, self.frame)

    def scope(self, scope: Scope, frame: Frame) -> None:
        for node in scope.nodes:
            if node in self.needed and node not in frame.values.maps[0]:
                frame.values[node] = self.value(node, frame)

    def value(self, node: Node, frame: Frame) -> Any:
        match node.op:
            case Param(path=path, order=order):
                before, star, _ = path.rpartition("[*].")
                home, axes = stored(Path(path, frame.copies[before + star]), order, self.program.ties)
                return self.graph.parameter(home.name, axes)
            case Input(label=label):
                return Value(label, singles(input_order(node)), Element.WHOLE if node.type.kind is Kind.ID else Element.NUMBER)
            case Loop():
                return self.loop(node, node.op, frame)
            case Result(index=index):
                return frame.values[node.args[0]][0][index]
            case Gathered(index=index):
                return self.gathered(node, frame.values[node.args[0]][1][index])
        with self.graph.called(frame.name, self.program.names.get(node, ""), self.doc(node, frame)):
            return self.graph.write(node, *(frame.values[arg] for arg in node.args), known=frame.values)

    def doc(self, node: Node, frame: Frame) -> str:
        """The equation where a step begins, and where the spec says it."""
        lines = self.equations.get(node, ())
        first = id(lines) not in frame.said
        frame.said.add(id(lines))
        return "\n".join([*(lines if first else ()), *([_short(self.places[node])] if node in self.places else ())])

    def loop(self, node: Node, op: Loop, frame: Frame) -> tuple[list[Value], list[list[Value]]]:
        """The final states and, of each value watched that is asked for, one for each pass."""
        watched: list[list[Value]] = [[] for _ in op.watched]
        states = [self.state(frame.values[arg], variable) for arg, variable in zip(node.args, op.formals, strict=True)]
        for count in range(op.count):
            inner = self.inner(op, frame, count)
            inner.values.update(zip(op.formals, states, strict=True))
            self.scope(self.scopes.bodies[node], inner)
            states = [self.state(inner.values[result], variable) for result, variable in zip(op.results, op.formals, strict=True)]
            for seen, each in zip(watched, op.watched, strict=True):
                seen += [inner.values[each]] if each in self.needed else []
        return states, watched

    def gathered(self, node: Node, values: Sequence[Value]) -> Value:
        """What a loop watched, pass by pass along a dimension of its own."""
        site, dims = self.site(node), common(values)
        parts = [self.graph.emit("Unsqueeze", expanded(site, value, dims), self.graph.constant([0])) for value in values]
        return Value(self.graph.emit("Concat", *parts, axis=0), ((passes_of(node),), *dims), values[0].element)

    def inner(self, op: Loop, frame: Frame, count: int) -> Frame:
        """The frame of a pass: that of a copy is called as its parameters are."""
        if op.label is None:
            return Frame(frame.values.new_child(), frame.copies, f"{frame.name}/{count}")
        star = f"{op.path}."
        around, stacked, _ = star.removesuffix("[*].").rpartition("[*].")
        copies = (*frame.copies[around + stacked], count)
        path = Path(op.path, copies).name
        return Frame(frame.values.new_child(), {**frame.copies, star: copies}, f"{frame.name}/{path}" if frame.name else path)

    def state(self, value: Value, variable: Node) -> Value:
        """A value over every axis of the variable that it is put in the place of."""
        value = number(self.site(variable), value) if variable.type.kind is Kind.NUMBER else value
        if set(value.order) == set(variable.axes):
            return value
        dims = singles(token_major(variable.axes))
        return Value(expanded(self.site(variable), value, dims), dims, value.element)

    def given(self, node: Node, order: Sequence[Axis]) -> Value:
        """A root's value in one order, with every axis of it."""
        value, dims = self.frame.values[node], singles(tuple(order))
        return Value(expanded(self.site(node), value, dims), dims, value.element)

    def _check_size(self) -> None:
        total = len(self.scopes.root.nodes)
        for scope in self.scopes.bodies.values():
            passes, around = 1, scope
            while around.op is not None and around.parent is not None:
                passes, around = passes * around.op.count, around.parent
            total += passes * (len(scope.nodes) + 1)
        if total > MOST:
            raise TooLarge

    def site(self, node: Node) -> NodeSite:
        return NodeSite(self.graph, node, ())


def _places(program: Program, roots: Sequence[Node]) -> dict[Node, Span]:
    """Where the spec says each value: a part of one that it names is said there."""
    found: dict[Node, Span] = {}
    for node in reversed(list(everything(roots))):
        span = program.spans.get(node, node.span)
        if span is not None:
            found[node] = span
        if node in found and not isinstance(node.op, Loop):
            for arg in node.args:
                found.setdefault(arg, found[node])
    return found


def input_order(node: Node) -> tuple[Axis, ...]:
    """[batch, seq, …], what is declared in its order."""
    assert isinstance(node.op, Input)
    return token_major((*node.op.order, *(axis for axis in node.axes if axis not in node.op.order)))


def lengths(program: Program, roots: Sequence[Node]) -> dict[Axis, tuple[str, int]]:
    """For each axis whose size is known at run time only, an input of the roots' that has it (of any, where none has), and its dimension there.

    A context that is a view of another axis is as long as that; any other is as long as the sequence.
    """
    nodes = list(everything(roots))
    needed = set(nodes)
    found: dict[Axis, tuple[str, int]] = {}
    for node in sorted(program.inputs, key=lambda node: node not in needed):
        assert isinstance(node.op, Input)
        for place, axis in enumerate(input_order(node)):
            if axis.role is not Role.DIM:
                found.setdefault(axis, (node.op.label, place))
    for node in nodes:
        for operand, arg in zip(node.op.operands, node.args, strict=True) if isinstance(node.op, Contract) else ():
            for axis, label in zip(arg.axes, operand.labels, strict=True):
                if isinstance(label, Axis) and label.role is Role.CONTEXT and axis in found:
                    found.setdefault(label, found[axis])
    return found


def _short(span: Span) -> str:
    return str(span).rpartition("/")[2]
