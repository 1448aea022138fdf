"""What a training run is fed: batches of tensors named after the model's inputs.

What a step sees is a function of the seed and the step alone, so a resumed run sees what it would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

HELD_OUT = 0.1  # the last part of a file, never trained on
EVALUATED = 1024  # at most this many examples of it, evenly spaced

Batch = dict[str, Tensor]  # by input: ids int64, numbers float32; [batch, seq, *axes] for each token, [batch, *axes] for each sequence


class Data(Protocol):
    """The bytes of a text, the arrays of a file, or what a function makes. `kind` says which: "text", "arrays", "function"."""

    @property
    def kind(self) -> str: ...

    @property
    def length(self) -> int:
        """How many tokens an example has; what a function is asked for."""
        ...

    def training_batch(self, seed: int, step: int) -> Batch:
        """What one step sees. Raises `DataError` where the data turn out not to fit the model."""
        ...

    def held_out_batches(self, seed: int) -> Iterator[Batch]:
        """What no step sees, the same every time. Raises `DataError` as `training_batch` does."""
        ...

    def fingerprint(self) -> dict[str, str | int]:
        """What tells this data from any other."""
        ...

    def description(self) -> str:
        """Where it comes from and how much of it there is, for the report."""
        ...


def split(count: int) -> int:
    """Where the held-out part of `count` bytes or examples begins."""
    return count - int(count * HELD_OUT)


def spaced(count: int) -> NDArray[np.int64]:
    """At most `EVALUATED` of the numbers below `count`, evenly spaced."""
    return np.unique(np.linspace(0, count - 1, min(count, EVALUATED)).round().astype(np.int64))
