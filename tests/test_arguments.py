"""What is passed to blocks and energies: views, distances, places and conditions, with more axes than the types name, contexts too."""

from __future__ import annotations

import pytest

from mptc.backends.torch.provided import provided
from mptc.model.resolve import resolve
from mptc.source.diagnostic import Diagnostics
from mptc.source.text import Source
from tests.differential import agree, compiled

# What needs many of the functions that a module is given.
BODY = """param w: [e, d]
  param up: [e, d] ~ normal(0.5)
  s = w @ {name}
  y = each e {{
    param u: [key, d] ~ normal(0.5)
    param v: [d, key] ~ normal(0.5)
    v @ (u @ {name})
  }}
  z = on sum[d]({name}) > 0 {{ up @ shift(here({name}), 1) }}
  q = sum[ctx](softmax[ctx](tanh(sum[d]({name} * past({name})))) * past({name}))
  output o = sum[e](softmax[e](topk[e](s, 2)) * y) + q + sum[e](up * z) + rope[d]({name})
  loss mean[seq](sum[d](o^2))"""

FRAME = """
use "lib/std.mpt"
context mem
context far
context other
dim d = 4
dim key = 4
dim head = 2
dim hidden = 5
dim vocab = 9
dim slot = 40
types kind of vocab2 {{ low = 4, high = 5 }}

block fading(t: []) {{ return -abs(t) / 2 }}
block learned(t: []) {{
  param a: [] = 0.3
  param b: [head] = 0.2
  return a * tanh(t) + b * t
}}
block gap(i: [], j: []) {{ return i - j }}
block same(i: id[vocab], j: id[vocab]) {{ return i == j }}
block near(t: [], n: []) {{ return (t >= 0) * (t < n) }}
block seenof(c: [ctx, d], w: [ctx]) {{ return sum[ctx](c * w) }}
block thin(c: [ctx, d], keep: []) {{ return sum[ctx](only(c, keep)) }}
block thin2(c: [ctx, d], keep: [ctx]) {{ return sum[ctx](only(c, keep)) }}
block through(c: [ctx, d], x: [d], t: [ctx]) {{ return soft(c, x, fading(t)) + seenof(c, t) }}
block weigh(c: [ctx, d], t: [ctx]) {{ return sum[ctx](softmax[ctx](t) * c) }}
block soft(c: [ctx, d], x: [d], bias: [ctx]) {{ return sum[ctx](softmax[ctx](sum[d](c * x) + bias) * c) }}
block soft2(c: [ctx, d], x: [d], bias: [ctx, head]) {{ return sum[head](sum[ctx](softmax[ctx](sum[d](c * x) + bias) * c)) }}
block ownview(x: [d], keep: []) {{ return sum[ctx](only(past(x), keep)) }}
block viewed(x: [d], t: []) {{ return sum[ctx](past(x) * past(t)) }}
block placed(x: [d]) {{ return x * position + sum[ctx](past(x) * distance(ctx)) }}
block dist(x: []) {{ return x * distance(ctx) }}
block counted(m: []) {{ return sum[ctx](past(m)) }}
block ofctx(c: [ctx, d]) {{ return c * distance(ctx) }}
block table(n: []) {{
  param P: [slot, d]
  return lookup[slot](P, n)
}}
block norm(c: [d]) {{ return rms[d](c) }}
energy pull(x: [d] | c: [ctx, d], b: [ctx]) {{ minimize -logsumexp[ctx](sum[d](x * c) + b) }}
energy pull0(x: [d] | c: [ctx, d], b: []) {{ minimize -logsumexp[ctx](sum[d](x * c)) * b }}
energy toall(x: [d] | t: []) {{ minimize sum[d](x^2) * t }}

model m {kind} {{
  input x: [d]
  input tokens: id[vocab]
  input typed: id[vocab2]
  input mask: []
  input memory: [mem, d] per sequence
  input mids: [mem] id[vocab] per sequence
  {body}
}}
"""

