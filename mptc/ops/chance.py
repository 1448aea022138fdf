"""Dropout (Srivastava et al., JMLR 2014): in training each number is 0 with probability p, else divided by 1 - p; in evaluation nothing happens."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import count

import numpy as np

from mptc.ir.node import Node, Type, absent
from mptc.ops.arrays import Array, Sizes
from mptc.ops.base import Operation
from mptc.ops.sample import D, E, Sample, of
from mptc.ops.site import OnnxSite, Site, Value

_draws = count()


@dataclass(frozen=True)
class Dropout(Operation):
    """`draw` tells one use from every other: each draws for itself. `inside`: the key of a variable of the loop it stands in, if any; it draws
    in every pass anew."""

    p: Fraction
    draw: int
    inside: int | None = None

    def infer(self, *types: Type) -> Type:
        return Type(types[0].axes)

    def cost(self, node: Node, sizes: Sizes) -> float:
        return float(np.prod([sizes[axis] for axis in node.axes]))

    gradient = absent("does not stand in an energy")

    def reference(self, node: Node, arrays: tuple[Array, ...], sizes: Sizes) -> Array:
        return np.asarray(arrays[0])

    def torch(self, site: Site) -> str:
        return f"F.dropout({site.tensor(0)}, {float(self.p)!r}, self.training)"

    triton = absent("printed by the region that contains it")

    def onnx(self, site: OnnxSite) -> Value:
        return site.values[0]

    @staticmethod
    def samples() -> tuple[Sample, ...]:
        return (Sample(Dropout(Fraction(1, 10), 0), (of(D, E),)),)


def dropout(p: Fraction, inside: int | None) -> Dropout:
    return Dropout(p, next(_draws), inside)
