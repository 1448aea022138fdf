"""Data for `specs/mpt_multimodal.mpt`: the answer to each question is a function of a text token, an image token and what `z` says.

    mptc train specs/mpt_multimodal.mpt --variant tiny --data tests.learning.multimodal:five --length 24

A block is six tokens: a text value `a`, an image value `b` and a filler of each type, shuffled, then the question, then the answer
a - b + c modulo `values`, where `c` is what the sequence's `z` encodes. Without any one of a, b and c every answer is as likely as any other; and a
and b are told apart by their types alone: where a text token takes the place of an image token, a sign changes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

BLOCK = 6
ANSWERED = slice(BLOCK - 2, None, BLOCK)  # the places of the questions: what follows each is its answer
TEXT = 48  # ids; values are the first of each type
FILLER, FILLERS = 11, 5
QUESTION = 16
ANSWER = 17  # the id of answer 0
ZEROS = 0.4

Arrays = dict[str, NDArray[np.int64] | NDArray[np.float32]]


def task(values: int, facts: int) -> Callable[..., Arrays]:
    """Of the values a part, `zeros`, are 0 beside those that are so by chance. Without that, no two of a, b and c say anything of the answer, and a
    model has nowhere to begin, as with parity. What it has learnt is tested with none."""

    def examples(seed: int, step: int, batch: int, length: int, zeros: float = ZEROS) -> Arrays:
        draw, shape = np.random.default_rng([seed, step]), (batch, length // BLOCK)
        a, b, c = (draw.integers(0, values, size) * (draw.random(size) >= zeros) for size in (shape, shape, (batch, 1)))
        fillers = FILLER + draw.integers(0, FILLERS, (2, *shape))
        shown = draw.permuted(np.stack([a, TEXT + b, fillers[0], TEXT + fillers[1]], -1), axis=-1)
        asked = np.stack([np.full(shape, QUESTION), ANSWER + (a - b + c) % values], -1)
        z = np.eye(facts)[c[:, 0]] + draw.normal(0, 0.1, (batch, facts))
        return {"tokens": np.concatenate([shown, asked], -1).reshape(batch, -1), "z": z.astype(np.float32)}

    return examples


five, seven = task(5, 6), task(7, 8)
