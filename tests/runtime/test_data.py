"""Data order is a function of seed and step."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mptc.runtime.data import EVALUATED, held_out_batches, read_text, training_batch
from mptc.runtime.errors import DataError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "data.txt"
    path.write_bytes(np.arange(10_000, dtype=np.int64).astype(np.uint8).tobytes())
    return path


def test_a_batch_depends_on_seed_and_step_alone(file: Path) -> None:
    text = read_text(file, 16)
    first = training_batch(text, 3, 7, 4, 16)
    assert first.shape == (4, 16)
    assert first.dtype == torch.int64
    training_batch(text, 3, 8, 4, 16)
    assert torch.equal(training_batch(read_text(file, 16), 3, 7, 4, 16), first)
    assert not torch.equal(training_batch(text, 3, 8, 4, 16), first)
    assert not torch.equal(training_batch(text, 4, 7, 4, 16), first)


def test_windows_are_consecutive_bytes(file: Path) -> None:
    batch = training_batch(read_text(file, 16), 0, 0, 8, 16)
    assert ((batch - batch[:, :1]) % 256 == torch.arange(16)).all()


def test_the_last_tenth_is_held_out_and_never_trained_on(file: Path) -> None:
    data = np.zeros(10_000, np.uint8)
    data[9_000:] = 1
    file.write_bytes(data.tobytes())
    text = read_text(file, 100)
    assert all((training_batch(text, 0, step, 32, 100) == 0).all() for step in range(20))
    assert all((batch == 1).all() for batch in held_out_batches(text, 4, 100))


def test_held_out_windows_cover_without_overlap(file: Path) -> None:
    text = read_text(file, 30)
    windows = torch.cat(list(held_out_batches(text, 7, 30)))
    assert len(windows) == 33
    assert torch.equal(windows.flatten(), torch.from_numpy(text.held_out[: 33 * 30].astype(np.int64)))


def test_evaluation_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "long").write_bytes(bytes(100_000))
    batches = list(held_out_batches(read_text(tmp_path / "long", 2), 64, 2))
    assert sum(map(len, batches)) == EVALUATED


@pytest.mark.parametrize(("size", "message"), [(0, "too short: 0 bytes"), (100, "held out; each part needs at least one window of 16")])
def test_too_short(size: int, message: str, tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(bytes(size))
    with pytest.raises(DataError, match=message):
        read_text(tmp_path / "short", 16)


def test_missing_and_directory(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        read_text(tmp_path / "none", 16)
    with pytest.raises(DataError, match="Is a directory"):
        read_text(tmp_path, 16)
