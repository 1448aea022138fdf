"""Recognising fused attention: a softmax over one context of a bilinear score (and a bias), summed with values of that context.

The score is a sum of terms. In the bilinear one, what sees only token i goes to the query, what sees only token j to the key; parameters
go where a minimum cut through the shared axes sends them, so that the vectors compared are as short as they can be. Token i is one of the
sequence, or of a memory: a context of its own, or a dim, as latents are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mptc.derive.calculus import bare, unscaled
from mptc.derive.exponents import joint
from mptc.derive.products import Part
from mptc.derive.sums import terms_of
from mptc.ir.axis import BATCH, SEQ, Axis, Role
from mptc.ir.cut import minimum_cut
from mptc.ir.node import Node
from mptc.ir.number import ONE, Monomial
from mptc.ops.concat import Concat, Slice
from mptc.ops.contract import Contract, Label
from mptc.ops.reduce import Softmax
from mptc.ops.stream import Stream

if TYPE_CHECKING:
    from mptc.derive.plan import Planner


MOST_PARAMETERS = 4  # in one term of a score, up to which every way to name the sides is looked at


def stream(planner: Planner, weights: Node, values: Node, bound: set[Axis]) -> Node | None:
    """The step for Σ_ctx weights · values; None where no fused form says it."""
    op = weights.op
    assert isinstance(op, Softmax)
    if weights in planner.materialised or len(op.over) != 1 or op.over[0] not in values.axes:
        return None
    if SEQ in values.axes and SEQ not in weights.axes:  # of each token others, though the weights are the same for all
        return None
    (over,) = op.over
    if bound & (set(weights.axes) | set(values.axes)) != {over}:
        return None
    found = (_asked(planner, weights, values, Sight(asker, over)) for asker in askers(weights, over) if asker not in values.axes)
    return next((step for step in found if step is not None), None)


@dataclass(frozen=True)
class Sight:
    """The axis of the tokens that ask, and that of those that are seen."""

    asker: Axis
    over: Axis

    def side(self, labels: tuple[Label, ...]) -> str:
        here, there = self.asker in labels, self.over in labels
        return "both" if here and there else "query" if here else "key" if there else "parameter"


def askers(weights: Node, over: Axis) -> list[Axis]:
    """The axes that may be of the tokens that ask: the sequence, where it is there; else contexts; else dims."""
    others = [axis for axis in weights.axes if axis not in (BATCH, over)]
    for role in (Role.TOKEN, Role.CONTEXT, Role.DIM):
        found = [axis for axis in others if axis.role is role]
        if found:
            return found
    return []


def _asked(planner: Planner, weights: Node, values: Node, sight: Sight) -> Node | None:
    over = sight.over
    found = bilinear(planner, weights.args[0], sight)
    if found is None:
        return None
    terms, scale, bias = found
    seen = itself(planner, values, over)
    query, key, inner = terms[0] if len(terms) == 1 else _side_by_side(planner, terms)
    if not all(planner.streams(key, seen) for _, key, _ in terms):
        return None
    masks = weights.args[1:]
    causal = bias is None and bool(masks) and planner.is_past(masks[0], over)
    masks = () if causal else masks
    rest = [*([] if bias is None else [bias]), *masks]
    made = Stream(over, inner, scale, causal, bias is not None, bool(masks), sight.asker)
    part = next((place for place, term in enumerate(terms) if term[1] is seen), None) if len(terms) > 1 else None
    if part is not None:  # all keys are summed at once, and each sum of values is a part of that
        return _part(planner, made, [query, key, key, *rest], [term[2][0] for term in terms], part)
    trial = planner.c.node(made, query, key, seen, *rest)
    if not made.fits(trial):
        return None
    return planner.c.node(made, *(planner.lower(node) for node in (query, key, seen, *rest)))


Term = tuple[Node, Node, tuple[Axis, ...]]  # query, key, the axes they share


def itself(planner: Planner, node: Node, over: Axis) -> Node:
    """What a token that is seen has, as its own: the value inside a view. A memory has its tokens along the context itself."""
    if over.role is Role.DIM or over in planner.c.memories:
        return node
    own = planner.c.rename(node, {over: SEQ})
    return node if isinstance(own.op, Contract) and len(own.args) == 1 and over in own.args[0].axes else own


def _side_by_side(planner: Planner, terms: list[Term]) -> Term:
    """q₁·k₁ + q₂·k₂ + … as one product of vectors put side by side."""
    inner = tuple(axes[0] for _, _, axes in terms)
    wide = Axis(Role.DIM, "+".join(str(axis) for axis in inner))
    planner.c.widen(wide, inner)
    query = planner.c.node(Concat(wide, inner), *(query for query, _, _ in terms))
    key = planner.c.node(Concat(wide, inner), *(key for _, key, _ in terms))
    return query, key, (wide,)


def _part(planner: Planner, made: Stream, args: list[Node], widths: list[Axis], part: int) -> Node | None:
    """One term's share of the weighted keys."""
    query, key, _, *rest = args
    wide = made.inner[0]
    shared = Axis(Role.DIM, f"{wide.name} ")  # the width of the values: an axis of its own, as long
    planner.c.widen(shared, tuple(widths))
    values = planner.c.rename(key, {wide: shared})
    trial = planner.c.node(made, query, key, values, *rest)
    if not made.fits(trial):
        return None
    whole = planner.c.node(made, *(planner.lower(node) for node in (query, key, values, *rest)))
    start = sum(planner.c.sizes[axis] for axis in widths[:part])
    return planner.c.node(Slice(shared, widths[part], start), whole)


