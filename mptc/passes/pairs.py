"""Masks and biases of pairs of tokens, where chosen ones look: made for those rows alone, and, where they look at each other, for those columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from mptc.ir.axis import SEQ, Axis
from mptc.ir.node import Node, make
from mptc.ops.compare import Compare, Extreme, Where
from mptc.ops.contract import Contract, Operand, Sum, number, renamed, total
from mptc.ops.elementwise import Map
from mptc.ops.leaf import Mask
from mptc.passes.sparse import Found

POINTWISE = (Sum, Map, Compare, Extreme, Where)


@dataclass(frozen=True)
class Limits:
    """What a mask asks for: conditions, and whether what is seen lies in the past, no further back than a window."""

    conditions: tuple[Node, ...]
    past: bool
    window: int | None


@dataclass(frozen=True)
class Pairs:
    """`old`: the context as it was; `over`: as it is seen by chosen tokens, of which it has those alone where they are `among` themselves."""

    position: Node
    along: Axis
    old: Axis
    over: Axis
    among: bool

    def limits(self, mask: Node | None, causal: bool, known: Callable[[Node], bool]) -> Limits | None:
        """None where rows of the mask cannot be made. `known` tells the conditions that go without saying."""
        if mask is None:
            return Limits((), causal, None)
        if not isinstance(mask.op, Mask):
            return None
        conditions = tuple(each for each in mask.args if not (self.among and known(each)))
        past = causal or mask.op.past or mask.op.window is not None
        return Limits(conditions, past, mask.op.window) if all(map(self.fits, conditions)) else None

    def fits(self, node: Node) -> bool:
        """Whether rows of it, and columns where they are needed, can be made."""
        return self._is_end(node) or (self._is_pointwise(node) and all(map(self.fits, node.args)))

    def _is_end(self, node: Node) -> bool:
        return self.old not in node.axes or self._seen(node) is not None

    def _seen(self, node: Node) -> Node | None:
        """What a token has that another sees: the argument of a rename."""
        op = node.op
        if not isinstance(op, Contract) or not op.renames or SEQ in node.axes or SEQ not in node.args[0].axes:
            return None
        same = all(label == (self.old if axis == SEQ else axis) for axis, label in zip(node.args[0].axes, op.operands[0].labels, strict=True))
        return node.args[0] if same else None

    def _is_pointwise(self, node: Node) -> bool:
        op = node.op
        if isinstance(op, Contract):
            return all(operand.labels == arg.axes for arg, operand in zip(node.args, op.operands, strict=True))
        return isinstance(op, POINTWISE) or (isinstance(op, Mask) and op.over == self.old and not op.past and op.window is None)

    def ends(self, node: Node) -> Iterator[Node]:
        """What a value of pairs is made of that is none."""
        if self._is_end(node):
            yield node
        else:
            for arg in node.args:
                yield from self.ends(arg)

    def rows(self, node: Node) -> Iterator[Node]:
        """What of it is needed for the chosen alone."""
        for end in self.ends(node):
            inner = self._seen(end)
            if inner is None and SEQ in end.axes:
                yield end
            elif inner is not None and self.among:
                yield inner

    def others(self, node: Node) -> Iterator[Node]:
        for end in self.ends(node):
            inner = self._seen(end)
            if (inner is None and SEQ not in end.axes) or (inner is not None and not self.among):
                yield end

    def made(self, node: Node, some: Found, all_: Found) -> Node:
        """Rows of a value of pairs."""
        if not self._is_end(node):
            args = [self.made(arg, some, all_) for arg in node.args]
            op = node.op
            if isinstance(op, Contract):
                labels = [self._labels(operand, before, arg) for operand, before, arg in zip(op.operands, node.args, args, strict=True)]
                op = replace(op, operands=tuple(labels))
            return make(replace(op, over=self.over) if isinstance(op, Mask) else op, *args)
        inner = self._seen(node)
        if inner is not None and self.among:
            return renamed(some(inner), {self.along: self.over})
        return some(node) if SEQ in node.axes else all_(node)

    def _labels(self, operand: Operand, before: Node, arg: Node) -> Operand:
        known = dict(zip(before.axes, operand.labels, strict=True))
        return Operand(tuple(known.get(axis, axis) for axis in arg.axes), operand.power)

    def conditions(self, limits: Limits, some: Found, all_: Found) -> list[Node]:
        """All of them as values that are non-zero where a token is seen."""
        found = [self.made(each, some, all_) for each in limits.conditions]
        if limits.past:
            here = some(self.position)
            there = renamed(here, {self.along: self.over}) if self.among else renamed(all_(self.position), {SEQ: self.over})
            found.append(make(Compare("<="), there, here))
            if limits.window is not None:
                found.append(make(Compare("<"), here, total((1, there), (limits.window, number(1)))))
        return found

