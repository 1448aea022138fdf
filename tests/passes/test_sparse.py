"""What is computed for the chosen alone: equal to what is written out, for every router, in torch and in ONNX; and nothing else is computed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mptc.compile import derived_from
from mptc.ir.program import Program
from mptc.ops.region import everything
from mptc.ops.routed import Sparse
from mptc.ops.stream import Stream
from mptc.passes import SPARSE, applied
from mptc.source.diagnostic import Diagnostics
from mptc.source.text import Source
from tests.deploy.agree import agrees
from tests.differential import Spec, agree, compiled, watched

DIMS = """
use "lib/std.mpt"
dim d = 8
dim e = 5
dim hidden = 6
dim head = 2
dim kv = 2
dim group = 2
dim key = 4
"""

FFN = """each e {
    param up: [hidden, d] ~ normal(0.5)
    param gate: [hidden, d] ~ normal(0.5)
    param b: [hidden] ~ normal(0.5)
    param down: [d, hidden] ~ normal(0.5)
    down @ (silu(gate @ x + b) * (up @ x))
  }"""


def model(body: str, kind: str = "", inputs: str = "input x: [d]") -> str:
    return f"{DIMS}\nmodel m {kind} {{\n  {inputs}\n  param r: [e, d] ~ normal(1)\n  s = r @ x\n  {body}\n}}\n"


def mixed(weights: str, *before: str, of: str = "p") -> str:
    lines = "\n  ".join([*before, f"p = {weights}", f"y = {FFN}"])
    return f"{lines}\n  output z = x + sum[e]({of} * y)"


BEST = "softmax[e](topk[e](s, 2))"
LAYER = f"q = r @ x\n  p = softmax[e](topk[e](q, 2))\n  y = {FFN}\n  x <- x + sum[e](p * y)"
# Every one is computed for some of the experts.
EXPERTS = {
    "softmax of the best": model(mixed("softmax[e](topk[e](s, 2))")),
    "one": model(mixed("softmax[e](s) * (topk[e](s, 1) > -1000)")),
    "softmax before choosing": model(mixed("relu(topk[e](softmax[e](s), 2))")),
    "a choice by another score": model(mixed("sigmoid(topk[e](s, 2, by = s + index(e)))")),
    "normalised": model(mixed("sigmoid(topk[e](s, 2))", of="p / sum[e](p)")),
    "more than there are": model(mixed("softmax[e](topk[e](s, 9))")),
    "above a threshold": model(mixed("softmax[e](s) * (s > 0.5)")),
    "above nothing": model(mixed("softmax[e](s) * (s > 1000)")),
    "of every token its own number": model(mixed("(s > position - 2) * s")),
    "experts choose tokens": model(mixed("exp(topk[seq](log(softmax[e](s)), 2))"), "bidirectional"),
    "a penalty and a probe": model(f"penalty load_balance[e](softmax[e](s), topk[e](s, 2) > -1000)\n  probe load = s\n  {mixed(BEST)}"),
    "in a stack": model(f"stack 2 as layers {{\n  {LAYER}\n  }}\n  output z = x"),
    "repeated": model(f"repeat 2 {{\n  {LAYER}\n  }}\n  output z = x"),
    "for chosen tokens": model(f"z = on sum[d](x) > 0 {{\n  p = {BEST}\n  y = {FFN}\n  sum[e](p * y)\n  }}\n  output w = x + z"),
    "an attention beside": model("x2 = x + attention(x)\n  " + mixed("softmax[e](topk[e](r @ x2, 2))").replace("@ x", "@ x2").replace("x22", "x2")),
}

ATTENTION = """n = here(x)
    c = {view}
    q = rope[key](W_q @ n)
    k = rope[key](W_k @ c)
    a = softmax[ctx](sum[key](q * k) / sqrt(key))
    t = n + W_o @ sum[ctx](a * (W_v @ c))
    t + swiglu(t)"""
WEIGHTS = """param W_q: [head, key, d] ~ normal(0.5)
  param W_k: [head, key, d] ~ normal(0.5)
  param W_v: [head, key, d] ~ normal(0.5)
  param W_o: [d, head, key] ~ normal(0.5)
  param w: [d] ~ normal(1)
  param bias: [head, d] ~ normal(1)"""


def chosen(condition: str, body: str, kind: str = "", inputs: str = "input x: [d]", after: str = "output y = x + m * z", before: str = "") -> str:
    return f"{DIMS}\nmodel m {kind} {{\n  {inputs}\n  {WEIGHTS}\n  {before}\n  m = {condition}\n  z = on m {{\n    {body}\n  }}\n  {after}\n}}\n"


def attended(view: str) -> str:
    return ATTENTION.format(view=view)


CAUSAL = "sum[ctx](past(w @ x) > w @ x) < ceil((position + 1) / 2)"
SOFT = "softtopk[seq](w @ x, keep = seq / 2)"
# Every one is computed for some of the tokens.
TOKENS = {
    "a feed-forward layer": chosen("w @ x > 0", "swiglu(x)"),
    "by rank in one's own past": chosen(CAUSAL, "swiglu(x)"),
    "softly": chosen(SOFT, "swiglu(x)", "bidirectional"),
    "softly, by iterates": chosen("softtopk[seq](w @ x, keep = seq / 2, eps = 1, steps = 4)", "swiglu(x)", "bidirectional"),
    "softly, all": chosen("softtopk[seq](w @ x, keep = seq)", attended("all(n)"), "bidirectional"),
    "softly, more than all": chosen("softtopk[seq](w @ x, keep = 99)", attended("all(n)"), "bidirectional"),
    "none": chosen("w @ x > 1000", attended("past(n)")),
    "k to k, both ways": chosen(SOFT, attended("all(n)"), "bidirectional"),
    "k to all, both ways": chosen(SOFT, attended("all(x)"), "bidirectional"),
    "k to k, causal": chosen("w @ x > 0", attended("past(n)")),
    "k to k, by rank": chosen(CAUSAL, attended("past(n)")),
    "grouped queries": chosen("w @ x > 0", "attention(here(x))"),
    "in a stack": f"{DIMS}\nmodel m bidirectional {{\n  input x: [d]\n  stack 2 as layers {{\n  {WEIGHTS}\n  m = {SOFT}\n"
    f"  z = on m {{ {attended('all(n)')} }}\n  x <- x + m * z\n  }}\n  output y = x\n}}",
    "twice by one choice": chosen("w @ x > 0", "f(x)", before="share f: swiglu", after="z2 = on m { f(2 * x + z) }\n  output y = x + z2"),
    "one in another": chosen("w @ x > 0", "f(x) + on 1 - w @ x > 0 { f(2 * x) }", before="share f: swiglu"),
    "what is given for all too": chosen("w @ x > 0", "f(h) + h", before="share f: swiglu\n  h = f(x)", after="output y = x + z + h"),
    "a penalty inside": chosen("w @ x > 0", "u = swiglu(x)\n    u"),
    "where it stands": chosen("w @ x > 0", "swiglu(x * position)"),
    "an energy": chosen("w @ x > 0", "grad own(here(x) | here(x))")
    + "\nenergy own(x: [d] | c: [d]) {\n  param W_q: [head, key, d] ~ normal(0.5)\n  param W_k: [head, key, d] ~ normal(0.5)\n"
    "  minimize -sum[head](logsumexp[ctx](sum[key](rope[key](W_q @ x) * rope[key](W_k @ past(c)))))\n}",
}
# Some of what these ask for is computed for all, and taken: masks and biases of pairs would be as large as all of them.
PARTLY = {
    "k to all, causal": chosen("w @ x > 0", attended("past(x)")),
    "a window of the chosen": chosen("w @ x > 0", attended("window(n, 3)")),
    "a window of all": chosen("w @ x > 0", attended("window(x, 3)")),
    "documents of the chosen": chosen("w @ x > 0", attended("only(past(n), past(doc) == doc)"), inputs="input x: [d]\n  input doc: []"),
    "documents of all": chosen("w @ x > 0", attended("only(past(x), past(doc) == doc)"), inputs="input x: [d]\n  input doc: []"),
    "strictly before": chosen("w @ x > 0", attended("only(past(x), distance(ctx) > 0)")),
    "a bias of distance": chosen("w @ x > 0", attended("past(n)").replace("/ sqrt(key)", "- min(distance(ctx), 3)")),
    "a bias of what is seen": chosen("w @ x > 0", attended("past(n)").replace("/ sqrt(key)", "+ past(bias @ n)")),
    "a bias for all": chosen("w @ x > 0", attended("past(x)").replace("/ sqrt(key)", "+ bias @ past(x)")),
    "a soft cap": chosen("w @ x > 0", attended("past(x)").replace("sum[key](q * k) / sqrt(key)", "2 * tanh(sum[key](q * k) / 2)")),
    "a mean of the chosen": chosen(SOFT, "swiglu(x - mean[seq](here(x)))", "bidirectional"),
    "shifted": chosen("w @ x > 0", "swiglu(shift(here(x), 1))"),
}
ALL = {f"{kind}: {name}": text for kind, several in (("experts", EXPERTS), ("tokens", TOKENS), ("partly", PARTLY)) for name, text in several.items()}


@pytest.fixture(params=ALL, ids=list(ALL))
def text(request: pytest.FixtureRequest) -> str:
    return ALL[request.param]


def sparse(text: str) -> Program:
    derived = derived_from(Source("spec.mpt", text), Diagnostics(), {}, None)
    assert derived is not None
    return applied(derived.program, SPARSE)[0]


def ops(text: str) -> Iterator[object]:
    yield from (node.op for node in everything(sparse(text).roots))


def test_it_is_what_is_written_out(text: str) -> None:
    for length in (1, 5, 12):
        agree(compiled(text, {"seq": length}))


def test_it_is_computed_for_the_chosen(text: str) -> None:
    assert any(isinstance(op, Sparse) for op in ops(text))


@pytest.mark.parametrize("name", TOKENS)
def test_chosen_tokens_ask_for_themselves(name: str) -> None:
    """Attention inside `on` has as many queries as there are chosen tokens; where it is among them, as many keys."""
    streams = [(node, node.op) for node in everything(sparse(TOKENS[name]).roots) if isinstance(node.op, Stream)]
    assert all(op.asker.name.startswith("chosen") for _, op in streams)
    among = name.startswith(("k to k", "grouped", "an energy", "in a stack"))
    assert all(not among or op.token(node).name.startswith("chosen") for node, op in streams)


def test_onnx_agrees(text: str, tmp_path: Path) -> None:
    agrees(text, tmp_path)


@pytest.mark.parametrize("name", ["a feed-forward layer", "by rank in one's own past", "softly", "k to k, both ways", "k to k, causal"])
def test_rows_are_those_of_the_chosen(name: str) -> None:
    """Of the hidden width and of queries there are as many rows as the sequence with most chosen tokens has, forward and backward."""
    length, batch = 53, 2
    spec = compiled(TOKENS[name], {"seq": length})
    inputs = spec.inputs(batch)
    most = max(int((row != 0).sum()) for row in _choices(spec, inputs))
    assert most < length
    shapes = [each.shape for each in watched(spec, inputs) if each.operator.startswith("aten.mm")]
    rows = {shape[0] for shape in shapes if shape[-1] == 6}  # hidden
    assert rows <= {batch * most, 8}, rows  # and gradients of weights, [d, hidden]
    assert batch * most in rows


def _choices(spec: Spec, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """What `chosen_tokens` is given."""
    seen: list[torch.Tensor] = []
    namespace = vars(sys.modules[type(spec.model).__module__])
    original = namespace["chosen_tokens"]

    def noted(chosen: torch.Tensor, *rest: object) -> torch.Tensor:
        seen.append(chosen.detach())
        found: torch.Tensor = original(chosen, *rest)
        return found

    namespace["chosen_tokens"] = noted
    try:
        spec.run(inputs)
    finally:
        namespace["chosen_tokens"] = original
    return seen[0]


@pytest.mark.parametrize("name", ["softmax of the best", "a choice by another score", "experts choose tokens", "above a threshold"])
def test_experts_work_for_those_that_chose_them(name: str) -> None:
    """Products of experts have a row for each pair, and every pair is one that was chosen."""
    length, batch = 53, 2
    spec = compiled(EXPERTS[name], {"seq": length})
    with torch.no_grad():
        inputs = spec.inputs(batch)
        scores = inputs["x"] @ spec.model.r.T  # type: ignore[operator]
        chosen = {
            "softmax of the best": 2 * batch * length,
            "a choice by another score": 2 * batch * length,
            "experts choose tokens": 2 * batch * 5,
            "above a threshold": int((scores > 0.5).sum()),
        }[name]
    rows = {each.shape[0] for each in watched(spec, inputs) if each.operator.startswith("mptc.grouped_rows")}
    assert rows == {chosen}


CAUSAL_EXPERTS = [name for name, text in EXPERTS.items() if "bidirectional" not in text and "of every token its own" not in name]
CAUSAL_TOKENS = [name for name, text in TOKENS.items() if "bidirectional" not in text]
CAUSAL_TEXTS = {**{f"experts: {name}": EXPERTS[name] for name in CAUSAL_EXPERTS}, **{f"tokens: {name}": TOKENS[name] for name in CAUSAL_TOKENS}}


@pytest.mark.parametrize("name", CAUSAL_TEXTS)
def test_later_tokens_move_nothing_and_decoding_is_one_pass(name: str) -> None:
    spec = compiled(CAUSAL_TEXTS[name], {"seq": 9})
    inputs = spec.inputs()
    with torch.no_grad():
        whole = spec.model(**inputs)
        for cut in (1, 4, 8):
            moved = {label: torch.cat([value[:, :cut], value[:, cut:] + 3], 1) for label, value in inputs.items()}
            for before, after in zip(whole, spec.model(**moved), strict=True):
                assert float((before[:, :cut] - after[:, :cut]).abs().max()) <= 1e-12
        cache = spec.model.new_cache(2)  # type: ignore[operator]
        parts = [spec.model(**{label: value[:, at : at + 1] for label, value in inputs.items()}, cache=cache) for at in range(9)]
    for place, value in enumerate(whole):
        assert float((torch.cat([part[place] for part in parts], 1) - value).abs().max()) <= 1e-10


@pytest.mark.parametrize("name", ["experts: softmax of the best", "tokens: softly", "tokens: k to k, both ways", "tokens: by rank in one's own past"])
def test_one_compiled_graph_for_every_length(name: str) -> None:
    spec = compiled(ALL[name], {"seq": 5})
    torch.compiler.reset()
    call = torch.compile(lambda x: spec.model(x)[0], fullgraph=True, dynamic=True, backend="aot_eager")
    for length in (5, 8, 13):
        x = torch.randn(2, length, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(length))
        ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
        found, wanted = call(ours), spec.model(theirs)[0]
        torch.testing.assert_close(found, wanted, atol=1e-10, rtol=1e-10)
        for slope, other in zip(*(torch.autograd.grad(value.sum(), given)[0] for value, given in ((found, ours), (wanted, theirs))), strict=True):
            torch.testing.assert_close(slope, other, atol=1e-9, rtol=1e-9)


def test_a_choice_stands_where_several_models_are() -> None:
    """Each module brings the functions that a compiled graph calls as they stand; those of one are not taken from another."""
    first = compiled(EXPERTS["one"])
    compiled(EXPERTS["in a stack"])
    compiled(EXPERTS["repeated"])
    agree(first)


def test_all_experts_at_once() -> None:
    """The one kernel that torch has for all products, where it is said to fit, which is on a GPU: here by its form for CPUs."""
    text = EXPERTS["softmax of the best"].replace("hidden = 6", "hidden = 8")
    spec = compiled(text, {"seq": 9})
    spec.model.float()
    inputs = {name: value.float() for name, value in spec.inputs().items()}
    namespace = vars(sys.modules[type(spec.model).__module__])
    counts, draw = torch.tensor([3, 0, 10, 7]), torch.Generator().manual_seed(0)
    x, w, grad = (torch.randn(*size, generator=draw) for size in ((20, 8), (4, 16, 8), (20, 16)))
    parts = counts.tolist()
    rows = torch.cat([a @ b.T for a, b in zip(x.split(parts), w, strict=True)])
    weight = torch.stack([a.T @ b for a, b in zip(grad.split(parts), x.split(parts), strict=True)])
    ends = namespace["ends"](counts)
    torch.testing.assert_close(torch.nn.functional.grouped_mm(x, w.mT, offs=ends), rows)
    torch.testing.assert_close(torch.nn.functional.grouped_mm(grad.t(), x, offs=ends), weight)
    assert not namespace["fits_grouped_mm"](x, w)
    assert spec.run(inputs)["z"].dtype == torch.float32
