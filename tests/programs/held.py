"""What a derivative does not see, held fixed while values are moved: stopped values, comparisons, and steps of `floor` and its like.

The interpreter meets them in the same order in every run of one program, so a run with other values takes those of the first by their order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mptc.ops.compare import Compare
from mptc.ops.elementwise import Map
from mptc.ops.view import Stop

FLAT = ("floor", "ceil", "sign")


class Tape:
    """The values of one run."""

    def __init__(self) -> None:
        self.arrays: list[Any] | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """In the first run they are noted, in those after they are taken from it."""
        found = iter(self.arrays or ())
        noted: list[Any] | None = None if self.arrays is not None else []
        originals: list[tuple[type, Any]] = [(op, op.reference) for op in (Stop, Compare, Map)]

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
