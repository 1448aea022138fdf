"""How choosing the best is written in ONNX. `TopK` gives equal entries by their index, lower ones first, as the language does."""

from __future__ import annotations

import math
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from mptc.ir.axis import BATCH, SEQ, Role
from mptc.ops.onnx_token import integer
from mptc.ops.onnx_value import DOUBLE, aligned, apart, call, chosen, expanded, laid, lined_up, number, singles, truth, volume, whole, with_last
from mptc.ops.site import Element, OnnxSite, Value

if TYPE_CHECKING:
    from mptc.ops.chosen import Among, LoadBalance, SoftTopK

LONGEST = 20  # doublings: sequences of up to 2^20 tokens


def onnx_among(self: Among, site: OnnxSite) -> Value:
    """The indices of the best, scattered as truths."""
    value = _sortable(site, site.values[0])
    seen = truth(site, site.values[1]) if len(site.values) > 1 else None
    if seen is not None:
        least: object = -math.inf if value.element is Element.NUMBER else np.iinfo(np.int64).min
        (mask, name), dims = aligned(site, [seen, value])
        value = Value(site.emit("Where", mask, name, site.constant(least, site.wide)), dims, value.element)
    last = tuple(axis for axis in value.order if axis in self.over)
    last = tuple(sorted(last))
    value = with_last(site, value, last)
    front = value.dims[: -len(last)]
    if len(last) > 1:
        value = Value(laid(site, value, (*front, last)), (*front, last), value.element)
    size = volume(site, last) if all(axis.role is Role.DIM for axis in last) else None
    count = site.constant([min(self.n, size)]) if size else site.emit("Min", site.constant([self.n]), _length(site, value.name))
    best = site.emit("TopK", value.name, count, axis=-1, output=(1, 2))
    found = value.named(_scattered(site, value.name, best), Element.TRUTH)
    if seen is None:
        return found
    (left, right), dims = aligned(site, [apart(site, found), seen])
    return Value(site.emit("And", left, right), dims, Element.TRUTH)


def _sortable(site: OnnxSite, value: Value) -> Value:
    """Whole numbers, or numbers of a type that every runtime sorts."""
    if value.element is Element.NUMBER:
        return value if site.wide == site.numbers else value.named(site.emit("Cast", value.name, to=site.wide))
    return whole(site, value)


def _length(site: OnnxSite, name: str) -> str:
    return site.emit("Shape", name, start=-1)


def _scattered(site: OnnxSite, like: str, places: str) -> str:
    """True at places along the last dimension."""
    no = site.emit("Expand", site.constant(np.asarray(False)), site.emit("Shape", like))
    yes = site.emit("Expand", site.constant(np.asarray(True)), site.emit("Shape", places))
    return site.emit("ScatterElements", no, places, yes, axis=-1)


# -- soft top-k ----------------------------------------------------------------------------------------


def onnx_soft_top_k(self: SoftTopK, site: OnnxSite) -> Value:
    """In float64: sums over long sequences of what is large and small."""
    value = with_last(site, site.values[0], (SEQ,))
    seen = truth(site, site.values[2]) if len(site.values) > 2 else None
    if seen is not None:
        value = with_last(site, chosen(site, seen, value, -math.inf), (SEQ,))
    keep = number(site, apart(site, site.values[1]))
    front = value.dims[:-1]
    wide = site.emit("Cast", laid(site, keep, lined_up(keep, front)), to=DOUBLE)
    keep_name = site.emit("Unsqueeze", wide, site.constant([-1])) if keep.dims else wide
    keep_name = site.emit("Ceil", keep_name)
    eps = _double(site, float(self.eps))
    scores = _Scores(site, site.emit("Div", site.emit("Cast", value.name, to=DOUBLE), eps), keep_name, len(front))
    weights = scores.iterated(self.steps) if self.steps else scores.solved(seen is not None)
    best = site.emit("Less", scores.rank, site.emit("Cast", keep_name, to=7))
    name = site.emit("Where", best, weights, _double(site, 0.0))
    found = value.named(site.emit("Cast", name, to=site.numbers))
    return found if seen is None else chosen(site, seen, found, 0.0)


def _double(site: OnnxSite, value: float) -> str:
    return site.constant(np.asarray(value), DOUBLE)


