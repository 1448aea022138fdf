"""`Map`: one function of numbers, element by element. A function is a row of a table; a derivative is IR in terms of the same table."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from mptc.ir.node import AbsentFacet, Node, Type, make
from mptc.ir.number import ONE, Monomial
from mptc.ops.arrays import Array, Sizes
from mptc.ops.base import Operation
from mptc.ops.contract import number, power, product, total
from mptc.ops.onnx_map import onnx_function
from mptc.ops.sample import D, Sample, of
from mptc.ops.site import OnnxSite, Site, Value
from mptc.ops.triton_text import TileSite, real


@dataclass(frozen=True)
class Map(Operation):
    """`order` 0 is the function itself; -1 its integral from 0, whose derivative is the function."""

    function: str
    order: int = 0

    def infer(self, *types: Type) -> Type:
        assert self.function in FUNCTIONS
        assert self.order in (0, -1)
        return Type(types[0].axes)

    @property
    def name(self) -> str:
        return self.function if self.order == 0 else f"integral({self.function})"

    def listed(self, node: Node, names: Sequence[str]) -> str:
        return f"{self.name}({names[0]})"

    def cost(self, node: Node, sizes: Sizes) -> float:
        return 4.0 * float(np.prod([sizes[axis] for axis in node.axes]))

    def gradient(self, node: Node, adjoint: Node, index: int) -> Node | None:
        argument = node.args[0]
        slope = make(Map(self.function), argument) if self.order else FUNCTIONS[self.function].slope(argument)
        return None if slope is None else product(adjoint, slope)

    def reference(self, node: Node, arrays: tuple[Array, ...], sizes: Sizes) -> Array:
        function = FUNCTIONS[self.function].reference
        if self.order == 0:
            return np.asarray(function(arrays[0]))
        return _quadrature(function, arrays[0])

    def torch(self, site: Site) -> str:
        entry = FUNCTIONS[self.function]
        text = entry.torch if self.order == 0 else entry.integral
        if not text:
            return site.helper(f"integral_{self.function}") + f"({site.whole(0)})"
        own = re.match(r"\w+\(", text)  # a function of the generated module's own
        if own:
            site.helper(own.group()[:-1])
        return text.format(site.whole(0), site.tight(0))

    def triton(self, site: TileSite) -> str:
        text = FUNCTIONS[self.function].triton if self.order == 0 else ""
        if not text:
            raise AbsentFacet(f"there is no {self.name} of a tile")
        return text.format(real(site, 0))

    def onnx(self, site: OnnxSite) -> Value:
        (value,) = site.values
        return value.named(onnx_function(site, self.function, self.order, value.name))

    @staticmethod
    def samples() -> tuple[Sample, ...]:
        plain = [Sample(Map(name), (of(D),), entry.low, entry.high) for name, entry in FUNCTIONS.items()]
        return (*plain, *(Sample(Map(name, -1), (of(D),), entry.low, entry.high) for name, entry in FUNCTIONS.items() if entry.integrable))


def apply(function: str, node: Node) -> Node:
    return make(Map(function), node)


def _quadrature(function: Callable[[Array], Array], z: Array) -> Array:
    """∫_0^z f by Gauss-Legendre on 16 panels of 32 nodes, or more where z is far: the independent meaning of `integral(f)`."""
    nodes, weights = np.polynomial.legendre.leggauss(32)
    result = np.zeros_like(z)
    panels = int(min(max(16, np.abs(z).max(initial=0.0) / 10), 1000))
    for panel in range(panels):
        for node, weight in zip(nodes, weights, strict=True):
            result = result + weight / (2 * panels) * z * function(z * ((panel + (node + 1) / 2) / panels))
    return result


# -- the table -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Function:
    """One element-wise function.

    `slope(z)`: its derivative as IR, None where it is 0. `torch`: text with {0} for the operand. `integral`: likewise for ∫_0^z, empty
    where a helper of the generated module computes it. `triton`: likewise text, for a tile. `positive`: its values are never below 0 (so a factor
    may enter a logarithm).
    """

    slope: Callable[[Node], Node | None]
    reference: Callable[[Array], Array]
    torch: str
    integral: str = ""
    triton: str = ""
    integrable: bool = True
    positive: bool = False
    low: float = -3.0
    high: float = 3.0
    aliases: tuple[str, ...] = field(default=())


def _tanh_slope(z: Node) -> Node:
    return total((1, number(1)), (-1, power(apply("tanh", z), Fraction(2))))


def _sigmoid_slope(z: Node) -> Node:
    s = apply("sigmoid", z)
    return product(s, total((1, number(1)), (-1, s)))


def _silu_slope(z: Node) -> Node:
    s = apply("sigmoid", z)
    return total((1, s), (1, product(apply("silu", z), total((1, number(1)), (-1, s)))))


def _gelu_slope_slope(z: Node) -> Node:
    density = apply("normal_density", z)
    return total((2, density), (-1, product(z, z, density)))


def _erf(z: Array) -> Array:
    return np.asarray(np.vectorize(math.erf, otypes=[float])(z))


def _sigmoid(z: Array) -> Array:
    return np.asarray(np.exp(-np.logaddexp(0, -z)))


def _density(z: Array) -> Array:
    return np.asarray(np.exp(-z * z / 2) / math.sqrt(2 * math.pi))


FUNCTIONS: dict[str, Function] = {
    "exp": Function(lambda z: apply("exp", z), np.exp, "torch.exp({0})", "torch.expm1({0})", positive=True, triton="tl.exp({0})"),
    "log": Function(lambda z: power(z, Fraction(-1)), np.log, "torch.log({0})", integrable=False, low=0.2, triton="tl.log({0})"),
    "sin": Function(lambda z: apply("cos", z), np.sin, "torch.sin({0})", "1 - torch.cos({0})", triton="tl.sin({0})"),
    "cos": Function(lambda z: product(apply("sin", z), coef=-ONE), np.cos, "torch.cos({0})", "torch.sin({0})", triton="tl.cos({0})"),
    "tanh": Function(_tanh_slope, np.tanh, "torch.tanh({0})", "log_cosh({0})", triton="2.0 * tl.sigmoid(2.0 * {0}) - 1.0"),
    "sigmoid": Function(
        _sigmoid_slope, _sigmoid, "torch.sigmoid({0})", "F.softplus({0}, threshold=40) - 0.6931471805599453", positive=True,
        triton="tl.sigmoid({0})",
    ),
    "softplus": Function(
        lambda z: apply("sigmoid", z), lambda z: np.logaddexp(0, z), "F.softplus({0}, threshold=40)", positive=True,
        triton="tl.maximum({0}, 0.0) + tl.log(1.0 + tl.exp(-tl.abs({0})))",
    ),
    "relu": Function(
        lambda z: apply("step", z), lambda z: np.maximum(z, 0), "F.relu({0})", "F.relu({0}).square() / 2", positive=True,
        triton="tl.maximum({0}, 0.0)",
    ),
    "relu2": Function(
        lambda z: product(apply("relu", z), coef=Monomial.of(2)),
        lambda z: np.maximum(z, 0) ** 2,
        "F.relu({0}).square()",
        "F.relu({0}).pow(3) / 3",
        positive=True,
        triton="tl.maximum({0}, 0.0) * tl.maximum({0}, 0.0)",
    ),
    "gelu": Function(
        lambda z: apply("gelu_slope", z), lambda z: z * (1 + _erf(z / math.sqrt(2))) / 2, "F.gelu({0})", "integral_gelu({0})",
        triton="0.5 * {0} * (1.0 + tl.erf({0} * 0.7071067811865476))",
    ),
    "gelu_slope": Function(
        _gelu_slope_slope,
        lambda z: (1 + _erf(z / math.sqrt(2))) / 2 + z * _density(z),
        "torch.ops.aten.gelu_backward(torch.ones_like({0}), {0})",
        "F.gelu({0})",
        triton="0.5 * (1.0 + tl.erf({0} * 0.7071067811865476)) + 0.3989422804014327 * {0} * tl.exp(-0.5 * {0} * {0})",
    ),
    "normal_density": Function(
        lambda z: product(z, apply("normal_density", z), coef=-ONE),
        _density,
        "torch.exp(-({0}).square() / 2) * 0.3989422804014327",
        "torch.erf({0} * 0.7071067811865476) / 2",
        positive=True,
        triton="0.3989422804014327 * tl.exp(-0.5 * {0} * {0})",
    ),
    "silu": Function(_silu_slope, lambda z: z * _sigmoid(z), "F.silu({0})", triton="{0} * tl.sigmoid({0})"),
    "abs": Function(lambda z: apply("sign", z), np.abs, "torch.abs({0})", "({0}) * ({0}).abs() / 2", positive=True, triton="tl.abs({0})"),
    "step": Function(
        lambda z: None, lambda z: (z > 0).astype(float), "({0} > 0).to({1}.dtype)", "F.relu({0})", positive=True,
        triton="tl.where({0} > 0, 1.0, 0.0)",
    ),
    "sign": Function(lambda z: None, np.sign, "torch.sign({0})", "torch.abs({0})", triton="tl.where({0} > 0, 1.0, tl.where({0} < 0, -1.0, 0.0))"),
    "ceil": Function(lambda z: None, np.ceil, "torch.ceil({0})", integrable=False, triton="tl.ceil({0})"),
    "floor": Function(lambda z: None, np.floor, "torch.floor({0})", integrable=False, triton="tl.floor({0})"),
}
