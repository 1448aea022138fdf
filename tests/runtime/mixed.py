"""A model with an input of each sort, and arrays that fit it."""

from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from mptc.runtime.report import Lines
from mptc.runtime.session import Asked, train_spec

SPEC = """
context src
dim vocab = 8
dim kind = 3
dim d = 4
model mixed bidirectional {
  input tokens: id[vocab]
  input speed: [d]
  input mood: [d] per sequence
  input source: [src] id[vocab] per sequence
  input seen: [src] per sequence
  input label: id[kind] per sequence
  param embed: [vocab, d]
  param read: [kind, d]
  memory = only(lookup(embed, source), seen)
  x = lookup(embed, tokens) + speed + mood + mean[src](memory)
  output logits = read @ dropout(mean[seq](x), 0.2)
  loss cross_entropy[kind](logits, label)
}
"""
NAMES = ("tokens", "speed", "mood", "source", "seen", "label")

Arrays = dict[str, NDArray[np.generic]]


def arrays(examples: int = 40, seq: int = 5, src: int = 3, seed: int = 0) -> Arrays:
    """The mood's sign says what the label is."""
    draw = np.random.default_rng(seed)
    label = draw.integers(0, 3, examples)
    return {
        "tokens": draw.integers(0, 8, (examples, seq)),
        "speed": draw.normal(0, 1, (examples, seq, 4)).astype(np.float32),
        "mood": np.eye(4, dtype=np.float32)[label] * 5,
        "source": draw.integers(0, 8, (examples, src)),
        "seen": np.ones((examples, src), np.float32),
        "label": label,
    }


def train(folder: Path, data: str, out: TextIO, *, spec: str = SPEC, resume: bool = False, **numbers: float) -> float:
    """Train in `folder`, which must be the current one."""
    (folder / "mixed.mpt").write_text(spec)
    given = {"steps": 8, "batch": 8, "save_every": 4, **numbers}
    return train_spec(Asked("mixed.mpt", data, out="run", resume=resume, numbers=given), Lines(out))
