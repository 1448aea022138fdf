"""The normal form of products: flat, exact, with bound labels numbered the same way for every spelling."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import groupby, permutations, product
from typing import TYPE_CHECKING

import numpy as np

from mptc.derive import exponents
from mptc.ir.axis import SEQ, Axis, Role
from mptc.ir.node import Node
from mptc.ir.number import ONE, ZERO, Monomial
from mptc.ops.compare import Compare
from mptc.ops.contract import Contract, Label, Operand, Sum
from mptc.ops.elementwise import Map
from mptc.ops.leaf import Length, Mask
from mptc.ops.norm import Rms, Rstd
from mptc.ops.reduce import Softmax

if TYPE_CHECKING:
    from mptc.derive.calculus import Calculus

Part = tuple[Node, tuple[Label, ...], Fraction]


def contract(c: Calculus, coef: Monomial, parts: list[Part]) -> Node:
    """c · Σ Π: flattened, merged, simplified, numbered, and with a view outermost where there is one."""
    if coef == ONE and len(parts) == 1 and _is_view(parts[0]):
        return c.node(Contract(ONE, (Operand(parts[0][1]),)), parts[0][0])
    coef, parts = _run_time(c, coef, parts)
    sizes = _label_axes(parts)
    eliminated: set[Label] = set()
    while True:
        parts = normalised(c, merge(c, parts))
        coef, parts = flatten(c, coef, parts, sizes)
        sizes |= {label: axis for label, axis in _label_axes(parts).items() if label not in sizes}
        parts = merge(c, parts)
        found = normalised(c, parts)
        if found != parts:
            parts = found
            continue
        step = exponents.join(c, parts) or exponents.softmax_sum(c, parts, eliminated) or exponents.reciprocal(c, parts)
        step = step or _indicators(c, parts) or _masks(c, parts)
        if step is None:
            break
        factor, parts = step
        coef = coef * factor
        sizes |= {label: axis for label, axis in _label_axes(parts).items() if label not in sizes}
    if not coef.rational:
        c.fire("times 0")
        return c.node(Contract(ZERO, ()))
    present = {label for _, labels, _ in parts for label in labels}
    for label, axis in sizes.items():
        if isinstance(label, int) and label not in present and label not in eliminated:
            coef = coef * Monomial.size(axis)
            c.fire("sum over what is gone")
    return _finished(c, *_run_time(c, coef, parts))


def _run_time(c: Calculus, coef: Monomial, parts: list[Part]) -> tuple[Monomial, list[Part]]:
    """The number of tokens, where a coefficient has it, as a factor."""
    lengths = [(base, power) for base, power in coef.powers if isinstance(base, Axis) and base.role in (Role.TOKEN, Role.CONTEXT)]
    if not lengths:
        return coef, parts
    c.fire("number of tokens")
    rest = Monomial(coef.rational, tuple(item for item in coef.powers if item not in lengths))
    return rest, merge(c, [*parts, *((c.node(Length(c.memories.get(base, SEQ))), (), power) for base, power in lengths)])


def _label_axes(parts: Iterable[Part]) -> dict[Label, Axis]:
    return {label: label if isinstance(label, Axis) else axis for node, labels, _ in parts for label, axis in zip(labels, node.axes, strict=True)}


# -- flattening and merging --------------------------------------------------------------------------


def flatten(c: Calculus, coef: Monomial, parts: list[Part], taken: Iterable[Label]) -> tuple[Monomial, list[Part]]:
    """Products inside the product dissolve, where the exponent is 1 or is an integer and nothing in them is summed.

    What a token has seen of others stays whole where it is seen itself: sums over tokens of sums over tokens are made one after the other.
    """
    fresh = 1 + max((label for label in taken if isinstance(label, int)), default=0)
    flat: list[Part] = []
    pending = list(reversed(parts))
    while pending:
        node, labels, power = pending.pop()
        op = node.op
        if not isinstance(op, Contract):
            flat.append((node, labels, power))
            continue
        whole = power == 1 or op.renames or (power.denominator == 1 and not op.bound and (power > 0 or op.coef.rational != 0))
        if _is_seen(node, labels) and _reduces_tokens(node):
            flat.append((node, labels, power))
            continue
        factor = op.coef.power(power)
        if not node.args and factor is None:
            factor = _rounded(c, op.coef, power)
        if not node.args and factor is not None:
            coef = coef * factor
            continue
        if not whole:
            if factor is not None and factor != ONE:
                coef = coef * factor
                c.fire("number out of a power")
                pending.append((c.scale(_inverse(op.coef), node), labels, power))
            else:
                flat.append((node, labels, power))
            continue
        assert factor is not None
        c.fire("product in a product")
        coef = coef * factor
        naming: dict[Label, Label] = dict(zip(node.axes, labels, strict=True))
        for number in op.bound:
            naming[number] = fresh
            fresh += 1
        inner = zip(node.args, op.operands, strict=True)
        pending.extend(reversed([(arg, tuple(naming[label] for label in operand.labels), operand.power * power) for arg, operand in inner]))
    return coef, flat


def _is_seen(node: Node, labels: tuple[Label, ...]) -> bool:
    """Whether a value is that of other tokens than the one that looks."""
    return SEQ in node.axes and labels[node.axes.index(SEQ)] != SEQ


def _reduces_tokens(node: Node) -> bool:
    op = node.op
    assert isinstance(op, Contract)
    summed = op.label_axes(arg.type for arg in node.args)
    return any(isinstance(label, int) and axis.role in (Role.CONTEXT, Role.TOKEN) for label, axis in summed.items())


def _rounded(c: Calculus, coef: Monomial, power: Fraction) -> Monomial | None:
    """A number to a power that no exact one says, to the precision of a double; None where it is none, or 0."""
    with np.errstate(all="ignore"):
        value = float(np.float64(coef.evaluate(c.sizes)) ** float(power)) if coef.rational > 0 else 0.0
    if not value or not np.isfinite(value):
        return None
    c.fire("power of a number")
    return Monomial.of(value)


def _inverse(coef: Monomial) -> Monomial:
    inverse = coef.power(Fraction(-1))
    assert inverse is not None
    return inverse


def merge(c: Calculus, parts: list[Part]) -> list[Part]:
    """x^a x^b = x^(a+b); a factor that is 0 or 1 needs no exponent."""
    powers: dict[tuple[Node, tuple[Label, ...]], Fraction] = {}
    for node, labels, power in parts:
        powers[node, labels] = powers.get((node, labels), Fraction(0)) + power
    if len(powers) < len(parts):
        c.fire("equal factors")
    indicators = {part for part, power in powers.items() if power != 1 and _is_indicator(part[0])}
    if indicators:
        c.fire("power of an indicator")
    return [(node, labels, Fraction(1) if (node, labels) in indicators else power) for (node, labels), power in powers.items() if power]


def _is_indicator(node: Node) -> bool:
    return isinstance(node.op, Mask | Compare) or (isinstance(node.op, Map) and node.op.function == "step")


def _indicators(c: Calculus, parts: list[Part]) -> tuple[Monomial, list[Part]] | None:
    """relu(z) step(z) = relu(z)"""
    positive = {(node.args[0], labels) for node, labels, power in parts if node.op in (Map("relu"), Map("relu2")) and power > 0}
    kept = [part for part in parts if part[0].op != Map("step") or (part[0].args[0], part[1]) not in positive]
    if len(kept) == len(parts):
        return None
    c.fire("relu · step")
    return ONE, kept


def _masks(c: Calculus, parts: list[Part]) -> tuple[Monomial, list[Part]] | None:
    """mask · softmax under the same mask = softmax; two masks over the same axes are one that asks for both."""
    supports = {
        (node.args[1], tuple(labels[node.axes.index(axis)] for axis in node.args[1].axes))
        for node, labels, power in parts
        if isinstance(node.op, Softmax) and len(node.args) > 1 and power > 0
    }
    kept = [part for part in parts if (part[0], part[1]) not in supports]
    if len(kept) < len(parts):
        c.fire("mask · softmax")
        return ONE, kept
    return None


def normalised(c: Calculus, parts: list[Part]) -> list[Part]:
    """(mean y² + eps)^(-1/2) = 1/rms(y), and y / rms(y), looked for before products dissolve."""
    parts = [found for part in parts for piece in _uncovered(c, part) for found in _by_hand(c, piece)]
    for place, (norm, labels, power) in enumerate(parts):
        if not isinstance(norm.op, Rstd) or power < 1:
            continue
        (y,), along = norm.args, dict(zip(norm.axes, labels, strict=True))
        for other, (value, places, exponent) in enumerate(parts):
            own = dict(zip(value.axes, places, strict=True))
            if value is y and exponent >= 1 and all(own[axis] == label for axis, label in along.items()):
                c.fire("rms")
                whole = c.sink(Rms(norm.op.over, norm.op.eps), y)
                parts[place], parts[other] = (norm, labels, power - 1), (y, places, exponent - 1)
                return merge(c, [*parts, (whole, tuple(own[axis] for axis in whole.axes), Fraction(1))])
    return parts


def _by_hand(c: Calculus, part: Part) -> list[Part]:
    """(c₁ Σ y² + c₂)^(-1/2) = (c₁ n)^(-1/2) / rms(y) with eps = c₂/(c₁ n)"""
    node, labels, power = part
    found = _root_mean_square(c, node) if power == Fraction(-1, 2) and isinstance(node.op, Sum) else None
    if found is None:
        return [part]
    y, over, eps, factor = found
    c.fire("1/rms by hand")
    norm, own = c.sink(Rstd(over, eps), y), dict(zip(node.axes, labels, strict=True))
    return [*_uncovered(c, (norm, tuple(own[axis] for axis in norm.axes), Fraction(1))), (c.number(factor), (), Fraction(1))]


def _uncovered(c: Calculus, part: Part) -> list[Part]:
    """A view, and a product that hides a norm, taken apart."""
    node, labels, power = part
    op = node.op
    if not isinstance(op, Contract) or op.bound or (power.denominator != 1 and not op.renames):
        return [part]
    inner = list(zip(node.args, op.operands, strict=True))
    roots = (isinstance(arg.op, Sum) and operand.power * power == Fraction(-1, 2) for arg, operand in inner)
    if not op.renames and not any(isinstance(arg.op, Rstd) for arg in node.args) and not any(roots):
        return [part]
    own = dict(zip(node.axes, labels, strict=True))
    pieces = [(arg, tuple(own[label] for label in operand.labels if isinstance(label, Axis)), operand.power * power) for arg, operand in inner]
    number = [] if op.coef == ONE else [(c.number(op.coef), (), power)]
    return [*number, *(found for piece in pieces for found in _uncovered(c, piece))]


def _root_mean_square(c: Calculus, node: Node) -> tuple[Node, tuple[Axis, ...], Fraction, Monomial] | None:
    """For c₁ Σ_A y² + c₂: y, A, eps = c₂/(c₁ n), and (c₁ n)^(-1/2)."""
    assert isinstance(node.op, Sum)
    squares = [(coef, arg) for coef, arg in zip(node.op.coefs, node.args, strict=True) if arg.axes or arg.args]
    numbers = [coef for coef, arg in zip(node.op.coefs, node.args, strict=True) if not (arg.axes or arg.args)]
    if len(squares) != 1 or len(numbers) != 1 or not isinstance(squares[0][1].op, Contract):
        return None
    (first, square), op = squares[0], squares[0][1].op
    assert isinstance(op, Contract)
    if len(op.operands) != 1 or op.operands[0].power != 2 or not op.bound:
        return None
    (operand,), (y,) = op.operands, square.args
    if any(isinstance(label, Axis) and label != axis for label, axis in zip(operand.labels, y.axes, strict=True)):
        return None
    over = tuple(axis for label, axis in zip(operand.labels, y.axes, strict=True) if isinstance(label, int))
    size = first
    for axis in over:
        size = size * Monomial.size(axis)
    eps, factor = numbers[0].over(size).resolved(c.sizes), size.power(Fraction(-1, 2))
    return (y, over, eps, factor) if eps is not None and factor is not None and eps >= 0 else None


# -- the finished node -------------------------------------------------------------------------------


def _finished(c: Calculus, coef: Monomial, parts: list[Part]) -> Node:
    if coef == ONE and len(parts) == 1 and parts[0][2] == 1 and parts[0][1] == parts[0][0].axes:
        return parts[0][0]
    view = _viewed(coef, parts)
    if view is not None:
        over, inner = view
        c.fire("sink view")
        return c.rename(contract(c, coef, inner), {SEQ: over})
    parts = _numbered(c, parts)
    return c.node(Contract(coef, tuple(Operand(labels, power) for _, labels, power in parts)), *(node for node, _, _ in parts))


def _viewed(coef: Monomial, parts: list[Part]) -> tuple[Axis, list[Part]] | None:
    """The context and the product without it, where every operand that has it sees its own token through it, and no other token is there."""
    labels = {label for _, own, _ in parts for label in own}
    contexts = [label for label in labels if isinstance(label, Axis) and label.role is Role.CONTEXT]
    if len(contexts) != 1 or SEQ in labels or (coef == ONE and len(parts) == 1 and parts[0][2] == 1 and _only_renames(parts[0])):
        return None
    (over,) = contexts
    inner: list[Part] = []
    for node, own, power in parts:
        if over in own and node.axes[own.index(over)] != SEQ:
            return None
        inner.append((node, tuple(SEQ if label == over else label for label in own), power))
    return over, inner


def _is_view(part: Part) -> bool:
    """Nothing but `seq` seen as a context: kept around whatever it is a view of, dissolved only inside a larger product."""
    node, labels, power = part
    changed = [(axis, label) for axis, label in zip(node.axes, labels, strict=True) if axis != label]
    return power == 1 and len(changed) == 1 and changed[0][0] == SEQ and isinstance(changed[0][1], Axis) and changed[0][1].role is Role.CONTEXT


def _only_renames(part: Part) -> bool:
    return not any(isinstance(label, int) for label in part[1])


def _numbered(c: Calculus, parts: list[Part]) -> list[Part]:
    """Operands sorted by structure, bound labels numbered by first use; among operands that tie, the numbering that reads smallest."""

    def rank(part: Part) -> tuple[object, ...]:
        node, labels, power = part
        return (c.key(node), power, tuple(("", str(label)) if isinstance(label, Axis) else ("#", "") for label in labels))

    ordered = sorted(parts, key=rank)
    groups = [list(group) for _, group in groupby(ordered, key=rank)]
    choices = [list(permutations(group)) if 1 < len(group) <= 4 else [tuple(group)] for group in groups]
    best: tuple[tuple[tuple[str, ...], ...], list[Part]] | None = None
    for choice in product(*choices):
        numbered = _renumber([part for group in choice for part in group])
        reading = tuple(tuple(str(label) for label in labels) for _, labels, _ in numbered)
        if best is None or reading < best[0]:
            best = (reading, numbered)
    return best[1] if best else []


def _renumber(parts: Sequence[Part]) -> list[Part]:
    numbers: dict[Label, int] = {}

    def number(label: Label) -> Label:
        return numbers.setdefault(label, len(numbers)) if isinstance(label, int) else label

    return [(node, tuple(map(number, labels)), power) for node, labels, power in parts]


# -- taking products apart ---------------------------------------------------------------------------


def split(c: Calculus, node: Node, axis: Axis) -> tuple[list[Part], Node]:
    """A product as factors that have nothing to do with an axis, and the rest. Factors hang together by the labels they sum."""
    op = node.op
    if not isinstance(op, Contract):
        return [], node
    parts = [(arg, operand.labels, operand.power) for arg, operand in zip(node.args, op.operands, strict=True)]
    inside = {place for place, (_, labels, _) in enumerate(parts) if axis in labels}
    bound: set[Label] = {label for place in inside for label in parts[place][1] if isinstance(label, int)}
    grown = True
    while grown:
        more = {place for place, (_, labels, _) in enumerate(parts) if place not in inside and bound & set(labels)}
        inside |= more
        bound |= {label for place in more for label in parts[place][1] if isinstance(label, int)}
        grown = bool(more)
    outside = [part for place, part in enumerate(parts) if place not in inside]
    if not outside and op.coef == ONE:
        return [], node
    rest = contract(c, ONE, [part for place, part in enumerate(parts) if place in inside])
    return [(c.number(op.coef), (), Fraction(1)), *outside], rest
