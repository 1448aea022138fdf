"""Specs in which tensors are shared, each beside one in which every use has a tensor of its own.

`joined` says which of those are one: `layers.*.two = layers.*.one` covers all that is under a name, a star stands for the same copy on both sides,
and the right side is a name of the spec that shares. It is applied by brute force to the names of `state_dict`: no line of the compiler is trusted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

import mptc

TOKENS = torch.tensor([[1, 5, 0, 3], [2, 2, 6, 4]])
HEAD = """
dim vocab = 7
dim d     = 4
dim e     = 3
dim head  = 2
dim key   = 2

block f(x: [d]) {
  param W: [e, d] ~ normal(0.2)
  param U: [e, d] ~ uniform(0.5)
  param gain: [e] = 1
  return W @ tanh(gain * (U @ x))
}

block g(x: [d]) {
  param gain: [e] = 2
  param U: [e, d] ~ normal(0.3)
  param W: [d, e] ~ normal(0.1)
  return W @ sin(gain * (U @ x))
}

block twin(x: [d]) {
  param A: [e, d] = 3
  param B: [d, e] ~ uniform(0.7)
  tie A = B
  return A @ tanh(B @ x)
}

energy E(x: [d] | c: [ctx, d]) {
  param W_q: [head, key, d] ~ normal(0.5)
  param W_k: [key, d, head] ~ normal(0.6)
  minimize -sum[head](logsumexp[ctx](sum[key](rope[key](W_q @ x) * (W_k @ c))))
}

