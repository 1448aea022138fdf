# Functions for choosing, and for computing with what is chosen, copied into generated modules as helpers.py is.
from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


def among(by: Tensor, n: int, mask: Tensor | None = None, dims: int = 1) -> Tensor:
    """Where a value is among the n largest along the last `dims` dimensions together, of those that the mask shows. Equal ones: the lower index."""
    by = by.long() if by.dtype == torch.bool else by
    if mask is not None:
        by, mask = torch.broadcast_tensors(by, mask)
        by = by.masked_fill(~mask, -torch.inf if by.is_floating_point() else torch.iinfo(by.dtype).min)
    rows = by.detach().flatten(-dims)
    if n >= rows.shape[-1]:
        return torch.ones_like(by, dtype=torch.bool) if mask is None else mask
    least = rows.topk(n, -1).values[..., -1:]
    above, equal = rows > least, rows == least
    chosen = (above | (equal & (equal.cumsum(-1) <= n - above.sum(-1, keepdim=True)))).view(by.shape)
    return chosen if mask is None else chosen & mask


def soft_top_k(scores: Tensor, keep: Tensor | float, eps: float, steps: int = 0, among: Tensor | None = None) -> Tensor:
    """Soft top-k along the last dimension (arXiv 2304.04947): min(1, exp((s + a) / eps)), which sum to `keep`, for the largest; 0 for the others.

    With m of them at 1, a / eps = ln(keep - m) - LSE of the others; m is the first that leaves the next at most at 1. Gradients flow through a, which
    makes them the implicit ones. `steps`: the paper's dual updates instead. `among`: the tokens to choose from.
    """
    s = scores.to(torch.promote_types(scores.dtype, torch.float32)) / eps
    s = s if among is None else s.masked_fill(~among, -torch.inf)
    n, count = s.shape[-1], torch.arange(s.shape[-1], device=s.device)
    keep = torch.as_tensor(keep, dtype=s.dtype, device=s.device).ceil()
    values, order = s.detach().sort(dim=-1, descending=True, stable=True)
    rank = order.argsort(-1)
    if steps:
        level = below = torch.zeros_like(s[..., :1])
        for _ in range(steps):
            level = keep.log() - torch.logsumexp(s + below, -1, keepdim=True)
            below = (-s - level).clamp(max=0)
        weights = (s + level + below).exp()
    else:
        left = keep - count
        tails = values.flip(-1).logcumsumexp(-1).flip(-1)
        at_one = ((values + left.clamp(min=1).log() - tails > 0) & (left > 0)).sum(-1, keepdim=True)
        everything = keep >= (n if among is None else among.sum(-1, keepdim=True))
        full = (rank < at_one) | everything
        others = s.masked_fill(full & ~everything, -torch.inf)
        level = (keep - at_one).clamp(min=1).log() - torch.logsumexp(others, -1, keepdim=True)
        weights = torch.where(full, 1.0, (s + level).clamp(max=0).exp())
    kept = rank < keep if among is None else (rank < keep) & among
    return torch.where(kept, weights, 0.0).to(scores.dtype)


def load_balance(p: Tensor, w: Tensor, *conditions: Tensor) -> Tensor:
    """size of the last dimension * Σ (share of all choices w != 0) (mean of p), over the tokens [batch, seq, ...] that count."""
    counts = torch.ones((), device=p.device, dtype=torch.bool)
    for condition in conditions:
        counts = counts & (condition != 0)
    p, chosen, counts = torch.broadcast_tensors(p, w.detach() != 0, counts)
    chosen = (chosen & counts).sum((0, 1)).to(p.dtype)
    mean = (p * counts).sum((0, 1)) / counts.sum((0, 1)).clamp(min=1)
    share = chosen / chosen.sum(-1, keepdim=True).clamp(min=1)
    balance: Tensor = (share * mean).sum(-1) * p.shape[-1]
    return balance


def chosen_tokens(chosen: Tensor, most: float | None = None) -> Tensor:
    """The numbers of the tokens that are chosen (not 0), in order, and then of others where a sequence has fewer: [batch, seq] gives [batch, chosen].

    `most`: no sequence has more. Where that is not known, a compiled graph, which is one for all, takes every token.
    """
    there = chosen != 0
    if most is not None:
        count = min(math.ceil(most), there.shape[1])
    else:
        count = there.shape[1] if torch.compiler.is_compiling() or not there.numel() else int(there.sum(1).max())
    return there.byte().argsort(dim=1, descending=True, stable=True)[:, :count]


def take(x: Tensor, at: Tensor) -> Tensor:
    """What tokens at numbers [batch, chosen] have of x [batch, seq, ...]."""
    batch, seq = x.shape[:2]
    rows = at + seq * torch.arange(batch, device=at.device)[:, None]
    return x.flatten(0, 1).index_select(0, rows.flatten()).view(*at.shape, *x.shape[2:])


def put(x: Tensor, at: Tensor, chosen: Tensor) -> Tensor:
    """x [batch, chosen, ...] where it belongs, 0 for the tokens [batch, seq] that are not chosen."""
    batch, seq = chosen.shape
    rows = at + seq * torch.arange(batch, device=at.device)[:, None]
    there = (chosen != 0).gather(1, at)
    x = torch.where(there.view(*there.shape, *[1] * (x.dim() - 2)), x, 0)
    return x.new_zeros(batch * seq, *x.shape[2:]).index_copy(0, rows.flatten(), x.flatten(0, 1)).view(batch, seq, *x.shape[2:])


