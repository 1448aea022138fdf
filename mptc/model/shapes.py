"""Shapes: how axes meet, and how they are shown.

`UNKNOWN` is the shape of a value that an earlier error left without one. Whatever it enters is unknown too and gives no further errors.
"""

from __future__ import annotations

from collections.abc import Iterable

from mptc.ir.axis import Axis, Role
from mptc.ir.number import ZERO
from mptc.model.tree import Expr, Number, Per, Shape
from mptc.source.text import Span

UNKNOWN = Shape(axes=(), per=Per.CONSTANT, limited=frozenset())  # compared by identity


def known(*shapes: Shape) -> bool:
    return all(shape is not UNKNOWN for shape in shapes)


def poison(span: Span) -> Expr:
    return Number(ZERO, shape=UNKNOWN, span=span)


def ordered(axes: Iterable[Axis]) -> tuple[Axis, ...]:
    """The language's order: contexts, then the others as they first appear."""
    distinct = dict.fromkeys(axes)
    return (*(axis for axis in distinct if is_context(axis)), *(axis for axis in distinct if not is_context(axis)))


def is_context(axis: Axis) -> bool:
    return axis.role is Role.CONTEXT


def joined(shapes: Iterable[Shape], without: Iterable[Axis] = ()) -> Shape:
    """What a broadcast of these has; `without` are the axes summed on the way. Where views of one context meet, both limit it."""
    several = tuple(shapes)
    if not known(*several):
        return UNKNOWN
    gone = frozenset(without)
    axes = ordered(axis for shape in several for axis in shape.axes if axis not in gone)
    per = max((shape.per for shape in several), default=Per.CONSTANT)
    limited: frozenset[Axis] = frozenset().union(*(shape.limited for shape in several)) - gone
    return Shape(axes, per, None, limited)


def reshaped(shape: Shape, axes: Iterable[Axis]) -> Shape:
    """The same value under other axes."""
    kept = ordered(axes)
    return Shape(kept, shape.per, shape.vocabulary, shape.limited & frozenset(kept))


def without(shape: Shape, gone: Iterable[Axis]) -> Shape:
    removed = frozenset(gone)
    if shape is UNKNOWN or not removed.intersection(shape.axes):
        return shape
    return reshaped(shape, (axis for axis in shape.axes if axis not in removed))


# -- how they are shown ----------------------------------------------------------------------------


def brackets(axes: Iterable[Axis]) -> str:
    return "[" + ", ".join(str(axis) for axis in axes) + "]"


def shown(shape: Shape) -> str:
    """As a spec would write the type."""
    if shape.vocabulary is None:
        return f"`{brackets(shape.axes)}`"
    ids = f"id[{shape.vocabulary}]"
    return f"`{brackets(shape.axes)} {ids}`" if shape.axes else f"`{ids}`"


def words(names: Iterable[object], last: str = "and") -> str:
    """`a`, `b` and `c`"""
    quoted = [f"`{name}`" for name in names]
    if len(quoted) < 2:
        return "".join(quoted)
    return ", ".join(quoted[:-1]) + f" {last} {quoted[-1]}"


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


PER_WORDS = {Per.CONSTANT: "one value for all tokens", Per.SEQUENCE: "one value for each sequence", Per.TOKEN: "one value for each token"}
