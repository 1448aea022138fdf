"""Expressions of numbers, exactly: what sizes, counts, consts and options are made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction

from mptc.ir.axis import Axis
from mptc.ir.number import Monomial
from mptc.source.diagnostic import Diagnostics
from mptc.source.text import Span
from mptc.syntax import tree as syntax

Lookup = Callable[[str, Span], Monomial | None]
BITS = 1000  # beyond this, float64 overflows and exact arithmetic becomes slow
_MADE_OF = "numbers, dims and consts with `+ - * / ^`, `sqrt`, `ceil` and `floor`"


class NotANumberError(Exception):
    """An expression that is not a number, and why."""

    def __init__(self, span: Span, message: str, help: str | None = None) -> None:
        super().__init__(message)
        self.span, self.message, self.help = span, message, help


class NoValueError(Exception):
    """An expression with a name that has no value, because it is free or was reported elsewhere."""


def evaluate(expr: syntax.Expr, lookup: Lookup, sizes: Mapping[Axis, int], diagnostics: Diagnostics) -> Monomial | None:
    """The value, or None: then either it was reported, or a name in it has no value."""
    try:
        return _value(expr, lookup, sizes)
    except NoValueError:
        return None
    except NotANumberError as bad:
        diagnostics.add("E0217", bad.span, bad.message, bad.help)
        return None


def _value(expr: syntax.Expr, lookup: Lookup, sizes: Mapping[Axis, int]) -> Monomial:
    match expr:
        case syntax.Number(value=value):
            return _limited(Monomial(value), expr.span)
        case syntax.Name(text=name):
            found = lookup(name, expr.span)
            if found is None:
                raise NoValueError
            return found
        case syntax.Negate(operand=operand):
            return -_value(operand, lookup, sizes)
        case syntax.Binary(operator="+" | "-" | "*" | "/" | "^" as operator, left=left, right=right):
            values = _value(left, lookup, sizes), _value(right, lookup, sizes)
            return _limited(_binary(operator, *values, expr, sizes), expr.span)
        case syntax.Call(callee=syntax.Callee(name=word, axes=(), arrows=()), args=(operand,), conditions=(), options=(), label=None):
            return _called(word, _value(operand, lookup, sizes), sizes)
        case _:
            raise NotANumberError(expr.span, "this is not a number known at compile time", f"such numbers are made of {_MADE_OF}")


def _binary(operator: str, left: Monomial, right: Monomial, expr: syntax.Binary, sizes: Mapping[Axis, int]) -> Monomial:
    match operator:
        case "*":
            return left * right
        case "/":
            if not right.rational:
                raise NotANumberError(expr.right.span, "division by zero")
            return left.over(right)
        case "^":
            return _power(left, right, expr, sizes)
    other = right if operator == "+" else -right
    if left.powers == other.powers:
        return Monomial(left.rational + other.rational, left.powers) if left.rational + other.rational else Monomial(Fraction(0))
    return Monomial(_plain(left, sizes) + _plain(other, sizes))


def _power(base: Monomial, exponent: Monomial, expr: syntax.Binary, sizes: Mapping[Axis, int]) -> Monomial:
    plain = _plain(exponent, sizes)
    if abs(plain) * (_bits(base.rational) + 1) > 16 * BITS or plain.denominator > BITS:
        raise NotANumberError(expr.span, "this power is beyond what a number may be")
    value = base.power(plain)
    if value is None:
        raise NotANumberError(expr.span, "this power is not a real number")
    return value


def _plain(value: Monomial, sizes: Mapping[Axis, int]) -> Fraction:
    """The number itself, with sizes put in; what is irrational, to float64."""
    if any(isinstance(base, Axis) and base not in sizes for base, _ in value.powers):
        raise NoValueError
    exact = value.resolved(sizes)
    return exact if exact is not None else Fraction(repr(value.evaluate(sizes)))


def _called(word: syntax.Word, value: Monomial, sizes: Mapping[Axis, int]) -> Monomial:
    if word.text == "sqrt":
        root = value.power(Fraction(1, 2))
        if root is None:
            raise NotANumberError(word.span, "this root is not a number that can be exact")
        return root
    if word.text not in ("ceil", "floor"):
        raise NotANumberError(word.span, f"`{word.text}` cannot stand in a number known at compile time", f"such numbers are made of {_MADE_OF}")
    plain = _plain(value, sizes)
    return Monomial(Fraction(math.ceil(plain) if word.text == "ceil" else math.floor(plain)))


def _limited(value: Monomial, span: Span) -> Monomial:
    if _bits(value.rational) > BITS:
        raise NotANumberError(span, "this number is too large or too small, or has too many digits")
    return value


def _bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())
