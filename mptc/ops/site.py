"""What a printing facet is given: its operands as text, in memory order, and where to ask for help. Ops return strings, targets own the rest."""

from __future__ import annotations

import ast
from collections.abc import Mapping
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
    orders: tuple[Order, ...]
    order: Order

    def whole(self, index: int) -> str:
        """Operand `index`, fit to stand between commas."""

    def tensor(self, index: int) -> str:
        """The same, of a number too where a function takes tensors alone."""

    def tight(self, index: int) -> str:
        """Operand `index`, fit to be followed by `.method()`."""

    def helper(self, name: str) -> str:
        """A function of the generated module's own; asking makes it be printed."""


class OnnxSite(Protocol):
    """One node being written to an ONNX graph. Dimensions are the sorted axes of each node's type.

    Numbers, masks among them, are of one element type, `numbers`; ids are int64. `sizes` are those of the dims alone.
    """

    @property
    def node(self) -> Node: ...

    @property
    def sizes(self) -> Mapping[Axis, int]: ...

    @property
    def inputs(self) -> tuple[str, ...]: ...

    @property
    def numbers(self) -> int: ...

    def emit(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Adds a standard operator with one output; returns the output's name."""

    def constant(self, value: Any) -> str:
        """A constant (a number, a list of integers, or an array); returns its name."""

    def size(self, axis: Axis) -> str:
        """A scalar int64: how long an axis is, for batch, tokens and contexts at run time."""

    def positions(self, axis: Axis) -> str:
        """An int64 vector: where the tokens along an axis stand, from 0 where nothing came before."""
