"""Tokens in ONNX: their positions, which see which, their rows in tables, and rotation by where they stand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mptc.ir.axis import SEQ, Axis
from mptc.ir.node import Kind
from mptc.ops.onnx_text import aligned, call, condition, indicator, lined, shaped
from mptc.ops.site import OnnxSite

if TYPE_CHECKING:
    from mptc.ops.choose import Lookup
    from mptc.ops.leaf import Mask
    from mptc.ops.rotary import Rope


def onnx_mask(self: Mask, site: OnnxSite) -> str:
    axes = site.node.axes
    conditions = [condition(site, name) for name in aligned(site)]
    if self.past or self.window is not None:
        here, there = (lined(site, site.positions(axis), (axis,), axes) for axis in (SEQ, self.over))
        conditions.append(call(site, "GreaterOrEqual", here, there))
        if self.window is not None:
            conditions.append(call(site, "Less", call(site, "Sub", here, there), site.constant(np.asarray(self.window, np.int64))))
    seen = conditions[0] if conditions else site.constant(np.asarray(True))
    for other in conditions[1:]:
        seen = call(site, "And", seen, other)
    return indicator(site, seen)


def onnx_compare(site: OnnxSite, op_type: str) -> str:
    """Ids are compared as ids; with a number, as numbers."""
    operands = aligned(site)
    kinds = [arg.type.kind for arg in site.node.args]
    if Kind.ID in kinds and Kind.NUMBER in kinds:
        operands = [indicator(site, name) if kind is Kind.ID else name for name, kind in zip(operands, kinds, strict=True)]
    return indicator(site, call(site, op_type, *operands))


def onnx_lookup(self: Lookup, site: OnnxSite) -> str:
    """`Gather`, with 0 for an id outside the table."""
    (table, ids), (rows, at) = site.inputs, site.node.args
    shared = self.shared(site.node)
    if self.offset:
        ids = site.emit("Sub", ids, site.constant(np.asarray(self.offset, np.int64)))
    size = site.constant(np.asarray(site.sizes[self.axis], np.int64))
    zero = site.constant(np.asarray(0, np.int64))
    inside = call(site, "And", call(site, "GreaterOrEqual", ids, zero), call(site, "Less", ids, size))
    ids, axes = site.emit("Where", inside, ids, zero), site.node.axes
    if shared:
        rest = tuple(axis for axis in rows.axes if axis not in (*shared, self.axis))
        table = shaped(site, lined(site, table, rows.axes, (*shared, self.axis, *rest)), -1, *(site.sizes[axis] for axis in rest))
        for axis, step in zip(shared, _steps(site, (*shared, self.axis)), strict=False):
            begins = site.constant(np.arange(site.sizes[axis], dtype=np.int64) * step)
            ids = call(site, "Add", ids, lined(site, begins, (axis,), at.axes))
        found, order = site.emit("Gather", table, ids, axis=0), (*at.axes, *rest)
    else:
        place = rows.axes.index(self.axis)
        found, order = site.emit("Gather", table, ids, axis=place), (*rows.axes[:place], *at.axes, *rows.axes[place + 1 :])
    return site.emit("Where", lined(site, inside, at.axes, axes), lined(site, found, order, axes), site.constant(0.0))


def _steps(site: OnnxSite, axes: Sequence[Axis]) -> list[int]:
    """How many rows further the next index of each axis is."""
    sizes = [site.sizes[axis] for axis in axes]
    return [int(np.prod(sizes[place + 1 :])) for place in range(len(axes))]


def onnx_next(site: OnnxSite) -> str:
    place = site.node.axes.index(SEQ)
    later = site.emit("Slice", site.inputs[0], site.constant([1]), site.constant([np.iinfo(np.int64).max]), site.constant([place]))
    after = [int(axis == place) for axis in range(len(site.node.axes))]
    return site.emit("Pad", later, site.constant([*[0] * len(after), *after]), site.constant(np.asarray(-1, np.int64)))


def onnx_rope(self: Rope, site: OnnxSite) -> str:
    """Halves turned against each other by tables of the positions."""
    from mptc.ops.rotary import token_axis

    axes, key = site.node.axes, site.sizes[self.axis]
    token, place = token_axis(axes), axes.index(self.axis)
    rates = site.constant(float(self.base) ** (-np.arange(0, key, 2) / key))
    here = site.emit("Unsqueeze", indicator(site, site.positions(token)), site.constant([1]))
    angle = call(site, "Mul", here, rates)
    cos, sin = (lined(site, site.emit(name, angle), (token, self.axis), axes) for name in ("Cos", "Sin"))
    if self.inverse:
        sin = site.emit("Neg", sin)
    first, second = (_half(site, start, key // 2, place) for start in (0, key // 2))
    real = call(site, "Sub", call(site, "Mul", first, cos), call(site, "Mul", second, sin))
    imaginary = call(site, "Add", call(site, "Mul", second, cos), call(site, "Mul", first, sin))
    return site.emit("Concat", real, imaginary, axis=place)


def _half(site: OnnxSite, start: int, size: int, place: int) -> str:
    return site.emit("Slice", site.inputs[0], site.constant([start]), site.constant([start + size]), site.constant([place]))
