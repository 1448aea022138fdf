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
from mptc.ir.axis import SEQ, Axis
from mptc.ir.cut import minimum_cut
from mptc.ir.node import Node
from mptc.ir.number import ONE, Monomial
from mptc.ops.contract import Contract, Label
from mptc.ops.leaf import Mask
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
    seen = None if SEQ in values.axes else planner.c.rename(values, {over: SEQ})
    found = bilinear(planner, weights.args[0], over)
    if seen is None or found is None or bound & (set(weights.axes) | set(values.axes)) != {over}:
        return None
    query, key, inner, scale, bias = found
    masks = weights.args[1:]
    causal = bias is None and bool(masks) and masks[0].op == Mask(over, past=True) and not masks[0].args
    masks = () if causal else masks
    rest = [*([] if bias is None else [bias]), *masks]
    made = Stream(over, inner, scale, causal, bias is not None, bool(masks))
    trial = planner.c.node(made, query, key, seen, *rest)
    if not made.fits(trial):
        return None
    return planner.c.node(made, *(planner.lower(node) for node in (query, key, seen, *rest)))


Bilinear = tuple[Node, Node, tuple[Axis, ...], Monomial, Node | None]


def bilinear(planner: Planner, score: Node, over: Axis) -> Bilinear | None:
    """Query, key, the axes they share, the scale, and the rest of the score as a bias."""
    c = planner.c
    products: list[tuple[Monomial, Node]] = []
    bias: list[tuple[Monomial, Node]] = []
    for coef, term in terms_of(c, score):
        (products if _sides(term, over) else bias).append((coef, term))
    if len(products) != 1:
        return None
    scale, term = products[0]
    query, key, inner = _split(planner, term, over)
    if scale.rational < 0:  # fused kernels take the maximum before they scale
        query, scale = c.scale(-ONE, query), -scale
    return query, key, inner, scale, c.add(*bias) if bias else None


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
    return query, planner.c.rename(key, {over: SEQ}), tuple(sorted(naming[label] for label in shared))


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
    weights = {label: math.log(planner.c.sizes[Axis(naming[label].role, naming[label].name)] + 1) for label in bound}
    return minimum_cut(members, weights, fixed["query"], fixed["key"])


def _side_node(planner: Planner, parts: list[Part], naming: dict[Label, Axis], shared: set[int]) -> Node:
    kept = [(node, tuple(naming[label] if label in shared else label for label in labels), power) for node, labels, power in parts]
    return planner.c.contract(ONE, kept)
