"""Data for `specs/bert.mpt`: the answer to the one question is a function of one token before it and one after it, those of its own segment
that are not padding.

    mptc train specs/bert.mpt --variant tiny --data tests.learning.encoder:five --length 12 --lr 3e-3

Every token but the question is a value. Of those in the question's segment one before it and one after it, `a` and `b`, are real and the others
padding, which here may lie anywhere, so that nothing but the mask tells it; in the other segment half is padding. The answer is a + b modulo
`values`: without a, or without b, every answer is as likely as any other.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

QUESTION = 250
ANSWER = 200  # the id of answer 0
ZEROS = 0.3

Arrays = dict[str, NDArray[np.int64] | NDArray[np.float32]]


def task(values: int) -> Callable[..., Arrays]:
    """Of the values a part, `zeros`, are 0 beside those that are so by chance. Without that, neither a nor b says anything of the answer, and a
    model is slow to begin. What it has learnt is tested with none."""

    def examples(seed: int, step: int, batch: int, length: int, zeros: float = ZEROS) -> Arrays:
        draw, shape, rows = np.random.default_rng([seed, step]), (batch, length), np.arange(batch)
        tokens = draw.integers(0, values, shape) * (draw.random(shape) >= zeros)
        segments = draw.integers(0, 2, shape)
        asked = draw.integers(length // 4, length - length // 4, batch)
        before, after = draw.integers(0, asked), draw.integers(asked + 1, length)
        own = segments[rows, asked]
        mask = (draw.random(shape) < 0.5) & (segments != own[:, None])
        for place in (before, asked, after):
            segments[rows, place] = own
            mask[rows, place] = True
        targets = np.full(shape, -1)
        targets[rows, asked] = ANSWER + (tokens[rows, before] + tokens[rows, after]) % values
        tokens[rows, asked] = QUESTION
        return {"tokens": tokens, "segments": segments, "mask": mask.astype(np.float32), "targets": targets}

    return examples


five, eleven = task(5), task(11)