class _Scores:
    """Scores over eps, [..., tokens], and how many are to be kept, [..., 1] or a scalar: both float64. `axis`: how many dimensions the dots are."""

    def __init__(self, site: OnnxSite, scores: str, keep: str, axis: int) -> None:
        self.site, self.scores, self.keep, self.axis = site, scores, keep, axis
        self.length = _length(site, scores)
        self.sorted = site.emit("TopK", scores, self.length, axis=-1, output=(0, 2))
        order = site.emit("TopK", scores, self.length, axis=-1, output=(1, 2))
        counted = site.emit("Range", integer(site, 0), site.emit("Squeeze", self.length), integer(site, 1))
        self.places = counted
        places = site.emit("Expand", counted, site.emit("Shape", order))
        self.rank = site.emit("ScatterElements", site.emit("Sub", order, order), order, places, axis=-1)

    def iterated(self, steps: int) -> str:
        """What so many dual updates come to; all of it over eps."""
        emit, zero = self.site.emit, _double(self.site, 0.0)
        below, level, last = zero, zero, self.site.constant([-1])
        for _ in range(steps):
            level = emit("Sub", emit("Log", self.keep), emit("ReduceLogSumExp", emit("Add", self.scores, below), last, keepdims=1))
            below = emit("Min", emit("Neg", emit("Add", self.scores, level)), zero)
        return emit("Exp", emit("Add", self.scores, emit("Add", level, below)))

    def solved(self, masked: bool) -> str:
        """With m of them at 1, a = ln(n - m) - LSE of the others; m is the first for which that leaves the next one at most at 1."""
        site, emit, zero = self.site, self.site.emit, _double(self.site, 0.0)
        counts = emit("Cast", self.places, to=DOUBLE)
        left = emit("Sub", self.keep, counts)
        some = emit("Greater", left, zero)
        level = emit("Sub", emit("Log", emit("Where", some, left, _double(site, 1.0))), self.tails())
        over = emit("And", emit("Greater", emit("Add", self.sorted, level), zero), some)
        at_one = emit("ReduceSum", emit("Cast", over, to=7), site.constant([-1]), keepdims=1)
        size = emit("Sub", self.length, integer(site, 1))
        found = emit("GatherElements", emit("Expand", level, emit("Shape", self.scores)), emit("Min", at_one, size), axis=self.axis)
        full = emit("Less", self.rank, at_one)
        if masked:
            known = emit("Greater", self.scores, _double(site, -math.inf))
            total = emit("Cast", emit("ReduceSum", emit("Cast", known, to=7), site.constant([-1]), keepdims=1), to=DOUBLE)
        else:
            total = emit("Cast", self.length, to=DOUBLE)
        full = emit("Or", full, emit("GreaterOrEqual", self.keep, total))
        return emit("Where", full, _double(site, 1.0), emit("Exp", emit("Min", emit("Add", self.scores, found), zero)))

    def tails(self) -> str:
        """log Σ_{j ≥ m} exp of the sorted scores, for every m: in doublings, each the log-sum-exp of what reaches twice as far."""
        site, emit = self.site, self.site.emit
        tail, nothing, last = self.sorted, _double(site, -math.inf), site.constant([-1])
        front = emit("Sub", emit("Shape", emit("Shape", tail)), site.constant([1]))
        zeros = emit("Expand", site.constant([0]), emit("Sub", emit("Mul", front, site.constant([2])), site.constant([-1])))
        for power in range(LONGEST):
            by = site.constant([2**power])
            padded = emit("Pad", tail, emit("Concat", zeros, by, axis=0), nothing)
            later = emit("Slice", padded, by, site.constant([np.iinfo(np.int64).max]), last)
            top = emit("Max", tail, later)
            gap = emit("Abs", emit("Sub", tail, later))
            gap = emit("Where", emit("Equal", later, nothing), _double(site, math.inf), gap)
            tail = emit("Add", top, emit("Log", emit("Add", _double(site, 1.0), emit("Exp", emit("Neg", gap)))))
        return tail


# -- balance -------------------------------------------------------------------------------------------


def onnx_load_balance(self: LoadBalance, site: OnnxSite) -> Value:
    p, w, *conditions = site.values
    counts = [truth(site, each) for each in conditions]
    rest = tuple(axis for axis in site.node.axes)
    whole_dims = singles((*rest, self.axis, BATCH, SEQ))
    mean = expanded(site, p, whole_dims)
    hit = expanded(site, number(site, truth(site, w)), whole_dims)
    last = site.constant([-2, -1])
    if counts:
        told = reduce(lambda left, right: left.named(call(site, "And", *aligned(site, [left, right])[0])), counts)
        some = expanded(site, number(site, told), whole_dims)
        mean, hit = site.emit("Mul", mean, some), site.emit("Mul", hit, some)
        most = site.emit("Max", site.emit("ReduceSum", some, last, keepdims=0), site.constant(1.0))
        average = site.emit("Div", site.emit("ReduceSum", mean, last, keepdims=0), most)
    else:
        average = site.emit("ReduceMean", mean, last, keepdims=0)
    total = site.emit("ReduceSum", hit, last, keepdims=0)
    every = site.emit("Max", site.emit("ReduceSum", total, site.constant([-1]), keepdims=1), site.constant(1.0))
    share = site.emit("Div", total, every)
    summed = site.emit("ReduceSum", site.emit("Mul", share, average), site.constant([-1]), keepdims=0)
    return Value(site.emit("Mul", summed, site.constant(float(volume(site, (self.axis,))))), singles(rest))


