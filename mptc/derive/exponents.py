"""Exponentials, logarithms and softmax: three spellings of attention (`logsumexp`, `log(sum(exp))`, softmax by hand with or without a shift) are one.

    e^u e^v = e^(u+v)          where one side has all axes of the other (else a product of two vectors would become a matrix)
    (e^u)^n = e^(n u)          e^(log r + u) = r e^u          log(r e^u) = u + log r
    log Σ_a r e^t = log r + lse_a t,   (Σ_a r e^t)^p = r^p e^(p lse_a t)  for p < 0
    e^(t - lse_a t) = softmax_a t      Σ_a softmax_a t = 1
    log(c + e^u) = log c + softplus(u - log c)     e^(u - softplus u) = sigmoid u

They cure overflow as well: after them no exponential of a score is left that its own normaliser does not bound.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from fractions import Fraction
from typing import TYPE_CHECKING

from mptc.derive import sums
from mptc.ir.axis import Axis, Role
from mptc.ir.node import Node
from mptc.ir.number import ONE, Monomial
from mptc.ops.contract import Contract, Label, Sum
from mptc.ops.elementwise import FUNCTIONS, Map
from mptc.ops.leaf import Mask
from mptc.ops.reduce import Lse, Softmax

if TYPE_CHECKING:
    from mptc.derive.calculus import Calculus
    from mptc.derive.products import Part

Step = tuple[Monomial, list["Part"]]


def is_map(node: Node, function: str) -> bool:
    return isinstance(node.op, Map) and node.op == Map(function)


def is_number(node: Node) -> bool:
    return isinstance(node.op, Contract) and not node.args


def is_zero(node: Node) -> bool:
    return isinstance(node.op, Contract) and not node.op.coef.rational


def is_positive(node: Node) -> bool:
    """Whether a value can be seen never to be below 0, so that it may enter a logarithm."""
    match node.op:
        case Map(function=function, order=0):
            return FUNCTIONS[function].positive
        case Softmax() | Mask():
            return True
        case Contract(coef=coef, operands=operands):
            return coef.rational > 0 and all(operand.power % 2 == 0 or is_positive(arg) for operand, arg in zip(operands, node.args, strict=True))
        case _:
            return False


# -- the two functions -------------------------------------------------------------------------------


def exp(c: Calculus, argument: Node) -> Node:
    terms = sums.terms_of(c, argument)
    if is_number(argument):
        return c.number(ONE) if not terms else c.constant(Map("exp"), argument)
    factors: list[Part] = []
    rest: list[tuple[Monomial, Node]] = []
    for coef, node in terms:
        if is_map(node, "log") and not coef.powers and coef.rational.denominator == 1:
            inner = node.args[0]
            factors.append((inner, inner.axes, coef.rational))
        else:
            rest.append((coef, node))
    if factors:
        c.fire("exp of log")
        rest_exp = exp(c, c.add(*rest))
        return c.contract(ONE, [*factors, (rest_exp, rest_exp.axes, Fraction(1))])
    return _softmax(c, terms) or _sigmoid(c, terms) or c.sink(Map("exp"), argument)


def _softmax(c: Calculus, terms: list[tuple[Monomial, Node]]) -> Node | None:
    """e^(u + t - lse_a t) = e^u softmax_a t"""
    present = {node: coef for coef, node in terms}
    for coef, node in terms:
        if coef != -ONE or not isinstance(node.op, Lse):
            continue
        inner = sums.terms_of(c, node.args[0])
        if all(present.get(part) == factor for factor, part in inner):
            c.fire("softmax by hand")
            weights = c.build(Softmax(node.op.over), node.args)
            used = {part for _, part in inner} | {node}
            left = [(factor, part) for factor, part in terms if part not in used]
            if not left:
                return weights
            shift = exp(c, c.add(*left))
            return c.contract(ONE, [(weights, weights.axes, Fraction(1)), (shift, shift.axes, Fraction(1))])
    return None


def _sigmoid(c: Calculus, terms: list[tuple[Monomial, Node]]) -> Node | None:
    for coef, node in terms:
        if coef == -ONE and is_map(node, "softplus"):
            rest = c.add(*((factor, part) for factor, part in terms if part is not node))
            if rest is node.args[0]:
                c.fire("sigmoid by hand")
                return c.map("sigmoid", rest)
            if not sums.terms_of(c, rest):
                c.fire("sigmoid by hand")
                return c.map("sigmoid", c.scale(-ONE, node.args[0]))
    return None


def log(c: Calculus, argument: Node) -> Node:
    op = argument.op
    if is_number(argument):
        return c.constant(Map("log"), argument)
    if is_map(argument, "exp"):
        c.fire("log of exp")
        return argument.args[0]
    if isinstance(op, Softmax):
        c.fire("log of softmax")
        return c.add((ONE, argument.args[0]), (-ONE, c.build(Lse(op.over), argument.args)))
    if isinstance(op, Sum) or len(sums.terms_of(c, argument)) > 1:
        found = _log_of_sum(c, argument)
        if found is not None:
            return found
    if isinstance(op, Contract) and op.renames:
        (inner,), (operand,) = argument.args, op.operands
        return c.rename(log(c, inner), {axis: label for axis, label in zip(inner.axes, operand.labels, strict=True) if isinstance(label, Axis)})
    if isinstance(op, Contract) and argument.args:
        found = _log_of_product(c, argument)
        if found is not None:
            return found
    return c.sink(Map("log"), argument)


def _log_of_sum(c: Calculus, node: Node) -> Node | None:
    """log(a e^u + b e^v + …) for a, b above 0, as u + log a + softplus(v + log b - u - log a), …"""
    terms = sums.terms_of(c, node)
    if all(is_number(term) for _, term in terms) or any(coef.rational <= 0 for coef, _ in terms):
        return None
    if not all(is_number(term) or _has_exp(c, term) for _, term in terms):
        return None
    logs = [log(c, c.scale(coef, term)) for coef, term in terms]
    c.fire("log of a sum of exps")
    logs.sort(key=lambda item: (not is_number(item), bool(item.args), c.key(item)))
    result = logs[0]
    for other in logs[1:]:
        result = c.add((ONE, result), (ONE, c.map("softplus", c.add((ONE, other), (-ONE, result)))))
    return result


def _has_exp(c: Calculus, node: Node) -> bool:
    """Whether a value is an exponential, a product with one, or a sum of them: something that its logarithm tames."""
    op = node.op
    if is_map(node, "exp") or isinstance(op, Softmax):
        return True
    if not isinstance(op, Contract):
        return False
    parts: list[Part] = [(arg, operand.labels, operand.power) for arg, operand in zip(node.args, op.operands, strict=True)]
    free = any(is_map(arg, "exp") and not any(isinstance(label, int) for label in labels) for arg, labels, _ in parts)
    return free or _sum_of_exp(c, op, parts) is not None


def _log_of_product(c: Calculus, node: Node) -> Node | None:
    """log(r e^u) and log Σ_a r e^t; also numbers and exponents of positive factors come out."""
    op = node.op
    assert isinstance(op, Contract)
    parts: list[Part] = [(arg, operand.labels, operand.power) for arg, operand in zip(node.args, op.operands, strict=True)]
    terms: list[tuple[Monomial, Node]] = []
    rest: list[Part] = []
    summed = _sum_of_exp(c, op, parts)
    if summed is not None:
        lse, rest = summed
        terms.append((ONE, lse))
    else:
        for arg, labels, power in parts:
            free = not any(isinstance(label, int) for label in labels)
            if free and (_comes_out(arg, power) or (len(parts) > 1 and is_positive(arg))):
                value = c.rename(arg, {axis: label for axis, label in zip(arg.axes, labels, strict=True) if isinstance(label, Axis)})
                terms.append((Monomial(power), log(c, value)))
            else:
                rest.append((arg, labels, power))
    if not terms:  # nothing to tame: as it is written, for a rounding may decide what `floor` makes of it
        return None
    c.fire("log of a product")
    coef = op.coef
    if coef.rational > 0 and coef != ONE:
        terms.append((ONE, c.map("log", c.number(coef))))
        coef = ONE
    if rest or coef != ONE:
        terms.append((ONE, c.map("log", c.contract(coef, rest))))
    return c.add(*terms)


def _comes_out(node: Node, power: Fraction) -> bool:
    """Whether log(x^p) is better as p log x: for exponentials, for what is never below 0, and for odd powers of anything."""
    odd = power.denominator == 1 and power % 2 == 1
    return is_map(node, "exp") or isinstance(node.op, Softmax) or (power != 1 and (odd or is_positive(node)))


def _sum_of_exp(c: Calculus, op: Contract, parts: list[Part]) -> tuple[Node, list[Part]] | None:
    """For Π r · Σ_a e^t w: lse_a(t + log w), and r. All that is summed must be summed over positive factors, one of them an exponential."""
    bound = set(op.bound)
    inside = [part for part in parts if bound & set(part[1])]
    exps = [part for part in inside if is_map(part[0], "exp") or (isinstance(part[0].op, Softmax) and len(part[0].args) == 1)]
    masks = [part for part in inside if isinstance(part[0].op, Mask)]
    weights = [part for part in inside if part not in exps and part not in masks]
    if not bound or not exps or len(masks) > 1 or not all(is_positive(part[0]) for part in weights):
        return None
    if not all(label in set().union(*(part[1] for part in exps)) for label in bound):
        return None
    naming = joint([*exps, *masks, *weights])
    logs = [c.scale(Monomial(power), log(c, renamed)) for renamed, power in _renamed(c, exps, naming)]
    logs += [c.scale(Monomial(power), log(c, renamed)) for renamed, power in _renamed(c, weights, naming)]
    over = tuple(sorted(naming[label] for label in bound))
    mask = [renamed for renamed, _ in _renamed(c, masks, naming)]
    value = c.add(*((ONE, item) for item in logs))
    if not set(over) <= set(value.axes):
        return None
    c.fire("log-sum-exp by hand")
    rest = [part for part in parts if part not in inside]
    return c.build(Lse(over), (value, *mask)), rest


def joint(parts: list[Part], taken: Container[Axis] = ()) -> dict[Label, Axis]:
    """An axis for each label, the same for all parts: of what is summed over a context that context, of a softmax's the softmax's own.

    None of what is summed is called like those that are taken.
    """
    naming: dict[Label, Axis] = {label: label for _, labels, _ in parts for label in labels if isinstance(label, Axis)}
    carried: dict[Label, tuple[int, Axis]] = {}
    for node, labels, _ in parts:
        for label, axis in zip(labels, node.axes, strict=True):
            rank = 2 if isinstance(node.op, Softmax) and axis in node.op.over else int(axis.role is Role.CONTEXT)
            if label not in naming and (label not in carried or carried[label][0] <= rank > 0):
                carried[label] = (rank, axis)
    for label, (_, axis) in carried.items():
        while axis in naming.values() or axis in taken:
            axis = Axis(axis.role, axis.name, axis.tick + 1)
        naming[label] = axis
    return naming


def _renamed(c: Calculus, parts: list[Part], naming: dict[Label, Axis]) -> list[tuple[Node, Fraction]]:
    """The parts over joint axes. An exponential stays one (its argument is renamed)."""
    result = []
    for node, labels, power in parts:
        arrows = {axis: naming[label] for axis, label in zip(node.axes, labels, strict=True)}
        if is_map(node, "exp"):
            inner = c.rename(node.args[0], arrows)
            result.append((c.node(Map("exp"), inner), power))
        else:
            result.append((c.rename(node, arrows), power))
    return result


# -- steps of the normal form of products ------------------------------------------------------------


def join(c: Calculus, parts: list[Part]) -> Step | None:
    """(e^u)^n, and e^u e^v where the axes of one contain the other's."""
    exps = [part for part in parts if is_map(part[0], "exp")]
    for first in exps:
        partner = [other for other in exps if other is not first and set(other[1]) <= set(first[1])]
        if first[2] == 1 and not partner:
            continue
        group = [first, *partner[:1]]
        naming = joint(group)
        c.fire("exps meet")
        argument = c.add(*((Monomial(power), node.args[0]) for node, power in _renamed(c, group, naming)))
        result = exp(c, argument)
        back = {axis: label for label, axis in naming.items()}
        return ONE, [*(part for part in parts if part not in group), (result, tuple(back[axis] for axis in result.axes), Fraction(1))]
    return None


