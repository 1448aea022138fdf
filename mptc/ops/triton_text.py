"""How element-wise ops are written in a kernel, for a tile of numbers at a time. Operands are names or digits, so nothing needs parentheses."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Protocol

from mptc.ir.axis import Axis
from mptc.ir.node import AbsentFacet, Node
from mptc.ir.number import ONE, Monomial
from mptc.ops.base import is_truth

if TYPE_CHECKING:
    from mptc.ops.contract import Contract, Sum


class TileSite(Protocol):
    """One node being printed for a kernel."""

    node: Node
    sizes: Mapping[Axis, int]

    def operand(self, index: int) -> str:
        """Operand `index`: a name or digits."""

    def summed(self, code: str) -> str:
        """An expression summed along the one axis of a row; refused where a tile has none."""


def numeric(site: TileSite, index: int) -> str:
    """An operand as a number: a comparison is 1 or 0."""
    code = site.operand(index)
    return f"{code}.to(tl.float32)" if is_truth(site.node.args[index]) else code


def condition(site: TileSite, index: int) -> str:
    """An operand as a truth."""
    code = site.operand(index)
    return code if is_truth(site.node.args[index]) else f"({code} != 0)"


def real(site: TileSite, index: int) -> str:
    """An operand that a function of real numbers takes, whole numbers too."""
    return f"({site.operand(index)} * 1.0)"


def digits(value: float) -> str:
    code = repr(float(value))
    return f"({code})" if code.startswith("-") else code


def triton_contract(op: Contract, site: TileSite) -> str:
    """c · Π operand^power of numbers, nothing summed."""
    if not op.operands:
        return digits(op.coef.evaluate(site.sizes))
    above = [_raised(site, index, operand.power) for index, operand in enumerate(op.operands) if operand.power > 0]
    below = [_raised(site, index, -operand.power) for index, operand in enumerate(op.operands) if operand.power < 0]
    factors = above if op.coef == ONE and above else [digits(op.coef.evaluate(site.sizes)), *above]
    code = " / ".join([" * ".join(factors), *below])
    return site.summed(code) if op.bound else code


def triton_rstd(over: tuple[Axis, ...], eps: Fraction, site: TileSite) -> str:
    """1 / sqrt(mean of squares + eps) of a row"""
    (axis,) = over
    squares = site.summed(f"{site.operand(0)} * {site.operand(0)}")
    return f"tl.rsqrt({squares} * {1 / site.sizes[axis]!r} + {float(eps)!r})"


def _raised(site: TileSite, index: int, power: Fraction) -> str:
    if power.denominator == 1 and power <= 4:
        return f"({' * '.join([numeric(site, index)] * int(power))})" if power > 1 else numeric(site, index)
    if power == Fraction(1, 2):
        return f"tl.sqrt({real(site, index)})"
    if power.denominator == 1:
        raise AbsentFacet(f"the power {power} of a number that may be below 0")
    return f"tl.exp2({float(power)} * tl.log2({real(site, index)}))"


def triton_sum(op: Sum, site: TileSite) -> str:
    return " + ".join(_times(coef, numeric(site, index), site.sizes) for index, coef in enumerate(op.coefs))


def _times(coef: Monomial, code: str, sizes: Mapping[Axis, int]) -> str:
    return code if coef == ONE else f"{digits(coef.evaluate(sizes))} * {code}"
