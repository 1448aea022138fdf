"""What every op of this room shares: how its operands want to lie in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mptc.ir.axis import BATCH, SEQ, Axis, Role
from mptc.ir.node import Node, Op, Type, absent

Order = tuple[Axis, ...]


@dataclass(frozen=True)
class Arrangement:
    """The memory orders an op wants of its operands (None: a dimension of size 1, to broadcast), and the one it gives."""

    wanted: tuple[tuple[Axis | None, ...], ...]
    order: Order


def merged(orders: Sequence[Order]) -> Order:
    """One memory order for a pointwise operation: that of its widest operand, with the axes it lacks put where attention likes them."""
    widest = max(orders, key=len, default=())
    result = list(widest)
    for order in orders:
        for axis in order:
            if axis not in result:
                result.insert(_place(axis, result), axis)
    return tuple(result)


def _place(axis: Axis, order: list[Axis]) -> int:
    """[batch, dims…, seq, context], or [batch, seq, dims…] where no context is there."""
    contexts = [place for place, other in enumerate(order) if other.role is Role.CONTEXT]
    if axis == BATCH:
        return 0
    if axis == SEQ:
        return contexts[0] if contexts else int(BATCH in order)
    if axis.role is Role.DIM and contexts and SEQ in order:
        return order.index(SEQ)
    return len(order)


def lined_up(own: Order, order: Order) -> tuple[Axis | None, ...]:
    """An operand's axes where a common order has them, with gaps for those it lacks; none before its first."""
    places = [axis if axis in own else None for axis in order]
    while places and places[0] is None:
        del places[0]
    return tuple(places)


def pointwise(orders: Sequence[Order]) -> Arrangement:
    order = merged(orders)
    return Arrangement(tuple(lined_up(own, order) for own in orders), order)


class Operation(Op, abstract=True):
    """An op with a memory order; pointwise unless it says otherwise.

    An exact value is an integer or a boolean whatever the dtype of the parameters (positions, comparisons, masks), and becomes a number
    where it meets one. `takes_exact` lists the arguments that are fine as they are, `takes_scalar` those that may be numbers of Python's.
    """

    def is_exact(self, node: Node) -> bool:
        return False

    def takes_exact(self, node: Node, index: int) -> bool:
        return False

    def takes_scalar(self, node: Node, index: int, sizes: Mapping[Axis, int]) -> bool:
        return False

    def arrange(self, node: Node, orders: Sequence[Order]) -> Arrangement:
        return pointwise(orders)


def is_truth(node: Node) -> bool:
    """Whether a value is a boolean where it is printed: a comparison or a mask, whoever sees it and from wherever."""
    while node.op.name in ("shift", "some") or getattr(node.op, "renames", False):
        node = getattr(node.op, "of", None) or node.args[0]
    return node.op.name in ("among", "compare", "mask")


class OfIds(Operation, abstract=True):
    """Ids from ids, one for one."""

    def infer(self, *types: Type) -> Type:
        return types[0]

    def cost(self, node: Node, sizes: Mapping[Axis, int]) -> float:
        return 0.0

    def is_exact(self, node: Node) -> bool:
        return True

    def takes_exact(self, node: Node, index: int) -> bool:
        return True

    gradient = absent("ids have no gradient")
    triton = absent("ids are not computed in kernels")