def bilinear(planner: Planner, score: Node, sight: Sight) -> tuple[list[Term], Monomial, Node | None] | None:
    """The products of the score, the scale before them all, and the rest of it as a bias."""
    c = planner.c
    products: list[tuple[Monomial, Node]] = []
    bias: list[tuple[Monomial, Node]] = []
    for coef, term in _terms(planner, score):
        (products if _sides(term, sight) else bias).append((coef, term))
    if not products:
        return None
    scale = products[0][0]
    scale = -scale if scale.rational < 0 else scale  # fused kernels take the maximum before they scale
    split = [(coef.over(scale), _split(planner, term, sight)) for coef, term in products]
    terms = [(query if coef == ONE else c.scale(coef, query), key, inner) for coef, (query, key, inner) in split]
    if len(terms) > 1 and any(len(inner) != 1 for _, _, inner in terms):
        return None
    return terms, scale, c.add(*bias) if bias else None


def _terms(planner: Planner, score: Node) -> list[tuple[Monomial, Node]]:
    """The terms of a score; those of one that is seen as a whole, as they are seen."""
    found: list[tuple[Monomial, Node]] = []
    for coef, term in terms_of(planner.c, score):
        op = term.op
        if isinstance(op, Contract) and op.renames:
            (seen,), (labels,) = term.args, [operand.labels for operand in op.operands]
            arrows = {axis: label for axis, label in zip(seen.axes, labels, strict=True) if isinstance(label, Axis)}
            found += [(coef * factor, planner.c.rename(part, arrows)) for factor, part in terms_of(planner.c, seen)]
        else:
            found.append((coef, term))
    return found


def _sides(term: Node, sight: Sight) -> bool:
    """Whether a term is a sum of products of what token i has and what token j has."""
    parts = _factors(term)
    if len(parts) < 2 or not any(isinstance(label, int) for _, labels, _ in parts for label in labels):
        return False
    kinds = {sight.side(labels) for _, labels, _ in parts}
    return {"query", "key"} <= kinds and "both" not in kinds


def _factors(term: Node) -> list[Part]:
    """The factors of a product; of one that is seen as a whole, because who sees it takes no part, as they are seen."""
    op = term.op
    if not isinstance(op, Contract):
        return []
    parts: list[Part] = [(arg, operand.labels, operand.power) for arg, operand in zip(term.args, op.operands, strict=True)]
    inner = term.args[0].op if op.renames else None
    if not isinstance(inner, Contract) or inner.coef != ONE:
        return parts
    seen: dict[Label, Label] = dict(zip(term.args[0].axes, parts[0][1], strict=True))
    pairs = zip(term.args[0].args, inner.operands, strict=True)
    return [(arg, tuple(seen.get(label, label) for label in operand.labels), operand.power) for arg, operand in pairs]


def _split(planner: Planner, term: Node, sight: Sight) -> tuple[Node, Node, tuple[Axis, ...]]:
    parts = _factors(term)
    naming = joint(parts)
    sides = [sight.side(labels) for _, labels, _ in parts]
    fixed = {side: [place for place, own in enumerate(sides) if own == side] for side in ("query", "key")}
    near = _as_named(planner, parts, naming, sides)
    if near is None:
        near = _cut(planner, parts, naming, fixed) if "parameter" in sides else set(fixed["query"])
    query, key, shared = _two_sides(planner, parts, naming, near)
    return query, itself(planner, key, sight.over), tuple(sorted(naming[label] for label in shared))


def _two_sides(planner: Planner, parts: list[Part], naming: dict[Label, Axis], near: set[int]) -> tuple[Node, Node, set[int]]:
    """What each token has, and the labels that the two share."""
    mine = {label for place in near for label in parts[place][1]}
    theirs = {label for place in range(len(parts)) if place not in near for label in parts[place][1]}
    shared = {label for label in mine & theirs if isinstance(label, int)}
    query = _side_node(planner, [parts[place] for place in sorted(near)], naming, shared)
    key = _side_node(planner, [part for place, part in enumerate(parts) if place not in near], naming, shared)
    return query, key, shared


def _as_named(planner: Planner, parts: list[Part], naming: dict[Label, Axis], sides: list[str]) -> set[int] | None:
    """The query's operands where the spec gave both sides a name of their own."""
    scales = {place for place, (_, labels, _) in enumerate(parts) if not any(isinstance(label, int) for label in labels)}
    parameters = [place for place, side in enumerate(sides) if side == "parameter" and place not in scales]
    query = {place for place, side in enumerate(sides) if side == "query" or (side == "parameter" and place in scales)}
    for choice in range(1 << len(parameters)) if len(parameters) <= MOST_PARAMETERS else ():
        near = query | {place for bit, place in enumerate(parameters) if choice >> bit & 1}
        made = _two_sides(planner, parts, naming, near)[:2]
        if all(unscaled(bare(node)) in planner.c.names for node in made):
            return near
    return None


def _cut(planner: Planner, parts: list[Part], naming: dict[Label, Axis], fixed: dict[str, list[int]]) -> set[int]:
    """The operands on the query's side: parameters where the axes cut are the shortest; where that is a tie, with the query."""
    bound = {label for _, labels, _ in parts for label in labels if isinstance(label, int)}
    members = [[label for label in labels if label in bound] for _, labels, _ in parts]
    weights = {label: math.log(planner.size(naming[label]) + 1) for label in bound}
    return minimum_cut(members, weights, fixed["query"], fixed["key"])


def _side_node(planner: Planner, parts: list[Part], naming: dict[Label, Axis], shared: set[int]) -> Node:
    kept = [(node, tuple(naming[label] if label in shared else label for label in labels), power) for node, labels, power in parts]
    return planner.c.contract(ONE, kept)