class Pairs(NamedTuple):
    """Pairs of an expert and a token, one expert's after another's: the number of each one's expert, of its token among all, and of both; how many
    each expert has; how many sequences and tokens there are."""

    expert: Tensor
    token: Tensor
    place: Tensor
    counts: Tensor
    shape: tuple[int, int]


def pairs_of(chosen: Tensor, most: int | None = None) -> Pairs:
    """The pairs where a choice [experts, batch, tokens] is not 0. `most`: so many experts each token has.

    Where that is not known, a compiled graph, which is one for all, takes every pair.
    """
    experts, batch, tokens = chosen.shape
    flat = (chosen != 0).flatten()
    if not torch.compiler.is_compiling():
        place = flat.nonzero().squeeze(1)
    elif most is None:
        place = torch.arange(flat.shape[0], device=flat.device)
    else:
        place = flat.byte().argsort(descending=True, stable=True)[: batch * tokens * min(most, experts)]
    expert = place // (batch * tokens)
    counts = (expert == torch.arange(experts, device=place.device)[:, None]).sum(1)
    return Pairs(expert, place % (batch * tokens), place, counts, (batch, tokens))


def combined(x: Tensor, pairs: Pairs) -> Tensor:
    """The sum of x [pairs, ...] over the pairs of each token: [batch, tokens, ...]."""
    batch, tokens = pairs.shape
    return x.new_zeros(batch * tokens, *x.shape[1:]).index_add(0, pairs.token, x).view(batch, tokens, *x.shape[1:])


def grouped(x: Tensor, w: Tensor, counts: Tensor) -> Tensor:
    """x [rows, in] times the transposed w [experts, out, in] of each row's expert: [rows, out]. The first counts[0] rows are the first expert's."""
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    made: Tensor = grouped_rows(x.to(dtype), w.to(dtype), counts)
    return made


def opaque(fake: Callable[..., Tensor], backward: Callable[..., object] | None = None) -> Callable[..., Callable[..., Tensor]]:
    """A function that a compiled graph calls as it stands. `fake`: the shape of what it returns. All models of a process share one."""

    def made(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        if not hasattr(torch.ops.mptc, function.__name__):  # to make it again would take it from models that have it
            op = torch.library.custom_op(f"mptc::{function.__name__}", function, mutates_args=())
            op.register_fake(fake)
            if backward is not None:
                op.register_autograd(backward, setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs))
        found: Callable[..., Tensor] = getattr(torch.ops.mptc, function.__name__).default
        return found

    return made


def rows_shape(x: Tensor, w: Tensor, counts: Tensor) -> Tensor:
    assert counts.shape[0] == w.shape[0]
    return x.new_empty(x.shape[0], w.shape[1])


def weight_shape(grad: Tensor, x: Tensor, counts: Tensor) -> Tensor:
    return x.new_empty(counts.shape[0], grad.shape[1], x.shape[1])


def rows_back(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
    x, w, counts = ctx.saved_tensors  # type: ignore[attr-defined]
    wants = ctx.needs_input_grad  # type: ignore[attr-defined]
    return grouped_rows(grad, w.mT, counts) if wants[0] else None, grouped_weight(grad, x, counts) if wants[1] else None, None


def fits_grouped_mm(*operands: Tensor) -> bool:
    """Whether torch has one kernel for all of these products: on a GPU, of bfloat16, where rows are whole multiples of 16 bytes."""
    return all(each.is_cuda and each.dtype == torch.bfloat16 and each.shape[-1] % 8 == 0 for each in operands)


def ends(counts: Tensor) -> Tensor:
    """Where each expert's rows end."""
    return counts.cumsum(0).to(torch.int32)


@opaque(weight_shape)
def grouped_weight(grad: Tensor, x: Tensor, counts: Tensor) -> Tensor:
    """Σ over each expert's rows of grad [rows, out] x [rows, in]: [experts, out, in]."""
    if fits_grouped_mm(grad, x):
        return F.grouped_mm(grad.contiguous().t(), x.contiguous(), offs=ends(counts))
    out, start = x.new_zeros(counts.shape[0], grad.shape[1], x.shape[1]), 0
    for expert, count in enumerate(counts.tolist()):
        if count:
            torch.mm(grad[start : start + count].t(), x[start : start + count], out=out[expert])
        start += count
    return out


@opaque(rows_shape, rows_back)
def grouped_rows(x: Tensor, w: Tensor, counts: Tensor) -> Tensor:
    """One product after another, of each expert's rows, on a GPU all of them at once where torch can."""
    if fits_grouped_mm(x, w) and w.shape[1] % 8 == 0:
        return F.grouped_mm(x.contiguous(), w.contiguous().mT, offs=ends(counts))
    out, start = x.new_empty(x.shape[0], w.shape[1]), 0
    for expert, count in enumerate(counts.tolist()):
        if count:
            torch.mm(x[start : start + count], w[expert].t(), out=out[start : start + count])
        start += count
    return out
