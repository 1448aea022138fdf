"""Deploying: a compiled model and its weights become files; and how far matrices of bytes are from the numbers they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from mptc.compile import Deployed, File, Stored
from mptc.model.tree import Input, Model
from mptc.resources import helpers_path
from mptc.runtime.deployed import Array, Given, open_graph
from mptc.runtime.errors import UserError
from mptc.runtime.files import Content, write
from mptc.runtime.tensors import Values, filled, mismatches, read_tensors, unfit

BATCH, SEQ, MEMORY = 2, 32, 8  # of the inputs that errors are measured on


def given_values(file: File, path: str | Path) -> Values:
    """The weights of a safetensors file, which has exactly the names and shapes of `state_dict`. Raises `WeightsError`. Imports no torch."""
    tensors = read_tensors(path)
    problems = mismatches({name: tensor.shape for name, tensor in _parameters(file).items()}, tensors.shapes())
    if problems:
        raise unfit(path, problems)
    return tensors


def initial_values(file: File, seed: int) -> Values:
    """Where the parameters of the generated module begin: a function of the seed and their paths, by the same code, asked for one by one."""
    import torch

    from mptc.runtime.module import as_module

    begin = as_module("helpers", helpers_path().read_text(encoding="utf-8")).begin
    tensors = _parameters(file)

    def begun(parameter: str) -> Array:
        shape = tensors[parameter].shape
        try:
            values = torch.empty(shape)
        except RuntimeError as error:
            raise UserError(f"error: there is no memory for the initial values of {parameter}, {list(shape)}") from error
        begin(values, parameter, seed, *tensors[parameter].begins)
        return values.numpy()

    return begun


def _parameters(file: File) -> dict[str, Stored]:
    return {tensor.name: tensor for tensor in file.tensors if tensor.name == tensor.parameter}


def contents(deployed: Deployed, values: Values) -> dict[str, Content]:
    """The files of a deployed model, by name."""
    return {**deployed.files, deployed.weights.name: filled(deployed.weights, values)}


def error_of_bytes(packed: Path, plain: Deployed, values: Values, model: Model) -> dict[str, float]:
    """By how much the outputs of a graph at `packed` differ at most from those of `plain`, on random inputs: a part of the largest magnitude of each.

    Raises `UserError` where onnxruntime is not installed, or there is no room for a second file of weights.
    """
    with TemporaryDirectory() as folder:
        try:
            for name, content in contents(plain, values).items():
                write(Path(folder) / name, content)
        except OSError as error:
            raise UserError(f"error: cannot measure the error of {packed}: {error.strerror}: {error.filename}") from error
        graph = open_graph(Path(folder) / next(iter(plain.files)))
        inputs = drawn(graph.inputs, model)
        wanted, found = graph(**inputs), open_graph(packed)(**inputs)
        return {name: float(np.abs(found[name] - array).max(initial=0.0) / np.abs(array).max(initial=1e-30)) for name, array in wanted.items()}


def drawn(inputs: list[Given], model: Model, seed: int = 0) -> dict[str, Array]:
    """Inputs at random: ids of their vocabulary, numbers normal."""
    chance = np.random.default_rng(seed)
    lengths: Mapping[str, int] = {"batch": BATCH, "seq": SEQ}
    bindings = {statement.binding.name: statement.binding for statement in model.body if isinstance(statement, Input)}
    found: dict[str, Array] = {}
    for each in inputs:
        shape = [dim if isinstance(dim, int) else lengths.get(dim, MEMORY) for dim in each.dims]
        vocabulary = bindings[each.name].shape.vocabulary
        found[each.name] = chance.normal(size=shape) if vocabulary is None else chance.integers(0, model.sizes[vocabulary], shape)
    return found