BODIES = [
    "output y = sum[ctx](past(x) * exp(fading(distance(ctx))))",
    "output y = sum[ctx, head](past(x) * exp(fading(distance(ctx))) * learned(distance(ctx)))",
    "s = learned(distance(ctx))\n  output y = sum[head](sum[ctx](softmax[ctx](s + sum[d](past(x)*x)) * past(x)))",
    "output y = sum[ctx](past(x) * gap(position, past(position)))",
    "output y = sum[ctx](past(x) * gap(position, index(ctx)))",
    "output y = sum[ctx](only(past(x), same(tokens, past(tokens))))",
    "output y = sum[ctx](past(x) * same(past(tokens), tokens))",
    "output y = sum[ctx](only(past(x), near(distance(ctx), 3)))",
    "output y = sum[ctx](only(past(x), near(distance(ctx), position / 2)))",
    "output y = seenof(past(x), past(mask))",
    "output y = seenof(past(x), past(mask) * distance(ctx))",
    "output y = seenof(past(x), distance(ctx))",
    "output y = thin(past(x), mask)",
    "output y = thin(past(x), position > 2)",
    "output y = thin2(past(x), past(mask) > 0)",
    "output y = thin2(past(x), past(tokens) == tokens)",
    "output y = thin2(past(x), distance(ctx) > 0)",
    "output y = weigh(past(x), past(mask))",
    "output y = weigh(past(x), past(mask) + fading(distance(ctx)))",
    "output y = soft(past(x), x, past(mask))",
    "output y = soft2(past(x), x, learned(distance(ctx)))",
    "output y = soft2(past(x), x, learned(past(mask)))",
    "output y = ownview(x, mask)",
    "output y = viewed(x, mask) + viewed(x, position)",
    "output y = placed(x)",
    "output y = sum[ctx](dist(mask) * past(x))",
    "output y = sum[ctx](past(x) * dist(1))",
    "output y = x * counted(mask > 0) + counted(position)",
    "output y = sum[ctx](ofctx(past(x)))",
    "output y = sum[ctx](past(x) * table(distance(ctx)))",
    "output y = sum[ctx](past(x) * table(fading(distance(ctx)) * -2))",
    "output y = sum[mem](memory * table(index(mem)))",
    "output y = x + sum[mem](only(memory, same(mids, tokens)))",
    "output y = x + sum[mem](norm(memory) * fading(distance(mem)))",
    "output y = x + sum[mem](norm(only(memory, index(mem) < position)))",
    "output y = sum[ctx](norm(past(x)))",
    "output y = sum[ctx](norm(only(past(x), distance(ctx) > 0)))",
    "output y = x - grad pull(x | past(x), past(mask))",
    "output y = x - grad pull(x | past(x), fading(distance(ctx)))",
    "output y = x - grad pull(x | past(x), past(mask) + fading(distance(ctx)))",
    "output y = x - grad pull0(x | past(x), mask)",
    "output y = x - grad toall(x | position)",
    "output y = x - grad toall(x | fading(position))",
    "output y = x * sum[ctx](toall(past(x) | distance(ctx)))",
    "output y = x * sum[ctx](toall(past(x) | past(mask)))",
    "output y = soft_cap(sum[ctx](past(x) * soft_cap(distance(ctx), 4)), 5)",
    "output y = sum[ctx](only(past(x), past(typed) in low))",
    "output y = sum[ctx](past(x) * (past(kind(typed)) == kind(typed)))",
    "output y = sum[ctx](only(past(x), past(position) < position - 1))",
    "output y = sum[ctx](only(past(x), past(position - 1) < index(ctx)))",
    "c = only(past(x), distance(ctx) > 0)\n  output y = seenof(c, past(mask)) + thin(c, mask)",
    "output y = seenof[ctx -> other](past[other](x), past[other](mask))",
    "output y = thin[ctx -> mem](memory, mask) + thin2[ctx -> mem](memory, index(mem) < position)",
    "output y = thin2[ctx -> mem](memory, mids == tokens)",
    "output y = soft[ctx -> mem](memory, x, 0.1 * index(mem))",
    "output y = soft[ctx -> mem](memory, x, fading(distance(mem)))",
    "output y = sum[mem](sum[ctx](past(x) * memory * (mids == past(tokens))))",
    "output y = sum[ctx](past(x) * sum[mem](softmax[mem](memory @ past(x)) * fading(distance(ctx))))",
    "stack 2 as s {\n    w = learned(distance(ctx))\n    x <- tanh(x + sum[head](sum[ctx](past(x) * exp(-w^2))))\n  }\n  output y = x",
    "repeat 2 {\n    x <- tanh(thin2(past(x), distance(ctx) < 2))\n  }\n  output y = x",
    "share p: learned\n  output y = sum[ctx, head](past(x) * (p(distance(ctx)) + p(position)))",
    "output y = on position > 2 { sum[ctx](past(x) * fading(distance(ctx))) }",
    "output y = on position > 2 { h = 2 * x\n    thin2(past(h), distance(ctx) > 0) + seenof(past(h), past(mask) + fading(distance(ctx)))\n  }",
    "output y = sum[ctx](past(x) * (past(mask > 0) - (mask > 0)))",
    "output y = sum[ctx](past(x) * (shift(mask > 0, 1) - past(mask > 0)))",
    "output y = sum[ctx](only(past(x), (past(mask) > 0) + (distance(ctx) > 2)))",
    "output y = sum[ctx](only(past(x), shift(mask > 0, 1)))",
    "output y = x - grad pull(x | past(x), past(mask) + fading(distance(ctx)))",
    "output y = through(past(x), x, distance(ctx))",
    "output y = through(past(x), x, fading(distance(ctx)) + past(mask))",
]
REFUSED = {
    "output y = thin(past(x), past(mask) > 0)": "E0314",
    "output y = weigh(past(x), fading(distance(ctx)))": "E0304",
    "output y = ownview(x, distance(ctx) > 1)": "E0314",
    "output y = ownview(x, past(tokens) == tokens)": "E0314",
    "output y = sum[ctx](placed(past(x)))": "E0314",
    "output y = sum[ctx](past(x) * dist(past(mask)))": "E0314",
    "output y = x * counted(1)": "E0313",
    "output y = seenof(distance(ctx) * x, distance(ctx))": "E0304",
}


def text(body: str, kind: str = "") -> str:
    return FRAME.format(kind=kind, body=body if not kind else body.replace("past(", "all(").replace("past[", "all["))


@pytest.mark.parametrize("kind", ["", "bidirectional"])
@pytest.mark.parametrize("body", BODIES)
def test_values_and_gradients(body: str, kind: str) -> None:
    agree(compiled(text(body, kind), {"seq": 5, "mem": 7}))


@pytest.mark.parametrize("body", REFUSED)
def test_refused(body: str) -> None:
    """A block that names a context is not lifted along it; nothing reduces what no view limits."""
    diagnostics = Diagnostics()
    assert resolve(Source("spec.mpt", text(body)), {}, None, diagnostics) is None
    assert {one.code for one in diagnostics.found} == {REFUSED[body]}


# Classes have names that no input has, and some words are the language's.
@pytest.mark.parametrize("name", sorted(set(provided()) - {"Parameters", "TiedParameters", "Cache", "Pairs", "freeze", "rope", "shift", "tie"}))
def test_an_input_may_be_called_as_any_helper(name: str) -> None:
    agree(compiled(f"dim d = 4\ndim key = 3\ndim e = 3\nmodel m {{\n  input {name}: [d]\n  {BODY.format(name=name)}\n}}\n"))
