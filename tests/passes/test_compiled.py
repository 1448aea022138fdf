"""Every spec of the gallery under torch.compile: one graph, whatever the length, and the same numbers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import mptc
from mptc.model import tree
from tests.gallery.common import SPECS
from tests.gallery.drawn import drawn, typed

NAMES = [path.stem for path in sorted(SPECS.glob("*.mpt"))]
TRAINED = ("cem_small", "energy_transformer")  # with the graph of the gradient, which takes torch ten seconds to make
LENGTHS = (37, 150, 211)  # below and above the rows that are taken of pairs of tokens at a time


@pytest.mark.parametrize("name", NAMES)
def test_one_graph_for_all_lengths(name: str) -> None:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    declared = typed(name, {})
    loss = any(isinstance(statement, tree.Loss) for statement in declared.body)
    sizes: dict[str, object] = {"places": 512} if any(axis.name == "places" for axis in declared.sizes) else {}
    model = mptc.load(SPECS / f"{name}.mpt", set=sizes, variant="tiny")
    model.requires_grad_()  # what is frozen too
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager" if name in TRAINED else "eager")
    for place, length in enumerate(LENGTHS):
        exact = drawn(typed(name, sizes), length, length + 3, 2)
        given = {key: value.float() if value.is_floating_point() else value for key, value in exact.items()}
        with torch._dynamo.config.patch(error_on_recompile=place > 0):
            found, wanted = (call(**given, loss=loss) for call in (compiled, model))
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
        for one, other in zip(found, wanted, strict=True):
            if isinstance(one, Tensor):
                torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
        gradients = [torch.autograd.grad(total(values), model.parameters(), allow_unused=True) for values in (found, wanted)]
        for one, other in zip(*gradients, strict=True):
            assert (one is None) == (other is None)
            if one is not None:
                torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def total(values: tuple[object, ...]) -> Tensor:
    return sum((value.square().mean() for value in values if isinstance(value, Tensor)), torch.zeros(()))
