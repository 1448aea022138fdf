"""A spec given as text, compiled and run beside its naive meaning (`tests/oracle.py`); and a watch over what operators return."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from mptc.build import build
from mptc.compile import compile
from mptc.ir.program import Program
from mptc.model import tree
from mptc.model.resolve import resolve
from mptc.runtime.module import as_module
from mptc.source.diagnostic import Diagnostics
from mptc.source.render import render
from mptc.source.text import Source
from tests.oracle import meaning

Tensors = dict[str, Tensor]
Lengths = Mapping[str, int]

SEQUENCE: Lengths = {"seq": 5}


@dataclass(frozen=True)
class Spec:
    """A spec's text, its meaning as raw IR and its module in float64. Memories are three tokens longer than `lengths` says `seq` is."""

    text: str
    model: nn.Module
    program: Program
    typed: tree.Model
    lengths: Lengths

    def inputs(self, batch: int = 2, seed: int = 0) -> Tensors:
        """Random numbers, and ids of which one in nine is outside the vocabulary."""
        generator = torch.Generator().manual_seed(seed)
        drawn = {}
        for statement in self.typed.body:
            if isinstance(statement, tree.Input):
                shape = statement.binding.shape
                front = (batch, self.lengths["seq"]) if shape.per is tree.Per.TOKEN else (batch,)
                size = (*front, *(self.lengths.get(axis.name) or self.program.sizes.get(axis, self.lengths["seq"] + 3) for axis in shape.axes))
                if shape.vocabulary is None:
                    drawn[statement.binding.name] = torch.randn(size, generator=generator, dtype=torch.float64)
                else:
                    vocabulary = self.program.sizes[shape.vocabulary]
                    ids = torch.randint(0, vocabulary, size, generator=generator)
                    outside = torch.rand(size, generator=generator) < 1 / 9
                    drawn[statement.binding.name] = torch.where(outside, vocabulary, ids)
        return drawn

    def meaning(self, parameters: Tensors, inputs: Tensors) -> Tensors:
        found = meaning(self.program, parameters, inputs, self.lengths["seq"])
        values = dict(zip((output.name for output in self.program.outputs), found.outputs, strict=True))
        return values if found.loss is None else {**values, "loss": found.loss}

    def run(self, inputs: Tensors) -> Tensors:
        result = self.model(**inputs) if self.program.loss is None else self.model(**inputs, loss=True)
        return {name: value for name, value in result._asdict().items() if isinstance(value, Tensor)}


def compiled(text: str, lengths: Lengths = SEQUENCE) -> Spec:
    """Parameters of order one: with the 0.02 that they begin with, half of the mathematics would be below a tolerance."""
    source, diagnostics = Source("spec.mpt", text), Diagnostics()
    made, typed = compile(source, diagnostics), resolve(source, {}, None, Diagnostics())
    assert made is not None and typed is not None, "\n".join(render(found) for found in diagnostics.found)
    program = build(typed, Diagnostics())
    assert program is not None
    generated = made.files[f"{made.name}.py"]
    model = as_module(made.name, generated).Model().double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(torch.randn(value.shape, generator=generator, dtype=torch.float64) / max(1, value.shape[-1] if value.dim() else 1) ** 0.5)
    return Spec(generated, model, program, typed, {**SEQUENCE, **lengths})


def agree(spec: Spec, tolerance: float = 1e-10, inputs: Tensors | None = None) -> None:
    """Outputs, loss, and the gradients of every parameter and continuous input are those of the naive meaning."""
    inputs = spec.inputs() if inputs is None else inputs
    found, wanted = (gradients(call, dict(spec.model.named_parameters()), inputs) for call in (lambda _, given: spec.run(given), spec.meaning))
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name].shape == value.shape, (name, found[name].shape, value.shape)
        largest = max(1.0, float(value.abs().max()) if value.numel() else 0.0)
        error = float((found[name] - value).abs().max()) if value.numel() else 0.0
        assert error <= tolerance * largest, f"{name}: {error}\n{spec.text}"


def gradients(call: Callable[[Tensors, Tensors], Tensors], parameters: Tensors, inputs: Tensors) -> Tensors:
    """The values of a call, and the gradients of a random projection of them."""
    given = {name: value.clone().requires_grad_() if value.is_floating_point() else value for name, value in inputs.items()}
    leaves = {**parameters, **{name: value for name, value in given.items() if value.requires_grad}}
    values = call(parameters, given)
    generator = torch.Generator().manual_seed(5)
    scalar = sum((value * torch.randn(value.shape, generator=generator, dtype=torch.float64)).sum() for value in values.values())
    found = torch.autograd.grad(scalar, list(leaves.values()), allow_unused=True) if isinstance(scalar, Tensor) and scalar.requires_grad else ()
    slopes = {f"d {name}": torch.zeros_like(leaf) if slope is None else slope for (name, leaf), slope in zip(leaves.items(), found, strict=False)}
    return {**{name: value.detach() for name, value in values.items()}, **slopes}


@dataclass(frozen=True)
class Returned:
    """One tensor that an operator returned; `inputs` are those that it was given."""

    operator: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    inputs: tuple[tuple[int, ...], ...]


@dataclass(eq=False)
class Watch(TorchDispatchMode):
    """Every tensor that an operator returns, forward or backward; views of what is there already count too."""

    seen: list[Returned] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = tuple(tuple(item.shape) for item in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(item, Tensor))
        for item in torch.utils._pytree.tree_leaves(result):
            if isinstance(item, Tensor):
                self.seen.append(Returned(str(func), tuple(item.shape), item.dtype, given))
        return result


def watched(spec: Spec, inputs: Tensors | None = None) -> list[Returned]:
    """What the operators of one training step return."""
    inputs = spec.inputs() if inputs is None else inputs
    with Watch() as watch:
        gradients(lambda _, given: spec.run(given), dict(spec.model.named_parameters()), inputs)
    return watch.seen
