"""Vectors side by side, and a part of such a vector: how a score with several bilinear terms becomes one product."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mptc.ir.axis import BATCH, Axis, Role
from mptc.ir.node import Node, Type, absent, axes_of
from mptc.ops.arrays import Array, Sizes, full
from mptc.ops.base import Arrangement, Operation, Order, merged
from mptc.ops.leaf import length
from mptc.ops.onnx_choose import onnx_concat, onnx_slice
from mptc.ops.sample import D, E, K, Sample, of
from mptc.ops.site import OnnxSite, Site, Value

WIDE = Axis(D.role, "d+e")


@dataclass(frozen=True)
class Concat(Operation):
    """Arguments, each along one axis of its own, one after another along `axis`. What lacks another axis is repeated along it."""

    axis: Axis
    inner: tuple[Axis, ...]

    def infer(self, *types: Type) -> Type:
        rest = (axis for inner, type_ in zip(self.inner, types, strict=True) for axis in type_.axes if axis != inner)
        return Type(axes_of((*rest, self.axis)))

    def cost(self, node: Node, sizes: Sizes) -> float:
        return float(np.prod([sizes[axis] for axis in node.axes]))

    gradient = absent("made after energies are differentiated")

    def reference(self, node: Node, arrays: tuple[Array, ...], sizes: Sizes) -> Array:
        rest = tuple(axis for axis in node.axes if axis != self.axis)
        parts = [full(array, arg.axes, (*rest, inner), sizes) for array, arg, inner in zip(arrays, node.args, self.inner, strict=True)]
        return np.moveaxis(np.concatenate(parts, axis=-1), -1, node.axes.index(self.axis))

    def arrange(self, node: Node, orders: Sequence[Order]) -> Arrangement:
        rest = merged([tuple(axis for axis in own if axis != inner) for own, inner in zip(orders, self.inner, strict=True)])
        wanted = tuple(tuple(axis if axis in own else None for axis in (*rest, inner)) for own, inner in zip(orders, self.inner, strict=True))
        return Arrangement(wanted, (*rest, self.axis))

    def torch(self, site: Site) -> str:
        parts = [self._repeated(site, index) for index in range(len(site.node.args))]
        return f"torch.cat(({', '.join(parts)}), -1)"

    def _repeated(self, site: Site, index: int) -> str:
        own = site.orders[index]
        if len(own) == len(site.order):
            return site.whole(index)
        sizes = ", ".join("-1" if axis in own else _size(site, axis) for axis in site.order[:-1])
        return f"{site.tight(index)}.expand({sizes}, -1)"

    triton = absent("printed by the region that contains it")

    def onnx(self, site: OnnxSite) -> Value:
        return onnx_concat(self, site)

    @staticmethod
    def samples() -> tuple[Sample, ...]:
        return (Sample(Concat(WIDE, (D, E)), (of(K, D), of(K, E))), Sample(Concat(WIDE, (D, E)), (of(D), of(K, E))))


def _size(site: Site, axis: Axis) -> str:
    if axis == BATCH:
        return site.helper("batch")
    return str(site.sizes[axis]) if axis.role is Role.DIM else site.helper(length(axis))


@dataclass(frozen=True)
class Slice(Operation):
    """Entries `start`, … of `axis`, as many as `part` has, which takes its place."""

    axis: Axis
    part: Axis
    start: int

    def infer(self, *types: Type) -> Type:
        return Type(axes_of(self.part if axis == self.axis else axis for axis in types[0].axes))

    def cost(self, node: Node, sizes: Sizes) -> float:
        return 0.0

    gradient = absent("made after energies are differentiated")

    def reference(self, node: Node, arrays: tuple[Array, ...], sizes: Sizes) -> Array:
        place = node.args[0].axes.index(self.axis)
        taken = np.take(arrays[0], range(self.start, self.start + sizes[self.part]), axis=place)
        order = tuple(self.part if axis == self.axis else axis for axis in node.args[0].axes)
        return np.transpose(taken, [order.index(axis) for axis in node.axes])

    def arrange(self, node: Node, orders: Sequence[Order]) -> Arrangement:
        order = (*(axis for axis in orders[0] if axis != self.axis), self.axis)
        return Arrangement((order,), (*order[:-1], self.part))

    def torch(self, site: Site) -> str:
        return f"{site.tight(0)}[..., {self.start}:{self.start + site.sizes[self.part]}]"

    triton = absent("printed by the region that contains it")

    def onnx(self, site: OnnxSite) -> Value:
        return onnx_slice(self, site)

    @staticmethod
    def samples() -> tuple[Sample, ...]:
        return (Sample(Slice(K, E, 2), (of(K, D),)),)
