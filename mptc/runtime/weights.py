"""Weights between a module and a safetensors file, by name."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mptc.runtime.errors import WeightsError

SHOWN = 5  # names listed of each kind of mismatch


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Copy the tensors of a file into `model`.

    Raises `WeightsError`, naming what is missing, unexpected or of another shape; nothing was copied then.
    """
    given = read_tensors(path)
    wanted = model.state_dict()
    problems = mismatches(wanted, given)
    if problems:
        raise WeightsError(f"error: {path} does not fit this model\n" + "\n".join(f"  {line}" for line in problems))
    with torch.no_grad():
        for name, tensor in wanted.items():
            tensor.copy_(given[name])


def save_weights(model: nn.Module, path: Path) -> None:
    """Write `state_dict` (a tied tensor once); equal weights give equal bytes. Not atomic: the caller renames."""
    tensors = {key: tensor.detach().contiguous() for key, tensor in model.state_dict().items()}
    save_file(tensors, path, metadata={"format": "pt"})  # one entry: the order of two is not determined


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Every tensor of a safetensors file. Raises `WeightsError`."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"error: cannot read weights from {path}: {error}") from error


def mismatches(wanted: dict[str, Tensor], given: dict[str, Tensor]) -> list[str]:
    """One line for each kind of difference in names, one for each in shape."""
    lines = [
        _line("missing", [name for name in wanted if name not in given]),
        _line("unexpected", [name for name in given if name not in wanted]),
    ]
    for name, tensor in wanted.items():
        if name in given and given[name].shape != tensor.shape:
            lines.append(f"{name}: the file has {list(given[name].shape)}, the model {list(tensor.shape)}")
    return [line for line in lines if line]


def _line(kind: str, names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{kind}: {', '.join(names[:SHOWN])}{more}" if names else ""