block tower(z: [d]) {
  param scale: [d] = 1
  x = scale * z
  stack 2 as layers {
    param bias: [d] ~ normal(0.1)
    x <- x + f(x) + bias * z
    stack 2 as more { x <- x + g(x) }
  }
  return x
}
"""


@dataclass(frozen=True)
class Case:
    """`apart`: the lines where every use has a tensor of its own; None: those of `lines` that are no tie. `count`: tensors, where all is shared."""

    lines: str
    joined: tuple[str, ...]
    count: int
    apart: str | None = None

    def text(self, shared: bool) -> str:
        lines = self.lines if shared or self.apart is None else self.apart
        body = ["input tokens: id[vocab]", "param embed: [vocab, d] ~ normal(1)", "x = lookup(embed, tokens)", *lines.strip().splitlines()]
        body += [] if "output" in lines else ["output y = x"]
        text = HEAD + "\nmodel m {\n" + "\n".join(body) + "\n}\n"
        return text if shared else "\n".join(line for line in text.splitlines() if not line.strip().startswith(("tie ", "freeze ")))


@dataclass
class Pair:
    """The two models in float64. `home`: for every tensor of the one apart, which tensor of the other it is."""

    case: Case
    path: Path
    model: nn.Module
    apart: nn.Module
    home: dict[str, str]


def pair(case: Case, folder: Path, seed: int = 0) -> Pair:
    models = []
    for name, shared in (("shared", True), ("apart", False)):
        (folder / f"{name}.mpt").write_text(case.text(shared))
        models.append(mptc.load(folder / f"{name}.mpt", seed=seed))
    rules = [rule.split(" = ") for rule in case.joined]
    return Pair(case, folder / "shared.mpt", models[0], models[1], {name: followed(name, rules) for name in models[1].state_dict()})


def followed(name: str, rules: list[list[str]]) -> str:
    for _ in range(20):
        after = next((new for left, right in rules if (new := applied(name, left, right)) != name), name)
        if after == name:
            return name
        name = after
    raise AssertionError(f"{name} goes round in circles")


def applied(name: str, left: str, right: str) -> str:
    found = re.fullmatch(re.escape(left).replace(r"\*", r"(\d+)") + r"(?P<rest>(\..*)?)", name)
    if found is None:
        return name
    copies = iter(found.groups())
    return re.sub(r"\*", lambda _: str(next(copies)), right) + found["rest"]


# Axes are of different sizes or in an order that the shape tells, except in W_q and W_k.
W_K_AS_W_Q = (2, 0, 1)


def like(value: Tensor, other: Tensor, name: str, home: str) -> Tensor:
    """A tensor stored as `home` in the order of dimensions of `name`."""
    if name.endswith("W_q") and home.endswith("W_k"):
        return value.permute(W_K_AS_W_Q)
    return value if value.shape == other.shape else value.T


def agree(both: Pair, model: nn.Module, tolerance: float = 1e-12) -> None:
    """The model and the one apart, given the same numbers, have the same outputs; the gradient of a tensor is the sum of those of its uses."""
    tensors = model.state_dict()
    dtype = next(iter(tensors.values())).dtype
    both.apart.to(dtype)
    with torch.no_grad():
        for name, parameter in both.apart.named_parameters():
            parameter.copy_(like(tensors[both.home[name]], parameter, name, both.home[name]))
    outputs = [one(TOKENS) for one in (model, both.apart)]
    weight = torch.linspace(-1, 1, outputs[0][0].numel(), dtype=dtype).reshape(outputs[0][0].shape)
    torch.testing.assert_close(outputs[0][0], outputs[1][0], rtol=tolerance, atol=tolerance)
    for one, output in zip((model, both.apart), outputs, strict=True):
        one.zero_grad()
        (output[0] * weight).sum().backward()
    sums: dict[str, Tensor] = {}
    for name, parameter in both.apart.named_parameters():
        home = both.home[name]
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        if name.endswith("W_q") and home.endswith("W_k"):
            gradient = gradient.permute([W_K_AS_W_Q.index(place) for place in range(3)])
        gradient = gradient if gradient.shape == tensors[home].shape else gradient.T
        sums[home] = sums.get(home, torch.zeros_like(gradient)) + gradient
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            found = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            torch.testing.assert_close(found, sums[name], rtol=tolerance, atol=tolerance, msg=lambda text, name=name: f"{name}: {text}")


CASES = {
    "embedding to read-out": Case("output y = embed @ x", ("readout = embed",), 1, "param readout: [vocab, d]\noutput y = readout @ x"),
    "read-out tied": Case("param readout: [d, vocab] = 1\ntie readout = embed\noutput y = readout @ x", ("readout = embed",), 1),
    "declared before what it is tied to": Case("param A: [d] = 1\nparam B: [d] ~ normal(0.5)\ntie A = B\nx <- A * x + B", ("A = B",), 2),
    "a chain": Case(
        "param A: [d, e]\nparam B: [e, d]\nparam C: [d, e] ~ normal(0.4)\ntie A = B\ntie B = C\nx <- x + A @ tanh(B @ sin(C @ tanh(A @ x)))",
        ("A = B", "B = C"),
        2,
    ),
    "inside a block": Case("x <- x + twin(x)\nx <- x + twin(x) as other", ("twin.A = twin.B", "other.A = other.B"), 3),
    "inside a block that is shared": Case("share k: twin\nx <- k(x + k(x))", ("a = k", "b = k", "k.A = k.B"), 2, "x <- twin(x + twin(x) as a) as b"),
    "inside on": Case("x <- x + on position > 1 {\n  param A: [d] = 1\n  param B: [d] ~ normal(1)\n  tie A = B\n  B * sin(A * x)\n}", ("A = B",), 2),
    "a call site": Case("x <- x + f(x)\nx <- x + g(x)\ntie g = f", ("g = f",), 4),
    "a call site with a tie inside": Case(
        "x <- x + twin(x)\nx <- x + twin(x) as other\ntie other = twin", ("twin.A = twin.B", "other.A = other.B", "other = twin"), 2
    ),
    "stars on both sides": Case("stack 3 as layers {\nx <- x + f(x) + g(x)\n}\ntie layers[*].g = layers[*].f", ("layers.*.g = layers.*.f",), 10),
    "stars in the body": Case("stack 3 as layers {\nx <- x + f(x) + g(x)\ntie g.W = f.W\n}", ("layers.*.g.W = layers.*.f.W",), 16),
    "a star to one tensor": Case(
        "param W: [d, e]\nstack 3 as layers {\nx <- x + f(x)\n}\ntie layers[*].f.W = W\nx <- x + W @ (W @ x)", ("layers.*.f.W = W",), 8
    ),
    "one copy of a tensor": Case("stack 3 as layers { x <- x + f(x) }\ntie layers[0].f.W = layers[2].f.W", ("layers.0.f.W = layers.2.f.W",), 9),
    "one copy to another tensor": Case("stack 3 as layers { x <- x + f(x) }\ntie layers[1].f.W = layers[1].f.U", ("layers.1.f.W = layers.1.f.U",), 9),
    "one copy to a tensor of the model": Case(
        "param W: [d, e] ~ normal(0.5)\nstack 3 as layers { x <- x + f(x) }\ntie layers[1].f.W = W\nx <- x + W @ sin(W @ x)",
        ("layers.1.f.W = W",),
        10,
    ),
    "a tensor of the model to one copy": Case(
        "param W: [d, e]\nstack 3 as layers { x <- x + f(x) + W @ sin(W @ x) }\ntie W = layers[1].f.W", ("W = layers.1.f.W",), 10
    ),
    "a copy": Case(
        "stack 4 as layers {\nparam bias: [d] ~ normal(1)\nx <- x + f(x) + bias\n}\ntie layers[3] = layers[0]", ("layers.3 = layers.0",), 13
    ),
    "every copy to the first": Case("stack 4 as layers { x <- x + f(x) }\ntie layers[*].f = layers[0].f", ("layers.* = layers.0",), 4),
    "every copy to the last, and a part of it elsewhere": Case(
        "stack 4 as layers { x <- x + f(x) }\nx <- x + g(x)\ntie layers[*].f = layers[3].f\ntie g.U = layers[1].f.W",
        ("layers.*.f = layers.3.f", "g.U = layers.1.f.W"),
        6,
    ),
    "a tensor in the body of a copy": Case(
        "stack 3 as layers {\nparam V: [e, d] ~ normal(0.2)\nx <- x + V @ tanh(V @ x)\n}\nparam T: [d, e]\nx <- x + T @ sin(T @ x)\n"
        "tie layers[0].V = layers[2].V\ntie T = layers[0].V",
        ("layers.0.V = layers.2.V", "T = layers.0.V"),
        3,
    ),
    "a chain through copies": Case(
        "stack 4 as layers { x <- x + f(x) }\nx <- x + g(x)\ntie layers[0].f.W = layers[1].f.U\ntie layers[1].f.U = g.W\ntie g.W = layers[3].f.W",
        ("layers.0.f.W = layers.1.f.U", "layers.1.f.U = g.W", "g.W = layers.3.f.W"),
        13,
    ),
    "copies of two stacks": Case(
        "stack 2 as a { x <- x + f(x) }\nstack 2 as b { x <- x + g(x) }\ntie a[*].f = b[*].g\ntie b[0].g.U = b[1].g.W",
        ("a.*.f = b.*.g", "b.0.g.U = b.1.g.W"),
        6,
    ),
    "stars on one stack and numbers on another": Case(
        "stack 2 as a {\nx <- x + g(x)\nstack 3 as b { x <- x + f(x) }\n}\ntie a[*].b[1].f.W = a[*].g.W\ntie a[0].b[*].f.U = a[1].b[*].f.U",
        ("a.*.b.1.f.W = a.*.g.W", "a.0.b.*.f.U = a.1.b.*.f.U"),
        20,
    ),
    "a nest of stacks, all of them one": Case(
        "stack 2 as a { stack 3 as b { x <- x + f(x) } }\ntie a[*].b[*].f = a[0].b[1].f", ("a.*.b.*.f = a.0.b.1.f",), 4
    ),
    "ties of several bodies that agree": Case(
        "stack 2 as a {\nstack 3 as b { x <- x + twin(x) }\ntie b[*].twin = b[0].twin\n}\ntie a[1] = a[0]",
        ("a.*.b.*.twin.A = a.*.b.*.twin.B", "a.*.b.*.twin = a.*.b.0.twin", "a.1 = a.0"),
        2,
    ),
    "heads in another order": Case(
        "c = past(x)\nstack 2 as layers { x <- x - 0.3 * grad E(x | c) }\ntie layers[0].E.W_q = layers[1].E.W_k",
        ("layers.0.E.W_q = layers.1.E.W_k",),
        4,
    ),
    "query and key in every layer": Case(
        "c = past(x)\nstack 2 as layers {\nx <- x - 0.3 * grad E(x | c)\ntie E.W_q = E.W_k\n}\ntie layers[1].E = layers[0].E",
        ("layers.*.E.W_q = layers.*.E.W_k", "layers.1 = layers.0"),
        2,
    ),
    "a share at two sites": Case("share k: f\nx <- x + k(x)\nx <- x + k(2 * x)", ("a = k", "b = k"), 4, "x <- x + f(x) as a\nx <- x + f(2 * x) as b"),
    "a share of an energy": Case(
        "c = past(x)\nshare k: E\nx <- x - 0.3 * grad k(x | c)\nx <- x * (1 + 0.1 * k(x | c))",
        ("a = k", "b = k"),
        3,
        "c = past(x)\nx <- x - 0.3 * grad E(x | c) as a\nx <- x * (1 + 0.1 * E(x | c) as b)",
    ),
    "a share inside loops": Case(
        "share k: f\nstack 2 as layers {\nrepeat 2 { x <- x + k(x) }\nx <- x + g(k(x))\n}\nx <- k(x)",
        ("layers.*.a = k", "layers.*.b = k", "layers.*.c = k", "d_ = k"),
        10,
        "stack 2 as layers {\nx <- x + f(x) as a\nx <- x + f(x) as b\nx <- x + g(f(x) as c)\n}\nx <- f(x) as d_",
    ),
    "a share in a stack": Case(
        "stack 2 as layers {\nshare k: f\nx <- x + k(x)\nrepeat 2 { x <- k(x) }\n}",
        ("layers.*.a = layers.*.k", "layers.*.b = layers.*.k", "layers.*.c = layers.*.k"),
        7,
        "stack 2 as layers {\nx <- x + f(x) as a\nx <- f(x) as b\nx <- f(x) as c\n}",
    ),
    "a share that nothing calls": Case("share k: g\nx <- x + f(x)\ntie f.W = k.W", ("f.W = k.W",), 4, "x <- x + f(x)"),
    "a repeat in a stack": Case(
        "stack 2 as layers {\nrepeat 3 { x <- x + f(x) }\n}",
        ("layers.*.a = layers.*.f", "layers.*.b = layers.*.f"),
        7,
        "stack 2 as layers {\nx <- x + f(x) as a\nx <- x + f(x) as b\nx <- x + f(x)\n}",
    ),
    "a stack in a repeat": Case(
        "repeat 2 {\nstack 3 as layers { x <- x + f(x) }\n}",
        ("again = layers",),
        10,
        "stack 3 as layers { x <- x + f(x) }\nstack 3 as again { x <- x + f(x) }",
    ),
    "a stack in a share at two sites": Case(
        "share k: tower\nx <- k(x)\ny = k(2 * x)\noutput out = x + y",
        ("a = k", "b = k"),
        22,
        "x <- tower(x) as a\ny = tower(2 * x) as b\noutput out = x + y",
    ),
    "a stack in a share, in loops": Case(
        "share k: tower\nx <- k(x)\nstack 2 as layers { x <- x + f(k(x)) }\nrepeat 2 { x <- k(0.5 * x) }\ntie layers[1].f.W = k.layers[0].f.W",
        ("a = k", "layers.*.b = k", "p = k", "q = k", "layers.1.f.W = k.layers.0.f.W"),
        27,
        "x <- tower(x) as a\nstack 2 as layers { x <- x + f(tower(x) as b) }\nx <- tower(0.5 * x) as p\nx <- tower(0.5 * x) as q",
    ),
    "to a stack whose value nothing reads": Case(
        "z = x\nstack 2 as dead { z <- z + f(z) }\nx <- x + g(x)\ntie g.W = dead[1].f.W", ("g.W = dead.1.f.W",), 9
    ),
}
