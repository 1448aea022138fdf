"""No operator of a generated module returns a number for each pair of tokens, forward or backward.

Attention is one operator: what goes in and comes out of it counts, what it does inside does not (on a CPU with a learned bias, torch's own is plain).
Memories count as sequences do; every length is a prime of its own, so that pairs are seen however they are laid out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

import mptc
from mptc.compile import check
from mptc.model import tree
from mptc.source.diagnostic import Diagnostics
from mptc.source.text import Source
from tests.differential import Returned, Watch
from tests.gallery.common import SPECS
from tests.gallery.drawn import drawn, typed

BATCH, TOKENS, MEMORY, HEADS = 3, 251, 241, 4
NAMES = [path.stem for path in sorted(SPECS.glob("*.mpt"))]
PAIRS = {TOKENS * TOKENS, TOKENS * MEMORY, MEMORY * MEMORY}

# Where weights are normalised over the other token than the one that they are summed over: an energy of all tokens together, as each of them
# moves it, both as one that looks and as one that is looked at. No fused attention does that: some rows at a time do.
BY_ROWS = {"energy_transformer", "hyper_set"}


class Attention(torch.autograd.Function):
    """Scaled dot-product attention as one operator: no mode sees what it does inside."""

    @staticmethod
    def forward(ctx: Any, plain: Callable[..., Tensor], options: dict[str, Any], *tensors: Tensor) -> Tensor:
        ctx.call = lambda given: plain(*given[:3], **({"attn_mask": given[3]} if len(given) > 3 else {}), **options)
        ctx.save_for_backward(*tensors)
        with _disable_current_modes():
            return ctx.call(tensors).detach()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        wanted = ctx.needs_input_grad[2:]
        with _disable_current_modes(), torch.enable_grad():
            given = [tensor.detach().requires_grad_(needed) for tensor, needed in zip(ctx.saved_tensors, wanted, strict=True)]
            found = iter(torch.autograd.grad(ctx.call(given), [tensor for tensor in given if tensor.requires_grad], grad))
        return None, None, *(next(found) if needed else None for needed in wanted)


@contextmanager
def opaque(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Counts the calls of attention."""
    plain, calls = F.scaled_dot_product_attention, [0]

    def attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **options: Any) -> Tensor:
        calls[0] += 1
        result: Tensor = Attention.apply(plain, options, query, key, value, *([] if attn_mask is None else [attn_mask]))
        return result

    with monkeypatch.context() as patch:
        patch.setattr(F, "scaled_dot_product_attention", attention)
        yield calls


def of_pairs(name: str, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Returned], int]:
    """What operators return of pairs in one training step, and how often attention was called."""
    sizes: dict[str, object] = {"places": 512} if any(axis.name == "places" for axis in typed(name, {}).sizes) else {}
    model, declared = mptc.load(SPECS / f"{name}.mpt", set=sizes, variant="tiny"), typed(name, sizes)
    given = drawn(declared, TOKENS, MEMORY, BATCH)
    given = {key: value.float() if value.is_floating_point() else value for key, value in given.items()}
    with opaque(monkeypatch) as calls, Watch() as watch:
        result = model(**given, loss=any(isinstance(statement, tree.Loss) for statement in declared.body))
        sum(value.square().mean() for value in result if isinstance(value, Tensor) and value.requires_grad).backward()
    found = [returned for returned in watch.seen if any(math.prod(returned.shape) % pairs == 0 for pairs in PAIRS) and math.prod(returned.shape)]
    return found, calls[0]


@pytest.mark.parametrize("name", NAMES)
def test_no_pairs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found, attended = of_pairs(name, monkeypatch)
    assert bool(attended) == (name not in BY_ROWS)
    assert not found


@pytest.mark.parametrize("name", NAMES)
def test_check_warns_of_none(name: str) -> None:
    diagnostics = Diagnostics()
    check(Source.read(SPECS / f"{name}.mpt"), diagnostics, variant="tiny")
    assert not any(one.code == "W0601" for one in diagnostics.found)


def test_pairs_are_found() -> None:
    """The judge sees a score that is written out."""
    with Watch() as watch:
        q = torch.randn(BATCH, HEADS, TOKENS, 8)
        (q @ q.mT).softmax(-1)
    assert any(math.prod(returned.shape) % TOKENS**2 == 0 for returned in watch.seen)
