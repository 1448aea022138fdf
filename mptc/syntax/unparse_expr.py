"""Expressions to text, with no parentheses but those that are needed.

`Body` writes the braces of `each` and `on`; a text may have several lines, each indented as if the first began at the margin.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

from mptc.syntax import tree

Body = Callable[[tuple[tree.Statement, ...], tree.Expr], str]

# How tight an expression binds; where a tighter one is asked for, it is put in parentheses.
_COMPARE, _SUM, _PRODUCT, _NEGATE, _MATMUL, _POWER, _PRIMARY = range(7)
_LEVELS = {"+": _SUM, "-": _SUM, "*": _PRODUCT, "/": _PRODUCT, "@": _MATMUL, "^": _POWER}
# What each side of an operator asks for. `^` and `@` group to the right, and take a minus there.
_SIDES = {_SUM: (_SUM, _PRODUCT), _PRODUCT: (_PRODUCT, _NEGATE), _MATMUL: (_POWER, _MATMUL), _POWER: (_PRIMARY, _POWER), _COMPARE: (_SUM, _SUM)}


def write(expr: tree.Expr, body: Body, level: int = _COMPARE) -> str:
    """The text of an expression where one that binds at least as tight as `level` may stand."""
    text = _WRITE[type(expr)](expr, body)
    return f"({text})" if _level(expr) < level else text


def _level(expr: tree.Expr) -> int:
    if isinstance(expr, tree.Binary):
        return _LEVELS.get(expr.operator, _COMPARE)
    return _NEGATE if isinstance(expr, tree.Negate) else _PRIMARY


def _binary(expr: tree.Binary, body: Body) -> str:
    level = _level(expr)
    left, right = _SIDES[level]
    written = _right(expr.right, body, right) if level in (_MATMUL, _POWER) else write(expr.right, body, right)
    return f"{write(expr.left, body, left)}{'^' if level == _POWER else f' {expr.operator} '}{written}"


def _right(expr: tree.Expr, body: Body, level: int) -> str:
    """The right side of `^` and `@`: after them a minus needs no parentheses, and what it negates is again a right side."""
    return f"-{_right(expr.operand, body, level)}" if isinstance(expr, tree.Negate) else write(expr, body, level)


def _call(expr: tree.Call, body: Body) -> str:
    positional = [write(one, body) for one in expr.args]
    if expr.conditions:
        positional[-1] += f" | {write(expr.conditions[0], body)}"
        positional += [write(one, body) for one in expr.conditions[1:]]
    options = [f"{one.name.text} = {write(one.value, body)}" for one in expr.options]
    label = f" as {expr.label.text}" if expr.label else ""
    return f"{callee(expr.callee)}({', '.join(positional + options)}){label}"


_WRITE: dict[type, Callable[[Any, Body], str]] = {
    tree.Number: lambda expr, _: number(expr.value),
    tree.Name: lambda expr, _: str(expr.text),
    tree.Negate: lambda expr, body: "-" + write(expr.operand, body, _NEGATE),
    tree.Binary: _binary,
    tree.Call: _call,
    tree.Integral: lambda expr, body: f"integral({expr.function.text})({write(expr.operand, body)})",
    tree.Grad: lambda expr, body: "grad " + _call(expr.call, body),
    tree.Rename: lambda expr, body: f"{write(expr.operand, body, _PRIMARY)}[{_arrows(expr.arrows)}]",
    tree.Each: lambda expr, body: f"each {expr.axis.text} {body(expr.body, expr.value)}",
    tree.On: lambda expr, body: f"on {write(expr.condition, body)} {body(expr.body, expr.value)}",
}


def count(expr: tree.Expr, body: Body) -> str:
    """How many copies or passes: in parentheses where there is more to it than numbers, names and calls."""
    return write(expr, body) if _is_count(expr) else f"({write(expr, body)})"


def _is_count(expr: tree.Expr) -> bool:
    if isinstance(expr, tree.Binary):
        return expr.operator in "+-*/^" and _is_count(expr.left) and _is_count(expr.right)
    if isinstance(expr, tree.Negate):
        return _is_count(expr.operand)
    return isinstance(expr, tree.Number | tree.Name) or (isinstance(expr, tree.Call) and expr.label is None)


def number(value: Fraction) -> str:
    """The shortest usual spelling: digits in groups of three, a point down to thousandths, an exponent beyond that."""
    digits, exponent = _decimal(value)
    if exponent >= 0 and (exponent <= 6 or len(digits) + exponent <= 12):
        return f"{int(digits) * 10**exponent:_}"
    point = len(digits) + exponent
    if exponent < 0 and point > -3:
        return f"{int(digits[:point] or '0'):_}.{digits[point:]}" if point > 0 else f"0.{'0' * -point}{digits}"
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{digits[0]}{fraction}e{point - 1}"


def _decimal(value: Fraction) -> tuple[str, int]:
    """Digits without zeros at their end, and the power of ten that they are multiplied by."""
    exponent = 0
    while value.denominator != 1:
        value, exponent = value * 10, exponent - 1
    digits = str(value.numerator)
    short = digits.rstrip("0") or "0"
    return short, exponent + len(digits) - len(short) if value else 0


# -- words and types --


def callee(one: tree.Callee) -> str:
    inside = _arrows(one.arrows) or words(one.axes)
    return f"{one.name.text}[{inside}]" if inside else one.name.text


def words(some: tuple[tree.Word, ...]) -> str:
    return ", ".join(one.text for one in some)


def _arrows(some: tuple[tree.Arrow, ...]) -> str:
    return ", ".join(f"{one.old.text} -> {one.new.text}" for one in some)


def type_of(one: tree.TypeOf) -> str:
    axes = f"[{words(one.axes)}]"
    if one.vocabulary is None:
        return axes
    return f"{axes} id[{one.vocabulary.text}]" if one.axes else f"id[{one.vocabulary.text}]"


def path(one: tree.Path) -> str:
    return ".".join(step.name.text + ("" if step.index is None else f"[{step.index}]") for step in one.steps)
