"""How contracts and sums are written in ONNX: products, `ReduceSum`, `MatMul`, and `Einsum` for what is left."""

from __future__ import annotations

import string
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from mptc.ir.axis import BATCH, SEQ, Axis, Role
from mptc.ir.number import ONE, Monomial
from mptc.ops.base import Order
from mptc.ops.onnx_value import BFLOAT16, FLOAT, Dims, aligned, apart, call, is_static, laid, number, singles, truth, whole
from mptc.ops.site import Element, OnnxSite, Value

if TYPE_CHECKING:
    from mptc.ops.contract import Contract, Sum


# -- exact numbers -----------------------------------------------------------------------------------


def coefficient(site: OnnxSite, coef: Monomial) -> str:
    """A scalar. How many tokens there are is known at run time only."""
    known = {base for base, _ in coef.powers if not isinstance(base, Axis) or base.role is Role.DIM}
    name = site.constant(Monomial(coef.rational, tuple(item for item in coef.powers if item[0] in known)).evaluate(site.sizes))
    for base, power in coef.powers:
        if isinstance(base, Axis) and base not in known:
            length = site.emit("Cast", site.emit("Squeeze", site.length(base)), to=site.numbers)
            name = call(site, "Mul", name, raised(site, length, power))
    return name


def scaled(site: OnnxSite, name: str, coef: Monomial) -> str:
    """`coef · name`"""
    if coef == ONE:
        return name
    return site.emit("Neg", name) if coef == -ONE else call(site, "Mul", name, coefficient(site, coef))


def raised(site: OnnxSite, name: str, power: Fraction) -> str:
    if power < 0:
        return site.emit("Reciprocal", raised(site, name, -power))
    if power == 1:
        return name
    if power in (2, 3):
        square = call(site, "Mul", name, name)
        return square if power == 2 else call(site, "Mul", square, name)
    return site.emit("Sqrt", name) if power == Fraction(1, 2) else call(site, "Pow", name, float(power))


# -- contracts ---------------------------------------------------------------------------------------


def onnx_contract(self: Contract, site: OnnxSite) -> Value:
    if not site.values:
        return Value(coefficient(site, self.coef), ())
    to, bound = self.resolved(site.node)
    values = [Value(value.name, _renamed(value.dims, names), value.element) for value, names in zip(site.values, to, strict=True)]
    if self.renames:
        return values[0]
    powers = [operand.power for operand in self.operands]
    product = None
    if len(values) == 2 and bound and powers == [1, 1] and all(set(bound) <= set(value.order) for value in values):
        product = _linear(site, values, bound) or _matmul(site, values, bound)
    if product is None and bound and len(values) > 1 and not _nested(values):
        product = _einsum(site, [value.named(raised(site, value.name, power)) for value, power in zip(values, powers, strict=True)], bound)
    if product is None:
        return _pointwise(self, site, values, bound)
    return product.named(scaled(site, product.name, self.coef))


def _renamed(dims: Dims, names: dict[Axis, Axis]) -> Dims:
    return tuple(tuple(names[axis] for axis in dim) for dim in dims)


def _nested(values: Sequence[Value]) -> bool:
    """Whether one value has every axis: a product of all of them is no larger than that."""
    every = {axis for value in values for axis in value.order}
    return any(set(value.order) == every for value in values)


def _pointwise(self: Contract, site: OnnxSite, values: Sequence[Value], bound: Order) -> Value:
    names, dims = aligned(site, values, apart_from=bound)
    powers = [operand.power for operand in self.operands]
    above = [raised(site, name, power) for name, power in zip(names, powers, strict=True) if not _divides(power)]
    below = [raised(site, name, -power) for name, power in zip(names, powers, strict=True) if _divides(power)]
    name = above[0] if above else raised(site, below.pop(0), Fraction(-1))
    for factor in above[1:]:
        name = call(site, "Mul", name, factor)
    for divisor in below:
        name = call(site, "Div", name, divisor)
    if not bound:
        return Value(scaled(site, name, self.coef), dims)
    places = site.constant([place - len(dims) for place, dim in enumerate(dims) if set(dim) & set(bound)])
    rest = tuple(dim for dim in dims if not set(dim) & set(bound))
    share = self.coef
    for axis in bound:
        share = share * Monomial.size(axis)
    if share == ONE:
        return Value(site.emit("ReduceMean", name, places, keepdims=0), rest)
    return Value(scaled(site, site.emit("ReduceSum", name, places, keepdims=0), self.coef), rest)


def _divides(power: Fraction) -> bool:
    return power < 0 and power.denominator == 1


