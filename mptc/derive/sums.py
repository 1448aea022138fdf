"""The normal form of sums, and what comes out of the argument of a softmax."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

from mptc.derive import exponents
from mptc.ir.axis import SEQ, Axis, Role
from mptc.ir.node import Node, Op
from mptc.ir.number import ONE, ZERO, Monomial
from mptc.ops.contract import Contract, Sum
from mptc.ops.reduce import Lse, Softmax

if TYPE_CHECKING:
    from mptc.derive.calculus import Calculus

Term = tuple[Monomial, Node]


def terms_of(c: Calculus, node: Node) -> list[Term]:
    """A value as numbers times terms, none of which is a sum or has a number of its own. 0 has no terms."""
    op = node.op
    if isinstance(op, Sum):
        return [term for coef, arg in zip(op.coefs, node.args, strict=True) for term in _times(coef, terms_of(c, arg))]
    if isinstance(op, Contract) and op.coef != ONE:
        if not op.coef.rational:
            return []
        if len(node.args) == 1 and isinstance(node.args[0].op, Sum) and op.operands[0].power == 1 and op.operands[0].labels == node.args[0].axes:
            return _times(op.coef, terms_of(c, node.args[0]))
        parts = [(arg, operand.labels, operand.power) for arg, operand in zip(node.args, op.operands, strict=True)]
        return [(op.coef, c.contract(ONE, parts))]
    return _seen(c, op, node) or [(ONE, node)]


def _seen(c: Calculus, op: Op, node: Node) -> list[Term]:
    """A number before what is seen, as one before the view of it."""
    if not isinstance(op, Contract) or not op.renames:
        return []
    inner, arrows = terms_of(c, node.args[0]), dict(zip(node.args[0].axes, op.operands[0].labels, strict=True))
    if len(inner) != 1 or inner[0][0] == ONE:
        return []
    ((coef, term),) = inner
    return [(coef, c.rename(term, {axis: label for axis, label in arrows.items() if isinstance(label, Axis)}))]


def _times(coef: Monomial, terms: Iterable[Term]) -> list[Term]:
    return [(coef * other, node) for other, node in terms]


def add(c: Calculus, terms: Iterable[Term]) -> Node:
    """Equal terms collected, none 0, sorted; the first one's coefficient in front."""
    collected: dict[Node, Monomial] = {}
    for coef, node in terms:
        found = terms_of(c, node)
        if len(found) > 1:
            c.fire("sum in a sum")
        for factor, part in found:
            total = coef * factor
            if part in collected:
                c.fire("equal terms")
                total = _plus(c, collected[part], total)
            collected[part] = total
    kept = sorted(((node, coef) for node, coef in collected.items() if coef.rational), key=lambda item: c.key(item[0]))
    if not kept:
        return c.number(ZERO)
    if len(kept) == 1:
        return c.scale(kept[0][1], kept[0][0])
    front = kept[0][1]
    if front != ONE:
        c.fire("number out of a sum")
    inner = [(coef if front == ONE else coef.over(front), node) for node, coef in kept]
    result = c.sink(Sum(tuple(coef for coef, _ in inner)), *(node for _, node in inner))
    return result if front == ONE else c.scale(front, result)


def _plus(c: Calculus, left: Monomial, right: Monomial) -> Monomial:
    if left.powers == right.powers:
        rational = left.rational + right.rational
        return Monomial(rational, left.powers) if rational else ZERO
    exact = left.resolved(c.sizes), right.resolved(c.sizes)
    if exact[0] is not None and exact[1] is not None:
        return Monomial(exact[0] + exact[1])
    return Monomial.of(left.evaluate(c.sizes) + right.evaluate(c.sizes))


# -- reductions that a shift passes through ------------------------------------------------------------


