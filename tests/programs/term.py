"""Expressions as they are made: their text, and what must be known of them so that what is made of them is well typed and tame."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

CONSTANT, SEQUENCE, TOKEN = 0, 1, 2
COMPARED, ADDED, MULTIPLIED, NEGATED, CONTRACTED, RAISED, ATOM = range(7)  # how tightly a text binds
LEVELS = {"<": COMPARED, "<=": COMPARED, ">": COMPARED, ">=": COMPARED, "==": COMPARED, "in": COMPARED}
LEVELS |= {"+": ADDED, "-": ADDED, "*": MULTIPLIED, "/": MULTIPLIED, "@": CONTRACTED, "^": RAISED}

Axes = frozenset[str]
NONE: Axes = frozenset()


@dataclass(frozen=True)
class Term:
    """One expression.

    `seen` and `unlimited` are its context axes: those that a view limits, and the others. `per`: how often there is a value, at least.
    `size` is about how large the numbers are, `least` a bound from below. `mine`: it depends on the energy's variable, and has a derivative by it.
    `thin`: contexts that may show no token at all. `infinite`: it may be -inf. `late`: it sees later tokens. `on`: the arguments
    that it depends on.
    """

    text: str
    level: int = ATOM
    axes: Axes = NONE
    seen: Axes = NONE
    unlimited: Axes = NONE
    per: int = CONSTANT
    size: float = 1.0
    least: float = -math.inf
    mine: bool = False
    thin: Axes = NONE
    infinite: bool = False
    late: bool = False
    vocabulary: str | None = None
    on: Axes = NONE

    @property
    def contexts(self) -> Axes:
        return self.seen | self.unlimited

    def at(self, level: int, extra: bool = False) -> str:
        """The text as an operand of something that binds so tightly; `extra`: in parentheses all the same."""
        return f"({self.text})" if self.level < level or extra else self.text

    def but(self, text: str, level: int = ATOM, **changed: Any) -> Term:
        """Another text, of the same axes; nothing is known of its lower bound."""
        return replace(self, text=text, level=level, **{"least": -math.inf, **changed})


def joined(text: str, level: int, terms: Iterable[Term], **known: Any) -> Term:
    """What broadcasts these."""
    several = list(terms)
    seen = _all(term.seen for term in several)
    facts: dict[str, Any] = {
        "axes": _all(term.axes for term in several),
        "seen": seen,
        "unlimited": _all(term.unlimited for term in several) - seen,
        "per": max((term.per for term in several), default=CONSTANT),
        "size": max((term.size for term in several), default=1.0),
        "mine": any(term.mine for term in several),
        "thin": _all(term.thin for term in several),
        "infinite": any(term.infinite for term in several),
        "late": any(term.late for term in several),
        "on": _all(term.on for term in several),
    }
    return Term(text, level, **{**facts, **known})


def _all(sets: Iterable[Axes]) -> Axes:
    return NONE.union(*sets)


def infix(operator: str, left: Term, right: Term, extra: bool = False, **known: Any) -> Term:
    """`left operator right`, with the parentheses that it needs. `^` and `@` group to the right, comparisons not at all."""
    level = LEVELS[operator]
    to_right = operator in ("^", "@")
    before = left.at(level + (1 if to_right or level == COMPARED else 0), extra)
    after = right.at(level + (0 if to_right else 1))
    return joined(f"{before} {operator} {after}" if operator != "^" else f"{before}^{after}", level, (left, right), **known)


def literal(value: float | str) -> Term:
    number = float(value)
    return Term(str(value), size=abs(number), least=number)


def called(function: str, *args: Term, brackets: Iterable[str] = (), options: str = "", **known: Any) -> Term:
    """`function[brackets](args, options)`"""
    inside = f"[{', '.join(brackets)}]" if brackets else ""
    return joined(f"{function}{inside}({', '.join(arg.text for arg in args)}{options})", ATOM, args, **known)
