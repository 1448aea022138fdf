"""Ids as targets: taking the next one, and the loss on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mptc.ir.axis import BATCH, SEQ, Axis
from mptc.ir.node import Kind, Node, Type, absent, axes_of
from mptc.ops.arrays import Array, Sizes, spread
from mptc.ops.base import Arrangement, OfIds, Operation, Order, lined_up, merged, pointwise
from mptc.ops.onnx_token import onnx_cross_entropy, onnx_next
from mptc.ops.sample import E, K, Sample, of
from mptc.ops.site import OnnxSite, Site, Value

IDS = Type((BATCH, SEQ), Kind.ID)


@dataclass(frozen=True)
class Next(OfIds):
    """The ids one position later; the last one masked (-1)."""

    def reference(self, node: Node, arrays: tuple[Array, ...], sizes: Sizes) -> Array:
        place = node.axes.index(SEQ)
        later = np.roll(arrays[0], -1, axis=place)
        later[(slice(None),) * place + (-1,)] = -1
        return np.asarray(later)

    def arrange(self, node: Node, orders: Sequence[Order]) -> Arrangement:
        return Arrangement(tuple(orders), orders[0])

    def torch(self, site: Site) -> str:
        after = len(site.order) - 1 - site.order.index(SEQ)
        place = site.order.index(SEQ)
        return f"F.pad({site.tight(0)}[{':, ' * place}1:], ({'0, 0, ' * after}0, 1), value=-1)"

    triton = absent("ids are not computed in kernels")

    def onnx(self, site: OnnxSite) -> Value:
        return onnx_next(site)

    @staticmethod
    def samples() -> tuple[Sample, ...]:
        return (Sample(Next(), (IDS,)),)


@dataclass(frozen=True)
class CrossEntropy(Operation):
    """Arguments: logits over `axis`, and ids; either may lack axes of the other. `-log softmax(logits)[id]`, 0 where the id is masked (below 0).

    With `mean`, the mean over the ids that are not masked.
    """

    axis: Axis
    mean: bool = False

    def infer(self, *types: Type) -> Type:
        assert self.axis in types[0].axes
        return Type(() if self.mean else axes_of({*types[0].axes, *types[1].axes} - {self.axis}))

    def cost(self, node: Node, sizes: Sizes) -> float:
        return 4.0 * float(np.prod([sizes[axis] for axis in node.args[0].axes]))

    gradient = absent("a loss does not stand in an energy")

    def takes_exact(self, node: Node, index: int) -> bool:
        return index > 0

    def reference(self, node: Node, arrays: tuple[Array, ...], sizes: Sizes) -> Array:
        kept = axes_of((*node.args[1].axes, *(axis for axis in node.args[0].axes if axis != self.axis)))
        logits = spread(arrays[0], node.args[0].axes, (*kept, self.axis))
        ids = np.broadcast_to(spread(arrays[1], node.args[1].axes, kept), [sizes[axis] for axis in kept])
        logits = np.broadcast_to(logits, (*ids.shape, sizes[self.axis]))
        top = logits.max(axis=-1, keepdims=True)
        lse = np.log(np.exp(logits - top).sum(axis=-1)) + top[..., 0]
        chosen = np.take_along_axis(logits, np.maximum(ids, 0).astype(int)[..., None], axis=-1)[..., 0]
        losses = np.where(ids >= 0, lse - chosen, 0.0)
        return np.asarray(losses.sum() / (ids >= 0).sum()) if self.mean else losses

    def arrange(self, node: Node, orders: Sequence[Order]) -> Arrangement:
        logits = tuple(axis for axis in orders[0] if axis != self.axis)
        rows = merged((logits, orders[1]))
        return Arrangement(((*lined_up(logits, rows), self.axis), lined_up(orders[1], rows)), () if self.mean else rows)

    def torch(self, site: Site) -> str:
        logits, ids = site.tight(0), site.tight(1)
        if {*site.orders[0]} - {self.axis} != {*site.orders[1]}:
            reduction = "mean" if self.mean else "none"
            return f'{site.helper("cross_entropy")}({site.whole(0)}, {site.whole(1)}, "{reduction}")'
        logits, ids = f"{logits}.flatten(0, {len(site.orders[1]) - 1})", f"{ids}.flatten().clamp(min=-1)"
        if self.mean:
            return f"F.cross_entropy({logits}, {ids}, ignore_index=-1)"
        return f'F.cross_entropy({logits}, {ids}, ignore_index=-1, reduction="none").view_as({site.whole(1)})'

    triton = absent("torch's own")

    def onnx(self, site: OnnxSite) -> Value:
        return onnx_cross_entropy(self, site)

    @staticmethod
    def samples() -> tuple[Sample, ...]:
        logits = of(BATCH, SEQ, K)
        few = (of(E, K), of(SEQ, K), of(*IDS.axes, E, K))
        return (
            *(Sample(CrossEntropy(K, mean), (each, IDS)) for each in (logits, *few) for mean in (False, True)),
            Sample(CrossEntropy(K), (logits, Type((BATCH, SEQ, E), Kind.ID))),
        )


@dataclass(frozen=True)
class MeanLoss(Operation):
    """The mean of a value over tokens, of those where every id among the further arguments counts (is not below 0)."""

    def infer(self, *types: Type) -> Type:
        return Type(())

    def cost(self, node: Node, sizes: Sizes) -> float:
        return float(np.prod([sizes[axis] for axis in node.args[0].axes]))

    gradient = absent("a loss does not stand in an energy")

    def takes_exact(self, node: Node, index: int) -> bool:
        return index > 0

    def reference(self, node: Node, arrays: tuple[Array, ...], sizes: Sizes) -> Array:
        axes = axes_of(axis for arg in node.args for axis in arg.axes)
        value = np.broadcast_to(spread(arrays[0], node.args[0].axes, axes), [sizes[axis] for axis in axes])
        counts = np.ones_like(value)
        for array, arg in zip(arrays[1:], node.args[1:], strict=True):
            counts = counts * (spread(array, arg.axes, axes) >= 0)
        return np.asarray((value * counts).sum() / counts.sum())

    def arrange(self, node: Node, orders: Sequence[Order]) -> Arrangement:
        return Arrangement(pointwise(orders).wanted, ())

    def torch(self, site: Site) -> str:
        if len(site.node.args) == 1:
            return f"{site.tight(0)}.mean()"
        counts = " & ".join(f"({site.whole(index)} >= 0)" for index in range(1, len(site.node.args)))
        if any(order != site.orders[0] for order in site.orders[1:]):
            return f"{site.helper('mean_where')}({site.whole(0)}, {counts})"
        return f"{site.tight(0)}[{counts}].mean()"

    triton = absent("torch's own")
    onnx = absent("a loss is not deployed")

    @staticmethod
    def samples() -> tuple[Sample, ...]:
        several = Type((BATCH, SEQ, E), Kind.ID)
        return tuple(Sample(MeanLoss(), args) for args in ((of(BATCH, SEQ),), (of(BATCH, SEQ), IDS), (of(SEQ), IDS, several), (of(SEQ, E), IDS)))


