"""A disk that fills up while a run writes to it: one clear line, every earlier checkpoint whole, and the same end once there is room."""

import dataclasses
import io
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mptc.runtime.checkpoint import newest_weights
from mptc.runtime.errors import UserError
from mptc.runtime.load import instantiate
from mptc.runtime.report import Lines
from mptc.runtime.run import Run, read_run
from mptc.runtime.session import train_run
from mptc.runtime.settings import Settings
from mptc.runtime.text import Text, read_text
from tests.runtime.stand_in import SURFACE, TEXT

SETTINGS = Settings(steps=40, batch=4, length=16, lr=1e-2, eval_every=10, save_every=5, keep=8)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of half a megabyte, of which a checkpoint takes about a quarter."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(place)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted here ({done.stderr.strip()}); test_train.py has a full disk that is only played")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def text(tmp_path: Path) -> Text:
    (tmp_path / "data").write_bytes(np.random.default_rng(0).integers(97, 105, 4_000).astype(np.uint8).tobytes())
    return read_text(tmp_path / "data", "tokens", 4, 16)


def train(run: Run, text: Text, old: Run | None = None) -> None:
    train_run(instantiate("stand_in", TEXT, run.settings.seed), text, run, old, Lines(io.StringIO()))


def test_a_full_disk_costs_nothing(disk: Path, text: Text, tmp_path: Path) -> None:
    run = Run(disk / "run", "stand_in.mpt", None, {}, SURFACE, SETTINGS, text.path, text.fingerprint(), TEXT)
    undisturbed = dataclasses.replace(run, path=tmp_path / "undisturbed")
    train(undisturbed, text)
    with pytest.raises(UserError, match=r"^error: cannot write .*No space left on device") as raised:
        train(run, text)
    assert "\n" not in str(raised.value)
    kept = run.checkpoints()
    assert 1 <= len(kept) < 8
    for checkpoint in kept:
        for file in checkpoint.iterdir():
            assert file.read_bytes() == (undisturbed.path / checkpoint.name / file.name).read_bytes()
    assert not list(run.path.glob("*.tmp")) and not list(run.path.glob(".*.tmp"))
    subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
    train(run, text, read_run(run.path))
    assert newest_weights(run).read_bytes() == newest_weights(undisturbed).read_bytes()


def test_a_run_that_cannot_begin_is_one_line(disk: Path, text: Text) -> None:
    (disk / "filler").write_bytes(bytes(512 * 1024))
    run = Run(disk / "run", "stand_in.mpt", None, {}, SURFACE, SETTINGS, text.path, text.fingerprint(), TEXT)
    with pytest.raises(UserError, match=r"^error: cannot write .*: No space left on device$"):
        train(run, text)
    assert not run.path.exists() or not list(run.path.iterdir())
