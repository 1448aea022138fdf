"""Choosing the next id by its logits, on numpy: the same whatever computed them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mptc.runtime.errors import UserError
from mptc.runtime.settings import at_least

Logits = NDArray[np.floating]


@dataclass(frozen=True)
class Draw:
    """How an id is chosen. `temperature` 0 takes the likeliest; `top_k` 0 is all; `top_p`: the likeliest that have this probability together.

    At most the last `window` ids are seen. An id of `stop` ends the text, and is not part of it.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    window: int = 256
    stop: tuple[int, ...] = ()

    def check(self) -> None:
        """Raises `UserError` for a number out of range."""
        for option, number, least in (("top-k", self.top_k, 0), ("seed", self.seed, 0), ("window", self.window, 1)):
            at_least(option, number, least)
        if not 0 <= self.temperature < math.inf:
            raise UserError(f"error: --temperature is {self.temperature:g}; it must be a number of at least 0")
        if not 0 < self.top_p <= 1:
            raise UserError(f"error: --top-p is {self.top_p:g}; it must be above 0 and at most 1")

    def source(self, row: int = 0) -> np.random.Generator:
        """What one sequence of a batch draws from: a function of the seed and its row."""
        return np.random.default_rng([self.seed, row])


def choose(logits: Logits, draw: Draw, source: np.random.Generator) -> int:
    """An id by its logits `[ids]`. Of equal ones the lower is the likelier."""
    if draw.temperature == 0:
        return int(np.argmax(logits))
    order = np.argsort(-logits, kind="stable")[: draw.top_k or None]
    scaled = (logits[order].astype(np.float64) - float(logits[order[0]])) / draw.temperature
    weights = np.exp(scaled)
    weights /= weights.sum()
    before = np.cumsum(weights) - weights  # the likeliest is always kept
    kept = before < draw.top_p
    return int(source.choice(order[kept], p=weights[kept] / weights[kept].sum()))
