"""The cheapest order of a contraction of several operands: every split of every subset is tried, what exists already being free."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from mptc.derive import mixture
from mptc.derive.products import Part
from mptc.ir.axis import Axis, Role
from mptc.ir.node import Node
from mptc.ir.number import ONE
from mptc.ops.contract import Label
from mptc.ops.contract_text import is_constant
from mptc.ops.leaf import Mask
from mptc.ops.reduce import Softmax

if TYPE_CHECKING:
    from mptc.derive.plan import Planner

BYTES = 16  # what writing one number costs, in multiply-adds
ROW = 32  # what finding one row of a table costs, and what keeping one number does


class Search:
    """Dynamic programming over the subsets of a contraction's operands."""

    def __init__(self, planner: Planner, parts: Sequence[Part], naming: Mapping[Label, Axis]) -> None:
        self.planner, self.parts, self.naming = planner, parts, naming
        self.all = (1 << len(parts)) - 1
        self._best: dict[int, tuple[float, tuple[int, int] | None]] = {}
        self._nodes: dict[int, Node] = {}
        self._labels: dict[int, frozenset[Label]] = {}
        self._sizes = {label: planner.size(axis) for label, axis in naming.items()}
        self._constant = sum(1 << place for place, part in enumerate(parts) if is_constant(part[0]))
        self._mixed = [place for place in range(len(parts)) if self._mixes(*parts[place])]
        together = enumerate(parts) if planner.together else ()
        self._streams = [place for place, (node, labels, power) in together if self._weights(node, labels, power)]

    def _mixes(self, node: Node, labels: Sequence[Label], power: Fraction) -> bool:
        return mixture.mixable(node, labels, power) and node not in self.planner.materialised

    def _weights(self, node: Node, labels: Sequence[Label], power: Fraction) -> bool:
        if not isinstance(node.op, Softmax) or power != 1:
            return False
        over = {labels[node.axes.index(axis)] for axis in node.op.over}
        asker = {label for label, axis in zip(labels, node.axes, strict=True) if axis.role is Role.TOKEN}
        others = [set(named) for other, named, _ in self.parts if other is not node and not isinstance(other.op, Mask)]
        pairs = any(named & over and named & asker for named in others)  # go into the weights first: then these are no attention's
        return any(isinstance(label, int) for label in over) and not pairs and not any(over & set(self.parts[place][1]) for place in self._mixed)

    def labels(self, subset: int) -> frozenset[Label]:
        """What the result of a subset has: the labels that are kept, or that are summed with something outside."""
        if subset not in self._labels:
            self._labels[subset] = self._kept(subset)
        return self._labels[subset]

    def _kept(self, subset: int) -> frozenset[Label]:
        inside = {label for place, part in enumerate(self.parts) if subset >> place & 1 for label in part[1]}
        outside = {label for place, part in enumerate(self.parts) if not subset >> place & 1 for label in part[1]}
        return frozenset(label for label in inside if isinstance(label, Axis) or label in outside)

    def volume(self, labels: frozenset[Label]) -> float:
        return math.prod(self._sizes[label] for label in labels)

    def constant(self, subset: int) -> bool:
        return subset & self._constant == subset

    def cost(self, left: int, right: int) -> float:
        """Multiply-adds and bytes of one step. Parameters are not multiplied together, softmax weights meet all their values at once."""
        both = left | right
        if self.constant(left) and self.constant(right) and not self.constant(self.all):
            return math.inf
        for place in self._streams:
            if both >> place & 1 and not self._streams_whole(place, left, right):
                return math.inf
        rows = sum(self._rows(place, left, right) for place in self._mixed)
        return rows + self.volume(self.labels(left) | self.labels(right)) + BYTES * self.volume(self.labels(both))

    def _rows(self, place: int, left: int, right: int) -> float:
        """What finding looked-up rows costs, in the step where they are summed; they may not go into any other."""
        own = 1 << place
        if own not in (left, right):
            return 0.0
        node, labels, _ = self.parts[place]
        others = self.labels(right if own == left else left)
        row = mixture.row(node, labels, others, self.labels(left | right))
        if row is None:
            return math.inf
        found = self.volume((frozenset(labels) | others) - row[1])
        return ROW * (found + 2 * max(found, self.volume(self.labels(left | right))))

    def _streams_whole(self, place: int, left: int, right: int) -> bool:
        node, labels, _ = self.parts[place]
        assert isinstance(node.op, Softmax)
        over = {labels[node.axes.index(axis)] for axis in node.op.over}
        sharing = {other for other, part in enumerate(self.parts) if other != place and over & set(part[1])}
        own = 1 << place
        if own in (left, right):
            values = right if left == own else left
            return all(values >> other & 1 for other in sharing) and not self._scales(values)
        side = left if left >> place & 1 else right
        return all(side >> other & 1 for other in sharing)

    def _scales(self, values: int) -> bool:
        """Whether a parameter among the values sums nothing there: it would widen them, and can as well come after."""
        kept = self.labels(values)
        constant = [part for place, part in enumerate(self.parts) if values >> place & 1 and is_constant(part[0])]
        return any(set(labels) <= kept for _, labels, _ in constant)

    def best(self, subset: int) -> tuple[float, tuple[int, int] | None]:
        """The cost of a subset and how to split it; nothing where it is one operand or exists already."""
        if subset not in self._best:
            self._best[subset] = self._search(subset)
        return self._best[subset]

    def _search(self, subset: int) -> tuple[float, tuple[int, int] | None]:
        if subset & (subset - 1) == 0:
            return 0.0, None
        if subset != self.all and self.planner.wanted(self.node(subset)):
            return 0.0, None
        choices = []
        left = (subset - 1) & subset
        while left:
            right = subset ^ left
            if left > right:
                step = self.cost(left, right)
                if step < math.inf:
                    choices.append((self.best(left)[0] + self.best(right)[0] + step, -left, right))
            left = (left - 1) & subset
        if not choices:
            return math.inf, None
        cost, negative, right = min(choices)
        return cost, (-negative, right)

    def best_split(self) -> tuple[int, int]:
        split = self.best(self.all)[1]
        if split is None and self._mixed:  # then they are no mixture
            self._mixed = []
            self._best.clear()
            split = self.best(self.all)[1]
        if split is None:  # only steps that are forbidden are left: take the operands one by one
            split = (self.all & ~1, 1)
        return split

    def node(self, subset: int) -> Node:
        """The canonical node of a subset, over joint axes."""
        if subset not in self._nodes:
            kept = self.labels(subset)
            parts = [
                (node, tuple(self.naming[label] if label in kept else label for label in labels), power)
                for place, (node, labels, power) in enumerate(self.parts)
                if subset >> place & 1
            ]
            self._nodes[subset] = self.planner.c.contract(ONE, parts)
        return self._nodes[subset]
