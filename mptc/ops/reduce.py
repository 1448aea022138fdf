"""Log-sum-exp, softmax and maximum over axes, of the tokens that a mask shows where one is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mptc.ir.axis import CTX, SEQ, Axis
from mptc.ir.node import Node, Type, absent, axes_of, make
from mptc.ir.number import ONE
from mptc.ops.arrays import Array, Sizes, full
from mptc.ops.base import Arrangement, Operation, Order, lined_up, merged
from mptc.ops.compare import Compare, Extreme
from mptc.ops.contract import number, power, product, summed, total
from mptc.ops.leaf import may_see_nothing
from mptc.ops.onnx_reduce import onnx_reduction, onnx_softmax
from mptc.ops.sample import D, E, Sample, of
from mptc.ops.site import OnnxSite, Site, Value

MASK = Type((SEQ, CTX))


@dataclass(frozen=True)
class Reduction(Operation, abstract=True):
    """Arguments: the value, and a mask over one of the axes or none. Over no token at all a sum is 0, and so is a softmax."""

    over: tuple[Axis, ...]

    def infer(self, *types: Type) -> Type:
        axes = {axis for type_ in types for axis in type_.axes}
        assert set(self.over) <= set(types[0].axes), (self, types)
        return Type(axes_of(axes - set(self.over)))

    def cost(self, node: Node, sizes: Sizes) -> float:
        return 4.0 * float(np.prod([sizes[axis] for axis in {*node.axes, *node.args[0].axes}]))

    def arrange(self, node: Node, orders: Sequence[Order]) -> Arrangement:
        order = merged(orders)
        wanted = tuple(lined_up(own, order) for own in orders)
        return Arrangement(wanted, self.result(order))

    def takes_exact(self, node: Node, index: int) -> bool:
        return index == 1

    def result(self, order: Order) -> Order:
        return tuple(axis for axis in order if axis not in self.over)

    triton = absent("printed by the region that contains it")

    def masked(self, node: Node, arrays: tuple[Array, ...], sizes: Sizes) -> tuple[Array, tuple[int, ...]]:
        """The value over all its axes, -inf where it is not seen, and the places reduced."""
        axes = axes_of((*node.axes, *self.over))
        value = full(arrays[0], node.args[0].axes, axes, sizes)
        if len(arrays) > 1:
            value = np.where(full(arrays[1], node.args[1].axes, axes, sizes) != 0, value, -np.inf)
        return value, tuple(axes.index(axis) for axis in self.over)

    def flow(self, node: Node, *factors: Node) -> Node:
        """A product as what flows to the value: summed over what the mask or the adjoint has beyond it."""
        kept = node.args[0].axes
        return summed(factors, [axis for axis in axes_of((*node.axes, *self.over)) if axis not in kept])

    def text(self, site: Site) -> tuple[str, str]:
        """The masked operand and the dimensions reduced."""
        order = merged(site.orders)
        places = [order.index(axis) - len(order) for axis in order if axis in self.over]
        value = site.whole(0)
        if len(site.node.args) > 1:
            value = f"{site.tight(0)}.masked_fill(~{site.tight(1)}, -torch.inf)"
        return value, str(places[0]) if len(places) == 1 else str(tuple(places))

    @classmethod
    def samples(cls) -> tuple[Sample, ...]:
        return (
            Sample(cls((D,)), (of(D, E),)),
            Sample(cls((CTX,)), (of(SEQ, CTX, E), MASK), masks=(1,)),
            Sample(cls((CTX,)), (of(CTX, E), MASK), masks=(1,)),
            Sample(cls((D, E)), (of(D, E),)),
        )


def _exp_shifted(value: Array, places: tuple[int, ...]) -> tuple[Array, Array]:
    top = np.max(value, axis=places, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)
    return np.exp(value - top), top


class Lse(Reduction):
    """log Σ exp"""

    def gradient(self, node: Node, adjoint: Node, index: int) -> Node | None:
        if index:
            return None
        weights = make(Softmax(self.over), *node.args)
        return self.flow(node, adjoint, weights)

    def reference(self, node: Node, arrays: tuple[Array, ...], sizes: Sizes) -> Array:
        value, places = self.masked(node, arrays, sizes)
        shifted, top = _exp_shifted(value, places)
        with np.errstate(divide="ignore"):
            return np.asarray(np.squeeze(np.log(shifted.sum(axis=places, keepdims=True)) + top, axis=places))

    def torch(self, site: Site) -> str:
        value, places = self.text(site)
        return f"torch.logsumexp({value}, {places})"

    def onnx(self, site: OnnxSite) -> Value:
        return onnx_reduction(self, site, "ReduceLogSumExp")


class Softmax(Reduction):
    """exp(s - lse s)"""

    def infer(self, *types: Type) -> Type:
        axes = {axis for type_ in types for axis in type_.axes}
        assert set(self.over) <= set(types[0].axes), (self, types)
        return Type(axes_of(axes))

    def result(self, order: Order) -> Order:
        return order

    def gradient(self, node: Node, adjoint: Node, index: int) -> Node | None:
        """p (adjoint - Σ p adjoint)"""
        if index:
            return None
        mean = summed([node, adjoint], self.over)
        return self.flow(node, node, total((1, adjoint), (-1, mean)))

    def reference(self, node: Node, arrays: tuple[Array, ...], sizes: Sizes) -> Array:
        value, places = self.masked(node, arrays, sizes)
        shifted, _ = _exp_shifted(value, places)
        below = shifted.sum(axis=places, keepdims=True)
        return np.asarray(np.where(below > 0, shifted / np.where(below > 0, below, 1), 0.0))

    def torch(self, site: Site) -> str:
        value, places = self.text(site)
        if len(site.node.args) > 1 and may_see_nothing(site.node.args[1]):
            return f"{site.helper('masked_softmax')}({site.whole(0)}, {site.whole(1)}, {places})"
        if "," not in places:
            return f"torch.softmax({value}, {places})"
        return f"({value} - torch.logsumexp({value}, {places}, keepdim=True)).exp()"

    onnx = onnx_softmax


class Max(Reduction):
    """The maximum; equal maxima share the gradient."""

    def gradient(self, node: Node, adjoint: Node, index: int) -> Node | None:
        if index:
            return None
        at_top = make(Compare("=="), node.args[0], node)
        seen = product(at_top, *node.args[1:])
        count = make(Extreme(largest=True), summed([seen], self.over), number(1))  # over no token at all nothing flows
        return self.flow(node, adjoint, seen, power(count, -ONE.rational))

    def reference(self, node: Node, arrays: tuple[Array, ...], sizes: Sizes) -> Array:
        value, places = self.masked(node, arrays, sizes)
        return np.asarray(value.max(axis=places))

    def torch(self, site: Site) -> str:
        value, places = self.text(site)
        return f"torch.amax({value}, {places})"

    def onnx(self, site: OnnxSite) -> Value:
        return onnx_reduction(self, site, "ReduceMax")
