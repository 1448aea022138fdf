"""Reductions, normalisations and attention in ONNX. What no token sees is -inf before a softmax; a row that nothing is left of is 0 after it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from mptc.ir.axis import BATCH, SEQ, Axis, Role
from mptc.ops.base import Order
from mptc.ops.leaf import may_see_nothing
from mptc.ops.onnx_text import scaled
from mptc.ops.onnx_token import backwards
from mptc.ops.onnx_value import Dims, apart, call, chosen, common, expanded, laid, lined_up, narrowed, truth, volume, widened
from mptc.ops.site import Element, OnnxSite, Value

if TYPE_CHECKING:
    from mptc.ops.reduce import Reduction
    from mptc.ops.stream import Stream


def onnx_reduction(self: Reduction, site: OnnxSite, op_type: str) -> Value:
    """In float32 at least."""
    value, _, places = _masked(self, site)
    name = site.emit(op_type, widened(site, value.name), site.constant(places), keepdims=0)
    return Value(narrowed(site, name), tuple(dim for dim in value.dims if not set(dim) & set(self.over)))


def onnx_softmax(self: Reduction, site: OnnxSite) -> Value:
    """In float32 at least."""
    value, seen, places = _masked(self, site)
    scores = widened(site, value.name)
    if len(places) == 1:
        name = site.emit("Softmax", scores, axis=places[0])
    else:
        name = site.emit("Exp", call(site, "Sub", scores, site.emit("ReduceLogSumExp", scores, site.constant(places), keepdims=1)))
    weights = value.named(narrowed(site, name))
    return weights if seen is None or not may_see_nothing(site.node.args[1]) else chosen(site, seen, weights, 0.0)


def _masked(self: Reduction, site: OnnxSite) -> tuple[Value, Value | None, list[int]]:
    """The value with -inf where it is not seen, the mask where there is one, and the dimensions reduced, from the end."""
    value, *masks = (apart(site, value, self.over) for value in site.values)
    seen = truth(site, masks[0]) if masks else None
    if seen is not None:
        value = chosen(site, seen, value, -math.inf)
    return value, seen, [place - len(value.dims) for place, dim in enumerate(value.dims) if set(dim) & set(self.over)]


# -- attention ---------------------------------------------------------------------------------------


def onnx_stream(self: Stream, site: OnnxSite) -> Value:
    """`Attention` on [batch, tokens, heads and size]: the heads folded with what they compare, those that keys have first."""
    node = site.node
    assert self.fits(node), node
    heads = self.heads(node, site.values[0].order)
    key_heads = tuple(axis for axis in heads if axis in node.args[1].axes)
    ((width,), (inner,)) = (self.width(node), self.inner)
    static = all(not isinstance(base, Axis) or base.role is Role.DIM for base, _ in self.scale.powers)
    query = expanded(site, site.values[0], _tokens(self.asker, heads, inner))  # what a memory asks may be the same for every sequence
    key, value = (laid(site, site.values[place], _tokens(self.token(node), key_heads, last)) for place, last in ((1, inner), (2, width)))
    counts = {"q_num_heads": volume(site, heads), "kv_num_heads": volume(site, key_heads)}
    together = self.token(node) in (SEQ, self.asker)  # as many keys as queries: runtimes differ in what `is_causal` means of others
    options: dict[str, Any] = {"scale": self.scale.evaluate(site.sizes) if static else 1.0, "is_causal": int(self.causal and together)}
    if site.wide != site.numbers:
        options["softmax_precision"] = site.wide
    given = query if static else scaled(site, query, self.scale)
    out = Value(site.emit("Attention", given, key, value, *_allowed(self, site, heads), **{**counts, **options}), _tokens(self.asker, heads, width))
    if self.masked and may_see_nothing(node.args[-1]):
        seen = apart(site, truth(site, site.values[-1]))
        places = [place for place, dim in enumerate(seen.dims) if dim == (self.over,)]
        anything = Value(_any(site, seen.name, places), tuple(dim for dim in seen.dims if dim != (self.over,)), Element.TRUTH)
        out = chosen(site, anything, out, 0.0)
    return out


def _tokens(token: Axis, heads: Order, last: Axis) -> Dims:
    return ((BATCH,), (token,), (*heads, last))


def _any(site: OnnxSite, name: str, places: list[int]) -> str:
    return site.emit("ReduceMax", name, site.constant(places), keepdims=0)


def _allowed(self: Stream, site: OnnxSite, heads: Order) -> list[str]:
    """What is added to the scores, or chooses among them: [.., heads, tokens, tokens] as `Attention` broadcasts it; its last two never are."""
    extra = [truth(site, value) if self.masked and place == len(site.values) - 1 else value for place, value in enumerate(site.values) if place > 2]
    if self.causal and self.token(site.node) not in (SEQ, self.asker):
        extra += backwards(site, self.over)
    if not extra:
        return []
    bias = extra[0]
    if len(extra) == 2:
        dims = common(extra)
        seen, name = (laid(site, value, lined_up(value, dims)) for value in reversed(extra))
        bias = Value(site.emit("Where", seen, name, site.constant(-math.inf)), dims)
    batch = (BATCH,) if BATCH in bias.order else ()
    folded = heads if set(heads) & set(bias.order) else ()
    whole: Dims = (batch, folded, (self.asker,), (self.over,))
    return [expanded(site, bias, whole if batch or folded else whole[2:])]
