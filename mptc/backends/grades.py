"""How precisely a value is computed: what is made of places and numbers alone is not rounded to the dtype of the parameters.

Positions, distances, indices, ids and comparisons are integers and booleans. A value made of them and of numbers (a bucket of distance, a count, a
slope) chooses entries and tokens, so it is computed in float32 at least; it becomes a number of the parameters' dtype where it first meets one.
"""

from __future__ import annotations

from enum import IntEnum

from mptc.ir.node import Node, walk
from mptc.ops.base import Operation
from mptc.ops.contract import is_scalar
from mptc.ops.leaf import Leaf
from mptc.ops.region import Region, Result, Rows, Some


class Grade(IntEnum):
    """In the order in which one gives way to another."""

    SCALAR = 0  # a number of Python's
    EXACT = 1  # integers or booleans
    WIDE = 2  # float32, or float64 where the parameters are
    NUMBER = 3  # of the dtype of the parameters


class Grades:
    """The grade of each node of a program, found once."""

    def __init__(self) -> None:
        self.known: dict[Node, Grade] = {}

    def __call__(self, node: Node) -> Grade:
        if node not in self.known:
            for inner in walk([node], self.known):
                self.known[inner] = self._grade(inner)
        return self.known[node]

    def _grade(self, node: Node) -> Grade:
        op = node.op
        if is_scalar(node):
            return Grade.SCALAR
        if isinstance(op, Operation) and op.is_exact(node):
            return Grade.EXACT
        if isinstance(op, Some):
            return self(op.of)
        if isinstance(op, Result) and isinstance(node.args[0].op, Rows):
            return self(node.args[0].op.results[op.index])
        if isinstance(op, Leaf | Region):
            return Grade.NUMBER
        return max(Grade.WIDE, *(self.known[arg] for arg in node.args))
