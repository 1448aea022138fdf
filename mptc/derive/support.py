"""What a mask hides is left out of a sum, not multiplied by 0: there it may be infinite, or no number at all."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from mptc.derive.products import Part
from mptc.ir.node import Node
from mptc.ir.number import ONE, ZERO
from mptc.ops.compare import Compare, Where
from mptc.ops.contract import Contract, Label
from mptc.ops.elementwise import Map
from mptc.ops.leaf import Mask
from mptc.ops.reduce import Softmax
from mptc.ops.region import Loop, Result
from mptc.ops.view import Hold

if TYPE_CHECKING:
    from mptc.derive.calculus import Calculus

Hides = tuple[Node, tuple[Label, ...]]


def left_out(c: Calculus, parts: list[Part]) -> list[Part] | None:
    """A product in which what may be no number for a pair of tokens is 0 where a mask, or that of softmax weights, hides the pair.

    None where there is nothing of the kind. A mask that some factor is 0 under needs to be no factor itself.
    """
    hides = [hide for node, labels, power in parts for hide in _hides(node, labels, power)]
    found: list[Part] = []
    spent: list[Hides] = []
    for part in parts:
        mine = [hide for hide in hides if set(hide[1]) <= set(part[1]) and not _is_number(part[0], part[2])]
        spent += mine
        found.append(_under(c, part, mine) if mine else part)
    return [part for part in found if (part[0], part[1]) not in spent] if spent else None


def _hides(node: Node, labels: tuple[Label, ...], power: Fraction) -> list[Hides]:
    if isinstance(node.op, Mask) and power == 1:
        return [(node, labels)]
    if isinstance(node.op, Softmax) and len(node.args) > 1 and power > 0:
        named = dict(zip(node.axes, labels, strict=True))
        return [(node.args[1], tuple(named[axis] for axis in node.args[1].axes))]
    return []


def _under(c: Calculus, part: Part, hides: list[Hides]) -> Part:
    node, labels, power = part
    value, own = c.contract(ONE, [(node, node.axes, power)]), dict(zip(labels, node.axes, strict=True))
    for mask, places in dict(hides).items():
        arrows = {axis: own[label] for axis, label in zip(mask.axes, places, strict=True)}
        value = c.node(Where(), c.rename(mask, arrows), value, c.number(ZERO))
    return value, tuple(dict(zip(node.axes, labels, strict=True))[axis] for axis in value.axes), Fraction(1)


def _is_number(node: Node, power: Fraction) -> bool:
    """Whether a factor can be seen to be a number wherever what it is made of is."""
    if isinstance(node.op, Mask | Softmax):
        return True
    if power < 0 or power.denominator != 1:
        return False
    pending, done = [node], {node}
    while pending:
        part = pending.pop()
        if isinstance(part.op, Map) and part.op.function in ("exp", "log"):
            return False
        if isinstance(part.op, Contract) and any(operand.power < 0 or operand.power.denominator != 1 for operand in part.op.operands):
            return False
        if not _is_bounded(part):
            pending += [arg for arg in part.args if arg not in done]
            done.update(part.args)
    return True


def _is_bounded(node: Node) -> bool:
    """Where to look no further: what is between 0 and 1, what is 0 under a mask already, and barriers."""
    masked = isinstance(node.op, Where) and isinstance(_unseen(node.args[0]).op, Mask)
    return masked or isinstance(node.op, Softmax | Compare | Mask | Hold | Loop | Result)


def _unseen(node: Node) -> Node:
    return node.args[0] if isinstance(node.op, Contract) and node.op.renames else node
