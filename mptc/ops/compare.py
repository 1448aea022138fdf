"""Comparisons, choices, and the extremes of two values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mptc.ir.node import Node, Type, axes_of, make
from mptc.ops.arrays import Array, Sizes, spread
from mptc.ops.base import Operation, is_truth
from mptc.ops.contract import Contract, is_scalar, number, product, summed, total
from mptc.ops.onnx_token import onnx_compare
from mptc.ops.onnx_value import aligned, truth
from mptc.ops.sample import D, E, Sample, of
from mptc.ops.site import SUM, OnnxSite, Site, Value, bracketed
from mptc.ops.triton_text import TileSite, condition, numeric

SIGNS = {"<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal, "==": np.equal}


def _joined(*types: Type) -> Type:
    return Type(axes_of(axis for type_ in types for axis in type_.axes))


class Several(Operation, abstract=True):
    """Element by element on arguments of different axes."""

    def infer(self, *types: Type) -> Type:
        return _joined(*types)

    def cost(self, node: Node, sizes: Sizes) -> float:
        return float(np.prod([sizes[axis] for axis in node.axes]))

    def takes_scalar(self, node: Node, index: int, sizes: Sizes) -> bool:
        """One that is written as digits, beside a tensor."""
        return index >= len(node.args) - 2 and _is_number(node.args[index]) and not all(_is_number(arg) for arg in node.args[-2:])


def _aligned(node: Node, arrays: tuple[Array, ...]) -> list[Array]:
    return [spread(array, arg.axes, node.axes) for array, arg in zip(arrays, node.args, strict=True)]


def _onto(node: Node, index: int, adjoint: Node) -> Node:
    """The adjoint of a broadcast: summed over the axes that the argument lacks."""
    kept = node.args[index].axes
    return summed([adjoint], [axis for axis in node.axes if axis not in kept])


@dataclass(frozen=True)
class Compare(Several):
    """1 where it holds, else 0. Works on numbers and on ids."""

    sign: str

    def listed(self, node: Node, names: Sequence[str]) -> str:
        return f"{names[0]} {self.sign} {names[1]}"

    def gradient(self, node: Node, adjoint: Node, index: int) -> Node | None:
        return None

    def reference(self, node: Node, arrays: tuple[Array, ...], sizes: Sizes) -> Array:
        return np.asarray(SIGNS[self.sign](*_aligned(node, arrays)), dtype=float)

    def torch(self, site: Site) -> str:
        left, right = (bracketed(site.whole(index), SUM) for index in (0, 1))
        return f"{left} {self.sign} {right}"

    def triton(self, site: TileSite) -> str:
        return f"{numeric(site, 0)} {self.sign} {numeric(site, 1)}"

    def is_exact(self, node: Node) -> bool:
        return True

    def takes_exact(self, node: Node, index: int) -> bool:
        return True

    def takes_scalar(self, node: Node, index: int, sizes: Sizes) -> bool:
        return not all(is_scalar(arg) for arg in node.args)

    def onnx(self, site: OnnxSite) -> Value:
        names = {"<": "Less", "<=": "LessOrEqual", ">": "Greater", ">=": "GreaterOrEqual", "==": "Equal"}
        return onnx_compare(site, names[self.sign])

    @staticmethod
    def samples() -> tuple[Sample, ...]:
        return tuple(Sample(Compare(sign), (of(D, E), of(E))) for sign in SIGNS)


@dataclass(frozen=True)
class Where(Several):
    """where(c, a, b): `a` where `c` is non-zero, else `b`; the side not taken contributes nothing, not even a NaN."""

    def gradient(self, node: Node, adjoint: Node, index: int) -> Node | None:
        if index == 0:
            return None
        zero = number(0)
        sides = (adjoint, zero) if index == 1 else (zero, adjoint)
        return _onto(node, index, make(Where(), node.args[0], *sides))

    def reference(self, node: Node, arrays: tuple[Array, ...], sizes: Sizes) -> Array:
        condition, left, right = _aligned(node, arrays)
        return np.where(condition != 0, left, right)

    def torch(self, site: Site) -> str:
        condition = site.whole(0) if is_truth(site.node.args[0]) else f"{bracketed(site.whole(0), SUM)} != 0"
        code = f"torch.where({condition}, {site.whole(1)}, {site.whole(2)})"
        return f"{code}.to({site.helper('wide')})" if all(_is_short(arg, site.sizes) for arg in site.node.args[1:]) else code

    def triton(self, site: TileSite) -> str:
        return f"tl.where({condition(site, 0)}, {numeric(site, 1)}, {numeric(site, 2)})"

    def takes_scalar(self, node: Node, index: int, sizes: Sizes) -> bool:
        """Two that are written as digits make a float32, so both must be exact in it."""
        return index > 0 and (all(_is_short(arg, sizes) for arg in node.args[1:]) or super().takes_scalar(node, index, sizes))

    def takes_exact(self, node: Node, index: int) -> bool:
        return index == 0

    def onnx(self, site: OnnxSite) -> Value:
        condition, *sides = site.values
        names, dims = aligned(site, [truth(site, condition), *sides])
        return Value(site.emit("Where", *names), dims)

    @staticmethod
    def samples() -> tuple[Sample, ...]:
        return (Sample(Where(), (of(D), of(D, E), of(E))),)


@dataclass(frozen=True)
class Extreme(Several):
    """The smaller or the larger of two values; where they are equal the gradient goes to the first."""

    largest: bool

    @property
    def name(self) -> str:
        return "max" if self.largest else "min"

    def gradient(self, node: Node, adjoint: Node, index: int) -> Node | None:
        first = make(Compare(">=" if self.largest else "<="), *node.args)
        chosen = first if index == 0 else total((1, number(1)), (-1, first))
        return _onto(node, index, product(adjoint, chosen))

    def reference(self, node: Node, arrays: tuple[Array, ...], sizes: Sizes) -> Array:
        return np.asarray((np.maximum if self.largest else np.minimum)(*_aligned(node, arrays)))

    def torch(self, site: Site) -> str:
        numbers = [index for index, arg in enumerate(site.node.args) if _is_number(arg)]
        if len(numbers) == 1:
            return f"{site.tight(1 - numbers[0])}.clamp({'min' if self.largest else 'max'}={site.whole(numbers[0])})"
        return f"torch.{'maximum' if self.largest else 'minimum'}({site.whole(0)}, {site.whole(1)})"

    def triton(self, site: TileSite) -> str:
        return f"tl.{'maximum' if self.largest else 'minimum'}({numeric(site, 0)}, {numeric(site, 1)})"

    def onnx(self, site: OnnxSite) -> Value:
        names, dims = aligned(site)
        return Value(site.emit("Max" if self.largest else "Min", *names), dims)

    @staticmethod
    def samples() -> tuple[Sample, ...]:
        return tuple(Sample(Extreme(largest), (of(D, E), of(E))) for largest in (True, False))


def _is_short(node: Node, sizes: Sizes) -> bool:
    """Whether a node is a number that is exact in float32."""
    if not isinstance(node.op, Contract) or node.args:
        return False
    value = node.op.coef.evaluate(sizes)
    return float(np.float32(value)) == value


def _is_number(node: Node) -> bool:
    return not node.args and getattr(node.op, "operands", None) == ()


