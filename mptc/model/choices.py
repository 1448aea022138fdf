"""Typing rules of what chooses: hard and soft top-k, and the balance of a choice."""

from __future__ import annotations

from fractions import Fraction

from mptc.ir.axis import SEQ
from mptc.model.shapes import UNKNOWN, joined, without
from mptc.model.site import Function, Site
from mptc.model.tree import Per, Shape


def _count(value: Fraction) -> bool:
    return value.denominator == 1 and value >= 1


def _topk(site: Site) -> Shape:
    both = joined(arg.shape for arg in site.args)
    present = [site.has(index, both) for index in range(len(site.axes))]
    if not all(present) or not site.limited(both):
        return UNKNOWN
    return both if site.require("n", _count, "a positive integer") else UNKNOWN


def _softtopk(site: Site) -> Shape:
    """Along the sequence alone: its exact solution is of one scalar for each sequence."""
    if site.axes != (SEQ,):
        return site.fail("E0308", site.spans[0], "`softtopk` chooses among the tokens of a sequence", "write `softtopk[seq](s, keep = n)`")
    if not site.tokens(site.args[0]) or not site.require("eps", lambda eps: eps > 0, "above 0"):
        return UNKNOWN
    return site.shape if site.require("steps", _count, "a positive integer") else UNKNOWN


def _load_balance(site: Site) -> Shape:
    """One number for all tokens that count."""
    p, w = (arg.shape for arg in site.args)
    if not site.has(0, p) or not site.has(0, w):
        return UNKNOWN
    left = without(joined((p, w)), site.axes)
    return Shape(left.axes, Per.CONSTANT, None, left.limited)


CHOICES = [
    Function("topk", _topk, brackets="some", numbers=("n",), expressions=("by",)),
    Function(
        "softtopk",
        _softtopk,
        brackets="one",
        options=("eps", "steps"),
        expressions=("keep",),
        required=("keep",),
        defaults=(("eps", Fraction(3, 100)),),
    ),
    Function("load_balance", _load_balance, 2, brackets="one"),
]
