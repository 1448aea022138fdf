"""What a derivative does not see, held fixed while values are moved: stopped values, comparisons, and steps of `floor` and its like.

The interpreter meets them in the same order in every run of one program, so a run with other values takes those of the first by their order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from mptc.ir.node import Node, Op, walk
from mptc.ops.chosen import Among
from mptc.ops.compare import Compare
from mptc.ops.contract import Contract, Sum
from mptc.ops.elementwise import Map
from mptc.ops.leaf import Formal, Input, Param
from mptc.ops.norm import Rms, Rstd
from mptc.ops.reduce import Lse, Softmax
from mptc.ops.region import Gathered, Result
from mptc.ops.rotary import Rope
from mptc.ops.view import Stop

FLAT = ("floor", "ceil", "sign")
ROUNDING = 1e-14


class Tape:
    """The values of one run."""

    def __init__(self) -> None:
        self.arrays: list[Any] | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """In the first run they are noted, in those after they are taken from it."""
        found = iter(self.arrays or ())
        noted: list[Any] | None = None if self.arrays is not None else []
        originals: list[tuple[type, Any]] = [(op, op.reference) for op in (Stop, Compare, Map, Among)]

        def held(original: Callable[..., Any]) -> Callable[..., Any]:
            def reference(op: Any, *args: Any) -> Any:
                if isinstance(op, Map) and (op.function not in FLAT or op.order):
                    return original(op, *args)
                if noted is None:
                    return next(found)
                noted.append(original(op, *args))
                return noted[-1]

            return reference

        try:
            for op, original in originals:
                op.reference = held(original)  # type: ignore[attr-defined]
            yield
        finally:
            for op, original in originals:
                op.reference = original  # type: ignore[attr-defined]
        if noted is not None:
            self.arrays = noted
        else:
            assert next(found, None) is None, "another run met fewer"


@contextmanager
def rounding(generator: np.random.Generator, off: float = ROUNDING) -> Iterator[None]:
    """Whatever is computed from parameters and inputs is off by a rounding of its own, as in another order of the same operations."""
    originals: list[tuple[type[Op], Any]] = [(op, op.reference) for op in (Contract, Sum, Map, Lse, Softmax, Rms, Rstd, Rope)]
    given: dict[Node, bool] = {}

    def moved(original: Callable[..., Any]) -> Callable[..., Any]:
        def reference(op: Any, node: Node, *args: Any) -> Any:
            found = original(op, node, *args)
            for inner in walk([node], given):
                given[inner] = isinstance(inner.op, Param | Input | Formal | Result | Gathered) or any(given[arg] for arg in inner.args)
            same = (isinstance(op, Contract) and op.renames) or (isinstance(op, Map) and op.function in FLAT)
            return found if same or not given[node] else found * (1 + off * generator.normal(size=np.shape(found)))

        return reference

    try:
        for op, original in originals:
            op.reference = moved(original)  # type: ignore[method-assign]
        yield
    finally:
        for op, original in originals:
            op.reference = original  # type: ignore[method-assign]
