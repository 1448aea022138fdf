"""Data for `specs/encoder_decoder.mpt`: a source is to be said backwards, from its last symbol that is not padding."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SYMBOLS = 10
BEGIN = 255

Arrays = dict[str, NDArray[np.int64] | NDArray[np.float32]]


def backwards(seed: int, step: int, batch: int, length: int, zeros: float = 0.0) -> Arrays:
    """Sources of at least two symbols and one of padding, which is symbols too; the places of `tokens` that are left over are -1."""
    draw, place = np.random.default_rng([seed, step]), np.arange(length)
    source = draw.integers(0, SYMBOLS, (batch, length))
    size = draw.integers(2, length, (batch, 1))
    back = size - 1 - place
    said = np.where(back >= 0, np.take_along_axis(source, np.maximum(back, 0), 1), -1)
    tokens = np.concatenate([np.full((batch, 1), BEGIN), said], 1)
    return {"tokens": tokens, "source": source, "mask": (place < size).astype(np.float32)}
