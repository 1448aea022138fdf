"""How computing for some tokens, or for pairs of an expert and a token, is written in ONNX: by their numbers, which `TopK` and `NonZero` find."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mptc.ir.axis import BATCH, SEQ, Axis, Role
from mptc.ops.base import Order
from mptc.ops.onnx_token import integer
from mptc.ops.onnx_value import INT64, Dims, apart, chosen, expanded, laid, lengths, narrowed, singles, truth, volume, widened
from mptc.ops.site import Element, OnnxSite, Value

if TYPE_CHECKING:
    from mptc.ops.routed import Combined, Grouped, Pairs, Put, Routed, Take, Tokens


def onnx_tokens(self: Tokens, site: OnnxSite) -> Value:
    """The largest of truths as whole numbers: of equal ones `TopK` gives those with the lower index first."""
    value = truth(site, site.values[0])
    dims: Dims = ((BATCH,), (SEQ,))
    here = site.emit("Cast", expanded(site, value, dims), to=INT64)
    count = site.emit("ReduceMax", site.emit("ReduceSum", here, site.constant([1]), keepdims=0), keepdims=1)
    count = site.emit("Max", count, site.constant([1]))  # onnxruntime's attention wants a key
    found = site.emit("TopK", here, count, axis=1, output=(1, 2))
    for axis in (self.along, seen(self.along)):
        site.measure(axis, found, 1)
    return Value(found, ((BATCH,), (self.along,)), Element.WHOLE)


def seen(along: Axis) -> Axis:
    """Chosen tokens as a context."""
    return Axis(Role.CONTEXT, along.name)


def _rows(site: OnnxSite, value: Value, front: Dims, rest: Order) -> str:
    """The tensor with some dimensions in front, and the others each its own."""
    return laid(site, apart(site, value), (*front, *singles(rest)))


def _rest(value: Value, gone: Order) -> Order:
    return tuple(axis for axis in value.order if axis not in gone)


def onnx_take(self: Take, site: OnnxSite) -> Value:
    value, at = site.values
    rest = _rest(value, (BATCH, SEQ))
    places = laid(site, at, ((BATCH,), (self.along,)))
    dims: Dims = ((BATCH,), (self.along,), *singles(rest))
    if BATCH not in value.order:
        return Value(site.emit("Gather", _rows(site, value, ((SEQ,),), rest), places, axis=0), dims, value.element)
    table = _rows(site, value, ((BATCH,), (SEQ,)), rest)
    return Value(site.emit("GatherND", table, site.emit("Unsqueeze", places, site.constant([-1])), batch_dims=1), dims, value.element)


def onnx_put(self: Put, site: OnnxSite) -> Value:
    """Into zeros, where they belong; then what was computed for tokens that are not chosen is left out."""
    value, at, condition = site.values
    rest = _rest(value, (BATCH, self.along))
    made = _rows(site, value, ((BATCH,), (self.along,)), rest)
    places = laid(site, at, ((BATCH,), (self.along,)))
    zero = site.constant(0.0)
    dims: Dims = ((BATCH,), (SEQ,), *singles(rest))
    blank = site.emit("Expand", zero, lengths(site, dims))
    rows = site.emit("Range", integer(site, 0), site.emit("Squeeze", site.length(BATCH)), integer(site, 1))
    rows = site.emit("Expand", site.emit("Unsqueeze", rows, site.constant([-1])), site.emit("Shape", places))
    both = site.emit("Concat", *(site.emit("Unsqueeze", each, site.constant([-1])) for each in (rows, places)), axis=-1)
    found = Value(site.emit("ScatterND", blank, both, made), dims)
    return chosen(site, truth(site, condition), found, 0.0)


# -- pairs -----------------------------------------------------------------------------------------------


def onnx_pairs(self: Pairs, site: OnnxSite) -> Value:
    """The places of truths [experts, batch, tokens], counted through."""
    value = truth(site, site.values[0])
    flat = laid(site, value, ((*self.of, BATCH, self.token),))
    found = site.emit("Squeeze", site.emit("NonZero", flat), site.constant([0]))
    site.measure(self.along, found, 0)
    return Value(found, ((self.along,),), Element.WHOLE)


def _several(site: OnnxSite, token: Axis) -> str:
    """How many tokens there are in all: a scalar."""
    return site.emit("Squeeze", site.emit("Mul", site.length(BATCH), site.length(token)))


def _part(site: OnnxSite, token: Axis, pairs: str, part: str) -> str:
    """The place of each pair's expert, token or both."""
    return pairs if part == "place" else site.emit("Div" if part == "expert" else "Mod", pairs, _several(site, token))


def onnx_routed(self: Routed, site: OnnxSite) -> Value:
    value, pairs = site.values
    own, rest = self.own(value.order), _rest(value, self.replaced)
    table = _rows(site, value, (own,), rest)
    at = _part(site, self.token, pairs.name, self.part(own))
    return Value(site.emit("Gather", table, at, axis=0), ((self.along,), *singles(rest)), value.element)


def onnx_grouped(self: Grouped, site: OnnxSite) -> Value:
    """An expert's rows after another's, each a product of its own: there is no operator for all of them."""
    x, w, pairs = site.values
    mine, inner, kept = self.dims(site.node, [value.order for value in site.values])
    named = self.arrange(site.node, [value.order for value in site.values]).order[1:]
    rows, table = laid(site, apart(site, x), ((self.along,), mine)), laid(site, apart(site, w), (self.of, inner, kept))
    count = volume(site, self.of)
    bounds = site.emit("Mul", site.constant(list(range(count + 1))), _several(site, self.token))
    below = site.emit("Less", site.emit("Unsqueeze", pairs.name, site.constant([-1])), bounds)
    ends = site.emit("ReduceSum", site.emit("Cast", below, to=INT64), site.constant([0]), keepdims=0)
    parts = []
    for expert in range(count):
        start, stop = (site.emit("Gather", ends, site.constant([place]), axis=0) for place in (expert, expert + 1))
        own = site.emit("Slice", rows, start, stop, site.constant([0]))
        parts.append(site.emit("MatMul", own, site.emit("Gather", table, site.constant(np.asarray(expert, np.int64)), axis=0)))
    name = site.emit("Concat", *parts, axis=0)
    coef = self.coef.evaluate(site.sizes)
    name = name if coef == 1 else site.emit("Mul", name, site.constant(float(coef)))
    return Value(name, ((self.along,), named))


def onnx_combined(self: Combined, site: OnnxSite) -> Value:
    """Added into zeros, at each pair's sequence and token; in a type that every runtime adds up."""
    value, pairs = site.values
    rest = _rest(value, (self.along,))
    made = widened(site, _rows(site, value, ((self.along,),), rest))
    token = site.emit("Mod", pairs.name, _several(site, self.token))
    length = site.emit("Squeeze", site.length(self.token))
    places = [site.emit("Unsqueeze", site.emit(part, token, length), site.constant([-1])) for part in ("Div", "Mod")]
    dims: Dims = ((BATCH,), (self.token,), *singles(rest))
    blank = site.emit("Expand", site.constant(0.0, site.wide), lengths(site, dims))
    return Value(narrowed(site, site.emit("ScatterND", blank, site.emit("Concat", *places, axis=-1), made, reduction="add")), dims)
