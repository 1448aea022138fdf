"""Arguments to test an op's facets on."""

from __future__ import annotations

from dataclasses import dataclass

from mptc.ir.axis import BATCH, CTX, SEQ, Axis, dim
from mptc.ir.node import Op, Type, axes_of

D, E, K = dim("d"), dim("e"), dim("k")
SIZES = {BATCH: 2, SEQ: 5, CTX: 5, D: 4, E: 3, K: 6, dim("d+e"): 7}


@dataclass(frozen=True)
class Sample:
    """An op and the types of its arguments; numbers are drawn from `low` to `high`, ids below `vocabulary`.

    `masks`: the arguments that say, by 1 and 0, what a token sees.
    """

    op: Op
    types: tuple[Type, ...]
    low: float = -2.0
    high: float = 2.0
    vocabulary: int = 4
    masks: tuple[int, ...] = ()


def of(*axes: Axis) -> Type:
    return Type(axes_of(axes))
