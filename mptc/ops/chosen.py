"""Choosing the best: which entries are among the n largest, CoDA's soft top-k, how evenly a choice falls, and working for chosen tokens alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from mptc.ir.axis import BATCH, CTX, SEQ, Axis
from mptc.ir.node import Node, Type, absent, axes_of, make
from mptc.ops.arrays import Array, Sizes, full
from mptc.ops.base import Arrangement, Operation, Order, lined_up, merged
from mptc.ops.compare import Where
from mptc.ops.leaf import Leaf
from mptc.ops.onnx_chosen import onnx_among, onnx_load_balance, onnx_soft_top_k
from mptc.ops.sample import D, E, K, Sample, of
from mptc.ops.site import OnnxSite, Site, Value


@dataclass(frozen=True)
class Nothing(Leaf):
    """-∞, what stands beside the chosen."""

    def infer(self, *types: Type) -> Type:
        return Type(())

    def reference(self, node: Node, arrays: tuple[Array, ...], sizes: Sizes) -> Array:
        return np.asarray(-np.inf)

    def torch(self, site: Site) -> str:
        return "-torch.inf"

    def onnx(self, site: OnnxSite) -> Value:
        return Value(site.constant(-np.inf), ())

    @staticmethod
    def samples() -> tuple[Sample, ...]:
        return (Sample(Nothing(), ()),)


class Over(Operation, abstract=True):
    """Arguments of which the first is chosen from along axes, which come last in memory."""

    over: tuple[Axis, ...]

    def infer(self, *types: Type) -> Type:
        axes = axes_of(axis for type_ in types for axis in type_.axes)
        assert set(self.over) <= set(types[0].axes), (self, types)
        return Type(axes)

    def arrange(self, node: Node, orders: Sequence[Order]) -> Arrangement:
        order = self.last(orders)
        return Arrangement(tuple(lined_up(own, order) for own in orders), order)

    def last(self, orders: Sequence[Order]) -> Order:
        front = tuple(axis for axis in merged(orders) if axis not in self.over)
        return (*front, *(axis for axis in axes_of(self.over)))


@dataclass(frozen=True)
class Among(Over):
    """1 where a value is among the `n` largest along `over`, all these axes together; of equal ones, lower indices. A second argument is a mask.

    The first of several axes (as they are sorted) varies slowest in what an index is.
    """

    over: tuple[Axis, ...]
    n: int

    def cost(self, node: Node, sizes: Sizes) -> float:
        return float(np.prod([sizes[axis] for axis in node.axes]))

    def gradient(self, node: Node, adjoint: Node, index: int) -> Node | None:
        return None

    def is_exact(self, node: Node) -> bool:
        return True

    def takes_exact(self, node: Node, index: int) -> bool:
        return True

    def reference(self, node: Node, arrays: tuple[Array, ...], sizes: Sizes) -> Array:
        axes = (*(axis for axis in node.axes if axis not in self.over), *axes_of(self.over))
        value = full(arrays[0], node.args[0].axes, axes, sizes)
        seen = full(arrays[1], node.args[1].axes, axes, sizes) != 0 if len(arrays) > 1 else np.ones(value.shape, dtype=bool)
        rows = np.where(seen, value, -np.inf).reshape(-1, int(np.prod([sizes[axis] for axis in self.over])))
        best = np.argsort(-rows, axis=-1, kind="stable")[:, : self.n]
        chosen = np.zeros(rows.shape, dtype=bool)
        np.put_along_axis(chosen, best, True, axis=-1)
        return np.transpose(chosen.reshape(value.shape) & seen, [axes.index(axis) for axis in node.axes]).astype(float)

    def torch(self, site: Site) -> str:
        shown = site.whole(0)
        mask = f", {site.whole(1)}" if len(site.node.args) > 1 else ""
        dims = f", dims={len(self.over)}" if len(self.over) > 1 else ""
        return f"{site.helper('among')}({shown}, {self.n}{mask}{dims})"

    triton = absent("printed by the region that contains it")

    def onnx(self, site: OnnxSite) -> Value:
        return onnx_among(self, site)

    @staticmethod
    def samples() -> tuple[Sample, ...]:
        return (
            Sample(Among((E,), 2), (of(BATCH, SEQ, E),)),
            Sample(Among((E, K), 5), (of(SEQ, E, K, D),)),
            Sample(Among((SEQ,), 2), (of(BATCH, SEQ, E),)),
            Sample(Among((K,), 9), (of(SEQ, K),)),
            Sample(Among((CTX,), 2), (of(SEQ, CTX), of(SEQ, CTX)), masks=(1,)),
        )


@dataclass(frozen=True)
class SoftTopK(Over):
    """CoDA's soft top-k of the tokens of a sequence (arXiv 2304.04947, appendix C). Arguments: scores s, how many n, a mask or none.

    λ = min(1, exp((s + a) / eps)) with the scalar a for which Σ λ = n; kept for the n largest, 0 for the others. Where n is all or more, λ = 1.
    With `steps`, what so many dual updates from b = 0 come to: a = eps ln n - eps LSE((s + b) / eps), b = min(-s - a, 0), λ = exp((s + a + b) / eps).
    """

    eps: Fraction
    steps: int | None = None
    over: tuple[Axis, ...] = (SEQ,)

    def cost(self, node: Node, sizes: Sizes) -> float:
        return 8.0 * float(np.prod([sizes[axis] for axis in node.axes])) * (self.steps or 1)

    gradient = absent("tokens are not chosen in an energy")

    def takes_exact(self, node: Node, index: int) -> bool:
        return index == 2

    def takes_scalar(self, node: Node, index: int, sizes: Sizes) -> bool:
        return index == 1

    def reference(self, node: Node, arrays: tuple[Array, ...], sizes: Sizes) -> Array:
        """By bisection for a."""
        axes = (*(axis for axis in node.axes if axis != SEQ), SEQ)
        scores = full(arrays[0], node.args[0].axes, axes, sizes)
        seen = full(arrays[2], node.args[2].axes, axes, sizes) != 0 if len(arrays) > 2 else np.ones(scores.shape, dtype=bool)
        keep = np.ceil(full(arrays[1], node.args[1].axes, (*axes[:-1],), sizes))[..., None]
        scores = np.where(seen, scores, -np.inf)
        rank = np.argsort(np.argsort(-scores, axis=-1, kind="stable"), axis=-1, kind="stable")
        weights = self._iterated(scores, keep) if self.steps else self._solved(scores, np.minimum(keep, seen.sum(-1, keepdims=True)), seen)
        return np.transpose(np.where((rank < keep) & seen, weights, 0.0), [axes.index(axis) for axis in node.axes])

    def _solved(self, scores: Array, keep: Array, seen: Array) -> Array:
        eps = float(self.eps)
        finite = np.where(seen, scores, 0.0)
        low = -finite.max(-1, keepdims=True) - eps * 800.0
        high = -finite.min(-1, keepdims=True) + eps * 60.0
        for _ in range(200):
            middle = (low + high) / 2
            enough = np.where(seen, np.exp(np.minimum((finite + middle) / eps, 0.0)), 0.0).sum(-1, keepdims=True) >= keep
            low, high = np.where(enough, low, middle), np.where(enough, middle, high)
        return np.where(keep >= seen.sum(-1, keepdims=True), 1.0, np.exp(np.minimum((finite + high) / eps, 0.0)))

    def _iterated(self, scores: Array, keep: Array) -> Array:
        eps, below = float(self.eps), np.zeros(scores.shape)
        level = np.zeros(keep.shape)
        for _ in range(self.steps or 0):
            raised = (scores + below) / eps
            top = np.max(raised, axis=-1, keepdims=True)
            level = eps * (np.log(keep) - top - np.log(np.exp(raised - top).sum(-1, keepdims=True)))
            below = np.minimum(-scores - level, 0.0)
        with np.errstate(invalid="ignore"):
            return np.exp((scores + level + np.where(np.isfinite(scores), below, 0.0)) / eps)

    def torch(self, site: Site) -> str:
        given = [site.whole(0), site.whole(1), repr(float(self.eps))]
        given += [f"steps={self.steps}"] if self.steps else []
        given += [f"among={site.whole(2)}"] if len(site.node.args) > 2 else []
        return f"{site.helper('soft_top_k')}({', '.join(given)})"

    triton = absent("torch's own")

    def onnx(self, site: OnnxSite) -> Value:
        return onnx_soft_top_k(self, site)

    @staticmethod
    def samples() -> tuple[Sample, ...]:
        token, mask = of(BATCH, SEQ), of(BATCH, SEQ)
        return (
            Sample(SoftTopK(Fraction(3, 10)), (token, of(BATCH)), low=1.0, high=3.0),
            Sample(SoftTopK(Fraction(1, 2)), (of(BATCH, SEQ, E), of(BATCH)), low=1.0, high=3.0),
            Sample(SoftTopK(Fraction(1), 3), (token, of(BATCH)), low=1.0, high=3.0),
            Sample(SoftTopK(Fraction(3, 10)), (token, of(BATCH), mask), low=1.0, high=3.0, masks=(2,)),
        )


@dataclass(frozen=True)
class LoadBalance(Operation):
    """How evenly a choice falls (Fedus et al., arXiv 2101.03961, equation 4): size Σ_e (share of all choices) (mean of p). 1 where it is even.

    Arguments: p and w over the axis, chosen where w ≠ 0; then conditions, all non-zero for the tokens that count. One number for the whole batch.
    """

    axis: Axis

    def infer(self, *types: Type) -> Type:
        axes = {axis for type_ in types for axis in type_.axes}
        return Type(axes_of(axes - {self.axis, BATCH, SEQ}))

    def cost(self, node: Node, sizes: Sizes) -> float:
        return 4.0 * float(np.prod([sizes[axis] for axis in {*node.axes, *node.args[0].axes}]))

    gradient = absent("no energy is of a whole batch")

    def takes_exact(self, node: Node, index: int) -> bool:
        return index > 0

    def reference(self, node: Node, arrays: tuple[Array, ...], sizes: Sizes) -> Array:
        axes = (*node.axes, self.axis, BATCH, SEQ)
        p, w, *conditions = (full(array, arg.axes, axes, sizes) for array, arg in zip(arrays, node.args, strict=True))
        counts = np.prod([condition != 0 for condition in conditions], axis=0) if conditions else np.ones(p.shape)
        chosen = ((w != 0) * counts).sum(axis=(-1, -2))
        share = chosen / np.maximum(chosen.sum(-1, keepdims=True), 1)
        mean = (p * counts).sum(axis=(-1, -2)) / np.maximum(counts.sum(axis=(-1, -2)), 1)
        return np.asarray(sizes[self.axis] * (share * mean).sum(-1))

    def arrange(self, node: Node, orders: Sequence[Order]) -> Arrangement:
        rest = tuple(axis for axis in merged(orders) if axis in node.axes)
        order = (BATCH, SEQ, *rest, self.axis)
        return Arrangement(tuple(tuple(axis if axis in own else None for axis in order) for own in orders), rest)

    def torch(self, site: Site) -> str:
        return f"{site.helper('load_balance')}({', '.join(site.whole(index) for index in range(len(site.node.args)))})"

    triton = absent("torch's own")

    def onnx(self, site: OnnxSite) -> Value:
        return onnx_load_balance(self, site)

    @staticmethod
    def samples() -> tuple[Sample, ...]:
        both = of(BATCH, SEQ, E)
        return (
            Sample(LoadBalance(E), (both, both)),
            Sample(LoadBalance(E), (both, of(BATCH, SEQ, D, E), of(BATCH, SEQ)), masks=(2,)),
        )


class On(Where):
    """`where` for whole tokens: arguments are a condition for each token, what is computed for those where it is non-zero, and 0.

    It says that the spec asks for no more: `mptc.passes.chosen` computes the second argument for the chosen tokens alone.
    """

    @staticmethod
    def samples() -> tuple[Sample, ...]:
        return (Sample(On(), (of(BATCH, SEQ), of(BATCH, SEQ, D), of())),)


def among(value: Node, by: Node, over: tuple[Axis, ...], n: int, masks: Sequence[Node]) -> Node:
    """The value where `by` is among the n largest, -∞ elsewhere."""
    return make(Where(), make(Among(over, n), by, *masks), value, make(Nothing()))
