"""The element-wise functions and their integrals from 0 in ONNX, each where it is accurate: near 0, and far from it."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from mptc.ops.onnx_value import call
from mptc.ops.site import OnnxSite

Written = Callable[[OnnxSite, str], str]
LOG_2 = math.log(2)
POINTS = 64


def onnx_function(site: OnnxSite, function: str, order: int, z: str) -> str:
    return (FUNCTIONS if order == 0 else INTEGRALS)[function](site, z)


def _plain(op_type: str) -> Written:
    return lambda site, z: site.emit(op_type, z)


def _square(site: OnnxSite, z: str) -> str:
    return call(site, "Mul", z, z)


def _relu2(site: OnnxSite, z: str) -> str:
    return _square(site, site.emit("Relu", z))


def _silu(site: OnnxSite, z: str) -> str:
    return call(site, "Mul", z, site.emit("Sigmoid", z))


def _step(site: OnnxSite, z: str) -> str:
    return site.emit("Cast", call(site, "Greater", z, 0.0), to=site.numbers)


def _error(site: OnnxSite, z: str) -> str:
    """erf(z / √2)"""
    return site.emit("Erf", call(site, "Mul", z, math.sqrt(0.5)))


def _normal(site: OnnxSite, z: str) -> str:
    return call(site, "Mul", call(site, "Add", _error(site, z), 1.0), 0.5)


def _density(site: OnnxSite, z: str) -> str:
    return call(site, "Mul", site.emit("Exp", call(site, "Mul", _square(site, z), -0.5)), 1 / math.sqrt(2 * math.pi))


def _gelu_slope(site: OnnxSite, z: str) -> str:
    return call(site, "Add", _normal(site, z), call(site, "Mul", z, _density(site, z)))


FUNCTIONS: dict[str, Written] = {
    "exp": _plain("Exp"),
    "log": _plain("Log"),
    "sin": _plain("Sin"),
    "cos": _plain("Cos"),
    "tanh": _plain("Tanh"),
    "sigmoid": _plain("Sigmoid"),
    "softplus": _plain("Softplus"),
    "relu": _plain("Relu"),
    "relu2": _relu2,
    "gelu": _plain("Gelu"),
    "gelu_slope": _gelu_slope,
    "normal_density": _density,
    "silu": _silu,
    "abs": _plain("Abs"),
    "step": _step,
    "sign": _plain("Sign"),
    "ceil": _plain("Ceil"),
    "floor": _plain("Floor"),
}


# -- integrals ---------------------------------------------------------------------------------------


def _expm1(site: OnnxSite, z: str) -> str:
    """tanh(z/2) (e^z + 1): accurate near 0, where e^z - 1 is not."""
    return call(site, "Mul", site.emit("Tanh", call(site, "Mul", z, 0.5)), call(site, "Add", site.emit("Exp", z), 1.0))


def _one_minus_cos(site: OnnxSite, z: str) -> str:
    return call(site, "Mul", _square(site, site.emit("Sin", call(site, "Mul", z, 0.5))), 2.0)


def _log_cosh(site: OnnxSite, z: str) -> str:
    """|z| + softplus(-2|z|) - log 2, which does not overflow."""
    size = site.emit("Abs", z)
    return call(site, "Sub", call(site, "Add", size, site.emit("Softplus", call(site, "Mul", size, -2.0))), LOG_2)


def _gelu_integral(site: OnnxSite, z: str) -> str:
    """((z² - 1) Φ + z φ) / 2 + 1/4"""
    inner = call(site, "Mul", call(site, "Sub", _square(site, z), 1.0), _normal(site, z))
    return call(site, "Add", call(site, "Mul", call(site, "Add", inner, call(site, "Mul", z, _density(site, z))), 0.5), 0.25)


def _tail(site: OnnxSite, z: str, function: Written) -> str:
    """∫_0^|z| f(-t) dt by Gauss-Legendre, for an f that vanishes far below 0; beyond 40 it is constant."""
    points, weights = np.polynomial.legendre.leggauss(POINTS)
    size = call(site, "Min", site.emit("Abs", z), 40.0)
    at = call(site, "Mul", site.emit("Unsqueeze", size, site.constant([-1])), site.constant((points + 1) / -2))
    return call(site, "Mul", site.emit("MatMul", function(site, at), site.constant(weights / 2)), size)


def _beside_square(function: str) -> Written:
    """∫ f for an f that is t + f(-t) at t above 0: z²/2 and the tail there, minus the tail below."""

    def written(site: OnnxSite, z: str) -> str:
        rest = _tail(site, z, FUNCTIONS[function])
        above = call(site, "Add", call(site, "Mul", _square(site, z), 0.5), rest)
        return site.emit("Where", call(site, "Greater", z, 0.0), above, site.emit("Neg", rest))

    return written


INTEGRALS: dict[str, Written] = {
    "exp": _expm1,
    "sin": _one_minus_cos,
    "cos": _plain("Sin"),
    "tanh": _log_cosh,
    "sigmoid": lambda site, z: call(site, "Sub", site.emit("Softplus", z), LOG_2),
    "softplus": _beside_square("softplus"),
    "relu": lambda site, z: call(site, "Mul", _relu2(site, z), 0.5),
    "relu2": lambda site, z: call(site, "Mul", call(site, "Mul", _relu2(site, z), site.emit("Relu", z)), 1 / 3),
    "gelu": _gelu_integral,
    "gelu_slope": _plain("Gelu"),
    "normal_density": lambda site, z: call(site, "Mul", _error(site, z), 0.5),
    "silu": _beside_square("silu"),
    "abs": lambda site, z: call(site, "Mul", call(site, "Mul", z, site.emit("Abs", z)), 0.5),
    "step": _plain("Relu"),
    "sign": _plain("Abs"),
}
