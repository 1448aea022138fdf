"""What the compiler derives equals autograd of the energy as it was written: the step, and the training gradient of every parameter.

Two judgements of each spec, at two sets of sizes. In float64 nothing but rounding may differ. In float32 with inputs 30 times larger, what was
written may overflow where the generated code must not.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from mptc.build import build
from mptc.compile import compile
from mptc.ir.node import Kind, walk
from mptc.ir.program import Program
from mptc.model.resolve import resolve
from mptc.ops.choose import Lookup
from mptc.ops.leaf import Param
from mptc.ops.region import Derivative, Loop
from mptc.runtime.module import as_module
from mptc.source.diagnostic import Diagnostics
from mptc.source.render import render
from mptc.source.text import Source
from tests.oracle import meaning

ROOT = Path(__file__).resolve().parent.parent
ENERGIES = sorted((ROOT / "tests" / "energies").glob("*.mpt"))
EXACT, SINGLE = 1e-9, 1e-4
REACH = 1e70  # squares and fourth powers of it are float64's
BATCH = 2
VOCABULARY = 30  # of the ids drawn; no spec here has fewer

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Case:
    """One spec at one set of sizes."""

    path: Path
    variant: str | None
    settings: tuple[tuple[str, str], ...]
    tokens: int

    def __str__(self) -> str:
        return f"{self.path.stem}-{self.variant or 'base'}{''.join(f'-{name}{value}' for name, value in self.settings)}"


def cases() -> list[Case]:
    small = [Case(path, variant, (), tokens) for path in ENERGIES for variant, tokens in ((None, 7), ("other", 5))]
    other = {
        "cem_small": {"depth": 1, "steps": 3, "d": 24, "head": 3, "hidden": 20, "rank": 2, "vocab": 30},
        "llama_small": {"depth": 1, "d": 24, "kv": 3, "group": 2, "hidden": 20, "vocab": 30},
        "energy_transformer": {"steps": 2, "d": 24, "head": 4, "memory": 10, "vocab": 30},
    }
    specs = []
    for name, sizes in other.items():
        path = ROOT / "specs" / f"{name}.mpt"
        specs += [Case(path, "tiny", (), 9), Case(path, "tiny", tuple((size, str(value)) for size, value in sizes.items()), 6)]
    return small + specs


@dataclass(frozen=True)
class Compiled:
    """A spec as what it says (raw IR) and as what was made of it (a module)."""

    program: Program
    module: ModuleType


@cache
def compiled(case: Case) -> Compiled:
    diagnostics = Diagnostics()
    source = Source(str(case.path), case.path.read_text(encoding="utf-8"))
    made = compile(source, diagnostics, dict(case.settings), case.variant)
    model = resolve(source, dict(case.settings), case.variant, Diagnostics())
    assert made is not None and model is not None, "\n".join(render(found) for found in diagnostics.found)
    program = build(model, Diagnostics())
    assert program is not None
    return Compiled(program, as_module(made.name, made.files[f"{made.name}.py"]))


# -- what goes in -----------------------------------------------------------------------------------------


def drawn_parameters(program: Program, model: nn.Module, generator: torch.Generator) -> Tensors:
    """Of order one where they multiply: with the 0.02 that they begin with, half of the mathematics would be below the tolerance."""
    drawn = {}
    begins = {parameter.path.replace("[*]", ".*"): parameter for parameter in program.parameters}
    for path, value in model.named_parameters():
        noise = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        parameter = begins[re.sub(r"\.\d+", ".*", path)]
        drawn[path] = parameter.value + 0.3 * noise if parameter.init == "fill" else noise * 1.2 / math.sqrt(value.shape[-1])
    return drawn


def drawn_inputs(program: Program, tokens: int, generator: torch.Generator) -> Tensors:
    drawn = {}
    for node in program.inputs:
        shape = (BATCH, tokens, *(program.sizes[axis] for axis in node.op.order))
        if node.op.kind is Kind.ID:
            drawn[node.op.label] = torch.randint(0, VOCABULARY, shape, generator=generator)
        else:
            drawn[node.op.label] = torch.randn(shape, generator=generator, dtype=torch.float64)
    return drawn


def looked_up(program: Program) -> set[str]:
    """The tables that ids are looked up in: what inputs are where they are ids."""
    return {node.args[0].op.path for node in walk(program.roots) if isinstance(node.op, Lookup) and isinstance(node.args[0].op, Param)}


# -- what comes out ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """Outputs, the loss and the gradients, by name. `reach`: the largest number met on the way there."""

    values: Tensors
    gradients: Tensors
    reach: float = 0.0


def trained(outputs: Tensors, loss: Tensor | None, leaves: Tensors) -> Found:
    """Gradients of a random projection of the outputs, and of the declared loss."""
    values = dict(outputs) if loss is None else {**outputs, "loss": loss}
    scalar = torch.zeros([])
    generator = torch.Generator().manual_seed(7)
    for value in values.values():
        weights = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        scalar = scalar + (value * weights.to(value)).sum()
    found = torch.autograd.grad(scalar, list(leaves.values()), allow_unused=True)
    gradients = {name: torch.zeros_like(leaf) if gradient is None else gradient for (name, leaf), gradient in zip(leaves.items(), found, strict=True)}
    return Found({name: value.detach() for name, value in values.items()}, gradients)


def differentiable(tensors: Tensors) -> Tensors:
    return {name: value.detach().clone().requires_grad_() if value.is_floating_point() else value for name, value in tensors.items()}


def leaves_of(parameters: Tensors, inputs: Tensors) -> Tensors:
    return {**parameters, **{name: value for name, value in inputs.items() if value.is_floating_point()}}


def wanted(program: Program, parameters: Tensors, inputs: Tensors) -> Found:
    """By the oracle, in float64."""
    parameters, inputs = differentiable(parameters), differentiable(inputs)
    meant = meaning(program, parameters, inputs)
    outputs = {output.name: value for output, value in zip(program.outputs, meant.outputs, strict=True)}
    return replace(trained(outputs, meant.loss, leaves_of(parameters, inputs)), reach=meant.largest)


def generated(module: ModuleType, program: Program, parameters: Tensors, inputs: Tensors, dtype: torch.dtype) -> Found:
    """By the generated module."""
    model = module.Model().to(dtype)
    model.load_state_dict({name: value.to(dtype) for name, value in parameters.items()}, strict=True)
    inputs = differentiable({name: value.to(dtype) if value.is_floating_point() else value for name, value in inputs.items()})
    result = model(**inputs, loss=program.loss is not None)
    outputs = {output.name: getattr(result, output.name) for output in program.outputs}
    return trained(outputs, result.loss if program.loss is not None else None, leaves_of(dict(model.named_parameters()), inputs))


def judge(found: Tensors, expected: Tensors, tolerance: float) -> None:
    """Each tensor's largest difference, relative to its largest number; one that should vanish, to 1/10,000 of the largest of all."""
    largest = max(top(value) for value in expected.values())
    wrong = {}
    for name, value in expected.items():
        assert found[name].shape == value.shape, (name, found[name].shape, value.shape)
        error = top(found[name].double() - value) / max(top(value), 1e-4 * largest, 1e-30)
        if not error <= tolerance:
            wrong[name] = error
    assert not wrong, wrong


