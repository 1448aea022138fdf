"""RMS normalisation. A primitive: flattened into `x · r^(-1/2)` it would drift apart, and half precision would see unnormalised numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from mptc.ir.axis import Axis
from mptc.ir.node import Node, Type, absent, axes_of, make
from mptc.ir.number import Monomial
from mptc.ops.arrays import Array, Sizes, full
from mptc.ops.base import Arrangement, Operation, Order, merged
from mptc.ops.contract import product, summed, total
from mptc.ops.onnx_norm import onnx_rms, onnx_rstd
from mptc.ops.sample import D, E, Sample, of
from mptc.ops.site import OnnxSite, Site, Value
from mptc.ops.triton_text import TileSite, triton_rstd


def _mean_square(node: Node, arrays: tuple[Array, ...], over: tuple[Axis, ...]) -> Array:
    axes = node.args[0].axes
    return np.asarray((arrays[0] ** 2).mean(axis=tuple(axes.index(axis) for axis in over), keepdims=True))


@dataclass(frozen=True)
class Rms(Operation):
    """e / sqrt(mean[over](e²) + eps)"""

    over: tuple[Axis, ...]
    eps: Fraction = Fraction(1, 10**6)

    def infer(self, *types: Type) -> Type:
        assert set(self.over) <= set(types[0].axes)
        return Type(types[0].axes)

    def cost(self, node: Node, sizes: Sizes) -> float:
        return 4.0 * float(np.prod([sizes[axis] for axis in node.axes]))

    def gradient(self, node: Node, adjoint: Node, index: int) -> Node | None:
        """rstd (adjoint - r mean[over](r adjoint)), r = rms(e)"""
        rstd = make(Rstd(self.over, self.eps), node.args[0])
        share = Monomial.of(1)
        for axis in self.over:
            share = share.over(Monomial.size(axis))
        mean = summed([node, adjoint], self.over, share)
        return product(rstd, total((1, adjoint), (-1, product(node, mean))))

    def reference(self, node: Node, arrays: tuple[Array, ...], sizes: Sizes) -> Array:
        return np.asarray(arrays[0] / np.sqrt(_mean_square(node, arrays, self.over) + float(self.eps)))

    def arrange(self, node: Node, orders: Sequence[Order]) -> Arrangement:
        """The axes normalised come last, in the order they have."""
        order = tuple(axis for axis in orders[0] if axis not in self.over) + tuple(axis for axis in orders[0] if axis in self.over)
        return Arrangement((order,), order)

    def torch(self, site: Site) -> str:
        sizes = ", ".join(str(site.sizes[axis]) for axis in site.order[-len(self.over) :])
        return f"F.rms_norm({site.whole(0)}, ({sizes},), eps={float(self.eps)!r})"

    def triton(self, site: TileSite) -> str:
        return f"{site.operand(0)} * {triton_rstd(self.over, self.eps, site)}"

    def onnx(self, site: OnnxSite) -> Value:
        return onnx_rms(site, self.over, self.eps)

    @classmethod
    def samples(cls) -> tuple[Sample, ...]:
        return (Sample(cls((D,)), (of(D, E),)), Sample(cls((D, E), Fraction(1, 100)), (of(D, E),)))


@dataclass(frozen=True)
class Rstd(Operation):
    """1 / sqrt(mean[over](e²) + eps)"""

    over: tuple[Axis, ...]
    eps: Fraction = Fraction(1, 10**6)

    def infer(self, *types: Type) -> Type:
        return Type(axes_of(set(types[0].axes) - set(self.over)))

    def cost(self, node: Node, sizes: Sizes) -> float:
        return 3.0 * float(np.prod([sizes[axis] for axis in node.args[0].axes]))

    def gradient(self, node: Node, adjoint: Node, index: int) -> Node | None:
        """-adjoint rstd³ e / n"""
        share = Monomial.of(-1)
        for axis in self.over:
            share = share.over(Monomial.size(axis))
        return product(adjoint, node, node, node, node.args[0], coef=share)

    def reference(self, node: Node, arrays: tuple[Array, ...], sizes: Sizes) -> Array:
        square = _mean_square(node, arrays, self.over)
        places = tuple(node.args[0].axes.index(axis) for axis in self.over)
        return np.asarray(np.squeeze(1 / np.sqrt(square + float(self.eps)), axis=places))

    def arrange(self, node: Node, orders: Sequence[Order]) -> Arrangement:
        order = merged(orders)
        return Arrangement((order,), tuple(axis for axis in order if axis not in self.over))

    def torch(self, site: Site) -> str:
        order = site.orders[0]
        places = [order.index(axis) - len(order) for axis in order if axis in self.over]
        dims = str(places[0]) if len(places) == 1 else str(tuple(places))
        return f"({site.tight(0)}.square().mean({dims}) + {float(self.eps)!r}).rsqrt()"

    def triton(self, site: TileSite) -> str:
        return triton_rstd(self.over, self.eps, site)

    def onnx(self, site: OnnxSite) -> Value:
        return onnx_rstd(site, self.over, self.eps)

    @classmethod
    def samples(cls) -> tuple[Sample, ...]:
        return (Sample(cls((D,)), (of(D, E),)),)


@dataclass(frozen=True)
class GainedRms(Rms):
    """gain · rms[over](e): what every library calls RMSNorm. Arguments: the value and the gain, over the same axes."""

    def infer(self, *types: Type) -> Type:
        assert set(types[1].axes) == set(self.over) <= set(types[0].axes)
        return Type(types[0].axes)

    gradient = absent("made after energies are differentiated")

    def triton(self, site: TileSite) -> str:
        return f"{super().triton(site)} * {site.operand(1)}"

    def reference(self, node: Node, arrays: tuple[Array, ...], sizes: Sizes) -> Array:
        normalised = arrays[0] / np.sqrt(_mean_square(node, arrays, self.over) + float(self.eps))
        return np.asarray(normalised * full(arrays[1], node.args[1].axes, node.axes, sizes))

    def arrange(self, node: Node, orders: Sequence[Order]) -> Arrangement:
        order = tuple(axis for axis in orders[0] if axis not in self.over) + orders[1]
        return Arrangement((order, orders[1]), order)

    def torch(self, site: Site) -> str:
        sizes = ", ".join(str(site.sizes[axis]) for axis in site.order[-len(self.over) :])
        return f"F.rms_norm({site.whole(0)}, ({sizes},), {site.whole(1)}, eps={float(self.eps)!r})"

    @classmethod
    def samples(cls) -> tuple[Sample, ...]:
        return (Sample(cls((D,)), (of(D, E), of(D))),)
