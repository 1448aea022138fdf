"""The naive meaning of what takes ids, or the values of other tokens, and of losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mptc.ir.axis import SEQ
from mptc.ir.node import Kind, Node, axes_of
from tests.oracle_functions import onto

if TYPE_CHECKING:
    from tests.oracle import Scope


def _lookup(scope: Scope, node: Node) -> Tensor:
    table, ids = scope.args(node)
    ids = ids - node.op.offset
    if set(node.args[0].axes) & set(node.args[1].axes):
        return _chosen(scope, node, ids)
    place = node.args[0].axes.index(node.op.axis)
    inside = (ids >= 0) & (ids < table.shape[place])
    rows = table.movedim(place, 0)[torch.where(inside, ids, 0)]
    rows = torch.where(inside.reshape(*ids.shape, *[1] * (table.dim() - 1)), rows, 0.0)
    order = (*node.args[1].axes, *(axis for axis in node.args[0].axes if axis != node.op.axis))
    return rows.permute([order.index(axis) for axis in node.axes])


def _type_of(scope: Scope, node: Node) -> Tensor:
    """How many types begin at the id or before it, less one."""
    (ids,) = scope.args(node)
    return sum((ids >= bound).long() for bound in node.op.bounds) - 1


def _entry(scope: Scope, node: Node) -> Tensor:
    return _chosen(scope, node, scope.args(node)[1])


def _chosen(scope: Scope, node: Node, number: Tensor) -> Tensor:
    """Σ_entries table · [entry = number]"""
    axes = axes_of((*node.axes, node.op.axis))
    table, number = scope.lined_up(node, axes)[0], onto(number, node.args[1].axes, axes)
    chosen = number == onto(torch.arange(scope.given.size(node.op.axis)), (node.op.axis,), axes)
    return torch.where(chosen, table, 0.0).sum(axes.index(node.op.axis))


def _next(scope: Scope, node: Node) -> Tensor:
    (ids,) = scope.args(node)
    place = node.axes.index(SEQ)
    return torch.cat((ids.narrow(place, 1, ids.shape[place] - 1), torch.full_like(ids.narrow(place, 0, 1), -1)), dim=place)


def _cross_entropy(scope: Scope, node: Node) -> Tensor:
    axes = axes_of((*node.args[1].axes, *node.args[0].axes))
    logits, ids = scope.lined_up(node, axes)
    place = axes.index(node.op.axis)
    one_hot = ids == onto(torch.arange(logits.shape[place]), (node.op.axis,), axes)
    counts = (ids >= 0).squeeze(place)
    chosen = torch.where(one_hot, logits, 0.0).sum(place)
    losses = torch.where(counts, logits.logsumexp(place) - chosen, 0.0)
    return losses.sum() / counts.expand(losses.shape).sum() if node.op.mean else losses


def _mean_loss(scope: Scope, node: Node) -> Tensor:
    value, *ids = scope.lined_up(node, axes_of(axis for arg in node.args for axis in arg.axes))
    counts = torch.ones_like(value)
    for each in ids:
        counts = counts * (each >= 0)
    return (value * counts).sum() / counts.sum()


def _shift(scope: Scope, node: Node) -> Tensor:
    """What stands `by` tokens earlier; 0, or a masked id, where there is none."""
    (value,) = scope.args(node)
    place, blank = node.axes.index(SEQ), -1 if node.type.kind is Kind.ID else 0
    tokens = torch.arange(value.shape[place]) - node.op.by
    there = (tokens >= 0) & (tokens < value.shape[place])
    moved = value.index_select(place, tokens.clamp(0, value.shape[place] - 1))
    return torch.where(onto(there, (SEQ,), node.axes), moved, blank)


IDS: dict[str, Callable[[Scope, Node], Any]] = {
    "Lookup": _lookup,
    "Entry": _entry,
    "Shift": _shift,
    "TypeOf": _type_of,
    "Next": _next,
    "CrossEntropy": _cross_entropy,
    "MeanLoss": _mean_loss,
}
