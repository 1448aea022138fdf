"""How ops are written in ONNX: operands lined up by their axes; products, `ReduceSum`, `MatMul`, and `Einsum` for what is left."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from mptc.ir.axis import Axis, Role
from mptc.ir.number import ONE, Monomial
from mptc.ops.site import OnnxSite

if TYPE_CHECKING:
    from mptc.ops.contract import Contract, Label, Sum

BOOL, INT64 = 9, 7  # element types of the standard


def call(site: OnnxSite, op_type: str, *operands: str | float) -> str:
    """An operator on names and numbers."""
    return site.emit(op_type, *(operand if isinstance(operand, str) else site.constant(operand) for operand in operands))


def lined(site: OnnxSite, name: str, own: Sequence[Label], onto: Sequence[Label]) -> str:
    """A value over `own` with its dimensions where `onto` has them, of size 1 for those it lacks; none before its first."""
    assert set(own) <= set(onto), (own, onto)
    places = [own.index(label) for label in onto if label in own]
    if places != sorted(places):
        name = site.emit("Transpose", name, perm=places)
    first = min((place for place, label in enumerate(onto) if label in own), default=len(onto))
    gaps = [place - first for place in range(first, len(onto)) if onto[place] not in own]
    return site.emit("Unsqueeze", name, site.constant(gaps)) if gaps else name


def aligned(site: OnnxSite, onto: Sequence[Axis] | None = None) -> list[str]:
    """Every operand lined up with the result, or with the axes given."""
    axes = site.node.axes if onto is None else onto
    return [lined(site, name, arg.axes, axes) for name, arg in zip(site.inputs, site.node.args, strict=True)]


def condition(site: OnnxSite, name: str) -> str:
    """Where a number is not 0."""
    return site.emit("Cast", name, to=BOOL)


def indicator(site: OnnxSite, name: str) -> str:
    """1 where a condition holds, else 0."""
    return site.emit("Cast", name, to=site.numbers)


def shaped(site: OnnxSite, name: str, *shape: int) -> str:
    """A reshape; 0 keeps the dimension at its place, -1 is what is left."""
    return site.emit("Reshape", name, site.constant(list(shape)))


# -- exact numbers -----------------------------------------------------------------------------------


def coefficient(site: OnnxSite, coef: Monomial) -> str:
    """A scalar. How many tokens there are is known at run time only."""
    known = {base for base, _ in coef.powers if not isinstance(base, Axis) or base.role is Role.DIM}
    name = site.constant(Monomial(coef.rational, tuple(item for item in coef.powers if item[0] in known)).evaluate(site.sizes))
    for base, power in coef.powers:
        if isinstance(base, Axis) and base not in known:
            length = site.emit("Cast", site.size(base), to=site.numbers)
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
    if power == 2:
        return call(site, "Mul", name, name)
    return site.emit("Sqrt", name) if power == Fraction(1, 2) else call(site, "Pow", name, float(power))


# -- contracts ---------------------------------------------------------------------------------------


def onnx_contract(self: Contract, site: OnnxSite) -> str:
    if not site.inputs:
        return coefficient(site, self.coef)
    parts = [raised(site, name, operand.power) for name, operand in zip(site.inputs, self.operands, strict=True)]
    return scaled(site, _product(self, site, parts), self.coef)


def _product(self: Contract, site: OnnxSite, parts: list[str]) -> str:
    labels = [operand.labels for operand in self.operands]
    if len(parts) == 1 or not self.bound:
        onto: tuple[Label, ...] = (*site.node.axes, *self.bound)
        name = lined(site, parts[0], labels[0], onto)
        for part, own in zip(parts[1:], labels[1:], strict=True):
            name = call(site, "Mul", name, lined(site, part, own, onto))
        return _summed(site, name, len(self.bound))
    if len(parts) == 2 and all(label in own for label in self.bound for own in labels):
        linear = _linear(self, site, parts) or _matmul(self, site, parts)
        if linear:
            return linear
    return _einsum(self, site, parts)


def _summed(site: OnnxSite, name: str, last: int) -> str:
    return site.emit("ReduceSum", name, site.constant(list(range(-last, 0))), keepdims=0) if last else name


def _linear(self: Contract, site: OnnxSite, parts: list[str]) -> str | None:
    """[rows…, inner] @ [inner, outer], where one operand has no axis whose size is known at run time only, so that it can be made a matrix."""
    still = [place for place, arg in enumerate(site.node.args) if all(axis.role is Role.DIM for axis in arg.axes)]
    if not still:
        return None
    weight = still[-1]
    rows, outer = _free(self, 1 - weight), _free(self, weight)
    if set(rows) & set(outer):
        return None
    size = _sizes(self, site)
    inner_size, outer_size = _volume(size, self.bound), _volume(size, outer)
    bound: tuple[Label, ...] = self.bound
    left = lined(site, parts[1 - weight], self.operands[1 - weight].labels, rows + bound)
    right = lined(site, parts[weight], self.operands[weight].labels, bound + outer)
    if len(self.bound) > 1:
        left = shaped(site, left, *[0] * len(rows), inner_size)
    if len(self.bound) > 1 or len(outer) > 1:
        right = shaped(site, right, inner_size, *([outer_size] if outer else []))
    name = call(site, "MatMul", left, right)
    if len(outer) > 1:
        name = shaped(site, name, *[0] * len(rows), *(size[label] for label in outer))
    return lined(site, name, (*rows, *outer), site.node.axes)


def _matmul(self: Contract, site: OnnxSite, parts: list[str]) -> str | None:
    """[…, m, k] @ […, k, n] over the axes that both keep."""
    left, right = _free(self, 0), _free(self, 1)
    shared = tuple(label for label in left if label in right)
    rows, columns = tuple(label for label in left if label not in shared), tuple(label for label in right if label not in shared)
    if not len(rows) == len(columns) == len(self.bound) == 1:
        return None
    first = lined(site, parts[0], self.operands[0].labels, (*shared, *rows, *self.bound))
    second = lined(site, parts[1], self.operands[1].labels, (*shared, *self.bound, *columns))
    return lined(site, call(site, "MatMul", first, second), (*shared, *rows, *columns), site.node.axes)


def _einsum(self: Contract, site: OnnxSite, parts: list[str]) -> str:
    letters = dict(zip(self.label_axes(arg.type for arg in site.node.args), string.ascii_letters, strict=False))
    terms = ",".join("".join(letters[label] for label in operand.labels) for operand in self.operands)
    return site.emit("Einsum", *parts, equation=terms + "->" + "".join(letters[axis] for axis in site.node.axes))


def _free(self: Contract, place: int) -> tuple[Label, ...]:
    return tuple(label for label in self.operands[place].labels if label not in self.bound)


def _sizes(self: Contract, site: OnnxSite) -> dict[Label, int]:
    axes = self.label_axes(arg.type for arg in site.node.args)
    return {label: site.sizes[Axis(axis.role, axis.name)] for label, axis in axes.items() if axis.role is Role.DIM}


def _volume(sizes: Mapping[Label, int], labels: Sequence[Label]) -> int:
    volume = 1
    for label in labels:
        volume *= sizes[label]
    return volume


def onnx_sum(self: Sum, site: OnnxSite) -> str:
    terms = [scaled(site, name, coef) for name, coef in zip(aligned(site), self.coefs, strict=True)]
    total = terms[0]
    for term in terms[1:]:
        total = call(site, "Add", total, term)
    return total
