"""The bytes of a text as training batches.

What a step sees is a function of the seed and the step alone, so a resumed run sees what it would have seen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mptc.runtime.errors import DataError

HELD_OUT = 0.1  # the last part of the file, never trained on
EVALUATED = 1024  # at most this many windows of it, evenly spaced

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Text:
    """A file's bytes: `training` first, then `held_out`."""

    path: str
    training: Bytes
    held_out: Bytes

    def fingerprint(self) -> dict[str, str | int]:
        """What tells this data from any other."""
        digest = hashlib.sha256(self.training.data)
        digest.update(self.held_out.data)
        return {"bytes": len(self.training) + len(self.held_out), "sha256": digest.hexdigest()}


def read_text(path: str | Path, length: int) -> Text:
    """Map a file into memory. Raises `DataError` where it cannot be read, or where a part of it is shorter than a window of `length` bytes."""
    try:
        data = np.memmap(path, dtype=np.uint8, mode="r") if Path(path).stat().st_size else np.zeros(0, np.uint8)
    except OSError as error:
        raise DataError(f"error: cannot read data from {path}: {error.strerror}") from error
    split = len(data) - int(len(data) * HELD_OUT)
    text = Text(str(path), data[:split], data[split:])
    if min(len(text.training), len(text.held_out)) < length:
        raise DataError(
            f"error: {path} is too short: {len(data)} bytes, of which {len(text.training)} to train on and {len(text.held_out)} held out; "
            f"each part needs at least one window of {length} (--length)"
        )
    return text


def training_batch(text: Text, seed: int, step: int, batch: int, length: int) -> Tensor:
    """The windows of one step, drawn with replacement: int64 `[batch, length]`."""
    draw = np.random.default_rng([seed, step])
    starts = draw.integers(0, len(text.training) - length + 1, size=batch)
    return _windows(text.training, starts, length)


def held_out_batches(text: Text, batch: int, length: int) -> Iterator[Tensor]:
    """Windows of the held-out part that do not overlap, always the same ones: int64 `[<= batch, length]`."""
    count = len(text.held_out) // length
    chosen = np.unique(np.linspace(0, count - 1, min(count, EVALUATED)).round().astype(np.int64)) * length
    for first in range(0, len(chosen), batch):
        yield _windows(text.held_out, chosen[first : first + batch], length)


def _windows(data: Bytes, starts: NDArray[np.int64], length: int) -> Tensor:
    rows = data[starts[:, None] + np.arange(length)]
    return torch.from_numpy(rows.astype(np.int64))
