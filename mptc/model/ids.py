"""Typing rules of what indexes, compares or predicts ids."""

from __future__ import annotations

from mptc.ir.axis import Axis, Role
from mptc.model.shapes import UNKNOWN, brackets, joined, shown
from mptc.model.site import Function, Site
from mptc.model.tree import Load, Shape


def _lookup(site: Site) -> Shape:
    """By ids: along the axis that they index, or the part of it that they are known to be of."""
    table, ids = site.args
    if table.shape.vocabulary is not None:
        return site.fail(
            "E0307",
            table.span,
            f"the table of `lookup` is of numbers, and this is {shown(table.shape)}",
            "the table comes first: `lookup(table, ids)`",
        )
    axis = ids.shape.vocabulary
    if axis is None:
        help = "ids are declared `id[vocab]`; to index by a number name the axis: `lookup[axis](table, number)`"
        return site.fail("E0307", ids.span, f"`lookup` wants ids here, and this is {shown(ids.shape)}, numbers", help)
    narrow = _narrowed(site)
    if axis not in table.shape.axes and narrow in table.shape.axes and narrow is not None:
        axis = narrow
    if axis not in table.shape.axes:
        message = f"these ids index `{axis}`, and the table has the axes {brackets(table.shape.axes)}"
        return site.fail("E0312", ids.span, message, f"look up in a table that has the axis `{axis}`")
    site.axes = (axis,)
    return joined((_rows(table.shape, axis), _plain(ids.shape)))


def _narrowed(site: Site) -> Axis | None:
    ids = site.args[1]
    if isinstance(ids, Load) and not hasattr(ids.of, "init"):
        return {id(binding): axis for binding, axis in site.scope.narrowed.items()}.get(id(ids.of))
    return None


def _lookup_by_number(site: Site) -> Shape:
    table, number = site.args
    axis = site.axes[0]
    if number.shape.vocabulary is not None or table.shape.vocabulary is not None:
        wrong = number if number.shape.vocabulary is not None else table
        return site.fail(
            "E0307", wrong.span, f"`lookup[{axis}]` wants numbers, and this is {shown(wrong.shape)}", "for ids write `lookup(table, ids)`"
        )
    if axis.role is not Role.DIM:
        return site.fail("E0308", site.spans[0], f"`lookup` is along a declared axis, and `{axis}` is not one")
    if not site.has(0, table.shape):
        return UNKNOWN
    return joined((_rows(table.shape, axis), number.shape))


def _rows(table: Shape, axis: Axis) -> Shape:
    return Shape(tuple(each for each in table.axes if each != axis), table.per, None, table.limited)


def _plain(ids: Shape) -> Shape:
    return Shape(ids.axes, ids.per, None, ids.limited)


def _next(site: Site) -> Shape:
    if not site.are_ids(site.args[0]) or not site.tokens(site.args[0]):
        return UNKNOWN
    if not site.scope.losing:
        return site.fail(
            "E0406", site.span, "`next` shows the token to come, so it stands only in a `loss`", "for an earlier token write `shift(ids, 1)`"
        )
    return site.shape


def _cross_entropy(site: Site) -> Shape:
    logits, ids = site.args
    axis = site.axes[0]
    if logits.shape.vocabulary is not None:
        return site.fail(
            "E0307", logits.span, "the logits come first and are numbers, and these are ids", f"write `cross_entropy[{axis}](logits, ids)`"
        )
    if not site.are_ids(ids) or not site.has(0, logits.shape):
        return UNKNOWN
    if ids.shape.vocabulary != axis:
        message = f"these ids index `{ids.shape.vocabulary}`, and the logits run over `{axis}`"
        return site.fail("E0312", ids.span, message, f"write `cross_entropy[{ids.shape.vocabulary}](…)` of logits over `{ids.shape.vocabulary}`")
    return joined((_rows(logits.shape, axis), _plain(ids.shape)))


IDS = [
    Function("lookup", _lookup, 2, ids=True),
    Function("next", _next, ids=True),
    Function("cross_entropy", _cross_entropy, 2, brackets="one", ids=True),
]
LOOKUP_BY_NUMBER = Function("lookup", _lookup_by_number, 2, brackets="one", ids=True)
