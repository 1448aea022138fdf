"""safetensors files on numpy: what is in one, and one filled tensor by tensor. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mptc.compile import File, Stored
from mptc.runtime.errors import WeightsError

Array = NDArray[Any]
Values = Callable[[str], Array]  # a parameter by its path

LARGEST_HEADER = 100_000_000  # bytes: what the format allows
KINDS: Mapping[str, type[np.generic]] = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16, "I8": np.int8}
SHOWN = 5  # names listed of each kind of mismatch


# -- reading -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tensors:
    """The tensors of a file: of each its dtype, its shape, and where it begins."""

    path: Path
    entries: Mapping[str, tuple[str, tuple[int, ...], int]]

    def __call__(self, name: str) -> Array:
        """One tensor; bfloat16 as float32."""
        dtype, shape, start = self.entries[name]
        found = np.fromfile(self.path, KINDS[dtype], prod(shape), offset=start).reshape(shape)
        return (found.astype(np.uint32) << 16).view(np.float32) if dtype == "BF16" else found

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: shape for name, (_, shape, _) in self.entries.items()}


def read_tensors(path: str | Path) -> Tensors:
    """What is in a safetensors file. Raises `WeightsError`."""
    try:
        return Tensors(Path(path), dict(_entries(Path(path))))
    except OSError as error:
        reason = error.strerror or str(error)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        reason = f"it is no safetensors file of numbers ({error})"
    raise WeightsError(f"error: cannot read weights from {path}: {reason}")


def _entries(path: Path) -> Iterator[tuple[str, tuple[str, tuple[int, ...], int]]]:
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 0 < length <= LARGEST_HEADER:
            raise ValueError("its header has no length")
        header = json.loads(stream.read(length))
    if not isinstance(header, dict):
        raise TypeError("its header is no table")
    end = path.stat().st_size
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        dtype, shape, (start, stop) = entry["dtype"], tuple(map(int, entry["shape"])), entry["data_offsets"]
        if dtype not in KINDS or min((start, *shape)) < 0 or stop - start != np.dtype(KINDS[dtype]).itemsize * prod(shape) or 8 + length + stop > end:
            raise ValueError(f"tensor {name!r}, {dtype} {list(shape)}")
        yield name, (dtype, shape, 8 + length + start)


def mismatches(wanted: Mapping[str, Sequence[int]], given: Mapping[str, Sequence[int]]) -> list[str]:
    """One line for each kind of difference in names, one for each in shape."""
    lines = [
        _line("missing", [name for name in wanted if name not in given]),
        _line("unexpected", [name for name in given if name not in wanted]),
    ]
    for name, shape in wanted.items():
        if name in given and tuple(given[name]) != tuple(shape):
            lines.append(f"{name}: the file has {list(given[name])}, the model {list(shape)}")
    return [line for line in lines if line]


def unfit(path: str | Path, problems: Sequence[str]) -> WeightsError:
    return WeightsError(f"error: {path} does not fit this model\n" + "\n".join(f"  {line}" for line in problems))


def _line(kind: str, names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{kind}: {', '.join(names[:SHOWN])}{more}" if names else ""


# -- writing -------------------------------------------------------------------------------------------


def filled(file: File, values: Values) -> Callable[[BinaryIO], None]:
    """Writes a file, one tensor at a time."""

    def write(stream: BinaryIO) -> None:
        stream.write(file.header)
        for tensor in file.tensors:
            data = encoded(tensor, np.asarray(values(tensor.parameter)))
            assert data.nbytes == tensor.size, tensor
            stream.write(np.ascontiguousarray(data).data)

    return write


def encoded(tensor: Stored, values: Array) -> Array:
    """A parameter's values as a tensor of the file has them.

    A matrix of bytes is `round(w / scale)` within ±127, with one scale for each row: the largest magnitude there over 127.
    """
    if not tensor.rows:
        return _rounded(values, tensor.dtype)
    matrix = values.astype(np.float32).reshape(tensor.rows, -1)
    scales = np.abs(matrix).max(axis=1, initial=0.0) / 127
    scales[scales == 0] = 1.0
    if tensor.dtype != "I8":
        return _rounded(scales, tensor.dtype)
    return np.asarray(np.clip(np.rint(matrix / scales[:, None]), -127, 127), np.int8)


def _rounded(values: Array, dtype: str) -> Array:
    """To the nearest number that the dtype has, to even where two are as near; bfloat16 as its bits."""
    if dtype != "BF16":
        return np.asarray(values, KINDS[dtype])
    bits = values.astype(np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.asarray(np.where(np.isnan(values), 0x7FC0, rounded), np.uint16)
