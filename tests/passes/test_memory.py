"""The peak memory of a training step of every spec of the gallery doubles when the length doubles."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import mptc
from mptc.model import tree
from tests.gallery.common import SPECS
from tests.gallery.drawn import drawn, typed

NAMES = [path.stem for path in sorted(SPECS.glob("*.mpt"))]
SHORT, LONG = 1024, 2048


class Peak(TorchDispatchMode):
    """`most`: bytes of all storages that operators have made and that are still there, at the worst moment."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for item in torch.utils._pytree.tree_leaves(result):
            if isinstance(item, Tensor):
                self.made(item.untyped_storage())
        return result

    def made(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self.known:
            self.known.add(key)
            self.now += storage.nbytes()
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self.gone, key, storage.nbytes())

    def gone(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size


def peak(name: str, tokens: int) -> int:
    """Of the activations and their gradients; those of parameters, as long as these are, are set to nothing beforehand."""
    sizes: dict[str, object] = {"places": LONG} if any(axis.name == "places" for axis in typed(name, {}).sizes) else {}
    model, declared = mptc.load(SPECS / f"{name}.mpt", set=sizes, variant="tiny"), typed(name, sizes)
    given = {key: value.float() if value.is_floating_point() else value for key, value in drawn(declared, tokens, tokens, 1).items()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    with Peak() as found:
        result = model(**given, loss=any(isinstance(statement, tree.Loss) for statement in declared.body))
        sum(value.square().mean() for value in result if isinstance(value, Tensor) and value.requires_grad).backward()
    return found.most


@pytest.mark.parametrize("name", NAMES)
def test_twice_the_length_takes_twice_the_memory(name: str) -> None:
    ratio = peak(name, LONG) / peak(name, SHORT)
    assert 1.8 <= ratio <= 2.2, ratio
