"""The element-wise functions and comparisons of the naive meaning, as torch has them."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from mptc.ir.axis import Axis

FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "exp": torch.exp,
    "log": torch.log,
    "sin": torch.sin,
    "cos": torch.cos,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "softplus": lambda z: torch.logaddexp(z, torch.zeros_like(z)),
    "relu": torch.relu,
    "relu2": lambda z: torch.relu(z) ** 2,
    "gelu": lambda z: z * (1 + torch.erf(z / math.sqrt(2))) / 2,
    "silu": lambda z: z * torch.sigmoid(z),
    "abs": torch.abs,
    "sign": torch.sign,
    "ceil": torch.ceil,
    "floor": torch.floor,
}

COMPARISONS = {"<": torch.lt, "<=": torch.le, ">": torch.gt, ">=": torch.ge, "==": torch.eq}


def onto(value: Tensor, axes: tuple[Axis, ...], wider: tuple[Axis, ...]) -> Tensor:
    """A dimension of size 1 for every axis that the value lacks."""
    return value.reshape([value.shape[axes.index(axis)] if axis in axes else 1 for axis in wider])
