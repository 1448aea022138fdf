"""What a spec asks for some tokens alone, or for some pairs of an expert and a token, is computed for those.

An `on` asks for chosen tokens (`mptc.passes.chosen`), a sum over experts of which most have the weight 0 for chosen pairs (`mptc.passes.experts`).
From there a value is followed to what it is made of. What something else needs whole, or can be made in no other way, is made whole and taken
from; the rest is made for the chosen alone, of the same ops. So no more is computed than was asked for, and never anything twice.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

from mptc.ir.axis import Axis
from mptc.ir.node import Node, make
from mptc.ir.program import Program
from mptc.ops.chance import Dropout
from mptc.ops.choose import Entry, Lookup
from mptc.ops.chosen import Among
from mptc.ops.compare import Compare, Extreme, Where
from mptc.ops.contract import Contract, Operand, Sum
from mptc.ops.elementwise import Map
from mptc.ops.norm import Rms, Rstd
from mptc.ops.reduce import Lse, Max, Softmax
from mptc.ops.region import Loop
from mptc.ops.view import Hold, Stop
from mptc.passes.remade import Remaker, remade

POINTWISE = (Sum, Map, Compare, Extreme, Where, Dropout, Hold, Stop)
ALONG = (Softmax, Lse, Max, Rms, Rstd, Among)  # `over` some axes, along all others one by one
Found = Callable[[Node], Node]


@dataclass(frozen=True)
class Rule:
    """How a value is made for the chosen alone: of `parts` that are made so too, of others whole, by `made` (which is told what both have become)."""

    parts: tuple[Node, ...]
    whole: tuple[Node, ...]
    made: Callable[[Found, Found], Node]
    heavy: bool = False  # whether it is worth the taking


@dataclass(frozen=True)
class Shared:
    """What restrictions to the same places have in common: the axis `along` which those lie, and nodes that are made once."""

    along: Axis
    nodes: dict[object, Node] = field(default_factory=dict)

    def once(self, key: object, made: Callable[[], Node]) -> Node:
        if key not in self.nodes:
            self.nodes[key] = made()
        return self.nodes[key]


class Restriction(ABC):
    """What one value asks for. `root`: what is to be made for the chosen alone; `given`: what says who they are.

    `replaced`: the axes in whose place those chosen lie `along` one of their own.
    """

    root: Node
    given: tuple[Node, ...]
    replaced: frozenset[Axis]

    def __init__(self, shared: Shared) -> None:
        self.shared, self.along = shared, shared.along
        self._rules: dict[Node, Rule | None] = {}

    def rule(self, node: Node) -> Rule | None:
        """None: it is made whole."""
        if node not in self._rules:
            self._rules[node] = self._rule(node) if self.concerns(node) else None
        return self._rules[node]

    def concerns(self, node: Node) -> bool:
        return not self.replaced.isdisjoint(node.axes)

    def _rule(self, node: Node) -> Rule | None:
        op = node.op
        if isinstance(op, Contract):
            return self.contract(node, op)
        axis_by_axis = isinstance(op, POINTWISE) or (isinstance(op, ALONG) and self.replaced.isdisjoint(op.over))
        if axis_by_axis or (isinstance(op, Lookup | Entry) and op.axis not in self.replaced):
            return self.pointwise(node)
        return self.special(node)

    def pointwise(self, node: Node) -> Rule:
        parts = tuple(filter(self.concerns, node.args))
        whole = tuple(arg for arg in node.args if arg not in parts)

        def made(some: Found, all_: Found) -> Node:
            return make(node.op, *(some(arg) if arg in parts else all_(arg) for arg in node.args), span=node.span)

        return Rule(parts, whole, made)

    def contract(self, node: Node, op: Contract) -> Rule | None:
        """A product in which the axes that are replaced are those of the result."""
        for operand, arg in zip(op.operands, node.args, strict=True):
            if any(label != axis and not self.replaced.isdisjoint((axis, label)) for axis, label in zip(arg.axes, operand.labels, strict=True)):
                return None
        parts = tuple(filter(self.concerns, node.args))
        whole = tuple(arg for arg in node.args if arg not in parts)

        def made(some: Found, all_: Found) -> Node:
            args = [some(arg) if arg in parts else all_(arg) for arg in node.args]
            return make(replace(op, operands=self.relabelled(node, op, args)), *args, span=node.span)

        return Rule(parts, whole, made, bool(op.bound))

    def relabelled(self, node: Node, op: Contract, args: list[Node]) -> tuple[Operand, ...]:
        """Axes keep their labels; those that are new are labelled by themselves."""
        found = []
        for operand, before, arg in zip(op.operands, node.args, args, strict=True):
            known = dict(zip(before.axes, operand.labels, strict=True))
            found.append(Operand(tuple(known.get(axis, axis) for axis in arg.axes), operand.power))
        return tuple(found)

    def special(self, node: Node) -> Rule | None:
        return None

    @abstractmethod
    def taken(self, whole: Node, all_: Found) -> Node:
        """Of a value that is made whole, what the chosen have."""

    @abstractmethod
    def result(self, made: Node, all_: Found) -> Node:
        """What stands in the place of the value that asks."""

    # -- what it needs whole ----------------------------------------------------------------------------

    def followed(self, outside: Collection[Node]) -> Iterator[tuple[Node, Rule | None]]:
        """What is made for the chosen with its rule, and what is made whole (None): after what it is made of."""
        pending: list[tuple[Node, bool]] = [(self.root, False)]
        done: set[Node] = set()
        while pending:
            node, ready = pending.pop()
            if node in done:
                continue
            rule = None if node in outside else self.rule(node)
            if ready or rule is None:
                done.add(node)
                yield node, rule
            else:
                pending += [(node, True), *((part, False) for part in rule.parts)]

    def asks(self, outside: Collection[Node]) -> Iterator[Node]:
        """What is made whole."""
        for node, rule in self.followed(outside):
            yield from (node,) if rule is None else rule.whole

    def is_fit(self, outside: Collection[Node]) -> bool:
        """Whether something that costs much is made for fewer, and all of it can be."""
        return any(rule is not None and rule.heavy for _, rule in self.followed(outside))

    def made(self, outside: Collection[Node], all_: Found) -> tuple[Node, dict[Node, Node]]:
        """What stands in the place of the value that asks, and what each value has become that is made for the chosen."""
        copies: dict[Node, Node] = {}
        own: dict[Node, Node] = {}
        for node, rule in self.followed(outside):
            if rule is None:
                copies[node] = self.taken(node, all_) if self.concerns(node) else all_(node)
            else:
                copies[node] = own[node] = rule.made(copies.__getitem__, all_)
        return self.result(copies[self.root], all_), own


class Sparse(Remaker):
    """Puts restrictions into effect. `outside`: what is needed whole. `inner`: what nodes have become that are made for the chosen alone."""

    def __init__(self, program: Program, heads: Mapping[Node, Restriction]) -> None:
        super().__init__()
        self.heads = dict(heads)
        self.outside = outside(program, self.heads)
        while unfit := [node for node, head in self.heads.items() if node not in self.outside or not head.is_fit(self.outside)]:
            for node in unfit:
                del self.heads[node]
            self.outside = outside(program, self.heads)
        self.inner: dict[Node, Node] = {}

    def needed(self, node: Node) -> Iterator[Node]:
        head = self.heads.get(node)
        if head is None:
            yield from super().needed(node)
        else:
            yield from head.given
            yield from head.asks(self.outside)

    def made(self, node: Node) -> Node:
        head = self.heads.get(node)
        if head is None:
            return super().made(node)
        made, inner = head.made(self.outside, self.new.__getitem__)
        self.inner = {**inner, **self.inner}
        return made


def outside(program: Program, heads: Mapping[Node, Restriction]) -> set[Node]:
    """What is needed whole where heads are made of what is not."""
    found: set[Node] = set()
    reached: list[Restriction] = []
    pending: list[Node] = [*program.inputs, *program.roots]
    while pending:
        while pending:
            node = pending.pop()
            if node in found:
                continue
            found.add(node)
            if node in heads:
                reached.append(heads[node])
                pending += heads[node].given
            else:
                pending += node.args
                pending += (*node.op.formals, *node.op.results, *node.op.watched) if isinstance(node.op, Loop) else ()
        pending = [node for head in reached for node in head.asks(found) if node not in found]
    return found


def restricted(program: Program, heads: Mapping[Node, Restriction]) -> tuple[Program, Mapping[Node, Node]]:
    """The program with as many of the restrictions in effect as gain anything, and what each of its nodes has become."""
    sparse = Sparse(program, heads)
    if not sparse.heads:
        return program, {}
    made, new = remade(program, sparse)
    moved = {**sparse.inner, **new}
    names = {moved[node]: name for node, name in program.names.items() if node in moved}
    spans = {moved[node]: span for node, span in program.spans.items() if node in moved}
    return replace(made, names={**program.names, **names}, spans={**program.spans, **spans}), moved

