"""Seeing other tokens, and standing still: views, barriers, stopped gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mptc.ir.axis import CTX, SEQ, Axis
from mptc.ir.node import Constraint, Node, Type, absent, axes_of, make
from mptc.ops.arrays import Array, Sizes, full
from mptc.ops.base import Operation
from mptc.ops.contract import renamed, summed
from mptc.ops.sample import D, Sample, of
from mptc.ops.site import OnnxSite, Site, Value


class Same(Operation, abstract=True):
    """The value of the argument, unchanged."""

    def infer(self, *types: Type) -> Type:
        return types[0]

    def cost(self, node: Node, sizes: Sizes) -> float:
        return 0.0

    def reference(self, node: Node, arrays: tuple[Array, ...], sizes: Sizes) -> Array:
        return np.asarray(arrays[0])

    triton = absent("nothing is computed")

    def onnx(self, site: OnnxSite) -> Value:
        return site.values[0]


@dataclass(frozen=True)
class View(Same):
    """Axis `seq` seen as a context axis. `limits` say which tokens are seen; they have no effect on the value, only on reductions of it."""

    over: Axis
    limits: tuple[Constraint, ...] = ()

    def listed(self, node: Node, names: Sequence[str]) -> str:
        return f"view[{self.over}]({names[0]})"

    def infer(self, *types: Type) -> Type:
        axes = axes_of(self.over if axis == SEQ else axis for axis in types[0].axes)
        return Type(axes_of((*axes, self.over)), types[0].kind, ((self.over, self.limits),))

    def gradient(self, node: Node, adjoint: Node, index: int) -> Node | None:
        """What is seen under a mask has no cotangent outside it, so the adjoint needs none."""
        if SEQ not in node.args[0].axes:  # the same for every token seen
            return summed([adjoint], [self.over])
        return renamed(adjoint, {self.over: SEQ})

    def reference(self, node: Node, arrays: tuple[Array, ...], sizes: Sizes) -> Array:
        seen = tuple(self.over if axis == SEQ else axis for axis in node.args[0].axes)
        return np.array(full(arrays[0], seen, node.axes, sizes))

    derived = False
    torch = absent("dissolved when the IR is made canonical")
    onnx = absent("dissolved when the IR is made canonical")

    @staticmethod
    def samples() -> tuple[Sample, ...]:
        return (Sample(View(CTX), (of(SEQ, D),)),)


@dataclass(frozen=True)
class Hold(Same):
    """A barrier: nothing is flattened or distributed through it. `x <-`, block results and the state of loops are barriers."""

    def gradient(self, node: Node, adjoint: Node, index: int) -> Node | None:
        return adjoint

    def torch(self, site: Site) -> str:
        return site.whole(0)

    @staticmethod
    def samples() -> tuple[Sample, ...]:
        return (Sample(Hold(), (of(D),)),)


@dataclass(frozen=True)
class Stop(Same):
    """The value, with no gradient through it."""

    def gradient(self, node: Node, adjoint: Node, index: int) -> Node | None:
        return None

    def torch(self, site: Site) -> str:
        return f"{site.tight(0)}.detach()"

    @staticmethod
    def samples() -> tuple[Sample, ...]:
        return (Sample(Stop(), (of(D),)),)


def hold(node: Node) -> Node:
    return make(Hold(), node, span=node.span)


@dataclass(frozen=True)
class Limit(Same):
    """The same view, of those tokens alone that `limits` let through."""

    over: Axis
    limits: tuple[Constraint, ...]

    def listed(self, node: Node, names: Sequence[str]) -> str:
        return f"limit[{self.over}]({names[0]})"

    def infer(self, *types: Type) -> Type:
        return Type(types[0].axes, types[0].kind, ((self.over, self.limits),))

    gradient = Hold.gradient
    derived = False
    torch = absent("dissolved when the IR is made canonical")
    onnx = absent("dissolved when the IR is made canonical")

    @staticmethod
    def samples() -> tuple[Sample, ...]:
        return (Sample(Limit(CTX, ("past",)), (of(CTX, D),)),)
