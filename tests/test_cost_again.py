"""Copies of stacks that are computed again: as much memory as the cost says, the same numbers, and as few of them as the memory allows."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path

import pytest
import torch

from mptc.cost import again
from mptc.cost.again import Again
from mptc.runtime.again import compute_again
from mptc.show import derived_from
from mptc.source.diagnostic import Diagnostics
from mptc.source.text import Source
from tests.golden import SPECS
from tests.test_cost import CLOSE, Case, case, memory

SHAPE = (3, 96, 80)
NAMES = ("cem_small", "llama_small", "alibi", "windowed_documents", "gpt2", "encoder_decoder", "yuriiformer", "cem_dlr")


DEEP = """
use "lib/std.mpt"
dim vocab = 256
dim d = 64
dim hidden = 256
dim key = 16
dim kv = 4
dim group = 1
model deep {
  input tokens: id[vocab]
  param embed: [vocab, d]
  x = lookup(embed, tokens)
  stack 4 as wide { x <- x + swiglu(rmsnorm(x) as pre) }
  stack 4 as seeing { x <- x + attention(rmsnorm(x) as pre) }
  output logits = embed @ rmsnorm(x)
  loss cross_entropy[vocab](logits, next(tokens))
}
"""


def spec(name: str) -> Path:
    return next(path for path in SPECS if path.stem == name)


def chosen(name: str, room: int, found: Case) -> Again:
    derived = derived_from(Source.read(spec(name)), Diagnostics(), {}, "tiny")
    assert derived is not None
    return again(derived.program, found.at(*SHAPE), room)


@pytest.mark.parametrize("name", NAMES)
def test_the_peak_is_what_torch_finds(name: str) -> None:
    found = case(Source.read(spec(name)))
    whole, least = chosen(name, 10**12, found), chosen(name, 0, found)
    assert not whole.copies and not whole.flops
    assert least.copies and all(count == of for count, of in least.copies.values())
    measured = memory(found, *SHAPE)
    compute_again(found.model, {stack: count for stack, (count, _) in least.copies.items()})
    less = memory(found, *SHAPE)
    assert less < 0.6 * measured
    assert abs(whole.peak - measured) <= CLOSE * measured
    assert abs(least.peak - less) <= CLOSE * less


@pytest.mark.parametrize("name", NAMES)
def test_loss_and_gradients_are_the_same_bits(name: str) -> None:
    found = case(Source.read(spec(name)))
    given = found.given(*SHAPE)
    there = deepcopy(found.model)
    compute_again(there, {stack: count for stack, (count, _) in chosen(name, 0, found).copies.items()})
    calls: list[int] = []
    [stack, *_] = chosen(name, 0, found).copies
    copy = next(there.get_submodule(stack).children())
    next(copy.children()).register_forward_hook(lambda *_: calls.append(1))
    losses = []
    for model in (found.model, there, deepcopy(there)):
        torch.manual_seed(0)  # dropout draws the same again
        loss = model(**given, loss=True).loss
        loss.backward()
        losses.append(loss)
    assert torch.equal(losses[0], losses[1]) and torch.equal(losses[0], losses[2])
    for (path, mine), theirs in zip(found.model.named_parameters(), there.parameters(), strict=True):
        assert torch.equal(mine.grad, theirs.grad), path
    assert len(calls) == 4  # twice in each of two models: on the way there and on the way back


def test_as_few_copies_as_the_memory_allows() -> None:
    """Those of the MLP first, which keep the most for what they cost; then as many of the others as it takes, and torch agrees at each."""
    source = Source("deep.mpt", DEEP)
    derived, found = derived_from(source, Diagnostics(), {}, None), case(source, None)
    assert derived is not None
    at = found.at(*SHAPE)
    most, least = again(derived.program, at, 10**12).peak, again(derived.program, at, 0).peak
    seen = []
    for room in range(least, most + 1, (most - least) // 6):
        plan = again(derived.program, at, room)
        assert plan.peak <= room
        copies = {stack: count for stack, (count, _) in plan.copies.items()}
        seen.append(sum(copies.values()))
        fewer = dict(copies)
        if copies:
            fewer[list(copies)[-1]] -= 1
            assert _peak_with(source, fewer) > room * (1 - CLOSE)
        measured = _peak_with(source, copies)
        assert abs(plan.peak - measured) <= CLOSE * measured
        assert "seeing" not in copies or copies["wide"] == 4
    assert seen == sorted(seen, reverse=True) and len(set(seen)) >= 4


def _peak_with(source: Source, copies: Mapping[str, int]) -> int:
    found = case(source, None)
    compute_again(found.model, copies)
    return memory(found, *SHAPE)
