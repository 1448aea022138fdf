"""Penalties and probes, in loops too: their values and what they do to gradients, against the oracle; and that nothing is computed unasked."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from mptc.build import build
from mptc.compile import compile
from mptc.interpret import interpret
from mptc.ir.axis import BATCH, SEQ
from mptc.ir.program import Program
from mptc.model.resolve import resolve
from mptc.runtime.module import as_module
from mptc.source.diagnostic import Diagnostics
from mptc.source.render import render
from mptc.source.text import Source
from tests.oracle import meaning

HEAD = """\
use "lib/cem.mpt"
const depth = 3
const steps = 2
dim vocab = 11
dim d = 8
dim head = 2
dim key = d / head
dim hidden = 12
dim rank = 2

block sized(x: [d]) {
  param W: [hidden, d]
  y = W @ x
  probe width = y
  penalty 0.02 * sum[hidden](y^2)
  return W @ y
}

block size(x: [d]) {
  probe much = sum[d](x^2)
  return x
}

energy noted(x: [d] | c: [d]) {
  param W: [hidden, d]
  z = W @ x
  probe inside = sum[hidden](z)
  penalty 0.1 * sum[hidden](z^2)
  minimize -sum[hidden](integral(silu)(z) * (W @ c))
}

model m {
  input tokens: id[vocab]
  param embed: [vocab, d]
  x = lookup(embed, tokens)
"""
TAIL = """
  output logits = embed @ rmsnorm(x) as last
  loss cross_entropy[vocab](logits, next(tokens))
}
"""
NLL = "  probe nll = cross_entropy[vocab](logits, tokens)\n"

BODY_TEXT = """
# the model
  penalty sum[d](x^2) / 10
  probe x1 = x * x
# a constant
  probe gains = embed
  penalty sum[vocab, d](embed^2)
# a stack
  stack depth as layers {
    x <- x + sized(rmsnorm(x))
    probe size = sum[d](x^2)
    penalty sum[d](x^2) / 10
  }
# a repeat
  repeat steps {
    probe before = x
    x <- tanh(x) + x / 2
    probe after = sum[d](x)
    penalty sum[d](x^2) / 10
  }
# a repeat in a stack
  stack depth as layers {
    repeat steps {
      probe before = x
      x <- x + sized(x)
    }
  }
# stacks in a stack
  stack 2 as outer {
    repeat 2 {
      stack 3 as inner {
        x <- x + sized(x)
        probe seen = x
      }
    }
  }
# a stack in a repeat
  repeat steps {
    stack depth as layers {
      x <- x + sized(x)
      probe seen = x
    }
    penalty sum[d](x)
  }
# the same in every copy
  h = tanh(x)
  stack depth as layers {
    x <- x + rmsnorm(x)
    probe same = sum[d](h)
    penalty sum[d](h^2)
  }
# nothing updated
  stack depth as layers {
    param W: [d]
    penalty sum[d](W * x)
    probe only = sum[d](W)
  }
# one place twice
  x <- size(x) + size(2 * x)
  stack 2 as layers {
    x <- size(size(x) / 2)
  }
# an energy
  stack depth as layers {
    h = rmsnorm(x)
    x <- x - grad noted(h | h)
  }
# descent
  stack depth as layers {
    share e: interaction
    share n: rmsnorm
    c = past(rmsnorm(x) as context)
    repeat steps {
      probe before = e(n(x) | c)
      x <- x - precondition(grad e(n(x) | c))
      probe after = e(n(x) | c)
      penalty 0.01 * e(n(x) | c)
    }
  }
