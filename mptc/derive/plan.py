"""From the canonical IR to steps a machine takes: contractions in pairs, the cheapest first, what exists already being free.

Nothing here knows of attention layers or MLPs. Key = value is found because the scores were planned first, so `W_k c` costs nothing when the
values want it; a linear map is what a contraction with a parameter is; a gated MLP is two of those and a product.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import combinations, permutations
from typing import ClassVar

from mptc.derive import attention, mixture
from mptc.derive.calculus import Calculus, bare
from mptc.derive.exponents import joint
from mptc.derive.products import Part
from mptc.derive.search import Search
from mptc.derive.sums import terms_of
from mptc.derive.support import left_out
from mptc.ir.axis import Axis, Role
from mptc.ir.node import Node, walk
from mptc.ir.number import ONE, Monomial
from mptc.ops.choose import Lookup
from mptc.ops.contract import Contract, Label, Operand, Sum
from mptc.ops.contract_text import is_constant
from mptc.ops.leaf import Mask
from mptc.ops.norm import GainedRms, Rms
from mptc.ops.reduce import Softmax
from mptc.ops.region import Loop, Result
from mptc.ops.view import Hold

EXACT = 8  # operands up to which every order is tried


class Planner:
    """Plans node by node; `planned` maps canonical nodes to steps, and is what exists.

    `nominal`: the lengths that paths are planned for, whatever the lengths are. `together`: softmax weights meet all their values at once.
    """

    nominal: ClassVar[Mapping[Role, int]] = {Role.BATCH: 8, Role.TOKEN: 1024, Role.CONTEXT: 1024}
    together: ClassVar[bool] = True

    def __init__(self, calculus: Calculus) -> None:
        self.c = calculus
        self.planned: dict[Node, Node] = {}
        self.materialised: set[Node] = set()
        self._seen: set[Node] = set()

    def size(self, axis: Axis) -> int:
        return self.nominal.get(axis.role) or self.c.sizes[Axis(axis.role, axis.name)]

    def plan(self, roots: Sequence[Node]) -> list[Node]:
        """Steps for every root. Barriers come first and in order, so that recursion stays as deep as one expression."""
        self.materialise(roots)
        for node in walk(roots, self.planned):
            if isinstance(node.op, Hold | Loop | Result):
                self.lower(node)
        return [self.lower(root) for root in roots]

    def materialise(self, roots: Sequence[Node]) -> None:
        """Softmax weights and looked-up rows that anything but a sum over them wants are computed, and then used for that sum too."""
        for node in walk(roots, self._seen):
            self._seen.add(node)
            if isinstance(node.op, Loop):
                self.materialise([*node.op.results, *node.op.watched])
            for place, arg in enumerate(node.args):
                if isinstance(arg.op, Softmax | Lookup) and not self._streamed(node, place):
                    self.materialised.add(arg)
        self.materialised |= {root for root in roots if isinstance(root.op, Softmax | Lookup)}

    def _streamed(self, node: Node, place: int) -> bool:
        if not isinstance(node.op, Contract):
            return False
        operand, weights = node.op.operands[place], node.args[place]
        if not isinstance(weights.op, Softmax):
            return mixture.mixable(weights, operand.labels, operand.power)
        return operand.power == 1 and all(isinstance(operand.labels[weights.axes.index(axis)], int) for axis in weights.op.over)

    def lower(self, node: Node) -> Node:
        found = self.planned.get(node)
        if found is None:
            plain = self._plain(node)
            if plain is not None:
                inner, arrows = plain
                operand = Operand(tuple(arrows.get(axis, axis) for axis in inner.axes))
                found = self.c.node(Contract(ONE, (operand,)), self.lower(inner))
            else:
                found = self._lower(node)
            self.planned[node] = found
            self.c.named_like(node, found)
            if node in self.c.spans:
                self.c.spans.setdefault(found, self.c.spans[node])
        return found

    def _lower(self, node: Node) -> Node:
        match node.op:
            case Contract():
                return self._contract(node)
            case Sum():
                return self._sum(ONE, node)
            case Hold():
                return self.lower(node.args[0])
            case Loop():
                results, watched = (tuple(self.plan(nodes)) for nodes in (node.op.results, node.op.watched))
                return self.c.node(replace(node.op, results=results, watched=watched), *(self.lower(arg) for arg in node.args))
            case _:
                return self.c.node(node.op, *(self.lower(arg) for arg in node.args))

    def _sum(self, coef: Monomial, node: Node) -> Node:
        """A number times a sum goes back into it, and so do the numbers of its terms. Simple terms stand first."""
        terms = self._grouped([self._averaged(coef * factor, term) for factor, term in terms_of(self.c, node)])
        if len(terms) == 1:
            return self.c.node(Contract(terms[0][0], (Operand(terms[0][1].axes),)), terms[0][1])
        terms.sort(key=lambda term: (term[0].rational < 0, _depth(term[1]), self.c.key(term[1])))
        return self.c.node(Sum(tuple(factor for factor, _ in terms)), *(term for _, term in terms))

    def _averaged(self, coef: Monomial, term: Node) -> tuple[Monomial, Node]:
        """A step for a term and what stands before it; a sum divided by the size of what it sums is a mean."""
        op = term.op
        if isinstance(op, Contract) and len(term.args) == 1 and op.bound:
            size = ONE
            for label, axis in op.label_axes(arg.type for arg in term.args).items():
                size = size * Monomial.size(axis) if isinstance(label, int) else size
            if not (coef * size).powers:
                return coef * size, self.lower(self.c.scale(ONE.over(size), term))
        return coef, self.lower(term)

    def _grouped(self, terms: list[tuple[Monomial, Node]]) -> list[tuple[Monomial, Node]]:
        """Terms with one number before them (not 1 or -1) are added first."""
        groups: dict[Monomial, list[Node]] = {}
        for coef, term in terms:
            groups.setdefault(coef, []).append(term)
        result: list[tuple[Monomial, Node]] = []
        for coef, nodes in groups.items():
            if len(nodes) > 1 and coef not in (ONE, -ONE):
                nodes.sort(key=lambda term: (_depth(term), self.c.key(term)))
                nodes = [self.c.node(Sum((ONE,) * len(nodes)), *nodes)]
            result += [(coef, node) for node in nodes]
        return result

    # -- contractions ---------------------------------------------------------------------------------

    def _contract(self, node: Node) -> Node:
        op = node.op
        assert isinstance(op, Contract)
        parts: list[Part] = [(arg, operand.labels, operand.power) for arg, operand in zip(node.args, op.operands, strict=True)]
        if len(parts) == 1:
            ((arg, labels, power),) = parts
            if isinstance(arg.op, Sum) and labels == arg.axes and power == 1:
                return self._sum(op.coef, arg)
            return self._summed(op.coef, parts) or self.c.node(op, self.lower(arg))
        masked = left_out(self.c, parts)
        if masked is not None:
            operands = tuple(Operand(labels, power) for _, labels, power in masked)
            return self._contract(self.c.node(Contract(op.coef, operands), *(factor for factor, _, _ in masked)))
        if not op.bound:
            return self._product(op, node)
        naming = joint(parts)
        unsummed = self._unsummed(parts, naming)
        if unsummed is not None:
            return self.c.node(Contract(op.coef, (unsummed[1],)), self.lower(unsummed[0]))
        left, right = self._pair(parts, naming)
        return self._step(op.coef, left, right, naming)

    def _times(self, coef: Monomial, step: Node) -> Node:
        return step if coef == ONE else self.c.node(Contract(coef, (Operand(step.axes),)), step)

    def _summed(self, coef: Monomial, parts: list[Part]) -> Node | None:
        """Looked-up rows summed as they are."""
        if not mixture.mixable(*parts[0]):
            return None
        naming, ((node, labels, _),) = joint(parts), parts
        rows = self.c.rename(node, {axis: naming[label] for axis, label in zip(node.axes, labels, strict=True)})
        made = mixture.mixture(self, self.c.number(ONE), rows, {axis for label, axis in naming.items() if isinstance(label, int)})
        return None if made is None else self._times(coef, made)

    def _product(self, op: Contract, node: Node) -> Node:
        """Element by element. A gain beside an RMS normalisation goes into it."""
        for (place, norm), (other, gain) in permutations(enumerate(node.args), 2):
            mine, theirs = op.operands[place], op.operands[other]
            if not isinstance(norm.op, Rms) or mine != Operand(norm.axes) or theirs != Operand(gain.axes) or set(gain.axes) != set(norm.op.over):
                continue
            if is_constant(gain):
                merged = self.c.node(GainedRms(norm.op.over, norm.op.eps), self.lower(norm.args[0]), self.lower(gain))
                rest = [(self.lower(arg), op.operands[at]) for at, arg in enumerate(node.args) if at not in (place, other)]
                if not rest and op.coef == ONE:
                    return merged
                return self.c.node(Contract(op.coef, (Operand(merged.axes), *(operand for _, operand in rest))), merged, *(arg for arg, _ in rest))
        return self.c.node(op, *(self.lower(arg) for arg in node.args))

    def _unsummed(self, parts: list[Part], naming: Mapping[Label, Axis]) -> tuple[Node, Operand] | None:
        """The sum of a value that costs nothing, where one operand alone has what is summed: not of a parameter's own axis."""
        owners = {label: [part for part in parts if label in part[1]] for _, labels, _ in parts for label in labels if isinstance(label, int)}
        alone = [label for label, own in owners.items() if len(own) == 1]
        if not alone:
            return None
        kept = [(node, tuple(naming[label] if label in alone else label for label in labels), power) for node, labels, power in parts]
        whole = self.c.contract(ONE, kept)
        back = {naming[label]: place for place, label in enumerate(alone)}
        return (whole, Operand(tuple(back.get(axis, axis) for axis in whole.axes))) if self.wanted(whole) else None

    def _pair(self, parts: list[Part], naming: Mapping[Label, Axis]) -> tuple[Node, Node]:
        """The last pair of the cheapest order: two canonical nodes over joint axes."""
        if len(parts) > EXACT:
            parts = self._greedy(parts, naming)
        search = Search(self, parts, naming)
        first, second = search.best_split()
        return search.node(first), search.node(second)

    def _step(self, coef: Monomial, left: Node, right: Node, naming: Mapping[Label, Axis]) -> Node:
        """left · right, with `naming`'s axes that no result has summed."""
        bound = {axis for label, axis in naming.items() if isinstance(label, int)}
        for weights, values in ((left, right), (right, left)):
            made = mixture.mixture(self, weights, values, bound)
            if made is None and isinstance(weights.op, Softmax):
                made = attention.stream(self, weights, values, bound)
            if made is not None:
                return self._times(coef, made)
        numbers = {axis: place for place, axis in enumerate(sorted(bound & ({*left.axes} | {*right.axes})))}
        operands = tuple(Operand(tuple(numbers.get(axis, axis) for axis in side.axes)) for side in (left, right))
        return self.c.node(Contract(coef, operands), self.lower(left), self.lower(right))

    def _greedy(self, parts: list[Part], naming: Mapping[Label, Axis]) -> list[Part]:
        """Too many operands to try every order: the cheapest pair at a time, until few enough are left."""
        while len(parts) > EXACT:
            search = Search(self, parts, naming)
            pairs = [(search.cost((1 << i), (1 << j)), i, j) for i, j in combinations(range(len(parts)), 2)]
            _, i, j = min(pairs)
            merged = search.node((1 << i) | (1 << j))
            back = {axis: label for label, axis in naming.items()}
            rest = [part for place, part in enumerate(parts) if place not in (i, j)]
            parts = [*rest, (merged, tuple(back[axis] for axis in merged.axes), Fraction(1))]
        return parts

    def _plain(self, node: Node) -> tuple[Node, dict[Axis, Axis]] | None:
        """A contraction whose axes are primed for no reason of its own, as the one with plain axes, and how to prime it."""
        arrows = {replace(axis, tick=0): axis for axis in node.axes if axis.tick and replace(axis, tick=0) not in node.axes}
        if not arrows or not isinstance(node.op, Contract) or len(arrows) < sum(1 for axis in node.axes if axis.tick):
            return None
        return self.c.rename(node, {primed: plain for plain, primed in arrows.items()}), arrows

    def streams(self, keys: Node, values: Node) -> bool:
        """Whether these may be those of one fused attention."""
        return True

    def is_past(self, mask: Node, over: Axis) -> bool:
        """Whether a mask shows every token up to the viewer's own, and asks for nothing else."""
        return mask.op == Mask(over, past=True) and not mask.args

    def wanted(self, node: Node) -> bool:
        """Whether a value costs nothing: it exists already, or the spec names it."""
        plain = self._plain(node)
        inner = bare(plain[0] if plain else node)
        return inner in self.planned or inner in self.c.names


def _depth(node: Node) -> int:
    return 0 if not node.args else 1 + max(_depth_limited(arg, 12) for arg in node.args)


def _depth_limited(node: Node, limit: int) -> int:
    if not node.args or not limit or isinstance(node.op, Hold | Loop | Result):
        return 0
    return 1 + max(_depth_limited(arg, limit - 1) for arg in node.args)
