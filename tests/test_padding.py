"""Padding that tokens would see as tokens is an error that says what to declare; padding that harms nobody, or that the spec masks, is none."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.differential import Spec, agree, compiled
from tests.gallery.common import ids, loaded

FRAME = """
use "lib/std.mpt"
context src
context far
dim vocab = 11
dim kind  = 3
dim d     = 8
dim kv    = 2
dim group = 2
dim head  = 2
dim key   = 4
dim hidden = 6

energy pull(x: [d] | c: [ctx, d]) {{ minimize -logsumexp[ctx](sum[d](x * c)) }}
energy own(x: [d]) {{ minimize -logsumexp[ctx](sum[d](x * all(x))) }}

model m {kind} {{
  input tokens: id[vocab]
  input other:  id[kind]
  input mask:   []
  input z:      [d]
  input source: [src] id[vocab] per sequence
  input heard:  [src] per sequence
  param embed: [vocab, d]
  param kinds: [kind, d]
  x = lookup(embed, tokens)
  {body}
}}
"""

# What sees padding, and which input it then refuses.
CAUSAL = {
    "attention": "output y = attention(x)",
    "a window": "output y = attention_to(x, window(x, 3))",
    "a mean": "output y = mean[ctx](past(x))",
    "places are no mask": "output y = x + sum[ctx](only(past(x), distance(ctx) > 0))",
    "one view of two": "output y = attend(x, only(past(x), past(mask))) as a + attend(x, past(x)) as b",
    "in a stack": "stack 2 as layers { x <- x + attention(rmsnorm(x) as pre) }\n  output y = x",
    "from pass to pass": "y = z\n  repeat 2 {\n    y <- mean[ctx](past(y)) + x\n  }\n  output out = y",
    "an energy": "output y = x - grad pull(x | past(x))",
    "shifted": "h = mlp(x)\n  output y = shift(h, 1)",
    "the token before": "output y = mean[ctx](past(lookup(embed, shift(tokens, 1))))",
    "behind a norm": "output y = attention(rmsnorm(x) as n)",
}
BOTH_WAYS = {
    "attention": "output y = attend(x, all(x))",
    "the mean of a sequence": "output y = mean[seq](x)",
    "an energy of all": "output y = x - grad own(x)",
}
MEMORIES = {
    "a memory": "m = lookup(embed, source)\n  output y = attend[ctx -> src](x, m)",
    "itself": "m = lookup(embed, source)\n  h = m + attend[ctx -> far](m, m[src -> far]) as a\n  output y = x + sum[src](only(h, heard))",
}
FINE = {
    "no attention": "output y = mlp(x) + lookup(kinds, other)",
    "masked": "output y = attend(x, only(past(x), past(mask)))",
    "documents": "output y = attend(x, only(window(x, 4), past(other) == other))",
    "nothing looked up is seen": "output y = x + mean[ctx](past(z))",
    "compared alone": "output y = z * sum[ctx](past(tokens) == tokens)",
    "the row of the token before": "output y = x + shift(lookup(embed, tokens), 1)",
    "in the loss alone": "output y = attend(z, past(z)) as a\n  loss cross_entropy[vocab](embed @ attend(x, past(x)) as b, next(tokens))",
    "a masked memory": "m = lookup(embed, source)\n  output y = attend[ctx -> src](x, only(m, heard))",
}


def made(body: str, kind: str = "") -> Spec:
    spec = compiled(FRAME.format(body=body, kind=kind), {"seq": 6})
    return replace(spec, model=spec.model.eval())


def padded(spec: Spec, name: str, *places: int) -> dict[str, Tensor]:
    """Of the second sequence, some ids below 0; everything else is something."""
    inputs = {key: torch.ones_like(value) for key, value in spec.inputs().items()}
    inputs[name][1, list(places)] = -1
    return inputs


@pytest.mark.parametrize("name", CAUSAL)
def test_padding_to_the_left(name: str) -> None:
    spec = made(CAUSAL[name])
    for places in ((0,), (0, 1, 2), (3,), (4,)):
        with pytest.raises(RuntimeError, match=r"tokens holds ids below 0 before others.*only\(past\(h\), past\(mask\)\)"):
            spec.run(padded(spec, "tokens", *places))
    for places in ((), (5,), (3, 4, 5), (0, 1, 2, 3, 4, 5)):
        spec.run(padded(spec, "tokens", *places))
    spec.run(padded(spec, "other", 0))


@pytest.mark.parametrize("name", CAUSAL)
def test_padding_to_the_right_is_harmless(name: str) -> None:
    spec = made(CAUSAL[name])
    whole, short = padded(spec, "tokens", 4, 5), padded(spec, "tokens")
    short = {key: value[:, :4] if key not in ("source", "heard") else value for key, value in short.items()}
    for key, value in spec.run(whole).items():
        torch.testing.assert_close(value[:, :4], spec.run(short)[key], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", BOTH_WAYS)
def test_any_padding_where_tokens_see_both_ways(name: str) -> None:
    spec = made(BOTH_WAYS[name], "bidirectional")
    for places in ((0,), (3,), (5,)):
        with pytest.raises(RuntimeError, match=r"tokens holds ids below 0: .*only\(all\(h\), all\(mask\)\)"):
            spec.run(padded(spec, "tokens", *places))
    spec.run(padded(spec, "tokens"))


@pytest.mark.parametrize("name", MEMORIES)
def test_padding_of_a_memory(name: str) -> None:
    spec = made(MEMORIES[name])
    with pytest.raises(RuntimeError, match=r"source holds ids below 0: .*input mask: \[src\] per sequence.*only\(h, mask\)"):
        spec.run(padded(spec, "source", 2))
    spec.run(padded(spec, "tokens", 0))


@pytest.mark.parametrize("name", FINE)
def test_what_is_not_refused(name: str) -> None:
    spec = made(FINE[name])
    for label in ("tokens", "other", "source"):
        spec.run(padded(spec, label, 0, 2))


def test_ids_beside_each_other_are_not_padding() -> None:
    """Of several ids for each token some may be absent."""
    body = "input a: [s] id[v]\n  param T: [v, d]\n  output y = mean[ctx](past(sum[s](lookup(T, a))))"
    spec = compiled(f"dim v = 5\ndim s = 3\ndim d = 2\nmodel m {{\n  {body}\n}}\n")
    spec.run({"a": torch.tensor([[[0, -1, 2], [1, 1, -1]]])})
    agree(spec)


def test_targets_are_not_looked_up() -> None:
    model = loaded("bert")
    given = {"tokens": ids(256, 2, 5), "segments": ids(2, 2, 5), "mask": torch.ones(2, 5).double(), "targets": torch.full((2, 5), -1)}
    given["targets"][:, 2] = 3
    assert model(**given, loss=True).loss.isfinite()


@pytest.mark.parametrize("how", ["compile", "export"])
def test_compiled_and_exported(how: str) -> None:
    """The check is in the one graph, for every length, and says the same."""
    model = loaded("gpt2")
    tokens = ids(256, 2, 7)
    if how == "compile":
        run = torch.compile(model, fullgraph=True, backend="aot_eager", dynamic=True)
    else:
        lengths = {"tokens": {0: torch.export.Dim("batch"), 1: torch.export.Dim("seq", max=64)}}
        run = torch.export.export(model, (tokens,), dynamic_shapes=lengths).module()
    torch.testing.assert_close(run(tokens).logits, model(tokens).logits)
    right, left = tokens.clone(), tokens.clone()
    right[1, 4:], left[1, :2] = -1, -1
    run(right)
    with pytest.raises(RuntimeError, match="tokens holds ids below 0 before others"):
        run(left)
    run(ids(256, 3, 9))


def test_arguments_that_are_none() -> None:
    model = loaded("gpt2")
    with pytest.raises(TypeError, match="gpt2 takes tokens, loss, probe and cache; not attention_mask"):
        model(ids(256, 2, 5), attention_mask=torch.ones(2, 5))
    with pytest.raises(TypeError, match=r"tokens is a tensor of ids, \[batch, seq\]; a list was given"):
        model([[1, 2]])
    with pytest.raises(TypeError, match=r"tokens holds ids, which are whole numbers; a tensor of torch.float32 was given"):
        model(torch.ones(2, 5))
    with pytest.raises(ValueError, match=r"tokens is \[batch, seq\]; a tensor of shape \[5\] was given"):
        model(ids(256, 1, 5)[0], cache=model.new_cache())
    with pytest.raises(ValueError, match=r"patches is \[batch, seq, \d+\]; a tensor of shape \[2, 5, 3\] was given"):
        loaded("vit")(torch.ones(2, 5, 3), ids(3, 2, 1)[:, 0])
    for other in ({}, True):
        with pytest.raises(ValueError, match="of another model, or none; make one with new_cache"):
            model(ids(256, 2, 5), cache=other)
