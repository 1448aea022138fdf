"""Tokens in ONNX: their positions, which see which, the next one, and rotation by where they stand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mptc.ir.axis import BATCH, SEQ, Axis, Role
from mptc.ops.onnx_text import as_whole, both_true, written
from mptc.ops.onnx_value import (
    DOUBLE,
    aligned,
    apart,
    call,
    common,
    expanded,
    laid,
    lengths,
    narrowed,
    number,
    volume,
    widened,
    with_last,
)
from mptc.ops.site import Element, OnnxSite, Value

if TYPE_CHECKING:
    from mptc.ops.leaf import Mask
    from mptc.ops.rotary import Rope
    from mptc.ops.token import CrossEntropy


def integer(site: OnnxSite, value: int) -> str:
    return site.constant(np.asarray(value, np.int64))


def onnx_mask(self: Mask, site: OnnxSite) -> Value:
    conditions = list(site.values)
    if self.past or self.window is not None:
        conditions += backwards(site, self.over, self.window)
    return both_true(site, conditions) if conditions else Value(site.constant(np.asarray(True)), (), Element.TRUTH)


def backwards(site: OnnxSite, over: Axis, window: int | None = None) -> list[Value]:
    """Where a token stands at or behind another, and no further than a window reaches: by the positions of both."""
    (here, there), dims = aligned(site, [site.positions(SEQ), site.positions(over)])
    found = [Value(site.emit("GreaterOrEqual", here, there), dims, Element.TRUTH)]
    if window is not None:
        found.append(Value(site.emit("Less", site.emit("Sub", here, there), integer(site, window)), dims, Element.TRUTH))
    return found


def onnx_compare(site: OnnxSite, op_type: str) -> Value:
    """Ids and exact values are compared as whole numbers, with a number as numbers. What the spec writes is whole where it can be."""
    known = [written(site, place) for place in range(2)]
    exact = [value.element is not Element.NUMBER for value in site.values]
    if all(each or (wrote is not None and wrote.denominator == 1) for each, wrote in zip(exact, known, strict=True)):
        values = [as_whole(site, place) for place in range(2)]
    elif all(each or wrote is not None for each, wrote in zip(exact, known, strict=True)):
        values = [_wide(site, place) for place in range(2)]
    else:
        values = [number(site, value) for value in site.values]
    names, dims = aligned(site, values)
    return Value(call(site, op_type, *names), dims, Element.TRUTH)


def _wide(site: OnnxSite, place: int) -> Value:
    """An exact value, or a number of the spec, in float32 at least."""
    known, value = written(site, place), site.values[place]
    if known is not None:
        return Value(site.constant(float(known), to=site.wide), ())
    return value.named(site.emit("Cast", value.name, to=site.wide), Element.NUMBER)


def onnx_next(site: OnnxSite) -> Value:
    value = apart(site, site.values[0])
    place, count = value.dims.index((SEQ,)), len(value.dims)
    later = site.emit("Slice", value.name, site.constant([1]), site.constant([np.iinfo(np.int64).max]), site.constant([place]))
    after = [int(axis == place) for axis in range(count)]
    return value.named(site.emit("Pad", later, site.constant([*[0] * count, *after]), integer(site, -1)))


def onnx_cross_entropy(self: CrossEntropy, site: OnnxSite) -> Value:
    """log Σ exp less the score of the id, in float32 at least; 0 where the id is masked."""
    logits, ids = with_last(site, site.values[0], (self.axis,)), apart(site, site.values[1])
    if set(logits.order) - {self.axis} != set(ids.order):
        shared = common([Value("", logits.dims[:-1]), ids])
        whole = (*shared, (self.axis,))
        logits = Value(expanded(site, logits, whole), whole)
        ids = Value(expanded(site, ids, shared), shared, ids.element)
    wide = logits.named(widened(site, logits.name))
    rows = logits.dims[:-1]
    total = site.emit("ReduceLogSumExp", wide.name, site.constant([-1]), keepdims=0)
    counted = laid(site, ids, rows)
    counts = Value(site.emit("GreaterOrEqual", counted, integer(site, 0)), rows, Element.TRUTH)
    place = site.emit("Unsqueeze", site.emit("Where", counts.name, counted, integer(site, 0)), site.constant([-1]))
    score = site.emit("Squeeze", site.emit("GatherElements", wide.name, place, axis=-1), site.constant([-1]))
    losses = Value(site.emit("Sub", total, score), rows)
    kept = site.emit("Where", counts.name, losses.name, site.constant(0.0, to=site.wide))
    if not self.mean:
        return Value(narrowed(site, kept), rows)
    count = site.emit("ReduceSum", site.emit("Cast", counts.name, to=site.wide), keepdims=0)
    return Value(narrowed(site, site.emit("Div", site.emit("ReduceSum", kept, keepdims=0), count)), ())


# -- rotary position -----------------------------------------------------------------------------------


def onnx_rope(self: Rope, site: OnnxSite, token: Axis) -> Value:
    """`RotaryEmbedding` on [batch, tokens, heads and size]; its parts where there is no batch, and in float64, which it has not.

    The tokens stand where a second value says, or else where they are.
    """
    value, *given = site.values
    places = given[0] if given else site.positions(token)
    cos, sin = _tables(self, site, places)
    heads = tuple(axis for axis in value.order if axis not in (BATCH, token, self.axis))
    batched = BATCH in (*value.order, *places.order)
    if not batched or site.numbers == DOUBLE or any(axis.role is not Role.DIM for axis in heads):
        return _turned(site, with_last(site, value, (token, self.axis)), cos, sin)
    dims = ((BATCH,), (token,), (*heads, self.axis))
    names = [laid(site, table, (*(((BATCH,),) if BATCH in table.order else ()), (token,), (self.axis,))) for table in (cos, sin)]
    if BATCH not in places.order:  # one table for all: rows by their numbers
        rows = site.emit("Range", integer(site, 0), site.emit("Squeeze", site.length(token)), integer(site, 1))
        names.append(site.emit("Expand", rows, lengths(site, dims[:2])))
    return Value(site.emit("RotaryEmbedding", expanded(site, value, dims), *names, num_heads=volume(site, heads)), dims)


def _tables(self: Rope, site: OnnxSite, places: Value) -> tuple[Value, Value]:
    """Cosines and sines, [.., tokens, half the size]: angles in float32 at least."""
    size = volume(site, (self.axis,))
    rates = site.constant(float(self.base) ** (-np.arange(0, size, 2) / size), to=site.wide)
    here = site.emit("Unsqueeze", site.emit("Cast", places.name, to=site.wide), site.constant([-1]))
    angle = Value(site.emit("Mul", here, rates), (*places.dims, (self.axis,)))
    cos, sin = (angle.named(narrowed(site, site.emit(name, angle.name))) for name in ("Cos", "Sin"))
    return cos, sin.named(site.emit("Neg", sin.name)) if self.inverse else sin


def _turned(site: OnnxSite, value: Value, cos: Value, sin: Value) -> Value:
    """Halves of the last dimension turned against each other."""
    half = volume(site, value.dims[-1]) // 2
    halves = [site.emit("Slice", value.name, *(site.constant([at]) for at in (start, start + half, -1))) for start in (0, half)]
    (first, second, c, s), dims = aligned(site, [*(value.named(name) for name in halves), cos, sin])
    real = site.emit("Sub", site.emit("Mul", first, c), site.emit("Mul", second, s))
    imaginary = site.emit("Add", site.emit("Mul", second, c), site.emit("Mul", first, s))
    place = dims.index(value.dims[-1])
    return Value(site.emit("Concat", real, imaginary, axis=place - len(dims)), dims)
