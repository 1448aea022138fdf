"""Sparsity as a part of a value's type: along which axes only some entries are there, and what the others are.

`topk` leaves -inf beside what it chooses (`chosen`); `softmax` and `exp` of that leave 0 (`sparse`), and a product with a sparse value is sparse.
So the type of `softmax[expert](topk[expert](s, 2)) * each expert { … }` says that two experts are enough.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from mptc.ir.axis import Axis
from mptc.model.tree import Shape

Axes = frozenset[Axis]
NONE: Axes = frozenset()
_ZERO_OF_ZERO = frozenset({"relu", "relu2", "abs", "sin", "tanh", "gelu", "silu", "sqrt", "neg", "stop", "here", "dropout", "rope", "rms"})
_ZERO_OF_NOTHING = frozenset({"exp", "sigmoid", "softplus", "relu", "relu2"})  # f(-inf) = 0


def supported(function: str, args: Sequence[Shape], axes: Sequence[Axis], shape: Shape) -> Shape:
    """The shape of a result with its sparsity, read off those of its arguments."""
    chosen = _chosen(function, args, frozenset(axes)) & frozenset(shape.axes)
    sparse = _sparse(function, args, frozenset(axes))
    return shape if (chosen, sparse) == (shape.chosen, shape.sparse) else replace(shape, chosen=chosen, sparse=sparse)


def _chosen(function: str, args: Sequence[Shape], axes: Axes) -> Axes:
    match function:
        case "topk":
            return axes
        case "+":
            return _over(frozenset.union, [arg.chosen for arg in args])
        case "-" | "stop" | "here":
            return args[0].chosen
        case _:
            return NONE


def _sparse(function: str, args: Sequence[Shape], axes: Axes) -> Axes:
    first = args[0] if args else Shape()
    match function:
        case "softtopk":
            return axes
        case "softmax":
            return first.chosen
        case "*":
            return _over(frozenset.union, [arg.sparse for arg in args])
        case "@":
            return _over(frozenset.union, [arg.sparse for arg in args]) - axes
        case "/" | "^":
            return first.sparse
        case "+" | "-":
            return _over(frozenset.intersection, [arg.sparse for arg in args])
        case "sum" | "mean":
            return first.sparse - axes
    nothing = first.chosen if function in _ZERO_OF_NOTHING else NONE
    return nothing | (first.sparse if function in _ZERO_OF_ZERO else NONE)


def _over(join: Callable[..., Axes], several: list[Axes]) -> Axes:
    return join(*several) if several else NONE