def judge_influence(found: Found, expected: Found, leaves: Tensors, tolerance: float) -> None:
    """Gradients where a softmax is nearly a choice: small ones are differences of large ones, in any code.

    So each error is weighed by the size of the numbers it would move, as is the largest gradient that it is held against.
    """
    influence = {name: top(value) * top(leaves[name]) for name, value in expected.gradients.items()}
    errors = {name: top(found.gradients[name].double() - value) * top(leaves[name]) for name, value in expected.gradients.items()}
    wrong = {name: error for name, error in errors.items() if not error <= tolerance * max(influence.values())}
    assert not wrong, (wrong, influence)


def top(value: Tensor) -> float:
    return float(value.detach().abs().max())


def finite(found: Found) -> bool:
    return all(bool(value.isfinite().all()) for value in (*found.values.values(), *found.gradients.values()))


# -- the tests --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", cases(), ids=str)
def test_exact(case: Case) -> None:
    made = compiled(case)
    generator = torch.Generator().manual_seed(1)
    parameters = drawn_parameters(made.program, made.module.Model(), generator)
    inputs = drawn_inputs(made.program, case.tokens, generator)
    expected = wanted(made.program, parameters, inputs)
    assert finite(expected)
    found = generated(made.module, made.program, parameters, inputs, torch.float64)
    judge(found.values, expected.values, EXACT)
    judge(found.gradients, expected.gradients, EXACT)


@pytest.mark.parametrize("case", cases(), ids=str)
def test_single_precision_at_thirty(case: Case) -> None:
    """Where the energy spells out exponentials, parameters shrink until float64 holds what the oracle meets; float32 still would not."""
    made = compiled(case)
    generator = torch.Generator().manual_seed(2)
    tables = looked_up(made.program)
    parameters = drawn_parameters(made.program, made.module.Model(), generator)
    inputs = drawn_inputs(made.program, case.tokens, generator)
    inputs = {name: (30 * value).float().double() if value.is_floating_point() else value for name, value in inputs.items()}
    for shrink in (0.8**power for power in range(30)):
        rounded = {name: ((30 if name in tables else shrink) * value).float().double() for name, value in parameters.items()}
        expected = wanted(made.program, rounded, inputs)
        if finite(expected) and expected.reach < REACH:
            break
    assert finite(expected) and expected.reach < REACH
    found = generated(made.module, made.program, rounded, inputs, torch.float32)
    assert finite(found)
    judge(found.values, expected.values, SINGLE)
    judge_influence(found, expected, leaves_of(rounded, inputs), 10 * SINGLE)


def test_there_are_enough() -> None:
    """Sixty energies beside those of the specs."""
    assert len(ENERGIES) >= 60
    without = [path.stem for path in ENERGIES if not _derivatives(compiled(Case(path, None, (), 5)).program)]
    assert not without


def _derivatives(program: Program) -> int:
    """How many `grad`s a program has, loops included."""
    count, pending = 0, list(program.roots)
    while pending:
        for node in walk([pending.pop()]):
            count += isinstance(node.op, Derivative)
            pending.extend(node.op.results if isinstance(node.op, Loop) else ())
    return count
