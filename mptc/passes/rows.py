"""Values of pairs of tokens, for some of the tokens that ask at a time: nothing that is quadratic in length is ever whole.

A value that varies along the sequence and a context has a number for each pair. What is made of such values and is itself none (a sum or an attention
over the context, a log-sum-exp, a sum over those that ask) leaves them. Everything between goes into a region: row i of it needs row i alone of what
the tokens that ask have, and all of what is seen. So any score, whatever its form, is exact in memory linear in length, as a fused attention is: a
softmax is whole in its row. (Dao et al., arXiv 2205.14135, run the same product by blocks of both.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from mptc.ir.axis import SEQ, Axis, Role
from mptc.ir.node import Node, make
from mptc.ir.program import Program
from mptc.ops.chance import Dropout
from mptc.ops.choose import Entry, Lookup
from mptc.ops.compare import Compare, Extreme, Where
from mptc.ops.contract import Contract, Label, Operand, Sum, number, renamed, total
from mptc.ops.elementwise import Map
from mptc.ops.leaf import Mask, Position, fresh
from mptc.ops.norm import Rms, Rstd
from mptc.ops.reduce import Lse, Max, Softmax
from mptc.ops.region import Loop, Result, Rows, Some, everything
from mptc.ops.stream import Stream
from mptc.passes.asked import Needs
from mptc.passes.remade import Remaker, remade
from mptc.passes.scopes import Scopes
from mptc.passes.turned import Turned
from mptc.passes.until import Until, along, until

POINTWISE = (Sum, Map, Compare, Extreme, Where, Dropout, Mask)
ALONG = (Softmax, Lse, Max, Rms, Rstd)  # `over` some axes, along all others one by one


def rows(program: Program) -> tuple[Program, Mapping[Node, Node]]:
    """The program with its pairs in regions, and what each of its nodes has become."""
    plain, first = remade(program, Turned())
    regions = Regions(plain)
    made, then = remade(plain, regions)
    inner = regions.inner
    moved = {node: then.get(other) or inner.get(other, other) for node, other in first.items()}
    names = {moved[node]: name for node, name in program.names.items() if node in moved}
    spans = {moved[node]: span for node, span in program.spans.items() if node in moved}
    return replace(made, names={**program.names, **names}, spans={**program.spans, **spans}), moved


def is_pair(node: Node) -> bool:
    """Whether there is a value for each pair of a token of the sequence and another."""
    return SEQ in node.axes and sum(axis.role in (Role.TOKEN, Role.CONTEXT) for axis in node.axes) > 1


# -- what goes into regions ------------------------------------------------------------------------------


class Pairs:
    """`inside`: the values of pairs that nothing needs whole. `exits`: what is made of them and is none itself. `whole`: the others, and why."""

    def __init__(self, program: Program) -> None:
        self.order = list(everything(program.roots))
        pairs = [node for node in self.order if is_pair(node)]
        self.whole: dict[Node, str] = {node: f"row by row there is no {node.op.name} of it" for node in pairs if not _by_rows(node)}
        self.inside = {node for node in pairs if node not in self.whole}
        kept = {*program.roots, *(root for node in self.order if isinstance(node.op, Loop) for root in (*node.op.results, *node.op.watched))}
        needed = [(node, "it is an output, a probe or what a loop hands on") for node in self.inside if node in kept]
        for node in self.order:
            if node not in self.inside and not self._leaves(node):
                needed += [(arg, _needs(node)) for arg in node.args if arg in self.inside]
        while needed:
            node, why = needed.pop()
            if node in self.inside:
                self.inside.remove(node)
                self.whole[node] = why
                needed += [(arg, why) for arg in node.args]
        self.exits = [node for node in self.order if node not in self.inside and any(arg in self.inside for arg in node.args)]

    def _leaves(self, node: Node) -> bool:
        """Whether rows of pairs make rows of a node that is no pair, or parts of a sum over the tokens that ask."""
        op = node.op
        if is_pair(node):
            return False
        if isinstance(op, Contract):
            labels = {_asker(arg, operand) for arg, operand in zip(node.args, op.operands, strict=True) if is_pair(arg)}
            return len(labels) == 1 and (labels == {SEQ} or all(isinstance(label, int) for label in labels))
        if isinstance(op, Stream):
            return op.asker == SEQ and not any(map(is_pair, node.args[:3]))
        return isinstance(op, ALONG) and SEQ not in op.over


def _needs(node: Node) -> str:
    if isinstance(node.op, Contract) and node.op.bound:
        return "what is summed with it is seen from both sides at once"
    return f"{node.op.name} needs all of its rows at once"


def _by_rows(node: Node) -> bool:
    """Whether row i of a pair needs row i alone of its arguments, along the tokens that ask."""
    op = node.op
    if isinstance(op, Contract):
        return all(_asker(arg, operand) == SEQ for arg, operand in zip(node.args, op.operands, strict=True) if is_pair(arg))
    if isinstance(op, Lookup | Entry):
        return op.axis != SEQ and SEQ not in node.args[0].axes
    return isinstance(op, POINTWISE) or (isinstance(op, ALONG) and SEQ not in op.over)


def _asker(arg: Node, operand: Operand) -> Label | None:
    """What the tokens that ask are called in a product."""
    return operand.labels[arg.axes.index(SEQ)] if SEQ in arg.axes else None


def _asks(node: Node, place: int) -> bool:
    """Whether the tokens that an argument has are those that ask."""
    arg, op = node.args[place], node.op
    if SEQ not in arg.axes:
        return False
    if isinstance(op, Contract):
        return _asker(arg, op.operands[place]) == _asker_of(node)
    return place not in (1, 2) if isinstance(op, Stream) else True


def _asker_of(node: Node) -> Label | None:
    """What a node calls the tokens that ask; in a sum over them, a number."""
    if not isinstance(node.op, Contract):
        return SEQ
    return next((_asker(arg, operand) for arg, operand in zip(node.args, node.op.operands, strict=True) if is_pair(arg)), SEQ)


def _reached(pairs: Pairs) -> dict[Node, frozenset[Node]]:
    """For each node the exits that it needs."""
    found: dict[Node, frozenset[Node]] = {}
    exits = set(pairs.exits)
    for node in pairs.order:
        below = [*node.args, *(node.op.interior.roots if node.op.interior else ())]
        found[node] = frozenset().union(*(found[arg] | ({arg} & exits) for arg in below))
    return found


# -- the regions -----------------------------------------------------------------------------------------


@dataclass(eq=False)
class Region:
    """`exits` that share what is heavy. `given`: rows of what is outside, by what they are rows of. `node`: of the new program, once it is made."""

    exits: list[Node]
    cone: set[Node]
    given: dict[tuple[Node, Axis, bool], Node] = field(default_factory=dict)
    seen: Until | None = None
    node: Node | None = None

    def some(self, whole: Node, along: Axis, seen: bool) -> Node:
        """Rows of a value along an axis: of the tokens that ask, or of those that they see."""
        key = (whole, along, seen)
        if key not in self.given:
            self.given[key] = make(Some(whole, along, seen, fresh()))
        return self.given[key]


class Regions(Remaker):
    """Puts pairs into regions. `inner`: what nodes inside have become, in one of the regions they are in."""

    def __init__(self, program: Program) -> None:
        super().__init__()
        self.pairs = pairs = Pairs(program)
        self.inner: dict[Node, Node] = {}
        self.asked, self.scopes = Needs(program), Scopes(program.roots)
        self.position = next((node for node in pairs.order if isinstance(node.op, Position)), make(Position()))
        self.new[self.position] = self.position
        self.region: dict[Node, Region] = {}
        self._group()

    def _group(self) -> None:
        """Exits that share a heavy value are computed together, where none needs another."""
        below = _reached(self.pairs)
        regions: list[Region] = []
        for node in self.pairs.exits:
            cone = self._cone(node)
            heavy = {each for each in cone if isinstance(each.op, ALONG) or (isinstance(each.op, Contract) and each.op.bound)}
            fit = (region for region in regions if heavy & region.cone and self._together(node, region.exits, below[node]))
            found = next(fit, None)
            if found is None:
                found = Region([], set())
                regions.append(found)
            found.exits.append(node)
            found.cone |= cone
            self.region[node] = found

    def _together(self, node: Node, exits: list[Node], below: frozenset[Node]) -> bool:
        """Whether an exit stands where others do, for the same purpose, and needs none of them."""
        same = self.asked.of(node) == self.asked.of(exits[0]) and self.scopes.home[node] is self.scopes.home[exits[0]]
        return same and not below & set(exits)

    def _cone(self, node: Node) -> set[Node]:
        found: set[Node] = set()
        pending = [arg for arg in node.args if arg in self.pairs.inside]
        while pending:
            each = pending.pop()
            if each not in found:
                found.add(each)
                pending += [arg for arg in each.args if arg in self.pairs.inside]
        return found

    # -- outside --------------------------------------------------------------------------------------

    def needed(self, node: Node) -> Iterator[Node]:
        if node not in self.region:
            yield from super().needed(node)
            return
        region = self.region[node]
        for each in (*region.exits, *region.cone):
            yield from (arg for arg in each.args if arg not in region.cone)

    def made(self, node: Node) -> Node:
        if node not in self.region:
            return super().made(node)
        region = self.region[node]
        return make(Result(region.exits.index(node), node.type), self._whole(region), span=node.span)

    # -- inside ---------------------------------------------------------------------------------------

    def _whole(self, region: Region) -> Node:
        if region.node is None:
            copies: dict[Node, Node] = {}
            region.seen = until(region.cone, region.exits)
            for node in self.pairs.order:
                if node in region.cone or node in region.exits:
                    copies[node] = self._inside(region, node, copies)
            self.inner.update(copies)
            results = tuple(copies[node] for node in region.exits)
            added = tuple(isinstance(_asker_of(node), int) for node in region.exits)
            formals, given = tuple(region.given.values()), [whole for whole, _, _ in region.given]
            region.node = make(Rows(formals, results, added, region.seen.window if region.seen else None), *given)
        return region.node

    def _inside(self, region: Region, node: Node, copies: Mapping[Node, Node]) -> Node:
        args = [copies[arg] if arg in region.cone else self._given(region, node, place) for place, arg in enumerate(node.args)]
        op = node.op
        if isinstance(op, Mask) and (op.past or op.window is not None):
            return make(Mask(op.over, itself=not args), *self._limits(region, op), *args, span=node.span)
        return make(op, *args, span=node.span)

    def _given(self, region: Region, node: Node, place: int) -> Node:
        """What is outside, as a node inside needs it."""
        whole = self.new[node.args[place]]
        if _asks(node, place):
            return region.some(whole, SEQ, seen=False)
        axis = None if region.seen is None else along(node, place, region.seen.over)
        if axis is None:
            return whole
        if isinstance(whole.op, Contract) and whole.op.renames and SEQ in whole.args[0].axes:  # what a token has, as it is seen
            return make(whole.op, region.some(whole.args[0], SEQ, seen=True))
        return region.some(whole, axis, seen=True)

    def _limits(self, region: Region, op: Mask) -> Iterator[Node]:
        """j ≤ i, and i - j < window, with i of the rows that are computed."""
        here, there = region.some(self.position, SEQ, seen=False), renamed(self.position, {SEQ: op.over})
        if region.seen is not None:
            there = renamed(region.some(self.position, SEQ, seen=True), {SEQ: op.over})
        yield make(Compare(">="), here, there)
        if op.window is not None:
            yield make(Compare("<"), total((1, here), (-1, there)), number(op.window))
