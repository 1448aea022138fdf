"""The naive meaning of choosing: by comparing every entry with every other, and by bisection."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mptc.ir.axis import BATCH, SEQ, Axis
from mptc.ir.node import Node, axes_of
from tests.oracle_functions import onto

if TYPE_CHECKING:
    from tests.oracle import Scope


def _last(scope: Scope, node: Node, places: list[int], over: tuple[Axis, ...]) -> list[Tensor]:
    """Some arguments over every axis, those of `over` folded into a last one."""
    front = [axis for axis in node.axes if axis not in over]
    order = [node.axes.index(axis) for axis in (*front, *axes_of(over))]
    wide = [onto(scope.value(node.args[place]), node.args[place].axes, node.axes) for place in places]
    return [value.expand([scope.given.size(axis) for axis in node.axes]).permute(order).flatten(len(front)) for value in wide]


def _unfolded(scope: Scope, node: Node, value: Tensor, over: tuple[Axis, ...]) -> Tensor:
    order = [*(axis for axis in node.axes if axis not in over), *axes_of(over)]
    return value.reshape([scope.given.size(axis) for axis in order]).permute([order.index(axis) for axis in node.axes])


def _better(by: Tensor, seen: Tensor) -> Tensor:
    """How many are better than each: larger, or as large with a lower index, and seen."""
    index = torch.arange(by.shape[-1])
    above = (by[..., None, :] > by[..., :, None]) | ((by[..., None, :] == by[..., :, None]) & (index[None, :] < index[:, None]))
    return (above & seen[..., None, :]).sum(-1)


def _among(scope: Scope, node: Node) -> Tensor:
    by, *masks = _last(scope, node, list(range(len(node.args))), node.op.over)
    seen = masks[0] != 0 if masks else torch.ones_like(by, dtype=torch.bool)
    return _unfolded(scope, node, ((_better(by, seen) < node.op.n) & seen).double(), node.op.over)


def _soft_top_k(scope: Scope, node: Node) -> Tensor:
    scores, *masks = _last(scope, node, [0, *range(2, len(node.args))], (SEQ,))
    front = tuple(axis for axis in node.axes if axis != SEQ)
    keep = onto(scope.value(node.args[1]), node.args[1].axes, front)[..., None]
    seen = masks[0] != 0 if masks else torch.ones_like(scores, dtype=torch.bool)
    eps = float(node.op.eps)
    weights = _iterated(scores, keep, seen, eps, node.op.steps) if node.op.steps else _Balanced.apply(scores, keep, seen, eps)
    chosen = (_better(scores.detach(), seen) < keep) & seen
    return _unfolded(scope, node, torch.where(chosen, weights, 0.0), (SEQ,))


def _iterated(scores: Tensor, keep: Tensor, seen: Tensor, eps: float, steps: int) -> Tensor:
    scores = torch.where(seen, scores, -math.inf)
    below = torch.zeros_like(scores)
    for _ in range(steps):
        level = eps * keep.log() - eps * torch.logsumexp((scores + below) / eps, -1, keepdim=True)
        below = torch.where(seen, (-scores - level).clamp(max=0), 0.0)
    return ((scores + level + below) / eps).exp()


class _Balanced(torch.autograd.Function):
    """λ = min(1, exp((s + a) / eps)) by bisection, and the derivative of what it solves: Σ λ = n held, for those below 1."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, keep: Tensor, seen: Tensor, eps: float) -> Tensor:
        whole = torch.where(seen, scores, -math.inf)
        low = -whole.amax(-1, keepdim=True) - 800 * eps
        high = -torch.where(seen, scores, math.inf).amin(-1, keepdim=True) + 60 * eps
        for _ in range(200):
            middle = (low + high) / 2
            enough = ((whole + middle) / eps).clamp(max=0).exp().sum(-1, keepdim=True) >= keep
            low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
        weights = torch.where(keep >= seen.sum(-1, keepdim=True), 1.0, ((whole + high) / eps).clamp(max=0).exp())
        ctx.save_for_backward(weights, torch.where(weights < 1, weights, 0.0))
        ctx.eps = eps
        return weights

    @staticmethod
    def backward(ctx: Any, flow: Tensor) -> tuple[Tensor | None, ...]:
        _, free = ctx.saved_tensors
        mean = (free * flow).sum(-1, keepdim=True) / free.sum(-1, keepdim=True).clamp(min=1e-300)
        return free * (flow - mean) / ctx.eps, None, None, None


def _load_balance(scope: Scope, node: Node) -> Tensor:
    axes = (*node.axes, node.op.axis, BATCH, SEQ)
    every = [onto(scope.value(arg), arg.axes, axes_of(axes)).expand([scope.given.size(axis) for axis in axes_of(axes)]) for arg in node.args]
    p, w, *conditions = (each.permute([axes_of(axes).index(axis) for axis in axes]) for each in every)
    counts = torch.ones_like(p)
    for condition in conditions:
        counts = counts * (condition != 0)
    chosen = ((w != 0) * counts).sum((-1, -2))
    mean = (p * counts).sum((-1, -2)) / counts.sum((-1, -2)).clamp(min=1)
    return scope.given.size(node.op.axis) * (chosen / chosen.sum(-1, keepdim=True).clamp(min=1) * mean).sum(-1)


CHOSEN: dict[str, Callable[[Scope, Node], Any]] = {
    "Nothing": lambda scope, node: torch.tensor(-math.inf, dtype=torch.float64),
    "Among": _among,
    "SoftTopK": _soft_top_k,
    "LoadBalance": _load_balance,
}
