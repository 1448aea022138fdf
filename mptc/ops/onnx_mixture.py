"""Mixtures of looked-up rows in ONNX: row after row, so that the rows of all tables are never side by side."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from mptc.ops.onnx_value import apart, call, laid, singles
from mptc.ops.site import OnnxSite, Value

if TYPE_CHECKING:
    from mptc.ir.axis import Axis
    from mptc.ops.base import Order
    from mptc.ops.mixture import Mixture, Places


def onnx_mixture(self: Mixture, site: OnnxSite) -> Value:
    weights, table, ids = site.node.args
    places = self.places((weights.axes, table.axes, ids.axes))
    rows, width = _rows(site, places)
    ids_at = _lined(site, site.values[2], (*places.bags, *places.over))
    size, zero = (site.constant(np.asarray(number, np.int64)) for number in (site.sizes[self.axis], 0))
    if self.offset:
        ids_at = call(site, "Sub", ids_at, site.constant(np.asarray(self.offset, np.int64)))
    inside = call(site, "And", call(site, "GreaterOrEqual", ids_at, zero), call(site, "Less", ids_at, size))
    shares = _lined(site, site.values[0], (*places.bags, *places.over))
    shares = site.emit("Where", inside, shares, site.constant(0.0))
    ids_at = site.emit("Where", inside, ids_at, zero)
    total = ""
    for index in product(*(range(site.sizes[axis]) for axis in places.over)):
        item = dict(zip(places.over, index, strict=True))
        found = site.emit("Gather", rows, _row(self, site, places, ids_at, item), axis=0)
        share = site.emit("Unsqueeze", _picked(site, shares, places, item, (*weights.axes, *ids.axes)), site.constant([-1]))
        one = call(site, "Mul", share, found)
        total = call(site, "Add", total, one) if total else one
    if len(places.width) > 1:
        total = site.emit("Reshape", total, site.constant([*[0] * len(places.bags), *width]))
    return Value(total, singles((*places.bags, *places.width)))


def _lined(site: OnnxSite, value: Value, order: Order) -> str:
    """A value with a dimension for each axis of an order, of size 1 for those that it lacks."""
    return laid(site, apart(site, value), tuple((axis,) if axis in value.order else () for axis in order))


def _rows(site: OnnxSite, places: Places) -> tuple[str, list[int]]:
    """The table as a matrix of rows, and the sizes of one row's axes."""
    width = [site.sizes[axis] for axis in places.width]
    table = _lined(site, site.values[1], (*places.rows, *places.width))
    return site.emit("Reshape", table, site.constant([-1, int(np.prod(width))])), width


def _row(self: Mixture, site: OnnxSite, places: Places, ids: str, item: dict[Axis, int]) -> str:
    """The row of each bag, for one index of the axes summed."""
    strides = self.strides(places, site.sizes)
    begins = np.asarray(sum(strides[axis] * at for axis, at in item.items() if axis in strides), np.int64)
    for place, axis in enumerate(places.bags):
        if axis in strides:
            begins = begins + (np.arange(site.sizes[axis]) * strides[axis]).reshape(-1, *[1] * (len(places.bags) - 1 - place))
    at = call(site, "Mul", _picked(site, ids, places, item, site.node.args[2].axes), site.constant(np.asarray(strides[self.axis], np.int64)))
    return call(site, "Add", at, site.constant(begins))


def _picked(site: OnnxSite, name: str, places: Places, item: dict[Axis, int], own: tuple[Axis, ...]) -> str:
    """A value over `bags` and `over` at one index of `over`; what does not vary along an axis has size 1 there."""
    for axis in reversed(places.over):
        at = item[axis] if axis in own else 0
        name = site.emit("Gather", name, site.constant(np.asarray(at, np.int64)), axis=-1)
    return name