def softmax_sum(c: Calculus, parts: list[Part], eliminated: set[Label]) -> Step | None:
    """Σ_a softmax_a t = 1, where every token sees at least itself."""
    for part in parts:
        node, labels, power = part
        if not isinstance(node.op, Softmax) or power != 1:
            continue
        over = [labels[node.axes.index(axis)] for axis in node.op.over]
        others = {label for other in parts if other is not part for label in other[1] if not _same_mask(node, labels, other)}
        if never_empty(node.args[1:]) and all(isinstance(label, int) and label not in others for label in over):
            c.fire("a softmax sums to 1")
            eliminated.update(over)
            return ONE, [other for other in parts if other is not part and not _same_mask(node, labels, other)]
    return None


def never_empty(masks: Iterable[Node]) -> bool:
    """Whether every token can be told to see one at least: under conditions it cannot."""
    return all(isinstance(mask.op, Mask) and not mask.args for mask in masks)


def _same_mask(node: Node, labels: tuple[Label, ...], other: Part) -> bool:
    return len(node.args) > 1 and other[0] is node.args[1] and other[1] == tuple(labels[node.axes.index(axis)] for axis in other[0].axes)


def reciprocal(c: Calculus, parts: list[Part]) -> Step | None:
    """(Σ_a r e^t)^p and (c + e^u)^p, p below 0, through the logarithm of what is inside."""
    for place, (node, labels, power) in enumerate(parts):
        if power >= 0 or not isinstance(node.op, Contract | Sum):
            continue
        op = node.op
        if isinstance(op, Sum):
            inside = _log_of_sum(c, node)
            if inside is None:
                continue
            new: list[Part] = [_exp_part(c, inside, node, labels, power)]
        else:
            found = _sum_of_exp(c, op, [(arg, operand.labels, operand.power) for arg, operand in zip(node.args, op.operands, strict=True)])
            if found is None:
                continue
            rest, own = c.contract(op.coef, found[1]), dict(zip(node.axes, labels, strict=True))
            new = [_exp_part(c, found[0], node, labels, power), (rest, tuple(own[axis] for axis in rest.axes), power)]
        c.fire("reciprocal of a sum of exps")
        return ONE, parts[:place] + new + parts[place + 1 :]
    return None


def _exp_part(c: Calculus, inside: Node, node: Node, labels: tuple[Label, ...], power: Fraction) -> Part:
    own = dict(zip(node.axes, labels, strict=True))
    result = exp(c, c.scale(Monomial(power), inside))
    return result, tuple(own[axis] for axis in result.axes), Fraction(1)
