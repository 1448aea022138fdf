"""Sums over experts of which most have the weight 0: each expert works for the tokens that chose it alone, in one product for all of its rows."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from mptc.ir.axis import BATCH, Axis, Role
from mptc.ir.node import Node, axes_of, make, walk
from mptc.ir.program import Program
from mptc.ops.base import Order
from mptc.ops.chosen import Among, Nothing
from mptc.ops.compare import Compare, Where
from mptc.ops.contract import Contract, Label, Operand
from mptc.ops.elementwise import Map
from mptc.ops.leaf import Param
from mptc.ops.reduce import Softmax
from mptc.ops.region import everything
from mptc.ops.routed import Combined, Grouped, Pairs, Routed, is_routable, pair_axis
from mptc.passes.sparse import Found, Restriction, Rule, Shared, restricted

VANISHING = ("exp", "sigmoid", "relu")  # what is 0 at -∞


def experts(program: Program) -> tuple[Program, Mapping[Node, Node]]:
    """The program in which experts that a token did not choose do not work for it, where that pays, and what its nodes have become."""
    choices: dict[Node, Shared] = {}
    heads: dict[Node, Restriction] = {}
    for node in everything(program.roots):
        found = _choice(node)
        if found is not None:
            labels, choice = found
            shared = choices.setdefault(choice, Shared(pair_axis(len(choices))))
            heads[node] = ChosenExperts(node, labels, choice, shared)
    return restricted(program, heads)


def _choice(node: Node) -> tuple[Mapping[Label, Axis], Node] | None:
    """Of a sum over experts: their axes by what those are labelled, and what is non-zero for those that count."""
    op = node.op
    for operand, arg in zip(op.operands, node.args, strict=True) if isinstance(op, Contract) else ():
        for axis, label in zip(arg.axes, operand.labels, strict=True):
            choice = support(arg, axis) if isinstance(label, int) and operand.power > 0 else None
            if choice is None:
                continue
            dims = {own for own in choice.axes if own.role is Role.DIM}
            labels: dict[Label, Axis] = {
                number: own for own, number in zip(arg.axes, operand.labels, strict=True) if own in dims and isinstance(number, int)
            }
            tokens = [own for own in choice.axes if own.role is Role.TOKEN]
            plain = not dims & set(node.axes) and not any(own.tick for own in dims)
            if plain and set(labels.values()) == dims and len(tokens) == 1 and set(choice.axes) == {*dims, BATCH, *tokens}:
                return labels, choice
    return None


def support(node: Node, of: Axis) -> Node | None:
    """A value over an axis, and others, that is zero where the given one is, which is chosen from along that axis."""
    op = node.op
    match op:
        case Among() | Compare():
            return node if of in node.axes else None
        case Softmax() if of in op.over:
            return _finite(node.args[0], of)
        case Map() if op.function in VANISHING and not op.order:
            return _finite(node.args[0], of)
        case Where() if isinstance(node.args[2].op, Contract) and not node.args[2].args and node.args[2].op.coef.rational == 0:
            return support(node.args[0], of) or support(node.args[1], of)
        case Contract():
            for arg, operand in zip(node.args, op.operands, strict=True):
                if operand.power > 0 and operand.labels == arg.axes and of in arg.axes:
                    found = support(arg, of)
                    if found is not None:
                        return found
    return None


def _finite(node: Node, of: Axis) -> Node | None:
    """What says where a value is not -∞."""
    if isinstance(node.op, Where) and isinstance(node.args[2].op, Nothing):
        return support(node.args[0], of) or _finite(node.args[1], of)
    return None


def _in_memory(node: Node, of: Collection[Axis]) -> Order:
    """Axes in the order in which the parameters of experts have them."""
    orders = (each.op.order for each in walk([node]) if isinstance(each.op, Param) and set(of) <= set(each.op.order))
    first = next(orders, axes_of(of))
    return tuple(axis for axis in first if axis in of)


class ChosenExperts(Restriction):
    """One sum. `labels`: what it calls the axes of the experts."""

    def __init__(self, node: Node, labels: Mapping[Label, Axis], choice: Node, shared: Shared) -> None:
        super().__init__(shared)
        assert isinstance(node.op, Contract)
        (self.token,) = (axis for axis in choice.axes if axis.role is Role.TOKEN)
        self.of, self.choice, self.given = _in_memory(node, labels.values()), choice, (choice,)
        self.replaced = frozenset({*self.of, BATCH, self.token})

        apart = [Operand(tuple(labels.get(each, each) for each in operand.labels), operand.power) for operand in node.op.operands]
        self.root = make(replace(node.op, operands=tuple(apart)), *node.args, span=node.span)  # not summed yet

    def pairs(self, all_: Found) -> Node:
        op = self.choice.op
        most = op.n if isinstance(op, Among) and op.over == axes_of(self.of) and len(self.choice.args) == 1 else None
        return self.shared.once("pairs", lambda: make(Pairs(self.of, self.token, self.along, most), all_(self.choice)))

    def taken(self, whole: Node, all_: Found) -> Node:
        return self.shared.once(whole, lambda: make(Routed(self.of, self.token, self.along), all_(whole), self.pairs(all_)))

    def result(self, made: Node, all_: Found) -> Node:
        return make(Combined(self.of, self.token, self.along), made, self.pairs(all_))

    def is_fit(self, outside: Collection[Node]) -> bool:
        whole = [node for node, rule in self.followed(outside) if rule is None and self.concerns(node)]
        return super().is_fit(outside) and all(is_routable(node.axes, self.of, self.token) for node in whole)

    # -- rules ------------------------------------------------------------------------------------------

    def _rule(self, node: Node) -> Rule | None:
        return super()._rule(node) if {*self.of, self.token} <= set(node.axes) else None

    def contract(self, node: Node, op: Contract) -> Rule | None:
        """A sum with what each expert has of its own is a product for all of its rows; it is not laid beside every one of them."""
        found = super().contract(node, op)
        places = [place for place, arg in enumerate(node.args) if self.replaced.intersection(arg.axes) == {*self.of}]
        summed = [place for place in places if any(isinstance(label, int) for label in op.operands[place].labels)]
        if found is None or not summed:
            return found and replace(found, heavy=False)
        return self._grouped(node, op, summed[0]) if len(summed) == 1 and len(node.args) == 2 else None

    def _grouped(self, node: Node, op: Contract, place: int) -> Rule | None:
        x, w = node.args[1 - place], node.args[place]
        mine, own = (dict(zip(arg.axes, op.operands[at].labels, strict=True)) for arg, at in ((x, 1 - place), (w, place)))
        inner = {label for label in own.values() if isinstance(label, int)}
        rest = {label for axis, label in mine.items() if axis not in self.replaced}
        if rest != inner or any(operand.power != 1 for operand in op.operands):
            return None
        labels = tuple(self.along if axis in self.of else own[axis] for axis in w.axes)

        def made(some: Found, all_: Found) -> Node:
            rows = some(x)
            first: tuple[Label, ...] = tuple(self.along if axis == self.along else mine[axis] for axis in rows.axes)
            grouped = Grouped(self.of, self.token, self.along, op.coef, (Operand(first), Operand(labels)))
            return make(grouped, rows, all_(w), self.pairs(all_), span=node.span)

        return Rule((x,), (w,), made, heavy=True)
