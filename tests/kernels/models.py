"""A spec compiled twice, with kernels and without, and run on the same numbers: on a CPU, by Triton's interpreter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from mptc.build import build
from mptc.compile import compile
from mptc.ir.axis import SEQ
from mptc.ir.node import Kind
from mptc.ir.program import Program
from mptc.model.resolve import resolve
from mptc.ops.leaf import Input
from mptc.runtime.module import as_module
from mptc.source.diagnostic import Diagnostics
from mptc.source.text import Source

ROOT = Path(__file__).resolve().parent.parent.parent
SINGLE = 1e-4


@dataclass(frozen=True)
class Model:
    """`kernels`: the text of kernels.py, empty where there is none. `files`: those of the model."""

    program: Program
    name: str
    text: str
    kernels: str

    def module(self) -> ModuleType:
        return as_module(self.name, self.text, self.kernels)

    def inputs(self, seq: int, batch: int = 2) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(1)
        return {node.op.label: self._drawn(node, seq, batch, generator) for node in self.program.inputs if isinstance(node.op, Input)}

    def _drawn(self, node: Any, seq: int, batch: int, generator: torch.Generator) -> Tensor:
        front = (batch, seq) if SEQ in node.axes else (batch,)
        size = (*front, *(self.program.sizes.get(axis, seq + 3) for axis in node.op.order))
        if node.type.kind is Kind.ID:
            return torch.randint(0, 3, size, generator=generator)
        return torch.randn(size, generator=generator)


def compiled(path: Path, variant: str | None = None, settings: Mapping[str, str] = {}, mode: str = "triton", text: str | None = None) -> Model:
    source = Source.read(path) if text is None else Source(str(path), text)
    diagnostics = Diagnostics()
    typed = resolve(source, settings, variant, diagnostics)
    program = None if typed is None else build(typed, diagnostics)
    made = compile(source, diagnostics, settings, variant, ["triton"], kernels=mode)
    assert made is not None and program is not None, [str(one) for one in diagnostics.found]
    return Model(program, made.name, made.files[f"{made.name}.py"], made.files.get("kernels.py", ""))


@dataclass(frozen=True)
class Run:
    """What a model gives, and the gradient of a sum of it weighted at random for every parameter and real input."""

    outputs: list[Tensor]
    gradients: dict[str, Tensor]


def run(model: nn.Module, inputs: Mapping[str, Tensor], weights: int = 2) -> Run:
    given = {name: value.clone().requires_grad_() if value.is_floating_point() else value for name, value in inputs.items()}
    outputs = list(model(**given))
    generator = torch.Generator().manual_seed(weights)
    total = sum((out * torch.randn(out.shape, generator=generator).to(out)).sum() for out in outputs)
    trained = {name: each for name, each in model.named_parameters() if each.requires_grad}
    wanted = {**trained, **{name: value for name, value in given.items() if value.requires_grad}}
    found = torch.autograd.grad(total, list(wanted.values()), allow_unused=True)  # type: ignore[arg-type]
    return Run([out.detach() for out in outputs], {name: each for name, each in zip(wanted, found, strict=True) if each is not None})


def apart(one: Run, other: Run) -> float:
    """The largest difference, as a part of the largest magnitude of each tensor, or of a hundredth of all; NaN is as far as can be.

    A hundredth, because some gradients are 0 but for rounding: a softmax does not see what is the same for all its tokens.
    """
    assert one.gradients.keys() == other.gradients.keys()
    pairs = [*zip(one.outputs, other.outputs, strict=True), *((one.gradients[name], other.gradients[name]) for name in one.gradients)]
    least = max(float(right.abs().max()) for _, right in pairs if right.numel()) / 100
    found = [float((left - right).abs().max() / right.abs().max().clamp(min=least)) for left, right in pairs if left.numel()]
    return max((float("inf") if each != each else each) for each in found)
