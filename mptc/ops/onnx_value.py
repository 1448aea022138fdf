"""ONNX tensors by their axes: brought into the dimensions that an operator wants, lined up to be broadcast, of the elements it takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

from mptc.ir.axis import Axis, Role
from mptc.ops.base import Order, merged
from mptc.ops.site import Element, OnnxSite, Value

Dims = tuple[Order, ...]  # an empty dimension is of size 1, to broadcast

FLOAT, INT64, BOOL, FLOAT16, DOUBLE, BFLOAT16 = 1, 7, 9, 10, 11, 16  # element types of the standard
HALVES = (FLOAT16, BFLOAT16)


def singles(order: Order) -> Dims:
    return tuple((axis,) for axis in order)


def call(site: OnnxSite, op_type: str, *operands: str | float) -> str:
    """An operator on names and numbers."""
    return site.emit(op_type, *(operand if isinstance(operand, str) else site.constant(operand) for operand in operands))


# -- dimensions ----------------------------------------------------------------------------------------


def laid(site: OnnxSite, value: Value, dims: Dims) -> str:
    """The tensor with its axes in these dimensions. Nothing is written for what lies so already."""
    name = _regrouped(site, value, tuple(dim for dim in dims if dim))
    gaps = [place for place, dim in enumerate(dims) if not dim]
    return site.emit("Unsqueeze", name, site.constant(gaps)) if gaps else name


def _regrouped(site: OnnxSite, value: Value, dims: Dims) -> str:
    order, wanted = value.order, tuple(axis for dim in dims for axis in dim)
    assert set(order) == set(wanted), (value, dims)
    if order != wanted:
        after = [run for dim in dims for run in _runs(dim, order)]
        before = sorted(after, key=lambda run: order.index(run[0]))
        name = site.emit("Transpose", _reshaped(site, value, tuple(before)), perm=[before.index(run) for run in after])
        value = Value(name, tuple(after), value.element)
    return _reshaped(site, value, dims)


def _runs(dim: Order, order: Order) -> Iterator[Order]:
    """A dimension's axes in as few parts as lie together already."""
    start = 0
    for end in range(1, len(dim) + 1):
        if end == len(dim) or order.index(dim[end]) != order.index(dim[end - 1]) + 1:
            yield dim[start:end]
            start = end


def _reshaped(site: OnnxSite, value: Value, dims: Dims) -> str:
    return value.name if value.dims == dims else site.emit("Reshape", value.name, _shape(site, value.dims, dims))


def _shape(site: OnnxSite, own: Dims, dims: Dims) -> str:
    """Lengths known at run time only are copied from where they stand, or left over, or else asked for."""
    copied = [place < len(own) and own[place] == dim for place, dim in enumerate(dims)]
    open_ = [not kept and not is_static(dim) for kept, dim in zip(copied, dims, strict=True)]
    if sum(open_) > 1:
        return lengths(site, dims)
    sizes = [-1 if left else 0 if kept and not is_static(dim) else volume(site, dim) for kept, left, dim in zip(copied, open_, dims, strict=True)]
    return site.constant(sizes)


def is_static(dim: Order) -> bool:
    return all(axis.role is Role.DIM for axis in dim)


def volume(site: OnnxSite, dim: Order) -> int:
    return prod(site.sizes[Axis(axis.role, axis.name)] for axis in dim)


def lengths(site: OnnxSite, dims: Dims) -> str:
    """A shape as a vector."""
    if all(map(is_static, dims)):
        return site.constant([volume(site, dim) for dim in dims])
    parts = [_length(site, dim) for dim in dims]
    return site.emit("Concat", *parts, axis=0) if len(parts) > 1 else parts[0]


def _length(site: OnnxSite, dim: Order) -> str:
    if is_static(dim):
        return site.constant([volume(site, dim)])
    parts = [site.length(axis) for axis in dim if axis.role is not Role.DIM]
    known = volume(site, tuple(axis for axis in dim if axis.role is Role.DIM))
    parts += [site.constant([known])] if known != 1 else []
    name = parts[0]
    for part in parts[1:]:
        name = site.emit("Mul", name, part)
    return name


