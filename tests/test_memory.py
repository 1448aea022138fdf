"""Memories: contexts of an input's own length. How long they are, where along them a token stands, and what is not theirs."""

from __future__ import annotations

import pytest
import torch

from mptc.build import build
from mptc.model.resolve import resolve
from mptc.source.diagnostic import Diagnostics
from mptc.source.text import Source
from tests.differential import agree, compiled

FRAME = """
use "lib/std.mpt"
context notes
context far
context other
dim d      = 6
dim key    = 4
dim head   = 2
dim places = 20

block near(x: [d], c: [ctx, d]) {{
  param W_q: [head, key, d]
  param W_k: [head, key, d]
  s = sum[key](rope[key](W_q @ x) * rope[key](W_k @ c)) - 0.1 * abs(distance(ctx)) + 0.3 * index(ctx)
  return sum[head](sum[ctx](softmax[ctx](s) * c))
}}

block behind(x: [d], c: [ctx, d]) {{ return sum[ctx](only(c, distance(ctx) > 0)) + 0 * x }}

block viewed(x: [d]) {{ return sum[ctx](all(x)) }}

model reader bidirectional {{
  input x:       [d]
  input written: [notes, d] per sequence
  input others:  [other, d] per sequence
  param P: [places, d]
  {body}
}}
"""


BODIES = {
    "the mean": "output y = x + mean[notes](written)",
    "the mean under another name": "output y = x + mean[far](written[notes -> far])",
    "two under one name, no length asked": "output y = x * sum[far](written[notes -> far]^2) + sum[far](others[other -> far])",
    "what is constant along it": "output y = x + sum[notes](written - written + 1) + mean[notes](written * 0 + 2)",
    "how many": "output y = x * sum[notes](1 + 0 * written)",
    "places": "output y = x + sum[notes](written * index(notes))",
    "places alone": "output y = x + mean[notes](index(notes))",
    "places under another name": "c = written[notes -> far]\n  output y = x + sum[far](softmax[far](sum[d](x * c) + 0.1 * index(far)) * c)",
    "learned places": "output y = x + sum[notes](written^2 * lookup[places](P, index(notes)))",
    "places in a condition": "output y = x + sum[notes](only(written, index(notes) > 2)) + sum[notes](only(written, index(notes) == position))",
    "some of itself": "m = tanh(sum[far](only(written[notes -> far], index(far) < index(notes))))\n  output y = x * sum[notes](m^2)",
    "distances": "output y = x + sum[notes](exp(-abs(distance(notes))) * written)",
    "places of tokens": "c = all(x)\n  output y = sum[ctx](index(ctx) * c) - sum[ctx](all(position) * c) + x * mean[ctx](c * distance(ctx))",
    "a block on tokens": "output y = near(x, all(x)) + behind(x, all(x))",
    "a block on a memory": "output y = near[ctx -> notes](x, written) + behind[ctx -> notes](x, written)",
    "both": "share f: near\n  share g: near[ctx -> notes]\n  output y = f(x, all(x)) + g(x, written) + behind(x, all(x))",
    "a loop": "m = written\n  repeat 3 { m <- tanh(m + index(notes) * mean[notes](m)) }\n  output y = x * sum[notes](m)",
    "a stack": "m = written\n  stack 2 as s {\n    param W: [d]\n    m <- W * m + mean[notes](m) * index(notes)\n  }\n  output y = x * sum[notes](m)",
    "a state that grows": "m = x\n  t = 0\n  repeat 2 { t <- t + 1 }\n  output y = m * t + sum[notes](written * t)",
    "turned places": "q = rope[d](written)\n  output y = sum[notes](softmax[notes](sum[d](q * rope[d](x))) * written)",
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("tokens", [5, 9])
def test_values_and_gradients(name: str, tokens: int) -> None:
    """Against the naive meaning, where the memories are of lengths that are not that of the sequence."""
    agree(compiled(FRAME.format(body=BODIES[name]), {"seq": tokens, "notes": 7, "other": 3}))


def refused(body: str) -> list[str]:
    diagnostics = Diagnostics()
    model = resolve(Source("spec.mpt", FRAME.format(body=body)), {}, None, diagnostics)
    if model is not None:
        build(model, diagnostics)
    return [one.code for one in diagnostics.found if one.severity == "error"]


def test_tokens_are_not_viewed_along_a_memory() -> None:
    assert refused("output y = x + sum[notes](all[notes](x))") == ["E0317"]
    assert refused("output y = viewed[ctx -> notes](x)") == ["E0901"]


def test_a_length_of_two_memories_is_refused() -> None:
    both = "output y = x * mean[far](written[notes -> far]) + mean[far](others[other -> far])"
    assert refused(both) == ["E0901"]
    assert refused("output y = x * sum[far](written[notes -> far] * index(far)) + sum[far](others[other -> far])") == ["E0901"]


def test_the_sequence_has_no_index() -> None:
    assert refused("output y = x * index(seq)") == ["E0308"]


def test_inputs_of_one_call_belong_together() -> None:
    """Another batch, another length of the sequence or of a memory is an error, and is not broadcast."""
    body = "input mask: [notes] per sequence\n  output y = x + sum[notes](memory * mask)"
    text = f"context notes\ndim d = 4\nmodel m {{\n  input x: [d]\n  input memory: [notes, d] per sequence\n  {body}\n}}\n"
    model, x, memory, mask = compiled(text).model, torch.randn(3, 5, 4).double(), torch.randn(3, 7, 4).double(), torch.ones(3, 7).double()
    model(x, memory, mask)
    with pytest.raises(ValueError, match=r"memory is \[3, notes, 4\]; a tensor of shape \[1, 7, 4\] was given"):
        model(x, memory[:1], mask)
    with pytest.raises(ValueError, match=r"mask is \[3, 7\]; a tensor of shape \[3, 1\] was given"):
        model(x, memory, mask[:, :1])