"""

BODIES = dict(part.split("\n", 1) for part in BODY_TEXT.split("# ")[1:])


def compiled(body: str) -> tuple[Program, nn.Module]:
    diagnostics = Diagnostics()
    source = Source("m.mpt", HEAD + body + TAIL.replace("}\n", NLL + "}\n"))
    made = compile(source, diagnostics)
    assert made is not None, "\n".join(map(render, diagnostics.found))
    model = resolve(source, {}, None, Diagnostics())
    program = build(model, Diagnostics())
    assert program is not None
    module = as_module(made.name, made.files["m.py"]).Model().double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in module.parameters():
            value.copy_(torch.randn(value.shape, generator=generator, dtype=torch.float64) / 3)
    return program, module


TOKENS = torch.randint(0, 11, (2, 5), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_values_and_gradients(body: str) -> None:
    """Loss and every probe, and the gradients of their sum, are those of the raw program; whichever are asked for."""
    program, module = compiled(body)
    parameters = dict(module.named_parameters())
    expected = meaning(program, parameters, {"tokens": TOKENS})
    both, loss, probes = module(TOKENS, loss=True, probe=True), module(TOKENS, loss=True), module(TOKENS, probe=True)
    assert expected.loss is not None
    assert (loss.probes, probes.loss) == ({}, None)
    wanted = named(expected.probes)
    assert set(wanted) == set(both.probes) == set(probes.probes)
    for found in (both.loss, loss.loss):
        close(found, expected.loss)
    for name, value in wanted.items():
        close(both.probes[name], value)
        close(probes.probes[name], value)
    everything = [both.loss, *both.probes.values()], [expected.loss, *wanted.values()]
    found, right = (torch.autograd.grad(projected(values), list(parameters.values()), allow_unused=True) for values in everything)
    for one, other in zip(found, right, strict=True):
        close(torch.zeros(()) if one is None else one, torch.zeros(()) if other is None else other)


def named(probes: dict[str, Tensor]) -> dict[str, Tensor]:
    """One entry for each copy of a stack."""
    found: dict[str, Tensor] = {}
    for name, value in probes.items():
        head, star, tail = name.partition("[*]")
        found.update(named({f"{head}.{copy}{tail}": part for copy, part in enumerate(value)}) if star else {name: value})
    return found


def projected(values: list[Tensor]) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return sum(((value * torch.randn(value.shape, generator=generator, dtype=torch.float64)).sum() for value in values), torch.zeros(()))


def close(found: Tensor, wanted: Tensor) -> None:
    assert found.shape == wanted.shape or not wanted.any()
    assert float((found - wanted).detach().abs().max()) <= 1e-10 * max(1.0, float(wanted.detach().abs().max()))


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_the_interpreter_agrees(body: str) -> None:
    program, module = compiled(body)
    values = {name: value.detach().numpy() for name, value in module.named_parameters()}
    assert program.loss is not None
    roots = [program.loss, *(probe.node for probe in program.probes)]
    found = interpret(roots, {**values, "tokens": TOKENS.numpy()}, {**program.sizes, BATCH: 2, SEQ: 5})
    expected = meaning(program, dict(module.named_parameters()), {"tokens": TOKENS})
    assert np.allclose(found[0], expected.loss.detach().numpy(), rtol=1e-12)
    for probe, value in zip(program.probes, found[1:], strict=True):
        right = expected.probes[probe.name].detach()
        axes = sorted(probe.order)
        wanted = right.permute([probe.order.index(axis) for axis in axes])
        shown = value.reshape([value.shape[probe.node.axes.index(axis)] if axis in probe.node.axes else 1 for axis in axes])
        assert np.allclose(np.broadcast_to(shown, wanted.shape), wanted.numpy(), rtol=1e-12, atol=1e-12)


class Counting(TorchDispatchMode):
    """How many operators run, those aside that number the tokens."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.count += func is not torch.ops.aten.arange.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_nothing_is_computed_unasked(body: str) -> None:
    """As many operators as the spec without its penalties and probes has."""
    bare = "\n".join(line for line in body.splitlines() if not line.lstrip().startswith(("penalty", "probe")))
    counts = []
    for text in (body, bare):
        _, module = compiled(text)
        module(TOKENS)  # makes tables, which stay
        with Counting() as mode:
            module(TOKENS)
        counts.append(mode.count)
    assert counts[0] == counts[1]


def test_names_follow_paths() -> None:
    _, module = compiled(BODIES["stacks in a stack"])
    found = module(TOKENS, probe=True).probes
    assert found["outer.1.inner.2.seen"].shape == (2, 2, 5, 8)  # passes, batch, seq, d
    assert found["outer.0.inner.0.sized.width"].shape == (2, 2, 5, 12)
    _, module = compiled(BODIES["one place twice"])
    assert {"much", "much#2", "layers.1.much", "layers.1.much#2"} <= set(module(TOKENS, probe=True).probes)


def test_descent_is_seen() -> None:
    """The interaction is concave: a step along its gradient under any positive metric goes down by at least the gradient's square in it."""
    _, module = compiled(BODIES["descent"])
    probes = module(TOKENS, probe=True).probes
    for copy in range(3):
        before, after = probes[f"layers.{copy}.before"], probes[f"layers.{copy}.after"]
        assert before.shape == after.shape == (2, 2, 5)
        assert torch.equal(before[1:], after[:-1])


def test_a_stack_under_compile() -> None:
    """`torch.compile` takes penalties and probes of loops in one graph."""
    _, module = compiled(BODIES["a repeat in a stack"])
    found = torch.compile(module, fullgraph=True, backend="aot_eager")(TOKENS, loss=True, probe=True)
    expected = module(TOKENS, loss=True, probe=True)
    close(found.loss, expected.loss)
    for name, value in expected.probes.items():
        close(found.probes[name], value)
