"""Typing rules of what works element by element, of reductions and of rotary position."""

from __future__ import annotations

from fractions import Fraction

from mptc.ir.axis import SEQ, Role
from mptc.model.shapes import UNKNOWN, joined, without
from mptc.model.site import Function, Site
from mptc.model.tree import Per, Shape

UNARY = ("exp", "log", "sqrt", "rsqrt", "abs", "sin", "cos", "tanh", "sigmoid", "softplus", "relu", "relu2", "gelu", "silu", "ceil", "floor")


def _joined(site: Site) -> Shape:
    return joined(arg.shape for arg in site.args)


def _same(site: Site) -> Shape:
    return site.shape


def _dropout(site: Site) -> Shape:
    return site.shape if site.require("p", lambda p: 0 <= p < 1, "at least 0 and below 1") else UNKNOWN


def _over(site: Site) -> bool:
    """Whether every axis in the brackets is there and limited."""
    shape = site.shape
    present = [site.has(index, shape) for index in range(len(site.axes))]
    return all(present) and site.limited(shape)


def _reduced(site: Site) -> Shape:
    if not _over(site):
        return UNKNOWN
    left = without(site.shape, site.axes)
    per = Per.SEQUENCE if SEQ in site.axes else left.per
    return Shape(left.axes, per, None, left.limited)


def _along(site: Site) -> Shape:
    return site.shape if _over(site) else UNKNOWN


def _rms(site: Site) -> Shape:
    return _along(site) if site.require("eps", lambda eps: eps >= 0, "0 or more") else UNKNOWN


def _rope(site: Site) -> Shape:
    axis, shape = site.axes[0], site.shape
    if not site.has(0, shape) or not site.require("base", lambda base: base > 0, "above 0"):
        return UNKNOWN
    if axis.role is not Role.DIM:
        return site.fail("E0308", site.spans[0], f"`rope` turns pairs along a declared axis, and `{axis}` is not one")
    if shape.per is Per.CONSTANT:
        return site.fail("E0313", site.args[0].span, "`rope` turns by the position of the token, and this value belongs to no token")
    size = site.scope.world.numbers.sizes.get(axis)
    if size is not None and size % 2:
        return site.fail("E0309", site.spans[0], f"`rope` turns pairs, and `{axis}` has size {size}, an odd number")
    return shape


PLAIN = [
    *(Function(name, _same) for name in UNARY),
    Function("min", _joined, 2),
    Function("max", _joined, 2),
    Function("where", _joined, 3),
    Function("stop", _same, ids=False),
    Function("dropout", _dropout, numbers=("p",)),
    Function("rope", _rope, brackets="one", options=("base",), defaults=(("base", Fraction(10_000)),)),
    Function("softmax", _along, brackets="some"),
    Function("rms", _rms, brackets="some", options=("eps",), defaults=(("eps", Fraction(1, 10**6)),)),
    *(Function(name, _reduced, brackets="some") for name in ("sum", "mean", "logsumexp")),
]
REDUCED_MAX = Function("max", _reduced, brackets="some")
