"""What a printing facet is given: its operands as text, in memory order, and where to ask for help. Ops return strings, targets own the rest."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache
from typing import Any, Protocol

from mptc.ir.axis import Axis
from mptc.ir.node import Node
from mptc.ops.base import Order

SUM, MATMUL, PRODUCT, ATOM = 1, 2, 3, 4  # `@` binds like `*`, but a product must not run on into it

LEVELS = {ast.Mult: PRODUCT, ast.Div: PRODUCT, ast.MatMult: MATMUL, ast.Pow: ATOM}


@lru_cache(maxsize=4096)
def level(code: str) -> int:
    """How tightly an expression of the generated code binds."""
    tree = ast.parse(code, mode="eval").body
    if isinstance(tree, ast.BinOp):
        return LEVELS.get(type(tree.op), SUM)
    if isinstance(tree, ast.Constant) and not str(code).startswith("-"):
        return ATOM
    return ATOM if isinstance(tree, ast.Call | ast.Attribute | ast.Name | ast.Subscript) else SUM if isinstance(tree, ast.UnaryOp) else 0


def bracketed(code: str, at: int) -> str:
    """The expression, in parentheses unless it binds at least as tightly as `at`."""
    return code if level(code) >= at else f"({code})"


def tight(code: str) -> str:
    """The expression as something a `.method()` or `[index]` may follow."""
    safe = isinstance(ast.parse(code, mode="eval").body, ast.Call | ast.Attribute | ast.Name | ast.Subscript)
    return code if safe else f"({code})"


class Site(Protocol):
    """One node being printed for torch."""

    node: Node
    sizes: Mapping[Axis, int]
    given: tuple[tuple[str, Order], ...]  # of the operands, as they are

    @property
    def orders(self) -> tuple[Order, ...]:
        """Of the operands, as they are wanted."""

    @property
    def order(self) -> Order: ...

    def whole(self, index: int) -> str:
        """Operand `index`, fit to stand between commas."""

    def tight(self, index: int) -> str:
        """Operand `index`, fit to be followed by `.method()`."""

    def helper(self, name: str) -> str:
        """A function of the generated module's own; asking makes it be printed."""


class Element(Enum):
    """What the entries of an ONNX tensor are. Exact values stay whole numbers or truths until they meet a number."""

    NUMBER = "number"  # of the graph's one element type
    WHOLE = "int64"
    TRUTH = "bool"


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor of an ONNX graph: `dims` has the axes of each dimension; several are folded into one, the last varying fastest."""

    name: str
    dims: tuple[Order, ...]
    element: Element = Element.NUMBER

    @property
    def order(self) -> Order:
        return tuple(axis for dim in self.dims for axis in dim)

    def named(self, name: str, element: Element | None = None) -> Value:
        """Another tensor that lies the same way."""
        return replace(self, name=name, element=element or self.element)


class OnnxSite(Protocol):
    """One node being written to an ONNX graph. `values` are its arguments', numbers unless the op takes exact ones; `sizes` are those of the dims.

    A facet returns the value of the node, over the axes of its type in whatever order suits.
    """

    @property
    def node(self) -> Node: ...

    @property
    def sizes(self) -> Mapping[Axis, int]: ...

    @property
    def values(self) -> tuple[Value, ...]: ...

    @property
    def numbers(self) -> int:
        """The element type of numbers, as the standard counts them."""

    @property
    def wide(self) -> int:
        """What sums of squares, exponentials and angles are computed in: float32 at least."""

    def emit(self, op_type: str, *inputs: str, output: tuple[int, int] = (0, 1), **attributes: Any) -> str:
        """Adds a standard operator, or finds it; returns the name of its output: of several, which one and of how many."""

    def constant(self, value: Any, to: int | None = None) -> str:
        """A constant (a number, a list of integers, or an array), real ones of type `to` or `numbers`; returns its name."""

    def length(self, axis: Axis) -> str:
        """A vector of one int64: how long an axis is, for batch, tokens and contexts at run time."""

    def measure(self, axis: Axis, name: str, place: int) -> None:
        """From here on an axis is as long as a dimension of a tensor."""

    def positions(self, axis: Axis) -> Value:
        """Where the tokens along an axis stand, from 0 where nothing came before: whole numbers."""

    def find(self, node: Node) -> Value | None:
        """The value of a node further back, where it has been written."""

    def rows(self, table: Value, axis: Axis, ids: str) -> str:
        """The entries of a table along an axis, whose dimension is its own, at ids: the dimensions of the ids in the place of that one."""
