"""A safetensors or npz file whose arrays are named after the model's inputs, their first axis the examples."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file

from mptc.runtime.data import Batch, spaced, split
from mptc.runtime.errors import DataError
from mptc.runtime.fit import fit, ready
from mptc.runtime.surface import Surface

SUFFIXES = (".safetensors", ".npz")


@dataclass(frozen=True, eq=False)
class Arrays:
    """A file's examples: those before `first` to train on, the others held out. `arrays` have the dtypes of the file."""

    path: str
    arrays: Batch
    first: int
    count: int
    batch: int
    length: int
    kind: str = "arrays"

    def training_batch(self, seed: int, step: int) -> Batch:
        """Every example once, in an order of the seed's, before any comes again in another."""
        places = np.arange(step * self.batch, (step + 1) * self.batch)
        rows = [_order(seed, int(epoch), self.first)[places[places // self.first == epoch] % self.first] for epoch in np.unique(places // self.first)]
        return self._rows(np.concatenate(rows))

    def held_out_batches(self, seed: int) -> Iterator[Batch]:
        rows = self.first + spaced(self.count - self.first)
        for start in range(0, len(rows), self.batch):
            yield self._rows(rows[start : start + self.batch])

    def fingerprint(self) -> dict[str, str | int]:
        with Path(self.path).open("rb") as file:
            return {"kind": self.kind, "bytes": Path(self.path).stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}

    def description(self) -> str:
        shapes = ", ".join(f"{name} {list(array.shape[1:])}" for name, array in self.arrays.items())
        return f"{self.path}: {self.first:,} examples to train on, the last {self.count - self.first:,} held out; {shapes}"

    def _rows(self, rows: NDArray[np.int64]) -> Batch:
        return {name: ready(array[torch.from_numpy(rows)]) for name, array in self.arrays.items()}


@lru_cache(maxsize=2)  # of two epochs, where a batch has the end of one and the beginning of the next
def _order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(count)


def read_arrays(path: str, surface: Surface, batch: int, length: float | None = None) -> Arrays:
    """`length`: what `seq` must be, if that was asked for.

    Raises `DataError` for a file that cannot be read, does not fit the model or what was asked for, or has fewer examples than a batch.
    """
    arrays = fit(_read(path), surface, path)
    count = min(len(array) for array in arrays.values())
    first = split(count)
    if first < batch or first == count:
        raise DataError(
            f"error: {path} has too few examples: {count}, of which {first} to train on and {count - first} held out; "
            f"there must be a batch of {batch} (--batch) to train on, and one held out"
        )
    seq = next(arrays[argument.name].shape[1] for argument in surface.inputs if argument.per_token)
    if length not in (None, seq):
        raise DataError(f"error: --length is {length}, and the examples in {path} have {seq} tokens each")
    return Arrays(path, arrays, first, count, batch, seq)


def _read(path: str) -> Mapping[str, object]:
    try:
        if path.endswith(".npz"):
            return _read_npz(path)
        return load_file(path)
    except OSError as error:
        raise DataError(f"error: cannot read data from {path}: {error.strerror or error}") from error
    except (SafetensorError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError, MemoryError) as error:
        raise DataError(f"error: cannot read data from {path}: {error}") from error


def _read_npz(path: str) -> Mapping[str, object]:
    opened = np.load(path, allow_pickle=False)
    if isinstance(opened, np.ndarray):
        raise ValueError("it is one array; np.savez writes named ones")
    with opened as file:
        return {name: file[name] for name in file.files}
