"""Numbers that are known while compiling: initial values, exponents."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

from mptc.ir.axis import Axis
from mptc.ir.number import Monomial


def arithmetic(function: str, values: list[Monomial], sizes: Mapping[Axis, int]) -> Monomial | None:
    """The value of a builtin of numbers, exact where it can be; None where it is none of these or has no real value."""
    match function, values:
        case "neg", [value]:
            return -value
        case "*", [left, right]:
            return left * right
        case "/", [left, right]:
            return left.over(right) if right.rational else None
        case "sqrt", [value]:
            return value.power(Fraction(1, 2))
        case "rsqrt", [value]:
            return value.power(Fraction(-1, 2))
        case "^", [base, exponent]:
            exact = exponent.resolved(sizes)
            return None if exact is None else base.power(exact)
        case ("+" | "-" | "ceil" | "floor" | "exp" | "log"), _:
            return _evaluated(function, [value.evaluate(sizes) for value in values])
    return None


def _evaluated(function: str, values: list[float]) -> Monomial | None:
    match function, values:
        case "+", [left, right]:
            return Monomial.of(left + right)
        case "-", [left, right]:
            return Monomial.of(left - right)
        case "log", [value] if value <= 0:
            return None
        case ("ceil" | "floor" | "exp" | "log"), [value]:
            return Monomial.of(getattr(math, function)(value))
    return None
