"""Named axes → memory order, once for every target: the order of each value, and of its operands where it is computed."""

from __future__ import annotations

from mptc.backends.grades import Grades
from mptc.ir.axis import BATCH, SEQ
from mptc.ir.node import Node, walk
from mptc.ops.base import Arrangement, Operation, Order
from mptc.ops.leaf import Formal, Input, Param
from mptc.ops.region import Gathered, Loop, Result, Rows, Some, passes_of


class Layout:
    """Parameters lie as declared, inputs token-major; every other value lies as its op gives it. A loop's state keeps one order."""

    def __init__(self) -> None:
        self.orders: dict[Node, Order] = {}
        self.arrangements: dict[Node, Arrangement] = {}
        self.grade = Grades()

    def order(self, node: Node) -> Order:
        if node not in self.orders:
            for inner in walk([node], self.orders):
                self.orders[inner] = self._order(inner)
        return self.orders[node]

    def arrangement(self, node: Node) -> Arrangement:
        self.order(node)
        return self.arrangements[node]

    def _order(self, node: Node) -> Order:
        match node.op:
            case Param(order=order):
                return order
            case Input(order=order):
                return token_major((*order, *(axis for axis in node.axes if axis not in order)))
            case Formal():
                return token_major(node.axes)
            case Some(of=of):
                return self.order(of)
            case Result(index=index):
                around = node.args[0].op
                assert isinstance(around, Loop | Rows)
                return self._order(around.formals[index]) if isinstance(around, Loop) else self.order(around.results[index])
            case Gathered():
                passes = passes_of(node)
                return (passes, *token_major(tuple(axis for axis in node.axes if axis != passes)))
            case Loop() | Rows():
                return ()
        assert isinstance(node.op, Operation)
        arrangement = node.op.arrange(node, tuple(self.orders[arg] for arg in node.args))
        self.arrangements[node] = arrangement
        return arrangement.order


def token_major(axes: Order) -> Order:
    """[batch, seq, …]"""
    front = tuple(axis for axis in (BATCH, SEQ) if axis in axes)
    return front + tuple(axis for axis in axes if axis not in front)
