"""Weights between a module and a safetensors file, by name."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mptc.runtime.errors import WeightsError
from mptc.runtime.tensors import mismatches, unfit


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Copy the tensors of a file into `model`.

    Raises `WeightsError`, naming what is missing, unexpected or of another shape; nothing was copied then.
    """
    given = read_tensors(path)
    wanted = model.state_dict()
    problems = mismatches({name: tensor.shape for name, tensor in wanted.items()}, {name: tensor.shape for name, tensor in given.items()})
    if problems:
        raise unfit(path, problems)
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
