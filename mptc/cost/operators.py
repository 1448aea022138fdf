"""What torch runs for a node of the planned program: operators, what autograd keeps of their operands, and copies where memory lies otherwise.

As torch 2 does it in float32 on a CPU, where a fused attention is what it chooses for the operands at hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction

from mptc.backends.layout import Layout
from mptc.cost.polynomial import ONE, ZERO, Polynomial
from mptc.cost.sizes import Sizes
from mptc.cost.tape import Flow, Tape, Tensor
from mptc.ir.axis import Axis
from mptc.ir.node import Kind, Node
from mptc.ops.base import is_truth, merged
from mptc.ops.contract import Sum
from mptc.ops.contract_text import Form, form_of

NUMBER, ID, TRUTH = 4, 8, 1  # bytes of an entry


class Operators:
    """Runs nodes on a tape. `values` in a method's arguments are a node's operands: tensors, and None for numbers of Python's."""

    def __init__(self, tape: Tape, sizes: Sizes, layout: Layout) -> None:
        self.tape, self.sizes, self.layout = tape, sizes, layout
        self.made: list[Tensor] = []  # variables of the expression being evaluated
        self._elements: dict[Node, Polynomial] = {}
        self._forms: dict[Node, Form] = {}

    # -- what a node is -------------------------------------------------------------------------------

    def width(self, node: Node) -> int:
        """Bytes of an entry."""
        if node.type.kind is Kind.ID:
            return ID
        if is_truth(node):
            return TRUTH
        return ID if self.layout.grade(node).name == "EXACT" else NUMBER

    def orders(self, node: Node) -> list[tuple[Axis, ...]]:
        """The orders in which a node wants its operands, gaps left out."""
        return [tuple(axis for axis in wanted if axis is not None) for wanted in self.layout.arrangement(node).wanted]

    def bytes(self, axes: Iterable[Axis], width: int = NUMBER) -> Polynomial:
        return self.sizes.of(axes).times(width)

    def elements(self, node: Node) -> Polynomial:
        if node not in self._elements:
            self._elements[node] = self.sizes.elements(node)
        return self._elements[node]

    # -- operators ------------------------------------------------------------------------------------

    def keep(self, tensor: Tensor) -> Tensor:
        """A tensor as a variable of the expression: dropped with it."""
        self.made.append(tensor)
        return tensor

    def spent(self, tensor: Tensor | None) -> None:
        """A part of an expression has been read for the last time."""
        if tensor is not None and any(tensor is each for each in self.made):
            self.made = [each for each in self.made if each is not tensor]
            self.tape.drop(tensor)

    def pointwise(
        self,
        operands: Sequence[Tensor | None],
        keeps: Sequence[int] = (),
        keeps_result: bool = False,
        passed: Sequence[int] = (),
        through: Sequence[int] | None = None,
        width: int = NUMBER,
        elements: Polynomial | None = None,
        beside: int = 0,
    ) -> Tensor:
        """Element by element. It lies as its widest operand does. `keeps`, `passed` and `through` (which gradients flow to; all) are places.

        `elements`: its operations, one for each element unless they are said. `beside`: how many tensors as large live while a gradient is made.
        """
        tensors = [tensor for tensor in operands if tensor is not None]
        order = merged([tensor.order for tensor in tensors])
        flows = [
            Flow(tensor, passed=place in passed, beside=self.bytes(order, NUMBER * beside) if beside else ZERO)
            for place, tensor in enumerate(operands)
            if tensor is not None and (through is None or place in through)
        ]
        kept = [tensor for place, tensor in enumerate(operands) if place in keeps and tensor is not None]
        elements = self.sizes.of(order) if elements is None else elements
        return self.keep(self.tape.operator(order, self.bytes(order, width), tensors, flows, kept, keeps_result, width, elements))

    def times(self, left: Tensor | None, right: Tensor | None) -> Tensor | None:
        """A product. Each factor is kept for the other's gradient."""
        if left is None and right is None:
            return None
        keeps = [0] if right is not None and right.trained else []
        keeps += [1] if left is not None and left.trained else []
        if left is None or right is None:
            return self.pointwise([left, right])
        return self.pointwise([left, right], keeps)

    def over(self, left: Tensor | None, right: Tensor) -> Tensor:
        """A quotient; of a number, the reciprocal times that."""
        if left is None:
            return self.pointwise([self.pointwise([right], keeps_result=True)])
        return self.pointwise([left, right], ([0, 1] if right.trained else [1] if left.trained else []))

    def scaled(self, tensor: Tensor | None) -> Tensor | None:
        """Times a number of Python's."""
        found = None if tensor is None else self.pointwise([tensor])
        self.spent(tensor)
        return found

    def reduced(self, tensor: Tensor, away: Iterable[Axis], mean: bool = False) -> Tensor:
        """A sum or a mean over axes: its gradient is the same along them, which a mean divides."""
        away = set(away)
        order = tuple(axis for axis in tensor.order if axis not in away)
        flows = [Flow(tensor, spread=not mean, whole=False)]
        found = self.keep(self.tape.operator(order, self.bytes(order), [tensor], flows, elements=self.sizes.of(tensor.order)))
        self.spent(tensor)
        return found

    def copied(self, tensor: Tensor, order: tuple[Axis, ...]) -> Tensor:
        """The same values in another memory order."""
        if tensor.order == order:
            return tensor
        bytes = self.bytes(order, tensor.width)
        return self.keep(self.tape.operator(order, bytes, [tensor], [Flow(tensor, passed=bytes == tensor.bytes)], width=tensor.width))

    def merged(self, tensor: Tensor, *groups: Iterable[Axis]) -> Tensor:
        """A tensor each of whose groups of axes is to be one dimension: a view where they lie one after another, else a copy in that order."""
        groups = tuple(tuple(axis for axis in group if axis in tensor.order) for group in groups)
        if all(self.follow(group, tensor) for group in groups):
            return tensor
        grouped = [axis for group in groups for axis in group]
        return self.copied(tensor, (*(axis for axis in tensor.order if axis not in grouped), *grouped))

    def follow(self, group: Iterable[Axis], tensor: Tensor) -> bool:
        """Whether axes of a tensor lie one after another, in this order."""
        return _follow(self._wide(group), self._wide(tensor.order))

    def _wide(self, axes: Iterable[Axis]) -> tuple[Axis, ...]:
        """Without those of size 1, which lie anywhere."""
        return tuple(axis for axis in axes if self.sizes.axis(axis) != ONE)

    # -- contractions ---------------------------------------------------------------------------------

    def powered(self, value: Tensor | None, power: Fraction) -> Tensor | None:
        if value is None or power == 1:
            return value
        if power in (Fraction(1, 2), Fraction(-1, 2)):
            return self.pointwise([value], keeps_result=True)
        return self.pointwise([value], [0], beside=2)

    def quotient(self, values: Sequence[Tensor | None], powers: Sequence[Fraction]) -> Tensor | None:
        """What is to be multiplied, then what is to be divided by: in the order in which it is written."""
        above = [place for place, power in enumerate(powers) if power > 0 or power.denominator != 1]
        found: Tensor | None = None
        for count, place in enumerate(above):
            factor = self.powered(values[place], powers[place])
            before, found = found, factor if count == 0 else self.times(found, factor)
            self.spent(before)
        for place, power in enumerate(powers):
            below = self.powered(values[place], -power) if place not in above and power else None
            if below is not None:
                before, found = found, self.over(found, below)
                self.spent(before)
            elif place not in above and found is not None:
                found = self.scaled(found)
        return found

    def summed(self, node: Node, values: Sequence[Tensor | None]) -> Tensor | None:
        """A linear combination: what is added first comes first, what is taken off after."""
        assert isinstance(node.op, Sum)
        terms = sorted(zip(node.op.coefs, values, strict=True), key=lambda term: term[0].rational < 0)
        found: Tensor | None = None
        for count, (coef, value) in enumerate(terms):
            plain = abs(coef.rational) == 1 and not coef.powers
            term = value if plain else self.scaled(value)
            if count == 0:
                found = self.scaled(term) if plain and coef.rational < 0 else term
            elif found is not None or term is not None:
                before, found = found, self.pointwise([found, term], passed=[0] if coef.rational < 0 else [0, 1], width=self.width(node))
                self.spent(before)
                self.spent(term)
        return found

    def form(self, node: Node) -> Form:
        """The way in which a contraction is written."""
        if node not in self._forms:
            self._forms[node] = form_of(node, self.orders(node))
        return self._forms[node]

    def named(self, form: Form, place: int, value: Tensor) -> Tensor:
        """An operand whose axes are called as a contraction's labels are."""
        to = form.to[place]
        return Tensor(tuple(to[axis] for axis in value.order), value.bytes, value.storage, value.root, value.width)


def _follow(group: tuple[Axis, ...], order: tuple[Axis, ...]) -> bool:
    """Whether axes lie one after another."""
    if len(group) < 2:
        return True
    start = order.index(group[0])
    return order[start : start + len(group)] == group
