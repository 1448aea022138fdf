"""The bytes of a text: their order is a function of seed and step."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mptc.runtime.data import EVALUATED
from mptc.runtime.errors import DataError
from mptc.runtime.text import Text, read_text


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "data.txt"
    path.write_bytes(np.arange(10_000, dtype=np.int64).astype(np.uint8).tobytes())
    return path


def read(path: Path, length: int, batch: int = 4) -> Text:
    return read_text(path, "tokens", batch, length)


def trained(text: Text, seed: int, step: int) -> Tensor:
    (tokens,) = text.training_batch(seed, step).values()
    return tokens


def held_out(text: Text) -> list[Tensor]:
    return [batch["tokens"] for batch in text.held_out_batches(0)]


def test_a_batch_depends_on_seed_and_step_alone(file: Path) -> None:
    text = read(file, 16)
    first = trained(text, 3, 7)
    assert first.shape == (4, 16)
    assert first.dtype == torch.int64
    trained(text, 3, 8)
    assert torch.equal(trained(read(file, 16), 3, 7), first)
    assert not torch.equal(trained(text, 3, 8), first)
    assert not torch.equal(trained(text, 4, 7), first)


def test_windows_are_consecutive_bytes(file: Path) -> None:
    batch = trained(read(file, 16, 8), 0, 0)
    assert ((batch - batch[:, :1]) % 256 == torch.arange(16)).all()


def test_the_last_tenth_is_held_out_and_never_trained_on(file: Path) -> None:
    data = np.zeros(10_000, np.uint8)
    data[9_000:] = 1
    file.write_bytes(data.tobytes())
    text = read(file, 100, 32)
    assert all((trained(text, 0, step) == 0).all() for step in range(20))
    assert all((batch == 1).all() for batch in held_out(text))


def test_held_out_windows_cover_without_overlap(file: Path) -> None:
    text = read(file, 30, 7)
    windows = torch.cat(held_out(text))
    assert len(windows) == 33
    assert torch.equal(windows.flatten(), torch.from_numpy(text.held_out[: 33 * 30].astype(np.int64)))


def test_evaluation_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "long").write_bytes(bytes(100_000))
    assert sum(map(len, held_out(read(tmp_path / "long", 2, 64)))) == EVALUATED


@pytest.mark.parametrize(("size", "message"), [(0, "too short: 0 bytes"), (100, "held out; each part needs at least one window of 16")])
def test_too_short(size: int, message: str, tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(bytes(size))
    with pytest.raises(DataError, match=message):
        read(tmp_path / "short", 16)


def test_missing_and_directory(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        read(tmp_path / "none", 16)
    with pytest.raises(DataError, match="Is a directory"):
        read(tmp_path, 16)
