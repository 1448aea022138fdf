"""Models of several inputs learn, through `mptc train`, what needs each of their inputs: with any of them spoiled, the answers are guesses.

The sizes here are those that a test can wait for; `MPTC_LEARNING=full` takes harder ones (minutes).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import mptc
from mptc.runtime.function import FIRST_HELD_OUT
from tests.learning import encoder, multimodal, sequences

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
        return [self.spec, "--variant", "tiny", *sizes, "--data", self.data, *self.options]


def text_answers(batch: Batch, logits: Tensor) -> tuple[Tensor, Tensor]:
    """What follows each question, and what the model says there."""
    return batch["tokens"][:, 1:][:, multimodal.ANSWERED], logits[:, multimodal.ANSWERED].argmax(-1)


def first_said(batch: Batch, logits: Tensor) -> tuple[Tensor, Tensor]:
    """What follows gives away where in the source it stands."""
    return batch["tokens"][:, 1], logits[:, 0].argmax(-1)


def masked_answers(batch: Batch, logits: Tensor) -> tuple[Tensor, Tensor]:
    counts = batch["targets"] >= 0
    return batch["targets"][counts], logits.argmax(-1)[counts]


FULL = os.environ.get("MPTC_LEARNING") == "full"
MULTIMODAL, ENCODER = (
    (
        Case(
            *("specs/mpt_multimodal.mpt", "tests.learning.multimodal:seven", 7, 24, multimodal.seven, text_answers),
            options=("--length", "24", "--batch", "64", "--steps", "3000"),
            set={"fact": 8},
        ),
        Case(
            *("specs/bert.mpt", "tests.learning.encoder:eleven", 11, 24, encoder.eleven, masked_answers),
            options=("--length", "24", "--batch", "128", "--steps", "3000", "--lr", "0.003"),
        ),
    )
    if FULL
    else (
        Case(
            *("specs/mpt_multimodal.mpt", "tests.learning.multimodal:five", 5, 24, multimodal.five, text_answers),
            options=("--length", "24", "--batch", "32", "--steps", "1000"),
        ),
        Case(
            *("specs/bert.mpt", "tests.learning.encoder:five", 5, 12, encoder.five, masked_answers),
            options=("--length", "12", "--batch", "64", "--steps", "700", "--lr", "0.003"),
        ),
    )
)
BACKWARDS = Case(
    *("specs/encoder_decoder.mpt", "backwards.npz", sequences.SYMBOLS, 12 if FULL else 6, sequences.backwards, first_said),
    options=("--batch", "64", "--steps", "3000" if FULL else "300", "--lr", "0.005"),
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
    model = mptc.load(root / case.spec, set=case.set, variant="tiny", weights=out).eval()
    return Trained(case, model, done.stdout)


@pytest.fixture(scope="module")
def multi(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return trained(MULTIMODAL, root, tmp_path_factory.mktemp("multimodal") / "run")


@pytest.fixture(scope="module")
def bert(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return trained(ENCODER, root, tmp_path_factory.mktemp("encoder") / "run")


@pytest.fixture(scope="module")
def said_backwards(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("sequences")
    np.savez(folder / BACKWARDS.data, **sequences.backwards(0, 0, 20_000, BACKWARDS.length))
    return trained(replace(BACKWARDS, data=str(folder / BACKWARDS.data)), root, folder / "run")


def near_chance(trained: Trained, batch: Batch, expected: Batch, known: float = 0.0) -> None:
    """`known`: the share of answers that may be known all the same; the others are one of the case's values."""
    found = trained.accuracy(batch, expected)
    assert found < known + (1 - known) / trained.case.values + GUESSED, found


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


RETURNED = "return (e + m + r) * (1 + W_scale @ z) + W_shift @ z"
ALONE = {"mixture": "e + m", "basis": "e + r", "scale": "e * (1 + W_scale @ z)", "shift": "e + W_shift @ z", "none": "e"}


@pytest.mark.skipif(not FULL, reason="minutes for each; MPTC_LEARNING=full")
@pytest.mark.parametrize("path", ALONE)
def test_each_way_that_z_takes_is_enough(path: str, root: Path, tmp_path: Path) -> None:
    """The spec, but for one line; without any way, answers are guesses."""
    text = (root / MULTIMODAL.spec).read_text()
    assert text.count(RETURNED) == 1
    (tmp_path / "alone.mpt").write_text(text.replace(RETURNED, f"return {ALONE[path]}"))
    case = Case(
        *(str(tmp_path / "alone.mpt"), "tests.learning.multimodal:five", 5, 24, multimodal.five, text_answers),
        options=("--length", "24", "--batch", "32", "--steps", "4000"),
    )
    found = trained(case, root, tmp_path / "run")
    batch = found.unseen()
    assert path == "none" or found.accuracy(batch) >= LEARNT
    near_chance(found, {**batch, "z": torch.zeros_like(batch["z"])}, batch)


# -- an encoder ----------------------------------------------------------------------------------------------


def place(batch: Batch) -> Tensor:
    """How far each token stands behind the question: `[batch, seq]`."""
    asked = (batch["tokens"] == encoder.QUESTION).int().argmax(-1)
    return torch.arange(batch["tokens"].shape[1]) - asked[:, None]


def test_encoder_is_learnt(bert: Trained) -> None:
    assert bert.accuracy(bert.unseen()) >= LEARNT
    assert reported(bert.said) >= LEARNT


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


# -- an encoder and a decoder, from an array file ------------------------------------------------------------


def reported(said: str) -> float:
    found = re.search(r"held-out loss \S+ nats per token, accuracy (\S+)%", said)
    assert found
    return float(found[1]) / 100


def test_encoder_and_decoder_learn(said_backwards: Trained) -> None:
    assert said_backwards.accuracy(said_backwards.unseen()) >= LEARNT
    assert reported(said_backwards.said) >= LEARNT


@pytest.mark.parametrize(
    "spoil",
    [
        lambda batch: {"source": batch["source"].roll(1, 0)},
        lambda batch: {"source": batch["source"].flip(1)},
        lambda batch: {"mask": torch.ones_like(batch["mask"])},
    ],
    ids=["source of another", "source turned round", "padding seen"],
)
def test_encoder_and_decoder_need_each_input(spoil: Callable[[Batch], Batch], said_backwards: Trained) -> None:
    """Where the source ends or how its symbols are ordered can be guessed: there are that many sizes."""
    batch = said_backwards.unseen()
    near_chance(said_backwards, {**batch, **spoil(batch)}, batch, known=1 / (BACKWARDS.length - 2))
