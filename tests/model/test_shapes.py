"""Axes: their order, lifting, broadcasting; how often values exist; where parameters are."""

from __future__ import annotations

import pytest

from mptc.model import tree
from mptc.model.paths import parameters
from mptc.model.tree import Per

HEAD = """use "lib/std.mpt"
context mem
context near
dim vocab = 16
dim d = 8
dim e = 8
dim head = 2
dim key = 4
dim side = 4
dim kv = 2
dim group = 2
dim hidden = 16
block cap(x: []) { return 30 * tanh(x / 30) }
block outer(x: [d]) {
  param W: [head, d]
  return W * x
}
energy pull(x: [d] | c: [ctx, d]) { minimize -logsumexp[ctx](sum[d](x * c)) }
"""
INPUTS = """
  input x: [d]
  input q: [key, head]
  input s: [d] per sequence
  input memory: [mem, d] per sequence
  input tokens: id[vocab]
  param W: [head, key, d]
  param V: [d]
  param E: [vocab, head, d]
"""


def shape_of(sound, text: str, kind: str = "bidirectional") -> tuple[list[str], Per]:
    model = sound(f"{HEAD}model m {kind} {{{INPUTS}  probe p = {text}\n}}\n")
    probe = model.body[-1]
    assert isinstance(probe, tree.Probe)
    return [axis.name for axis in probe.value.shape.axes], probe.value.shape.per


@pytest.mark.parametrize(
    ("text", "axes"),
    [
        ("W @ x", ["head", "key"]),
        ("x * past(x)", ["ctx", "d"]),
        ("W * past(x)", ["ctx", "head", "key", "d"]),
        ("q + W @ x", ["key", "head"]),
        ("past(x) @ V", ["ctx"]),
        ("past[near](x) * past(x)", ["near", "ctx", "d"]),
        ("sum[key](W * x)", ["head", "d"]),
        ("softmax[ctx](sum[d](x * past(x)))", ["ctx"]),
        ("lookup(E, tokens)", ["head", "d"]),
        ("lookup(E, past(tokens))", ["ctx", "head", "d"]),
        ("lookup[vocab](E, position)", ["head", "d"]),
        ("lookup[vocab](E, distance(ctx))", ["ctx", "head", "d"]),
        ("(W @ x)[key -> side]", ["head", "side"]),
        ("each e { x * V }", ["e", "d"]),
        ("each e { past(x) }", ["ctx", "e", "d"]),
        ("each d { x }", ["d"]),
        ("on sum[d](x) > 0 { x }", ["d"]),
        ("cap(q)", ["key", "head"]),
        ("rmsnorm[d -> key](q)", ["head", "key"]),
        ("outer(past(x))", ["ctx", "head", "d"]),
        ("outer[d -> key, head -> e](q)", ["head", "e", "key"]),
        ("pull(x | past(x))", []),
        ("grad pull(x | past(x))", ["d"]),
        ("grad pull(x * W | past(x))", ["d", "head", "key"]),
        ("pull[ctx -> mem](x | memory)", []),
        ("topk[head, key](q, 3)", ["key", "head"]),
        ("index(key)", ["key"]),
        ("cross_entropy[vocab](sum[head, d](E * x), tokens)", []),
    ],
)
def test_axes(sound, text: str, axes: list[str]) -> None:
    assert shape_of(sound, text)[0] == axes


@pytest.mark.parametrize(
    ("text", "per"),
    [
        ("W * V", Per.CONSTANT),
        ("s * V", Per.SEQUENCE),
        ("s * x", Per.TOKEN),
        ("mean[seq](x)", Per.SEQUENCE),
        ("softmax[seq](x)", Per.TOKEN),
        ("position", Per.TOKEN),
        ("seq", Per.SEQUENCE),
        ("sum[mem](memory)", Per.SEQUENCE),
        ("rmsnorm(V)", Per.CONSTANT),
        ("rmsnorm(s)", Per.SEQUENCE),
        ("attention(x)", Per.TOKEN),
        ("cap(seq)", Per.SEQUENCE),
        ("sum[mem](pull[ctx -> e](V | 1))", None),
    ],
)
def test_how_often(sound, text: str, per: Per | None) -> None:
    if per is None:
        with pytest.raises(AssertionError, match="E0311"):
            shape_of(sound, text)
    else:
        assert shape_of(sound, text)[1] is per


def paths(sound, body: str, extra: str = "") -> dict[str, list[str]]:
    model = sound(f"{HEAD}{extra}model m {{{INPUTS}{body}\n}}\n")
    declared = {"W", "V", "E"}
    return {path: [axis.name for axis in axes] for path, axes in parameters(model.body, expand=False) if path not in declared}


def test_a_share_lies_where_it_stands(sound) -> None:
    body = "  share n: rmsnorm\n  stack 2 as layers { x <- n(x) + n(2 * x) }\n  x <- n(x)"
    assert paths(sound, body) == {"n.gain": ["d"]}


def test_a_share_in_a_stack_is_one_for_each_copy(sound) -> None:
    assert paths(sound, "  stack 2 as layers {\n    share n: rmsnorm\n    x <- n(n(x))\n  }") == {"layers[*].n.gain": ["d"]}


def test_regions_add_nothing_to_a_path_but_each_adds_its_axis(sound) -> None:
    body = "  x <- sum[e](each e { on sum[d](x) > 0 { swiglu(x) as expert } })\n  repeat 3 { x <- rmsnorm(x) }"
    assert paths(sound, body) == {
        "expert.W_gate": ["e", "hidden", "d"],
        "expert.W_up": ["e", "hidden", "d"],
        "expert.W_down": ["e", "d", "hidden"],
        "rmsnorm.gain": ["d"],
    }


def test_axes_exchanged_through_two_calls(sound) -> None:
    extra = "dim width = 8\nblock two(x: [d]) { return rmsnorm(x) * sum[width](rmsnorm[d -> width](sum[d](x) * index(width)) as wide) }\n"
    found = paths(sound, "  y = two[d -> key, width -> e](W @ x) as t", extra.replace("x[d -> width]", "x * 0 + sum[d](x) * index(width)"))
    assert found == {"t.rmsnorm.gain": ["key"], "t.wide.gain": ["e"]}


def test_a_label_may_be_a_reserved_word(sound) -> None:
    assert paths(sound, "  stack 2 as block { x <- rmsnorm(x) as input }\n  freeze block[*].input") == {"block[*].input.gain": ["d"]}


def test_a_callable_is_checked_once_however_often_it_is_called(sound) -> None:
    model = sound(f"{HEAD}model m {{{INPUTS}  y = cap(x) + cap(q) + cap(W @ x)\n}}\n")
    calls: set[tree.Callable] = set()
    waiting: list[tree.Expr] = [each.value for each in model.body if isinstance(each, tree.Bind)]
    while waiting:
        expr = waiting.pop()
        if isinstance(expr, tree.Invoke):
            calls.add(expr.callee)
        elif isinstance(expr, tree.Apply):
            waiting.extend(expr.args)
    assert len(calls) == 1


def test_options_have_their_defaults(sound) -> None:
    model = sound(f"{HEAD}model m {{{INPUTS}  probe p = rope[key](rms[key](q, eps = 1e-5))\n}}\n")
    probe = model.body[-1]
    assert isinstance(probe, tree.Probe)
    assert isinstance(probe.value, tree.Apply)
    inner = probe.value.args[0]
    assert isinstance(inner, tree.Apply)
    assert {name: float(value.rational) for name, value in {**probe.value.options, **inner.options}.items()} == {"base": 10_000, "eps": 1e-5}