def apart(site: OnnxSite, value: Value, axes: Sequence[Axis] | None = None) -> Value:
    """The value with a dimension for each axis, or for each in a dimension that has one of `axes`."""
    dims: list[Order] = []
    for dim in value.dims:
        dims += singles(dim) if axes is None or set(axes) & set(dim) else [dim]
    return Value(_reshaped(site, value, tuple(dims)), tuple(dims), value.element)


def with_last(site: OnnxSite, value: Value, last: Sequence[Axis]) -> Value:
    """The value with these axes last, each a dimension of its own."""
    value = apart(site, value, last)
    dims = (*(dim for dim in value.dims if not set(dim) & set(last)), *singles(tuple(last)))
    return Value(laid(site, value, dims), dims, value.element)


def expanded(site: OnnxSite, value: Value, dims: Dims) -> str:
    """The tensor over every axis of these dimensions, repeated along those that it lacks."""
    own = set(value.order)
    if own == {axis for dim in dims for axis in dim}:
        return laid(site, value, dims)
    whole = all(set(dim) <= own or not set(dim) & own for dim in dims)
    out = dims if whole else singles(tuple(axis for dim in dims for axis in dim))
    name = laid(site, apart(site, value), lined_up(value, out))
    return _reshaped(site, Value(site.emit("Expand", name, lengths(site, out)), out), dims)


# -- lined up ------------------------------------------------------------------------------------------


def common(values: Sequence[Value]) -> Dims:
    """Dimensions for a pointwise operation: those of the widest operand, and of the others what it lacks. Folded axes stay folded where all allow."""
    order = merged([value.order for value in values])
    folded: dict[Axis, Order] = {}
    for value in sorted(values, key=lambda value: -len(value.order)):
        for dim in value.dims:
            if len(dim) > 1 and not set(dim) & set(folded) and _holds(dim, order, values):
                folded.update(dict.fromkeys(dim, dim))
    dims = [folded.get(axis, (axis,)) for axis in order]
    return tuple(dim for axis, dim in zip(order, dims, strict=True) if axis == dim[0])


def _holds(dim: Order, order: Order, values: Sequence[Value]) -> bool:
    """Whether axes are neighbours, and no value has only some of them."""
    start = order.index(dim[0])
    return order[start : start + len(dim)] == dim and all(len({*dim} & {*value.order}) in (0, len(dim)) for value in values)


def lined_up(value: Value, dims: Dims) -> Dims:
    """What a value has of some dimensions, with gaps for the others; none before its first."""
    places = [dim if dim and dim[0] in value.order else () for dim in dims]
    while places and not places[0]:
        del places[0]
    return tuple(places)


def aligned(site: OnnxSite, values: Sequence[Value] | None = None, apart_from: Sequence[Axis] = ()) -> tuple[list[str], Dims]:
    """Values lined up to be broadcast, and the dimensions of what is made of them. `apart_from`: axes that get a dimension of their own."""
    values = site.values if values is None else values
    values = [apart(site, value, apart_from) for value in values] if apart_from else values
    dims = common(values)
    return [laid(site, value, lined_up(value, dims)) for value in values], dims


# -- elements ------------------------------------------------------------------------------------------


def number(site: OnnxSite, value: Value) -> Value:
    return value if value.element is Element.NUMBER else value.named(site.emit("Cast", value.name, to=site.numbers), Element.NUMBER)


def whole(site: OnnxSite, value: Value) -> Value:
    return value if value.element is Element.WHOLE else value.named(site.emit("Cast", value.name, to=INT64), Element.WHOLE)


def truth(site: OnnxSite, value: Value) -> Value:
    """Where it is not 0."""
    return value if value.element is Element.TRUTH else value.named(site.emit("Cast", value.name, to=BOOL), Element.TRUTH)


def chosen(site: OnnxSite, condition: Value, value: Value, other: float) -> Value:
    """The value where a condition holds, else a number."""
    (seen, name), dims = aligned(site, [truth(site, condition), value])
    return Value(site.emit("Where", seen, name, site.constant(other)), dims)


def widened(site: OnnxSite, name: str) -> str:
    return name if site.wide == site.numbers else site.emit("Cast", name, to=site.wide)


def narrowed(site: OnnxSite, name: str) -> str:
    return name if site.wide == site.numbers else site.emit("Cast", name, to=site.numbers)
