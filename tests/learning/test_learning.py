"""Models of several inputs learn, through `mptc train`, what needs each of their inputs: with any of them spoiled, the answers are guesses.

The sizes here are those that a test can wait for; `MPTC_LEARNING=full` takes harder ones (minutes).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import mptc
from mptc.runtime.function import FIRST_HELD_OUT
from tests.learning import encoder, multimodal

LEARNT = 0.95
GUESSED = 0.15  # above chance

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Case:
    """`options` of `mptc train` beside spec, variant and data; `made`: the examples of a step, with none of the zeros that help to begin."""

    spec: str
    data: str
    values: int
    length: int
    made: Callable[..., dict[str, np.ndarray]]
    answers: Callable[[Batch, Tensor], tuple[Tensor, Tensor]]
    options: tuple[str, ...]
    set: dict[str, int] = field(default_factory=dict)

    def arguments(self) -> list[str]:
        sizes = [word for name, size in self.set.items() for word in ("--set", f"{name}={size}")]
        return [f"specs/{self.spec}.mpt", "--variant", "tiny", *sizes, "--data", self.data, "--length", str(self.length), *self.options]


def text_answers(batch: Batch, logits: Tensor) -> tuple[Tensor, Tensor]:
    """What follows each question, and what the model says there."""
    return batch["tokens"][:, 1:][:, multimodal.ANSWERED], logits[:, multimodal.ANSWERED].argmax(-1)


def masked_answers(batch: Batch, logits: Tensor) -> tuple[Tensor, Tensor]:
    counts = batch["targets"] >= 0
    return batch["targets"][counts], logits.argmax(-1)[counts]


FULL = os.environ.get("MPTC_LEARNING") == "full"
MULTIMODAL, ENCODER = (
    (
        Case(
            *("mpt_multimodal", "tests.learning.multimodal:seven", 7, 24, multimodal.seven, text_answers),
            options=("--batch", "64", "--steps", "3000"),
            set={"fact": 8},
        ),
        Case(
            *("bert", "tests.learning.encoder:eleven", 11, 24, encoder.eleven, masked_answers),
            options=("--batch", "128", "--steps", "3000", "--lr", "0.003"),
        ),
    )
    if FULL
    else (
        Case(
            *("mpt_multimodal", "tests.learning.multimodal:five", 5, 24, multimodal.five, text_answers),
            options=("--batch", "32", "--steps", "1000"),
        ),
        Case(
            *("bert", "tests.learning.encoder:five", 5, 12, encoder.five, masked_answers),
            options=("--batch", "64", "--steps", "700", "--lr", "0.003"),
        ),
    )
)


@dataclass(frozen=True)
class Trained:
    case: Case
    model: nn.Module
    said: str

    def accuracy(self, batch: Batch, expected: Batch | None = None) -> float:
        """The share of answers that are those of `expected`, by default of the batch itself."""
        with torch.no_grad():
            logits = self.model(**batch).logits
        wanted, found = self.case.answers(expected or batch, logits)
        return float((wanted == found).float().mean())

    def unseen(self) -> Batch:
        made = self.case.made(0, FIRST_HELD_OUT + 1_000_000, 256, self.case.length, zeros=0.0)
        return {name: torch.from_numpy(array) for name, array in made.items()}


def trained(case: Case, root: Path, out: Path) -> Trained:
    command = [sys.executable, "-m", "mptc", "train", *case.arguments(), "--out", str(out), "--threads", "1", "--eval-every", "10000"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    model = mptc.load(root / "specs" / f"{case.spec}.mpt", set=case.set, variant="tiny", weights=out).eval()
    return Trained(case, model, done.stdout)


@pytest.fixture(scope="module")
def multi(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return trained(MULTIMODAL, root, tmp_path_factory.mktemp("multimodal") / "run")


@pytest.fixture(scope="module")
def bert(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return trained(ENCODER, root, tmp_path_factory.mktemp("encoder") / "run")


def near_chance(trained: Trained, batch: Batch, expected: Batch | None = None) -> None:
    found = trained.accuracy(batch, expected)
    assert found < 1 / trained.case.values + GUESSED, found


# -- text, images and what is known of the sequence -------------------------------------------------------------


def values_of(tokens: Tensor, first: int) -> Tensor:
    return (tokens >= first) & (tokens < first + MULTIMODAL.values)


def without(tokens: Tensor, first: int) -> Tensor:
    """A filler in the place of every value of a type."""
    return torch.where(values_of(tokens, first), first + multimodal.FILLER, tokens)


def types_swapped(tokens: Tensor) -> Tensor:
    """The same values, text as images and images as text."""
    moved = torch.where(values_of(tokens, 0), tokens + multimodal.TEXT, tokens)
    return torch.where(values_of(tokens, multimodal.TEXT), tokens - multimodal.TEXT, moved)


def test_multimodal_is_learnt(multi: Trained) -> None:
    assert multi.accuracy(multi.unseen()) >= LEARNT


@pytest.mark.parametrize(
    "spoil",
    [
        lambda batch: {"z": torch.zeros_like(batch["z"])},
        lambda batch: {"z": batch["z"].roll(1, 0)},
        lambda batch: {"tokens": without(batch["tokens"], 0)},
        lambda batch: {"tokens": without(batch["tokens"], multimodal.TEXT)},
        lambda batch: {"tokens": types_swapped(batch["tokens"])},
    ],
    ids=["z is 0", "z of another", "no text", "no images", "types swapped"],
)
def test_multimodal_needs_each_path(spoil: Callable[[Batch], Batch], multi: Trained) -> None:
    batch = multi.unseen()
    near_chance(multi, {**batch, **spoil(batch)}, batch)


# -- an encoder ----------------------------------------------------------------------------------------------


def place(batch: Batch) -> Tensor:
    """How far each token stands behind the question: `[batch, seq]`."""
    asked = (batch["tokens"] == encoder.QUESTION).int().argmax(-1)
    return torch.arange(batch["tokens"].shape[1]) - asked[:, None]


def test_encoder_is_learnt(bert: Trained) -> None:
    assert bert.accuracy(bert.unseen()) >= LEARNT
    reported = re.search(r"held-out loss \S+ nats per token, accuracy (\S+)%", bert.said)
    assert reported
    assert float(reported[1]) >= 100 * LEARNT


def test_which_segment_is_which_does_not_matter(bert: Trained) -> None:
    batch = bert.unseen()
    assert bert.accuracy({**batch, "segments": 1 - batch["segments"]}) >= LEARNT


@pytest.mark.parametrize(
    "spoil",
    [
        lambda batch: {"segments": torch.zeros_like(batch["segments"])},
        lambda batch: {"segments": batch["segments"].roll(1, 0)},
        lambda batch: {"mask": torch.ones_like(batch["mask"])},
        lambda batch: {"mask": batch["mask"] * (place(batch) <= 0)},
        lambda batch: {"mask": batch["mask"] * (place(batch) >= 0)},
    ],
    ids=["one segment", "segments of another", "padding seen", "nothing after", "nothing before"],
)
def test_encoder_needs_each_path(spoil: Callable[[Batch], Batch], bert: Trained) -> None:
    batch = bert.unseen()
    near_chance(bert, {**batch, **spoil(batch)}, batch)
