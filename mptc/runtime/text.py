"""The bytes of a text as the ids of a model's one input."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mptc.runtime.data import Batch, spaced, split
from mptc.runtime.errors import DataError

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Text:
    """A file's bytes, `training` first, then `held_out`, in windows of `length` for the input `name`."""

    path: str
    name: str
    training: Bytes
    held_out: Bytes
    batch: int
    length: int
    kind: str = "text"

    def training_batch(self, seed: int, step: int) -> Batch:
        """Windows drawn with replacement: `[batch, length]`."""
        draw = np.random.default_rng([seed, step])
        starts = draw.integers(0, len(self.training) - self.length + 1, size=self.batch)
        return self._windows(self.training, starts)

    def held_out_batches(self, seed: int) -> Iterator[Batch]:
        """Windows that do not overlap: `[<= batch, length]`."""
        starts = spaced(len(self.held_out) // self.length) * self.length
        for first in range(0, len(starts), self.batch):
            yield self._windows(self.held_out, starts[first : first + self.batch])

    def fingerprint(self) -> dict[str, str | int]:
        digest = hashlib.sha256(self.training.data)
        digest.update(self.held_out.data)
        return {"kind": self.kind, "bytes": len(self.training) + len(self.held_out), "sha256": digest.hexdigest()}

    def description(self) -> str:
        return f"{self.path}: {len(self.training):,} bytes to train on, the last {len(self.held_out):,} held out"

    def _windows(self, data: Bytes, starts: NDArray[np.int64]) -> Batch:
        rows = data[starts[:, None] + np.arange(self.length)]
        return {self.name: torch.from_numpy(rows.astype(np.int64))}


def read_text(path: str | Path, name: str, batch: int, length: int) -> Text:
    """Map a file into memory. Raises `DataError` where it cannot be read, or where a part of it is shorter than a window of `length` bytes."""
    try:
        data = np.memmap(path, dtype=np.uint8, mode="r") if Path(path).stat().st_size else np.zeros(0, np.uint8)
    except OSError as error:
        raise DataError(f"error: cannot read data from {path}: {error.strerror}") from error
    first = split(len(data))
    text = Text(str(path), name, data[:first], data[first:], batch, length)
    if min(len(text.training), len(text.held_out)) < length:
        raise DataError(
            f"error: {path} is too short: {len(data)} bytes, of which {len(text.training)} to train on and {len(text.held_out)} held out; "
            f"each part needs at least one window of {length} (--length)"
        )
    return text
