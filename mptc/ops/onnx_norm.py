"""Normalisation in ONNX: `RMSNormalization`, and `LayerNormalization` of what is normalised less its own mean."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, cast

from mptc.ir.axis import Axis
from mptc.ir.node import Node
from mptc.ir.number import ONE, Monomial
from mptc.ops.base import Order
from mptc.ops.onnx_value import DOUBLE, aligned, apart, call, laid, narrowed, singles, volume, widened
from mptc.ops.site import OnnxSite, Value

if TYPE_CHECKING:
    from mptc.ops.contract import Contract, Sum
    from mptc.ops.norm import Rms


def onnx_rstd(site: OnnxSite, over: Sequence[Axis], eps: Fraction) -> Value:
    value = apart(site, site.values[0], over)
    rest = tuple(dim for dim in value.dims if not set(dim) & set(over))
    return Value(narrowed(site, _inverse_deviation(site, value, over, eps, keep=False)), rest)


def _inverse_deviation(site: OnnxSite, value: Value, over: Sequence[Axis], eps: Fraction, keep: bool) -> str:
    """1 / sqrt(mean[over](e²) + eps), in float32 at least"""
    name = widened(site, value.name)
    places = site.constant([place for place, dim in enumerate(value.dims) if set(dim) & set(over)])
    mean = site.emit("ReduceMean", call(site, "Mul", name, name), places, keepdims=int(keep))
    shifted = site.emit("Add", mean, site.constant(float(eps), to=site.wide))
    return site.emit("Reciprocal", site.emit("Sqrt", shifted))


def onnx_rms(site: OnnxSite, over: Sequence[Axis], eps: Fraction) -> Value:
    """`RMSNormalization` where the axes are the last ones, else its parts. A second operand is the gain, over the same axes."""
    found = layer_norm(site, site.node, site.values[1:])
    if found is not None:
        return found
    value, *gains = (apart(site, value, over) for value in site.values)
    last = tuple(axis for dim in value.dims[-len(over) :] for axis in dim)
    if set(last) == set(over):
        gain = laid(site, gains[0], tuple((axis,) for axis in last)) if gains else _ones(site, last)
        name = site.emit("RMSNormalization", value.name, gain, axis=-len(over), epsilon=float(eps), stash_type=site.wide)
        return value.named(name)
    scale = _inverse_deviation(site, value, over, eps, keep=True)
    normal = value.named(narrowed(site, call(site, "Mul", widened(site, value.name), scale)))
    if not gains:
        return normal
    names, dims = aligned(site, [normal, gains[0]])
    return Value(call(site, "Mul", *names), dims)


def _ones(site: OnnxSite, axes: Order) -> str:
    return site.emit("Expand", site.constant(1.0), site.constant([volume(site, (axis,)) for axis in axes]))


# -- with the mean taken off ---------------------------------------------------------------------------


def biased(self: Sum, site: OnnxSite) -> Value | None:
    """`LayerNormalization` for a normalised value and a bias of the same axes."""
    for norm, bias in (site.node.args, site.node.args[::-1]) if len(site.node.args) == 2 and self.coefs == (ONE, ONE) else ():
        if norm.op.name in ("rms", "gainedrms") and set(bias.axes) == set(cast("Rms", norm.op).over):
            gains = [site.find(gain) for gain in norm.args[1:]]
            found = layer_norm(site, norm, [gain for gain in gains if gain is not None], site.find(bias))
            if found is not None:
                return found
    return None


def layer_norm(site: OnnxSite, norm: Node, gains: Sequence[Value], bias: Value | None = None) -> Value | None:
    """What a normalisation comes to where its argument is a value less its mean: runtimes take more care of that than of the two apart."""
    op = cast("Rms", norm.op)
    inner = centred(norm.args[0], op.over)
    value = None if inner is None or site.numbers == DOUBLE else site.find(inner)
    if value is None:
        return None
    value = apart(site, value, op.over)
    last = tuple(axis for dim in value.dims[-len(op.over) :] for axis in dim)
    if set(last) != set(op.over):
        return None
    gain = laid(site, gains[0], singles(last)) if gains else _ones(site, last)
    extra = [] if bias is None else [laid(site, bias, singles(last))]
    return value.named(site.emit("LayerNormalization", value.name, gain, *extra, axis=-len(last), epsilon=float(op.eps), stash_type=site.wide))


def centred(node: Node, over: Sequence[Axis]) -> Node | None:
    """The value x of x - mean[over](x), which may be a sum that stands there term by term."""
    if node.op.name != "sum":
        return None
    coefs = cast("Sum", node.op).coefs
    for place, mean in enumerate(node.args):
        rest = {arg: coef for at, (arg, coef) in enumerate(zip(node.args, coefs, strict=True)) if at != place}
        inner = _mean_of(mean, over) if coefs[place] == -ONE else None
        if inner is None:
            continue
        terms = dict(zip(inner.args, cast("Sum", inner.op).coefs, strict=True)) if inner.op.name == "sum" else {}
        if rest in ({inner: ONE}, terms):
            return inner
    return None


def _mean_of(node: Node, over: Sequence[Axis]) -> Node | None:
    """What a node is the mean of."""
    if node.op.name != "contract" or len(node.args) != 1:
        return None
    op, (inner,) = cast("Contract", node.op), node.args
    share = op.coef
    for axis in over:
        share = share * Monomial.size(axis)
    if share != ONE or op.operands[0].power != 1:
        return None
    summed = {axis for axis, label in zip(inner.axes, op.operands[0].labels, strict=True) if label != axis}
    return inner if summed == set(over) and len(op.bound) == len(over) else None
