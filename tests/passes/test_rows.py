"""Scores that no fused attention takes, by rows: equal to what is written out, and linear in memory, forward and backward."""

from __future__ import annotations

import math

import pytest
import torch

from mptc.compile import check
from mptc.source.diagnostic import Diagnostics
from mptc.source.text import Source
from tests.differential import Spec, Watch, agree, compiled

FRAME = """
use "lib/std.mpt"
dim d     = 8
dim head  = 2
dim key   = 4
dim far   = 32
dim bins  = 5

energy own(x: [d] | c: [d]) {{
  param W_q: [head, key, d] ~ normal(0.5)
  param W_k: [head, key, d] ~ normal(0.5)
  param bias: [head, far] ~ normal(0.5)
  param rate: [head] = 0.1
  q = W_q @ x
  k = {view}(W_k @ c)
  {energy}
}}

model m {kind} {{
  input x: [d]
  {body}
}}
"""

STEP = "output y = x - grad own(x | x)"
DISTANCE = "sum[key]((q - k)^2) / 2"
SCORES = {
    "distances and a bias": f"minimize -sum[head](logsumexp[ctx](-{DISTANCE} + lookup[far](bias, min(distance(ctx), 31))))",
    "soft cap": "minimize -sum[head](logsumexp[ctx](5 * tanh(sum[key](q * k) / 5)))",
    "decay": "minimize -sum[head](logsumexp[ctx](sum[key](q * k) - rate * distance(ctx)))",
    "kernel": "minimize -sum[head](mean[ctx](exp(-sum[key]((q - k)^2))))",
    "largest": "minimize -sum[head](max[ctx](sum[key](q * k)))",
    "features of a pair": "minimize -sum[head](logsumexp[ctx](sum[key](silu(q + k))))",
}
BODIES = {
    "a step": STEP,
    "in a stack": "stack 2 as layers { x <- x - 0.1 * grad own(x | x) }\n  output y = x",
    "repeated": "repeat 3 { x <- x - 0.1 * grad own(x | x) }\n  output y = x",
    "watched": "share e: own\n  y = x - grad e(x | x)\n  probe after = e(y | x)\n  penalty e(x | x)\n  output out = y",
}
CAUSAL = {name: FRAME.format(view="past", kind="", energy=energy, body=STEP) for name, energy in SCORES.items()}
BOTH = {
    f"{name}, both ways": FRAME.format(view="all", kind="bidirectional", energy=energy, body=STEP)
    for name, energy in SCORES.items()
    if "distance(" not in energy
}
PLACES = {name: FRAME.format(view="past", kind="", energy=SCORES["soft cap"], body=body) for name, body in BODIES.items()}
OWN = {
    f"both sides (Hoover et al., arXiv 2302.07253){name}": FRAME.format(view="all", kind="bidirectional", energy=energy, body=STEP)
    for name, energy in {
        "": "minimize -sum[head](logsumexp[ctx](sum[key](q * all(W_k @ x))))",
        ", soft cap": "minimize -sum[head](logsumexp[ctx](5 * tanh(sum[key](q * all(W_k @ x)) / 5)))",
        ", of distances": "u = sum[key]((q - rms[key](all(W_k @ x)))^2)\n  minimize sum[head](mean[ctx](sqrt(1 + u) * (1 - exp(-u))))",
        ", over heads": "minimize -logsumexp[ctx](sum[head](softmax[head](tanh(sum[key](q * all(W_k @ x)))) * rate))",
    }.items()
}
NEAR = {"near ones": CAUSAL["soft cap"].replace("past(W_k @ c)", "window(W_k @ c, 3)")}
TEXTS = {**CAUSAL, **BOTH, **PLACES, **OWN, **NEAR}
MORE = {"seq": 131}  # than are taken at a time: 128


@pytest.mark.parametrize("name", TEXTS)
def test_equal_to_autograd_of_the_energy(name: str) -> None:
    """At most 1e-9 in float64, forward and the gradient of the training loss."""
    made = compiled(TEXTS[name], MORE)
    agree(made)


@pytest.mark.parametrize("name", TEXTS)
def test_linear_in_memory(name: str) -> None:
    """The largest tensor that any operator returns, forward or backward, grows as the length does."""
    made = compiled(TEXTS[name])
    assert largest(made, 1024) <= 2.01 * largest(made, 512)


@pytest.mark.parametrize("name", TEXTS)
def test_check_warns_of_none(name: str) -> None:
    check(Source("spec.mpt", TEXTS[name]), diagnostics := Diagnostics())
    assert not any(one.code == "W0601" for one in diagnostics.found)


def test_4096_tokens() -> None:
    made = compiled(CAUSAL["distances and a bias"])
    assert largest(made, 4096) == 4096 * 128 * 2 * 4  # seq, rows at a time, head, key


def largest(made: Spec, tokens: int) -> int:
    model = made.model.float()
    with Watch() as watch:
        result = model(torch.randn(1, tokens, 8), loss=made.program.loss is not None)
        sum(value.square().mean() for value in result if isinstance(value, torch.Tensor)).backward()
    return max(math.prod(each.shape) for each in watch.seen)


def test_short_sequences_are_computed_at_once() -> None:
    """Nothing is computed again for the gradient of few tokens."""
    made = compiled(CAUSAL["soft cap"])
    with Watch() as watch:
        made.model(torch.randn(1, 128, 8, dtype=torch.float64))[0].sum().backward()
    assert sum(each.shape[-2:] == (128, 128) for each in watch.seen) and "checkpoint(" in made.text


def test_what_two_tokens_have_goes_into_the_weights() -> None:
    """The slope of a soft cap is one number for each pair: none for each pair and each number of a key is made."""
    assert largest(compiled(CAUSAL["soft cap"]), 1024) == 1024 * 128 * 2  # seq, rows at a time, head


def test_rows_see_no_more_than_they_must() -> None:
    """Of a causal score the tokens up to the last that asks; in a window those that the first still sees."""
    assert seen(CAUSAL["soft cap"]) == [128, 256, 384, 512]
    assert seen(NEAR["near ones"]) == [128, 130, 130, 130]


def seen(text: str) -> list[int]:
    model = compiled(text).model
    with torch.no_grad(), Watch() as watch:
        model(torch.randn(1, 512, 8, dtype=torch.float64))
    return sorted(max(each.shape) for each in watch.seen if "softmax" in each.operator)


BESIDE = "share e: own\n  output y = x - grad e(x | x)\n  {} = e(x | x)"


def test_a_value_is_made_with_the_step() -> None:
    """The score of pairs is computed once where both are wanted."""
    made = compiled(FRAME.format(view="past", kind="", energy=SCORES["soft cap"], body=BESIDE.format("output value")))
    agree(made)
    assert made.text.count("by_rows(self.rows") == 1
    assert made.text.count("torch.tanh(") == 2  # there, and in decoding


def test_a_value_costs_nothing_unless_it_is_asked_for() -> None:
    """Beside fused attention its log-sum-exp is made for a probe alone, of the queries and keys that are there."""
    energy = "minimize -sum[head](logsumexp[ctx](sum[key](q * k)))"
    made = compiled(FRAME.format(view="past", kind="", energy=energy, body=BESIDE.format("probe value")))
    agree(made)
    x = torch.randn(1, 6, 8, dtype=torch.float64)
    with Watch() as without:
        made.model(x)
    with Watch() as with_:
        made.model(x, probe=True)
    counted = [[sum(name in each.operator for each in watch.seen) for name in ("logsumexp", "mm")] for watch in (without, with_)]
    assert counted == [[0, 3], [1, 4]]
