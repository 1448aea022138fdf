"""Rotary position embedding (Su et al., arXiv 2104.09864), rotate-half convention. Its transpose is the rotation backwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from mptc.ir.axis import BATCH, CTX, SEQ, Axis, Role
from mptc.ir.node import Node, Type, absent, axes_of, make
from mptc.ops.arrays import Array, Sizes, full
from mptc.ops.base import Arrangement, Operation, Order, lined_up
from mptc.ops.compare import Compare
from mptc.ops.contract import product
from mptc.ops.leaf import Index, Position
from mptc.ops.onnx_token import onnx_rope
from mptc.ops.sample import E, K, Sample, of
from mptc.ops.site import OnnxSite, Site, Value


def token_axis(axes: tuple[Axis, ...]) -> Axis:
    """The axis of the token that a value belongs to: its own token, a chosen one, or the one viewed."""
    contexts = [axis for axis in axes if axis.role is Role.CONTEXT]
    own = [axis for axis in axes if axis.role is Role.TOKEN]
    return SEQ if SEQ in own or not own + contexts else (own + contexts)[0]


def ones(like: Node) -> Node:
    """1 along the axes of a value: a constant adjoint is turned at every token all the same."""
    return make(Compare("=="), like, like)


@dataclass(frozen=True)
class Rope(Operation):
    """e rotated by its token's position; `inverse` rotates back.

    The position is a second argument where it is not the token's number in this call: [batch, token].
    """

    axis: Axis
    base: Fraction = Fraction(10_000)
    inverse: bool = False

    def infer(self, *types: Type) -> Type:
        assert self.axis in types[0].axes
        return Type(axes_of(axis for type_ in types for axis in type_.axes))

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
        value = np.moveaxis(full(arrays[0], node.args[0].axes, node.axes, sizes), (node.axes.index(token), node.axes.index(self.axis)), (-2, -1))
        place = arrays[1] if len(arrays) > 1 else np.arange(sizes[token])
        place = place.reshape(*place.shape[:-1], *[1] * (value.ndim - 1 - place.ndim), place.shape[-1])
        angle = place[..., None] * float(self.base) ** (-np.arange(0, key, 2) / key)
        cos, sin = np.cos(angle), np.sin(angle) * (-1 if self.inverse else 1)
        first, second = value[..., : key // 2], value[..., key // 2 :]
        turned = np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
        return np.moveaxis(turned, (-2, -1), (node.axes.index(token), node.axes.index(self.axis)))

    def arrange(self, node: Node, orders: Sequence[Order]) -> Arrangement:
        """[batch, …, token, key]: as attention likes it, and as the tables of cosines broadcast."""
        token = token_axis(node.axes)
        front = tuple(axis for axis in orders[0] if axis not in (token, self.axis))
        order = tuple(axis for axis in front if axis == BATCH) + tuple(axis for axis in front if axis != BATCH) + (token, self.axis)
        if len(orders) == 1:
            return Arrangement((order,), order)
        whole = order if BATCH in order else (BATCH, *order)
        return Arrangement((lined_up(order, whole), (BATCH, token)), whole)

    def takes_exact(self, node: Node, index: int) -> bool:
        return index == 1

    def torch(self, site: Site) -> str:
        token = token_axis(site.node.axes)
        turn = f"{site.sizes[self.axis]}, {float(self.base)!r}"
        if len(site.node.args) == 1:
            along = "" if token == SEQ else f", {token}"
            code = f"{site.helper('rope')}({site.whole(0)}, {site.helper(f'rotation({turn}{along})')}"
        elif token == SEQ:  # what the next tokens are rotated by is the same for all values
            code = f"{site.helper('rope_at')}({site.whole(0)}, {site.helper(f'rotation({turn})')}"
        else:
            code = f"{site.helper('rope_at')}({site.whole(0)}, {site.helper('rotation_at')}({site.whole(1)}, {turn}, {site.tight(0)}.dtype)"
        return f"{code}{', -1' if self.inverse else ''})"

    triton = absent("printed by the region that contains it")

    def onnx(self, site: OnnxSite) -> Value:
        return onnx_rope(self, site, token_axis(site.node.axes))

    @staticmethod
    def samples() -> tuple[Sample, ...]:
        return (Sample(Rope(K), (of(SEQ, E, K),)), Sample(Rope(K, Fraction(100), inverse=True), (of(CTX, K),)))
