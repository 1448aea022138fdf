"""Recognising fused attention: a softmax over one context of a bilinear score (and a bias), summed with values of that context.

The score is a sum of terms. In the bilinear one, what sees only token i goes to the query, what sees only token j to the key; parameters
go where a minimum cut through the shared axes sends them, so that the vectors compared are as short as they can be.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mptc.derive.calculus import bare, unscaled
from mptc.derive.exponents import joint
from mptc.derive.products import Part
from mptc.derive.sums import terms_of
from mptc.ir.axis import SEQ, Axis, Role
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
    if weights in planner.materialised or len(op.over) != 1 or op.over[0] not in bound or op.over[0] not in values.axes:
        return None
    (over,) = op.over
    found = None if SEQ in values.axes else bilinear(planner, weights.args[0], over)
    if found is None or bound & (set(weights.axes) | set(values.axes)) != {over}:
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
    made = Stream(over, inner, scale, causal, bias is not None, bool(masks))
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


def bilinear(planner: Planner, score: Node, over: Axis) -> tuple[list[Term], Monomial, Node | None] | None:
    """The products of the score, the scale before them all, and the rest of it as a bias."""
    c = planner.c
    products: list[tuple[Monomial, Node]] = []
    bias: list[tuple[Monomial, Node]] = []
    for coef, term in terms_of(c, score):
        (products if _sides(term, over) else bias).append((coef, term))
    if not products:
        return None
    scale = products[0][0]
    scale = -scale if scale.rational < 0 else scale  # fused kernels take the maximum before they scale
    split = [(coef.over(scale), _split(planner, term, over)) for coef, term in products]
    terms = [(query if coef == ONE else c.scale(coef, query), key, inner) for coef, (query, key, inner) in split]
    if len(terms) > 1 and any(len(inner) != 1 for _, _, inner in terms):
        return None
    return terms, scale, c.add(*bias) if bias else None


def _sides(term: Node, over: Axis) -> bool:
    """Whether a term is a sum of products of what token i has and what token j has."""
    op = term.op
    if not isinstance(op, Contract) or not op.bound or len(term.args) < 2:
        return False
    kinds = {_side(operand.labels, over) for operand in op.operands}
    return {"query", "key"} <= kinds and "both" not in kinds


def _side(labels: tuple[Label, ...], over: Axis) -> str:
    here, there = SEQ in labels, over in labels
    return "both" if here and there else "query" if here else "key" if there else "parameter"


def _split(planner: Planner, term: Node, over: Axis) -> tuple[Node, Node, tuple[Axis, ...]]:
    op = term.op
    assert isinstance(op, Contract)
    parts: list[Part] = [(arg, operand.labels, operand.power) for arg, operand in zip(term.args, op.operands, strict=True)]
    naming = joint(parts)
    sides = [_side(labels, over) for _, labels, _ in parts]
    fixed = {side: [place for place, own in enumerate(sides) if own == side] for side in ("query", "key")}
    near = _as_named(planner, parts, naming, sides)
    if near is None:
        near = _cut(planner, parts, naming, fixed) if "parameter" in sides else set(fixed["query"])
    query, key, shared = _two_sides(planner, parts, naming, near)
    return query, itself(planner, key, over), tuple(sorted(naming[label] for label in shared))


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
