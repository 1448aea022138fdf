"""A text, documents or token ids on the disk, as one row of ids for a model's one input."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mptc.runtime.codec import Bytes, Codec, Tokens
from mptc.runtime.data import Batch, spaced, split
from mptc.runtime.errors import DataError

Ids = NDArray[np.integer[Any]]

DOCUMENTS = ".jsonl"
IDS = (".bin", ".npy")
SCANNED = 2**22  # ids looked at together


@dataclass(frozen=True, eq=False)
class Text:
    """Ids, `training` first, then `held_out`, in windows of `length` for the input `name`. `kind` is "text" where they are bytes, or "tokens"."""

    path: str
    name: str
    training: Ids
    held_out: Ids
    batch: int
    length: int
    kind: str = "text"

    def training_batch(self, seed: int, step: int) -> Batch:
        """Windows drawn with replacement: `[batch, length]`."""
        draw = np.random.default_rng([seed, step])
        starts = draw.integers(0, len(self.training) - self.length + 1, size=self.batch)
        return self._windows(self.training, starts)

    def held_out_batches(self, seed: int) -> Iterator[Batch]:
        """Windows that do not overlap: `[<= batch, length]`."""
        starts = spaced(len(self.held_out) // self.length) * self.length
        for first in range(0, len(starts), self.batch):
            yield self._windows(self.held_out, starts[first : first + self.batch])

    def fingerprint(self) -> dict[str, str | int]:
        digest = hashlib.sha256(self.training.data)
        digest.update(self.held_out.data)
        return {"kind": self.kind, self.unit: len(self.training) + len(self.held_out), "sha256": digest.hexdigest()}

    def description(self) -> str:
        return f"{self.path}: {len(self.training):,} {self.unit} to train on, the last {len(self.held_out):,} held out"

    @property
    def unit(self) -> str:
        return "bytes" if self.kind == "text" else "tokens"

    def _windows(self, data: Ids, starts: NDArray[np.int64]) -> Batch:
        rows = data[starts[:, None] + np.arange(self.length)]
        return {self.name: torch.from_numpy(rows.astype(np.int64))}


def read_text(path: str | Path, name: str, batch: int, length: int, codec: Codec = Bytes(), field: str = "text") -> Text:
    """The ids of a text, or of the documents in a file of JSON lines. Bytes of a text are mapped, all else is in memory.

    Raises `DataError` where it cannot be read, or where a part of it is shorter than a window of `length` ids.
    """
    kind = "text" if codec.unit == "byte" else "tokens"
    if str(path).endswith(DOCUMENTS):
        return _windowed(path, name, codec.encode(documents(path, field)), batch, length, kind)
    if isinstance(codec, Tokens):
        return _windowed(path, name, codec.whole(read_utf8(path)), batch, length, kind)
    try:
        data = np.memmap(path, dtype=np.uint8, mode="r") if Path(path).stat().st_size else np.zeros(0, np.uint8)
    except OSError as error:
        raise _unreadable(path, error) from error
    return _windowed(path, name, data, batch, length, kind)


def read_ids(path: str | Path, name: str, batch: int, length: int, vocabulary: tuple[str, int], dtype: str) -> Text:
    """Map a row of ids: a `.npy` file of one axis, or a `.bin` of nothing but ids of a dtype. `vocabulary`: the name and size of what they index.

    Raises `DataError` as `read_text` does, and for an id outside the vocabulary.
    """
    try:
        data = np.load(path, mmap_mode="r", allow_pickle=False) if str(path).endswith(".npy") else _raw(path, dtype)
    except OSError as error:
        raise _unreadable(path, error) from error
    except (ValueError, EOFError) as error:
        raise DataError(f"error: cannot read data from {path}: {error}") from error
    if data.ndim != 1 or data.dtype.kind not in "iu":
        raise DataError(f"error: {path} is {data.dtype} {list(data.shape)}; wanted one row of integers, the ids of {vocabulary[0]}")
    for first in range(0, len(data), SCANNED):
        part = data[first : first + SCANNED]
        wrong = (part < 0) | (part >= vocabulary[1])
        if wrong.any():
            place = int(wrong.argmax())
            raise DataError(
                f"error: {path}[{first + place}] is {part[place]}: the ids of {vocabulary[0]} are 0 to {vocabulary[1] - 1}; "
                f"they were read as {data.dtype}" + " (--ids)" * (not str(path).endswith(".npy"))
            )
    return _windowed(path, name, data, batch, length, "tokens")


def documents(path: str | Path, field: str) -> Iterator[str]:
    """One string of each line of a JSONL file. Raises `DataError`, naming the line."""
    for number, line in enumerate(read_utf8(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise DataError(f"error: {path}:{number} is not JSON: {error}") from error
        found = record.get(field) if isinstance(record, dict) else None
        if not isinstance(found, str):
            there = f"; it has {', '.join(record)}" if isinstance(record, dict) else ""
            raise DataError(f"error: {path}:{number} has no string {field} (--field){there}")
        yield found


def _windowed(path: str | Path, name: str, data: Ids, batch: int, length: int, kind: str) -> Text:
    first = split(len(data))
    text = Text(str(path), name, data[:first], data[first:], batch, length, kind)
    if min(len(text.training), len(text.held_out)) < length:
        raise DataError(
            f"error: {path} is too short: {len(data)} {text.unit}, of which {len(text.training)} to train on and {len(text.held_out)} held out; "
            f"each part needs at least one window of {length} (--length)"
        )
    return text


def _raw(path: str | Path, dtype: str) -> Ids:
    size = Path(path).stat().st_size
    if size % np.dtype(dtype).itemsize:
        raise ValueError(f"its {size:,} bytes are no whole number of {dtype} (--ids)")
    return np.memmap(path, dtype=np.dtype(dtype).newbyteorder("<"), mode="r") if size else np.zeros(0, dtype)


def read_utf8(path: str | Path) -> str:
    try:
        return Path(path).read_bytes().decode()
    except OSError as error:
        raise _unreadable(path, error) from error
    except UnicodeDecodeError as error:
        raise DataError(f"error: {path} is not UTF-8 (byte {error.start:,})") from error


def _unreadable(path: str | Path, error: OSError) -> DataError:
    return DataError(f"error: cannot read data from {path}: {error.strerror}")
