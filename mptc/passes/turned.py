"""Pairs that are seen from the other side (the tokens that are seen called `seq`, those that ask `seq'`), as they were before they were turned.

The gradient of an energy that views its own variable sums over those that ask (Hoover et al., arXiv 2302.07253). Said of the pair as it was, that is
one more thing made of its rows; of a pair turned over it would need all rows at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from mptc.ir.axis import SEQ, Axis, Role
from mptc.ir.node import Node, Op, make
from mptc.ir.number import ONE
from mptc.ops.contract import Contract, Label, Operand, renamed
from mptc.passes.remade import Remaker

Part = tuple[Node, tuple[Label, ...], Fraction]
Arrows = Mapping[Axis, Axis]


class Turned(Remaker):
    """Products take their operands as they were, and of a turned product the labels alone change.

    No other op has turned arguments: the canonical form renames outside of what is done to pairs one by one.
    """

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[tuple[Op, tuple[Node, ...]], Node] = {}  # what is there already, and need not be made again

    def made(self, node: Node) -> Node:
        op, new = node.op, super().made(node)
        if isinstance(op, Contract) and not op.renames:
            new = self._product(node, op, {}) or new
        return self._known.setdefault((new.op, new.args), new) if isinstance(op, Contract) else new

    def _product(self, node: Node, op: Contract, arrows: Arrows) -> Node | None:
        """The product with its axes called otherwise, of operands that are not turned; None where nothing changes."""
        labels = [tuple(_called(label, arrows) for label in operand.labels) for operand in op.operands]
        parts = [self._part(arg, own, operand.power) for arg, own, operand in zip(node.args, labels, op.operands, strict=True)]
        if not arrows and all(part[0] is self.new[arg] for part, arg in zip(parts, node.args, strict=True)):
            return None
        first = parts[0][0]
        if op.coef == ONE and parts == [(first, first.axes, Fraction(1))]:
            return first
        return self._make(Contract(op.coef, tuple(Operand(labels, power) for _, labels, power in parts)), *(part for part, _, _ in parts))

    def _part(self, arg: Node, labels: tuple[Label, ...], power: Fraction) -> Part:
        arrows = _back(arg)
        if not arrows:
            return self.new[arg], labels, power
        straight, named = self._straight(arg, arrows), {_called(axis, arrows): label for axis, label in zip(arg.axes, labels, strict=True)}
        return straight, tuple(named[axis] for axis in straight.axes), power

    def _straight(self, node: Node, arrows: Arrows) -> Node:
        """A value with its tokens called otherwise."""
        op = node.op
        if not arrows.keys() & set(node.axes):
            return self.new[node]
        if isinstance(op, Contract) and _askers(node):
            return self._product(node, op, arrows) or self.new[node]
        return renamed(self.new[node], arrows)

    def _make(self, op: Op, *args: Node) -> Node:
        return self._known.setdefault((op, args), make(op, *args))


def _askers(node: Node) -> list[Axis]:
    """What the tokens that ask are called in a turned value."""
    return [axis for axis in node.axes if axis.name == SEQ.name and axis.role is Role.TOKEN and axis != SEQ]


def _called(label: Label, arrows: Arrows) -> Label:
    return arrows.get(label, label) if isinstance(label, Axis) else label


def _back(node: Node) -> Arrows:
    """What the tokens of a turned value were called before; nothing where it is none, or where that is not to be seen."""
    askers = _askers(node)
    if len(askers) != 1:
        return {}
    if SEQ not in node.axes:
        return {askers[0]: SEQ}
    over = _seen_as(node)
    return {} if over is None or over in node.axes else {askers[0]: SEQ, SEQ: over}


def _seen_as(node: Node) -> Axis | None:
    """The context that is called `seq` in a turned value."""
    op = node.op
    for place, arg in enumerate(node.args):
        labels = op.operands[place].labels if isinstance(op, Contract) else arg.axes
        for own, label in zip(arg.axes, labels, strict=True):
            found = None if label != SEQ else own if own.role is Role.CONTEXT else _seen_as(arg)
            if found is not None:
                return found
    return None
