"""How choosing, shifting and putting side by side are written in ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mptc.ir.axis import SEQ, Axis
from mptc.ir.node import Kind
from mptc.ops.onnx_token import integer
from mptc.ops.onnx_value import INT64, apart, call, chosen, expanded, laid, singles, volume, whole, with_last
from mptc.ops.site import Element, OnnxSite, Value

if TYPE_CHECKING:
    from mptc.ops.choose import Entry, Lookup, Shift, TypeOf
    from mptc.ops.concat import Concat, Slice

END = np.iinfo(np.int64).max


def onnx_lookup(self: Lookup, site: OnnxSite) -> Value:
    """`Gather`, with 0 for an id outside the table."""
    table, ids = site.values[0], whole(site, site.values[1])
    if self.offset:
        ids = ids.named(site.emit("Sub", ids.name, integer(site, self.offset)))
    return _entries(site, table, self.axis, ids)


def onnx_entry(self: Entry, site: OnnxSite) -> Value:
    """`Gather`, or `GatherND` along the axes that both have, with 0 for a number outside the table."""
    return _entries(site, site.values[0], self.axis, whole(site, site.values[1]))


def _entries(site: OnnxSite, table: Value, axis: Axis, ids: Value) -> Value:
    zero, size = integer(site, 0), integer(site, volume(site, (axis,)))
    inside = ids.named(call(site, "And", site.emit("GreaterOrEqual", ids.name, zero), site.emit("Less", ids.name, size)), Element.TRUTH)
    ids = ids.named(site.emit("Where", inside.name, ids.name, zero))
    shared = tuple(each for each in ids.order if each in table.order)
    found = _beside(site, table, axis, ids, shared) if shared else _rows(site, table, axis, ids)
    return chosen(site, inside, found, 0.0)


def _rows(site: OnnxSite, table: Value, axis: Axis, ids: Value) -> Value:
    place = table.order.index(axis)
    dims = (*singles(table.order[:place]), *ids.dims, *singles(table.order[place + 1 :]))
    return Value(site.rows(table, axis, ids.name), dims)


def _beside(site: OnnxSite, table: Value, axis: Axis, ids: Value, shared: Sequence[Axis]) -> Value:
    rest = tuple(each for each in table.order if each not in shared and each != axis)
    places = tuple(each for each in ids.order if each not in shared)
    at = site.emit("Unsqueeze", laid(site, ids, singles((*shared, *places))), site.constant([-1]))
    name = site.emit("GatherND", laid(site, table, singles((*shared, axis, *rest))), at, batch_dims=len(shared))
    return Value(name, singles((*shared, *places, *rest)))


def onnx_shift(self: Shift, site: OnnxSite) -> Value:
    """Padded on one side, and as many cut off the other. Truths have no padding in every runtime, so they are whole numbers here."""
    value = apart(site, site.values[0])
    value = whole(site, value) if value.element is Element.TRUTH else value
    if not self.by:
        return value
    place, count, by = value.dims.index((SEQ,)), len(value.dims), self.by
    pads = [0] * (2 * count)
    pads[place if by > 0 else place + count] = abs(by)
    masked = -1 if site.node.type.kind is Kind.ID else 0
    blank = site.constant(float(masked)) if value.element is Element.NUMBER else integer(site, masked)
    padded = site.emit("Pad", value.name, site.constant(pads), blank)
    ends = (site.constant([0]), site.constant([-by])) if by > 0 else (site.constant([-by]), site.constant([END]))
    return value.named(site.emit("Slice", padded, *ends, site.constant([place])))


def onnx_type_of(self: TypeOf, site: OnnxSite) -> Value:
    """How many types have begun, less one."""
    (ids,) = site.values
    count = integer(site, -1)
    for bound in self.bounds:
        begun = site.emit("Cast", site.emit("GreaterOrEqual", ids.name, integer(site, bound)), to=INT64)
        count = site.emit("Add", begun, count)
    return ids.named(count)


def onnx_concat(self: Concat, site: OnnxSite) -> Value:
    rest = singles(tuple(axis for axis in site.node.axes if axis != self.axis))
    parts = [expanded(site, value, (*rest, (inner,))) for value, inner in zip(site.values, self.inner, strict=True)]
    return Value(site.emit("Concat", *parts, axis=-1), (*rest, (self.axis,)))


def onnx_slice(self: Slice, site: OnnxSite) -> Value:
    value = with_last(site, site.values[0], (self.axis,))
    ends = (site.constant([self.start]), site.constant([self.start + volume(site, (self.part,))]))
    return Value(site.emit("Slice", value.name, *ends, site.constant([-1])), (*value.dims[:-1], (self.part,)))
