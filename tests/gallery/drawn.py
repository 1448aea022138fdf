"""Random inputs for a spec of the gallery, as its declarations ask for them."""

from __future__ import annotations

import torch

from mptc.model import tree
from mptc.runtime.spec import typed_spec
from tests.gallery.common import SPECS, Tensors

Sizes = dict[str, object]


def typed(name: str, sizes: Sizes) -> tree.Model:
    return typed_spec(SPECS / f"{name}.mpt", sizes, "tiny")


def per_sequence(model: tree.Model) -> list[str]:
    """The inputs that have one value for each sequence."""
    return [each.binding.name for each in inputs_of(model) if each.binding.shape.per is tree.Per.SEQUENCE]


def inputs_of(model: tree.Model) -> list[tree.Input]:
    return [statement for statement in model.body if isinstance(statement, tree.Input)]


def drawn(model: tree.Model, tokens: int, memory: int, batch: int = 2, seed: int = 0) -> Tensors:
    """Ids over the whole vocabulary; numbers, float64; where there is one number for each token, as in a mask, it is 0 or 1, and 1 for the first."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for each in inputs_of(model):
        shape = each.binding.shape
        front = (batch, tokens) if shape.per is tree.Per.TOKEN else (batch,)
        size = (*front, *(model.sizes.get(axis, memory) for axis in shape.axes))
        if shape.vocabulary is not None:
            found[each.binding.name] = torch.randint(0, model.sizes[shape.vocabulary], size, generator=generator)
        elif any(axis in model.sizes for axis in shape.axes):
            found[each.binding.name] = torch.randn(size, generator=generator, dtype=torch.float64)
        else:
            found[each.binding.name] = (torch.rand(size, generator=generator) < 0.7).double()
            found[each.binding.name][:, 0] = 1
    return found