def _linear(site: OnnxSite, values: Sequence[Value], bound: Order) -> Value | None:
    """[rows…, inner] @ [inner, outer], where one operand has no axis whose size is known at run time only, so that it can be made a matrix."""
    still = [place for place, value in enumerate(values) if is_static(value.order)]
    if not still:
        return None
    weight, value = values[still[-1]], values[1 - still[-1]]
    outer = tuple(axis for axis in weight.order if axis not in bound)
    if set(outer) & set(value.order):
        return None
    inner = tuple(axis for axis in value.order if axis in bound)
    rows = tuple(dim for dim in apart(site, value, bound).dims if not set(dim) & set(bound))
    left = laid(site, value, (*rows, inner))
    right = laid(site, weight, (inner, outer) if outer else (inner,))
    return Value(call(site, "MatMul", left, right), (*rows, outer) if outer else rows)


def _matmul(site: OnnxSite, values: Sequence[Value], bound: Order) -> Value | None:
    """[more…, shared…, rows, inner] @ [shared…, inner, columns] over the axes that both keep; only the left one may have more."""
    free = [tuple(axis for axis in value.order if axis not in bound) for value in values]
    shared = tuple(sorted((axis for axis in free[0] if axis in free[1]), key=lambda axis: axis != BATCH))
    own = [tuple(axis for axis in each if axis not in shared) for each in free]
    left = max((0, 1), key=lambda place: (len(own[place]), SEQ in own[place]))
    columns = own[1 - left]
    if not own[left] or not columns or not (len(columns) == 1 or is_static(columns)) or not (len(bound) == 1 or is_static(bound)):
        return None
    *more, row = sorted(own[left], key=lambda axis: axis == SEQ)
    first = laid(site, values[left], (*singles((*more, *shared, row)), bound))
    second = laid(site, values[1 - left], (*singles(shared), bound, columns))
    return Value(call(site, "MatMul", first, second), (*singles((*more, *shared, row)), columns))


def _einsum(site: OnnxSite, values: Sequence[Value], bound: Order) -> Value:
    """The standard's `Einsum` has no bfloat16."""
    apart_ = [apart(site, value) for value in values]
    order: list[Axis] = []
    for value in apart_:
        order += [axis for axis in value.order if axis not in order]
    letters = dict(zip(order, string.ascii_letters, strict=False))
    out = tuple(axis for axis in order if axis not in bound)
    equation = ",".join("".join(letters[axis] for axis in value.order) for value in apart_) + "->" + "".join(letters[axis] for axis in out)
    lacking = site.numbers == BFLOAT16
    names = [site.emit("Cast", value.name, to=FLOAT) if lacking else value.name for value in apart_]
    name = site.emit("Einsum", *names, equation=equation)
    return Value(site.emit("Cast", name, to=BFLOAT16) if lacking else name, singles(out))


# -- sums --------------------------------------------------------------------------------------------


def onnx_sum(self: Sum, site: OnnxSite) -> Value:
    """What is subtracted comes last. Whole numbers stay whole."""
    exact = self.is_exact(site.node)
    values = [as_whole(site, place) if exact else number(site, value) for place, value in enumerate(site.values)]
    names, dims = aligned(site, values)
    terms = sorted(zip(self.coefs, names, strict=True), key=lambda term: term[0].rational < 0)
    total = _term(site, *terms[0], exact)
    for coef, name in terms[1:]:
        minus = coef.rational < 0
        total = site.emit("Sub" if minus else "Add", total, _term(site, -coef if minus else coef, name, exact))
    return Value(total, dims, Element.WHOLE if exact else Element.NUMBER)


def _term(site: OnnxSite, coef: Monomial, name: str, exact: bool) -> str:
    if not exact or coef == ONE:
        return scaled(site, name, coef)
    return site.emit("Mul", name, site.constant(np.asarray(int(coef.rational), np.int64)))


def as_whole(site: OnnxSite, place: int) -> Value:
    """An argument as whole numbers; a number of the spec is written as one."""
    known = written(site, place)
    if known is None:
        return whole(site, site.values[place])
    return Value(site.constant(np.asarray(int(known), np.int64)), (), Element.WHOLE)


def written(site: OnnxSite, place: int) -> Fraction | None:
    """The value of an argument that is a number of the spec."""
    node = site.node.args[place]
    operands = getattr(node.op, "operands", None)
    return None if node.args or operands != () else node.op.coef.resolved(site.sizes)  # type: ignore[attr-defined]


def both_true(site: OnnxSite, values: Sequence[Value]) -> Value:
    """Where every one is not 0."""
    names, dims = aligned(site, [truth(site, value) for value in values])
    seen = names[0]
    for other in names[1:]:
        seen = call(site, "And", seen, other)
    return Value(seen, dims, Element.TRUTH)