def lse(c: Calculus, op: Lse, value: Node, *mask: Node) -> Node:
    """lse_a(s + t) = s + lse_a t for s without a; along an axis that no term has, it adds the logarithm of how many there are.

    Of no token at all it is -inf, whatever s is, and has no slope. So neither is done where a mask may be empty.
    """
    terms = score_terms(c, value, op.over)
    if not exponents.never_empty(mask):
        whole = c.add(*terms)
        return c.sink(op, c.along(whole, [axis for axis in op.over if axis not in whole.axes]), *mask)
    inside, outside = _split(terms, op.over)
    if outside and inside:
        c.fire("shift out of log-sum-exp")
    lost = [axis for axis in op.over if not any(axis in term.axes for _, term in inside)]
    if lost:
        c.fire("log of how many")
        hidden = [one for one in mask if set(one.axes) & set(lost)]
        count = [(one, tuple(_bind(axis, op.over) for axis in one.axes), Fraction(1)) for one in hidden]
        size = ONE
        for axis in lost:
            size = size if any(axis in one.axes for one in hidden) else size * Monomial.size(axis)
        outside = [*outside, (ONE, c.map("log", c.contract(size, count)))]
        mask = tuple(one for one in mask if one not in hidden)
    if not inside:
        return c.add(*outside)
    over = tuple(axis for axis in op.over if axis not in lost)
    return c.add(*outside, (ONE, c.sink(replace(op, over=over), c.add(*inside), *mask)))


def softmax(c: Calculus, op: Softmax, value: Node, *mask: Node) -> Node:
    """softmax_a(s + t) = softmax_a t for s without a."""
    inside, outside = _split(score_terms(c, value, op.over), op.over)
    if not inside:
        return c.sink(op, value, *mask)
    if outside:
        c.fire("shift out of softmax")
    return c.sink(op, c.add(*inside), *mask)


def _bind(axis: Axis, over: tuple[Axis, ...]) -> Axis | int:
    return over.index(axis) if axis in over else axis


def _split(terms: list[Term], over: tuple[Axis, ...]) -> tuple[list[Term], list[Term]]:
    inside = [term for term in terms if set(term[1].axes) & set(over)]
    return inside, [term for term in terms if term not in inside]


def score_terms(c: Calculus, value: Node, over: tuple[Axis, ...]) -> list[Term]:
    """The terms of a score, products distributed over sums of which one part sees both tokens or could be shifted out."""
    result: list[Term] = []
    pending = list(reversed(terms_of(c, value)))
    while pending:
        coef, node = pending.pop()
        spread = _distributed(c, node, over)
        if spread is None:
            result.append((coef, node))
        else:
            c.fire("score term by term")
            pending.extend(reversed(_times(coef, spread)))
    return result


def _distributed(c: Calculus, node: Node, over: tuple[Axis, ...]) -> list[Term] | None:
    op = node.op
    if not isinstance(op, Contract):
        return None
    parts = [(arg, operand.labels, operand.power) for arg, operand in zip(node.args, op.operands, strict=True)]
    for place, (arg, labels, power) in enumerate(parts):
        if power != 1 or not isinstance(arg.op, Sum) or arg.op.is_exact(arg):  # a distance stays one: it is small where it matters
            continue
        others = parts[:place] + parts[place + 1 :]
        if not others and not (op.bound and all(_of_one_token_each(term) for _, term in terms_of(c, arg))):
            continue
        mixed = SEQ in labels and any(isinstance(label, Axis) and label.role is Role.CONTEXT for label in labels)
        scalar = not any(isinstance(label, int) for label in labels) and not any(set(over) & set(own) for _, own, _ in others)
        if not mixed and not scalar:
            continue
        own = dict(zip(arg.axes, labels, strict=True))
        result: list[Term] = []
        for coef, term in terms_of(c, arg):
            spread = c.contract(_lost(own, term, others), [*others, (term, tuple(own[axis] for axis in term.axes), Fraction(1))])
            result += _times(coef, terms_of(c, spread))
        return result
    return None


def _of_one_token_each(term: Node) -> bool:
    """Whether each factor has to do with one of the two tokens alone.

    The square of a difference has not, and is not multiplied out: what is left where the two are alike would be lost in rounding.
    """
    op = term.op
    factors = [operand.labels for operand in op.operands] if isinstance(op, Contract) else [term.axes]
    return not any(SEQ in labels and any(isinstance(label, Axis) and label.role is Role.CONTEXT for label in labels) for labels in factors)


def _lost(own: dict[Axis, Axis | int], term: Node, others: list[tuple[Node, tuple[Axis | int, ...], Fraction]]) -> Monomial:
    """The size of what is summed but in neither the term nor the other factors."""
    size = ONE
    present = {label for _, labels, _ in others for label in labels}
    for axis, label in own.items():
        if isinstance(label, int) and label not in present and axis not in term.axes:
            size = size * Monomial.size(axis)
    return size
