"""Maps whose last product has the matrix of the first: up, an activation that may be gated, and down by the transpose, as a step on an energy is.

The activation is computed before a product leaves the kernel, forward and back; what the matrix learns in both places is one sum over tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mptc.backends.torch.names import called
from mptc.backends.triton.pairs import Lines, Refused, back
from mptc.ir.axis import BATCH, SEQ, Axis
from mptc.ir.node import Kind, Node, Type, make, walk
from mptc.ir.number import ONE
from mptc.ops.contract import Contract, Sum
from mptc.ops.contract_text import scalar
from mptc.ops.elementwise import Map
from mptc.ops.leaf import Param, formal

if TYPE_CHECKING:
    from mptc.backends.torch.function import Function
    from mptc.backends.triton import Kernels


@dataclass(frozen=True, eq=False)
class Gated:
    """`out` = c Σ_hidden up f(up·x, gate·x). `inner`: f; `products`: the one or two first products, up's first."""

    kernels: Kernels
    out: Node
    inner: Node
    products: tuple[Node, ...]
    matrices: tuple[Node, ...]
    x: Node
    hidden: Axis
    along: Axis

    @property
    def nodes(self) -> tuple[Node, ...]:
        return (*self.products, *(node for node in walk([self.inner], set(self.products)) if node.axes), self.out)

    @property
    def outputs(self) -> tuple[Node, ...]:
        return (self.out,)

    @property
    def reads(self) -> tuple[Node, ...]:
        return (self.x, *self.matrices)

    def described(self) -> dict[str, object]:
        """What the template says. Raises `Refused`."""
        formals = [make(formal(f"{name}_tile", Type((), Kind.NUMBER))) for name in ("u", "z")[: len(self.products)]]
        value = _numbers(self.inner, dict(zip(self.products, formals, strict=True)))
        lines = Lines(self.kernels.sizes)
        text = lines.value(value)
        forward = list(lines.lines)
        adjoints = back([(value, make(formal("dg_tile", Type((), Kind.NUMBER))))])
        flows = [lines.value(adjoints[each]) if each in adjoints else "0.0 * dg_tile" for each in formals]
        names = ["x", "up", "gate"][: 1 + len(self.products)]
        gated = len(self.products) == 2
        assert isinstance(self.out.op, Contract)
        coef = "" if self.out.op.coef == ONE else f"{scalar(self.out.op.coef, self.kernels.sizes)} * "
        return {
            "gated": gated,
            "gate_comma": "gate, " if gated else "",
            "width": self.size(self.along),
            "hidden": self.size(self.hidden),
            "forward": forward,
            "backward": lines.lines[len(forward) :],
            "value": text,
            "du": flows[0],
            "dz": flows[-1],
            "coef": coef,
            "typed": ", ".join(f"{name}: Tensor" for name in names),
            "whole": ", ".join(names),
            "contiguous": ", ".join(f"{name}.contiguous()" for name in names),
            "results": ", ".join(["Tensor"] * len(names)),
        }

    def size(self, axis: Axis) -> int:
        return self.kernels.sizes[Axis(axis.role, axis.name)]

    def call(self, function: Function) -> tuple[str, str]:
        """When it computes the map, and the call."""
        name = self.kernels.gated_kernel(self.described())
        self.kernels.regional.append((name, self))
        own = called(function.module.program, "kernels")
        given = ", ".join(function.code(each) for each in self.reads)
        return f'{own}.takes("{name}", {function.code(self.x)})', f"{own}.{name}({given})"

    @property
    def width(self) -> int:
        return self.size(self.along)


def gated(kernels: Kernels, function: Function, out: Node) -> Gated:
    """The map that a product ends. Raises `Refused`, also where nothing is done between its products."""
    if not isinstance(out.op, Contract) or len(out.args) != 2 or len(out.op.bound) != 1 or set(out.axes) - {BATCH, SEQ} != {out.axes[-1]}:
        raise Refused("no product of a matrix and rows of tokens")
    matrix, inner = out.args if isinstance(out.args[0].op, Param) else out.args[::-1]
    if not isinstance(matrix.op, Param) or len(matrix.axes) != 2:
        raise Refused("no product of a matrix")
    along = out.axes[-1]
    hidden = next(axis for axis in matrix.axes if axis != along)
    products = [node for node in _leaves(inner) if node.axes]
    if set(inner.axes) != {BATCH, SEQ, hidden} or inner in products or not 1 <= len(products) <= 2:
        raise Refused("what goes into it is not made of one product or two")
    first = [node for node in products if matrix in node.args]
    if len(first) != 1:
        raise Refused("its matrix is not that of a first product")
    ordered = (first[0], *(node for node in products if node is not first[0]))
    sides = [_sides(node, hidden, along) for node in ordered]
    if any(x is not sides[0][1] for _, x in sides) or sides[0][0] is not matrix:
        raise Refused("its first products are not of the same rows")
    found = Gated(kernels, out, inner, ordered, tuple(each for each, _ in sides), sides[0][1], hidden, along)
    found.described()
    plan, inside = function.plan, set(found.nodes)
    kept = plan.roots | plan.results
    if any(node in kept or any(user not in inside for user, _ in plan.uses.get(node, [])) for node in inside - {out}):
        raise Refused("what stands between its products is read elsewhere")
    if any(function.layout.order(each) != (hidden, along) for each in found.matrices):
        raise Refused("its matrices lie otherwise")
    if any(function.layout.order(each) != (BATCH, SEQ, along) for each in (found.x, out)):
        raise Refused("its rows lie otherwise")
    return found


def _sides(node: Node, hidden: Axis, along: Axis) -> tuple[Node, Node]:
    """The matrix and the rows of a first product."""
    op = node.op
    assert isinstance(op, Contract)
    matrix, x = node.args if isinstance(node.args[0].op, Param) else node.args[::-1]
    plain = op.coef == ONE and all(operand.power == 1 for operand in op.operands)
    if not plain or not isinstance(matrix.op, Param) or set(matrix.axes) != {hidden, along} or set(x.axes) != {BATCH, SEQ, along}:
        raise Refused("a first product is not of rows and a matrix")
    return matrix, x


def _leaves(inner: Node) -> list[Node]:
    """The products that an element-wise expression is made of."""
    found: dict[Node, None] = {}
    pending = [inner]
    while pending:
        node = pending.pop()
        if isinstance(node.op, Contract) and len(node.op.bound) == 1 and len(node.args) == 2:
            found[node] = None
        elif isinstance(node.op, Map | Sum) or (isinstance(node.op, Contract) and not node.op.bound):
            pending += node.args
        else:
            raise Refused("what goes into it is not made of products alone")
    return list(found)


def _numbers(node: Node, known: Mapping[Node, Node]) -> Node:
    """An element-wise expression, of numbers."""
    if node in known:
        return known[node]
    args = [_numbers(arg, known) for arg in node.args]
    if isinstance(node.op, Contract):
        return make(Contract(node.op.coef, tuple(type(operand)((), operand.power) for operand in node.op.operands)), *args)
    return make(node.op, *args)
