"""How choosing, shifting and putting side by side are written in ONNX."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mptc.ir.axis import SEQ, Axis, Role
from mptc.ir.node import Kind
from mptc.ops.onnx_text import INT64, call, lined
from mptc.ops.site import OnnxSite

if TYPE_CHECKING:
    from mptc.ops.choose import Entry, Shift, TypeOf
    from mptc.ops.concat import Concat, Slice

END = np.iinfo(np.int64).max


def integer(site: OnnxSite, value: int) -> str:
    return site.constant(np.asarray(value, np.int64))


def onnx_shift(self: Shift, site: OnnxSite) -> str:
    """Padded on one side, and as many cut off the other."""
    place, by = site.node.axes.index(SEQ), self.by
    ids = site.node.type.kind is Kind.ID
    pads = [0] * (2 * len(site.node.axes))
    pads[place if by > 0 else place + len(site.node.axes)] = abs(by)
    blank = integer(site, -1) if ids else site.constant(0.0)
    padded = site.emit("Pad", site.inputs[0], site.constant(pads), blank)
    ends = (site.constant([0]), site.constant([-by])) if by > 0 else (site.constant([-by]), site.constant([END]))
    return site.emit("Slice", padded, *ends, site.constant([place])) if by else site.inputs[0]


def onnx_type_of(self: TypeOf, site: OnnxSite) -> str:
    """How many types have begun, less one."""
    (ids,) = site.inputs
    count = integer(site, -1)
    for bound in self.bounds:
        begun = site.emit("Cast", call(site, "GreaterOrEqual", ids, integer(site, bound)), to=INT64)
        count = call(site, "Add", begun, count)
    return count


def onnx_entry(self: Entry, site: OnnxSite) -> str:
    """The table's entries beside their numbers, all but the one asked for left out."""
    axes = (*site.node.axes, self.axis)
    (table, number), (rows, at) = site.inputs, site.node.args
    entries = lined(site, site.constant(np.arange(site.sizes[self.axis], dtype=np.int64)), (self.axis,), axes)
    chosen = call(site, "Equal", lined(site, site.emit("Cast", number, to=INT64), at.axes, axes), entries)
    kept = site.emit("Where", chosen, lined(site, table, rows.axes, axes), site.constant(0.0))
    return site.emit("ReduceSum", kept, site.constant([-1]), keepdims=0)


def onnx_concat(self: Concat, site: OnnxSite) -> str:
    rest = tuple(axis for axis in site.node.axes if axis != self.axis)
    parts = []
    for name, arg, inner in zip(site.inputs, site.node.args, self.inner, strict=True):
        onto = (*rest, inner)
        part = lined(site, name, arg.axes, onto)
        if len(arg.axes) < len(onto):
            part = site.emit("Expand", part, site.emit("Concat", *(_length(site, axis) for axis in onto), axis=0))
        parts.append(part)
    return lined(site, site.emit("Concat", *parts, axis=-1), (*rest, self.axis), site.node.axes)


def _length(site: OnnxSite, axis: Axis) -> str:
    if axis.role is Role.DIM:
        return site.constant([site.sizes[axis]])
    return site.emit("Unsqueeze", site.size(axis), site.constant([0]))


def onnx_slice(self: Slice, site: OnnxSite) -> str:
    (whole,) = site.node.args
    ends = (site.constant([self.start]), site.constant([self.start + site.sizes[self.part]]))
    taken = site.emit("Slice", site.inputs[0], *ends, site.constant([whole.axes.index(self.axis)]))
    order = tuple(self.part if axis == self.axis else axis for axis in whole.axes)
    return lined(site, taken, order, site.node.axes)
