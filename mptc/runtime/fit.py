"""Arrays from outside against a model's inputs: what fits becomes tensors; of what does not, everything is said at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from mptc.runtime.data import Batch
from mptc.runtime.errors import DataError
from mptc.runtime.surface import Argument, Surface
from mptc.source.suggest import closest

SCANNED = 2**20  # values looked at together: a mapped file need not fit into memory

Dims = list[tuple[str, int | None]]  # names and sizes, None where any is right


def fit(given: Mapping[str, object], surface: Surface, where: str, examples: int | None = None) -> Batch:
    """The arrays as tensors, in the order of the model's inputs and in dtypes of their own; `examples`: how many there must be.

    Raises `DataError` with a line for each thing that is missing, unknown, of another dtype, rank or size, outside its vocabulary or not finite.
    """
    fitting: Batch = {}
    problems = _names(given, surface)
    lengths: dict[str, tuple[int, str]] = {}
    for argument in surface.inputs:
        if argument.name in given:
            tensor = as_tensor(given[argument.name])
            if tensor is None or not _is_kind(argument, tensor):
                problems.append(f"{argument.name}: wanted {_kind(argument)}, found {_dtype(given[argument.name])}")
                continue
            dims = _dims(argument, examples)
            wrong = _shape(argument, tensor, dims) or _lengths(argument, tensor, dims, lengths)
            problems += wrong or _values(argument, tensor, argument.name in surface.masked)
            fitting[argument.name] = tensor
    if problems:
        raise DataError(f"error: {where} does not fit model {surface.name}\n" + "\n".join(f"  {line}" for line in problems))
    return fitting


def ready(tensor: Tensor) -> Tensor:
    """As the model takes it: integers int64, others float32."""
    return tensor.float() if tensor.is_floating_point() or tensor.dtype is torch.bool else tensor.long()


def as_tensor(value: object) -> Tensor | None:
    """A torch tensor or a numpy array of numbers, in this machine's memory; None for anything else."""
    if isinstance(value, Tensor):
        return value.detach().cpu() if value.layout is torch.strided else None
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "biuf":
        return None
    dtype = np.dtype(np.float64) if value.dtype.kind == "f" and value.dtype.itemsize > 8 else value.dtype.newbyteorder("=")
    return torch.from_numpy(np.require(value, dtype, ["C", "W"]))


# -- one problem, one line ---------------------------------------------------------------------------------


def _names(given: Mapping[str, object], surface: Surface) -> list[str]:
    wanted = [argument.name for argument in surface.inputs]
    missing = [name for name in wanted if name not in given]
    lines = [f"{name}: missing" for name in missing]
    for name in given:
        if name not in wanted:
            near = closest(str(name), missing)
            lines.append(f"{name}: the model has no such input" + (f"; did you mean {near}?" if near else ""))
    return [*lines, f"its inputs are: {', '.join(wanted)}"] if lines else []


def _is_kind(argument: Argument, tensor: Tensor) -> bool:
    if argument.vocabulary is None:
        return tensor.is_floating_point() or tensor.dtype is torch.bool
    return not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype is torch.bool)


def _kind(argument: Argument) -> str:
    return f"integers, the ids of {argument.vocabulary[0]}" if argument.vocabulary else "floats"


def _dtype(value: object) -> str:
    if isinstance(value, Tensor | np.ndarray):
        return str(value.dtype).removeprefix("torch.")
    return f"a {type(value).__name__} in place of an array"


def _dims(argument: Argument, examples: int | None) -> Dims:
    leading: Dims = [("examples", examples), ("seq", None)] if argument.per_token else [("examples", examples)]
    return [*leading, *argument.axes]


def _shape(argument: Argument, tensor: Tensor, dims: Dims) -> list[str]:
    found = list(tensor.shape)
    sizes = [size for _, size in dims]
    if len(found) == len(sizes) and 0 not in found[1:] and all(size in (None, there) for there, size in zip(found, sizes, strict=True)):
        return []
    wanted = ", ".join(name if size is None else f"{name} = {size}" for name, size in dims)
    return [f"{argument.name}: wanted [{wanted}], found {found}"]


def _lengths(argument: Argument, tensor: Tensor, dims: Dims, lengths: dict[str, tuple[int, str]]) -> list[str]:
    """Axes of any size are of one size in all arrays: `lengths` holds that of the first, and its name."""
    lines = []
    for (name, size), found in zip(dims, tensor.shape, strict=True):
        if size is None:
            first, of = lengths.setdefault(name, (found, argument.name))
            lines += [f"{argument.name}: {name} is {found}, and {first} in {of}"] * (found != first)
    return lines


def _values(argument: Argument, tensor: Tensor, masked: bool) -> list[str]:
    """`masked`: ids below 0 are meant."""
    count, first, value = 0, "", 0.0
    for start, chunk in _chunks(tensor):
        wrong = _outside(chunk, argument.vocabulary[1], masked) if argument.vocabulary else ~chunk.isfinite()
        found = int(wrong.sum())
        if found and not count:
            place = wrong.nonzero()[0].tolist()
            first, value = str([place[0] + start, *place[1:]]), chunk[tuple(place)].item()
        count += found
    if not count:
        return []
    more = f", one of {count:,} such" if count > 1 else ""
    if argument.vocabulary is None:
        return [f"{argument.name}{first} is {value}{more}: wanted finite numbers"]
    name, size = argument.vocabulary
    return [f"{argument.name}{first} is {value}{more}: the ids of {name} are 0 to {size - 1}" + ", or below 0 where none counts" * masked]


def _outside(ids: Tensor, size: int, masked: bool) -> Tensor:
    return (ids >= size) if masked else (ids >= size) | (ids < 0)


def _chunks(tensor: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Parts along the first axis, and where each begins."""
    rows = max(1, SCANNED * len(tensor) // max(tensor.numel(), 1))
    for start in range(0, len(tensor), rows):
        yield start, ready(tensor[start : start + rows])
