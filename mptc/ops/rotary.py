"""Rotary position embedding (Su et al., arXiv 2104.09864), rotate-half convention. Its transpose is the rotation backwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from mptc.ir.axis import BATCH, CTX, SEQ, Axis, Role
from mptc.ir.node import Node, Type, absent, make
from mptc.ops.arrays import Array, Sizes
from mptc.ops.base import Arrangement, Operation, Order
from mptc.ops.compare import Compare
from mptc.ops.contract import product
from mptc.ops.leaf import Index, Position
from mptc.ops.onnx_token import onnx_rope
from mptc.ops.sample import E, K, Sample, of
from mptc.ops.site import Site


def token_axis(axes: tuple[Axis, ...]) -> Axis:
    """The axis of the token that a value belongs to: its own token, or the one viewed."""
    contexts = [axis for axis in axes if axis.role is Role.CONTEXT]
    return SEQ if SEQ in axes or not contexts else contexts[0]


def ones(like: Node) -> Node:
    """1 along the axes of a value: a constant adjoint is turned at every token all the same."""
    return make(Compare("=="), like, like)


@dataclass(frozen=True)
class Rope(Operation):
    """e rotated by its token's position; `inverse` rotates back."""

    axis: Axis
    base: Fraction = Fraction(10_000)
    inverse: bool = False

    def infer(self, *types: Type) -> Type:
        assert self.axis in types[0].axes
        return Type(types[0].axes)

    def cost(self, node: Node, sizes: Sizes) -> float:
        return 6.0 * float(np.prod([sizes[axis] for axis in node.axes]))

    def gradient(self, node: Node, adjoint: Node, index: int) -> Node | None:
        token = token_axis(node.axes)
        flow = adjoint if self.axis in adjoint.axes else product(adjoint, ones(make(Index(self.axis))))
        if token not in flow.axes:
            flow = product(flow, ones(make(Position() if token == SEQ else Index(token))))
        return make(Rope(self.axis, self.base, not self.inverse), flow)

    def reference(self, node: Node, arrays: tuple[Array, ...], sizes: Sizes) -> Array:
        key, token = sizes[self.axis], token_axis(node.axes)
        value = np.moveaxis(arrays[0], (node.axes.index(token), node.axes.index(self.axis)), (-2, -1))
        angle = np.arange(sizes[token])[:, None] * float(self.base) ** (-np.arange(0, key, 2) / key)[None, :]
        cos, sin = np.cos(angle), np.sin(angle) * (-1 if self.inverse else 1)
        first, second = value[..., : key // 2], value[..., key // 2 :]
        turned = np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
        return np.moveaxis(turned, (-2, -1), (node.axes.index(token), node.axes.index(self.axis)))

    def arrange(self, node: Node, orders: Sequence[Order]) -> Arrangement:
        """[batch, …, token, key]: as attention likes it, and as the tables of cosines broadcast."""
        token = token_axis(node.axes)
        front = tuple(axis for axis in orders[0] if axis not in (token, self.axis))
        order = tuple(axis for axis in front if axis == BATCH) + tuple(axis for axis in front if axis != BATCH) + (token, self.axis)
        return Arrangement((order,), order)

    def torch(self, site: Site) -> str:
        token = token_axis(site.node.axes)
        along = "" if token == SEQ else f", {token}"
        tables = site.helper(f"rotation({site.sizes[self.axis]}, {float(self.base)!r}{along})")
        return f"{site.helper('rope')}({site.whole(0)}, {tables}{', -1' if self.inverse else ''})"

    triton = absent("printed by the region that contains it")
    onnx = onnx_rope

    @staticmethod
    def samples() -> tuple[Sample, ...]:
        return (Sample(Rope(K), (of(SEQ, E, K),)), Sample(Rope(K, Fraction(100), inverse=True), (of(CTX, K),)))
