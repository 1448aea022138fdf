"""Reductions, normalisations and attention in ONNX. What no token sees is -inf before a softmax; a row that nothing is left of is 0 after it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from mptc.ir.axis import BATCH, Axis, Role
from mptc.ir.node import axes_of
from mptc.ops.onnx_text import aligned, call, condition, lined, scaled, shaped
from mptc.ops.site import OnnxSite

if TYPE_CHECKING:
    from mptc.ops.reduce import Reduction
    from mptc.ops.stream import Stream

EVERY_TOKEN = -1


def masked(self: Reduction, site: OnnxSite) -> tuple[str, str | None, list[int]]:
    """The value with -inf where it is not seen, the condition where there is one, and the dimensions reduced, from the end."""
    axes = axes_of((*site.node.axes, *self.over))
    value, *masks = aligned(site, axes)
    places = [axes.index(axis) - len(axes) for axis in self.over]
    if not masks:
        return value, None, places
    seen = condition(site, masks[0])
    return site.emit("Where", seen, value, site.constant(-math.inf)), seen, places


def onnx_reduction(self: Reduction, site: OnnxSite, op_type: str) -> str:
    value, _, places = masked(self, site)
    return site.emit(op_type, value, site.constant(places), keepdims=0)


def onnx_softmax(self: Reduction, site: OnnxSite) -> str:
    value, seen, places = masked(self, site)
    if len(places) == 1:
        weights = site.emit("Softmax", value, axis=places[0])
    else:
        weights = site.emit("Exp", call(site, "Sub", value, site.emit("ReduceLogSumExp", value, site.constant(places), keepdims=1)))
    return weights if seen is None else site.emit("Where", seen, weights, site.constant(0.0))


# -- normalisation -----------------------------------------------------------------------------------


def inverse_deviation(site: OnnxSite, over: Sequence[Axis], eps: Fraction, keep: bool) -> str:
    """1 / sqrt(mean[over](e²) + eps)"""
    axes = site.node.args[0].axes
    square = call(site, "Mul", site.inputs[0], site.inputs[0])
    mean = site.emit("ReduceMean", square, site.constant([axes.index(axis) for axis in over]), keepdims=int(keep))
    return site.emit("Reciprocal", site.emit("Sqrt", call(site, "Add", mean, float(eps))))


def onnx_rms(site: OnnxSite, over: Sequence[Axis], eps: Fraction) -> str:
    """`RMSNormalization` where the axes are the last ones, else its parts. A second operand is the gain, over the same axes."""
    axes, gain = site.node.args[0].axes, site.inputs[1:]
    if set(axes[-len(over) :]) == set(over):
        ones = [site.emit("Expand", site.constant(1.0), site.constant([site.sizes[axis] for axis in axes_of(over)]))]
        return site.emit("RMSNormalization", site.inputs[0], *(gain or ones), axis=-len(over), epsilon=float(eps), stash_type=site.numbers)
    normal = call(site, "Mul", site.inputs[0], inverse_deviation(site, over, eps, keep=True))
    return call(site, "Mul", normal, lined(site, gain[0], site.node.args[1].axes, axes)) if gain else normal


# -- attention ---------------------------------------------------------------------------------------


def onnx_stream(self: Stream, site: OnnxSite) -> str:
    """`Attention` on [batch, heads, tokens, size], the heads folded into one, those that keys have first."""
    node = site.node
    assert self.fits(node), node
    heads = self.heads(node, node.args[0].axes)
    key_heads = tuple(axis for axis in heads if axis in node.args[1].axes)
    ((width,), (inner,)) = (self.width(node), self.inner)
    static = all(not isinstance(base, Axis) or base.role is Role.DIM for base, _ in self.scale.powers)
    scale = self.scale.evaluate(site.sizes) if static else 1.0
    query = _folded(site, site.inputs[0] if static else scaled(site, site.inputs[0], self.scale), 0, (*heads, self.asker, inner))
    token = self.token(node)
    key, value = (_folded(site, site.inputs[place], place, (*key_heads, token, last)) for place, last in ((1, inner), (2, width)))
    allowed, seen = _allowed(self, site, heads)
    out = site.emit("Attention", query, key, value, *([allowed] if allowed else []), scale=scale, is_causal=int(self.causal))
    if seen:
        anything = site.emit("ReduceMax", seen, site.constant([-1]), keepdims=1)
        out = site.emit("Where", condition(site, anything), out, site.constant(0.0))
    if len(heads) != 1:
        out = shaped(site, out, 0, *(site.sizes[axis] for axis in heads), EVERY_TOKEN, site.sizes[width])
    return lined(site, out, (BATCH, *heads, self.asker, width), node.axes)


def _folded(site: OnnxSite, name: str, place: int, order: Sequence[Axis]) -> str:
    """[batch, heads, tokens, size] of [batch, heads…, tokens, size]; what lacks the batch is repeated."""
    *heads, _, last = order
    own = site.node.args[place].axes
    name = lined(site, name, own, (BATCH, *order) if BATCH in own else order)
    if BATCH not in own:
        lengths = site.emit("Concat", site.emit("Unsqueeze", site.size(BATCH), site.constant([0])), site.constant([1] * len(order)), axis=0)
        name = site.emit("Expand", site.emit("Unsqueeze", name, site.constant([0])), lengths)
    if len(heads) == 1:
        return name
    return shaped(site, name, 0, math.prod(site.sizes[axis] for axis in heads), EVERY_TOKEN, site.sizes[last])


def _allowed(self: Stream, site: OnnxSite, heads: Sequence[Axis]) -> tuple[str, str]:
    """What is added to the scores or chooses among them, and the mask as a number; empty where there is none."""
    bias = _pairs(self, site, 3, heads) if self.biased else ""
    if not self.masked:
        return bias, ""
    seen = _pairs(self, site, len(site.inputs) - 1, heads)
    chosen = condition(site, seen)
    return site.emit("Where", chosen, bias, site.constant(-math.inf)) if bias else chosen, seen


def _pairs(self: Stream, site: OnnxSite, place: int, heads: Sequence[Axis]) -> str:
    """A mask or bias as `Attention` broadcasts it: [.., heads, tokens, tokens], heads folded where it has any."""
    own, whole = site.node.args[place].axes, (BATCH, *heads, self.asker, self.over)
    if not set(own) & set(heads):
        whole = (BATCH, Axis(Role.DIM, ""), self.asker, self.over)
    name = lined(site, site.inputs[place], own, whole)
    if self.asker not in own or self.over not in own:
        lengths = [site.emit("Unsqueeze", site.size(axis), site.constant([0])) for axis in (self.asker, self.over)]
        name = site.emit("Expand", name, site.emit("Concat", *lengths, axis=0))
    if len(heads) < 2 or not set(own) & set(heads):
        return name
    sizes = [site.sizes[axis] for axis in heads]
    every = site.emit("Expand", name, site.constant([1, *sizes, 1, 1]))
    batch, tokens = site.emit("Shape", every, start=0, end=1), site.emit("Shape", every, start=-2)
    return site.emit("Reshape", every, site.emit("Concat", batch, site.constant([math.prod(sizes)]), tokens, axis=0))
