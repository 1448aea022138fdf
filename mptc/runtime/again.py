"""Copies of stacks whose activations are not kept, but computed once more on the way back: less memory, the same numbers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint


def compute_again(model: nn.Module, copies: Mapping[str, int]) -> None:
    """Have the first copies of stacks, so many of each by its path (`layers`), keep what they are given and nothing else. In place."""
    for stack, count in copies.items():
        for copy in list(model.get_submodule(stack).children())[:count]:
            copy.forward = partial(checkpoint, type(copy).forward, copy, use_reentrant=False)
