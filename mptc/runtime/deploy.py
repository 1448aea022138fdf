"""Deploying: a compiled model and its weights become files; and how far matrices of bytes are from the numbers they stand for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from mptc.compile import Compiled, Deployed
from mptc.model.tree import Input, Model
from mptc.runtime.deployed import Array, Given, open_graph
from mptc.runtime.errors import UserError
from mptc.runtime.files import Content, write
from mptc.runtime.tensors import Values, filled, mismatches, read_tensors, unfit

BATCH, SEQ, MEMORY = 2, 32, 8  # of the inputs that errors are measured on


def given_values(compiled: Compiled, path: str | Path) -> Values:
    """The weights of a safetensors file, which has exactly the names and shapes of `state_dict`. Raises `WeightsError`. Imports no torch."""
    tensors = read_tensors(path)
    problems = mismatches(shapes_of(compiled), tensors.shapes())
    if problems:
        raise unfit(path, problems)
    return tensors


def initial_values(compiled: Compiled, seed: int) -> Values:
    """Where the parameters of the generated module begin: a function of the seed and their paths, asked for one by one.

    The torch target must be among what was compiled.
    """
    import torch

    from mptc.runtime.module import as_module

    module = as_module(compiled.name, compiled.files[f"{compiled.name}.py"])
    shapes = shapes_of(compiled)

    def begun(parameter: str) -> Array:
        try:
            values = torch.empty(shapes[parameter])
        except RuntimeError as error:
            raise UserError(f"error: there is no memory for the initial values of {parameter}, {list(shapes[parameter])}") from error
        module.begin(values, parameter, seed, *module.Model.INITIAL[re.sub(r"\.\d+", ".*", parameter)])
        return values.numpy()

    return begun


def shapes_of(compiled: Compiled) -> dict[str, tuple[int, ...]]:
    """Every parameter of `state_dict`."""
    assert compiled.deployed is not None
    return {tensor.parameter: tensor.shape for tensor in compiled.deployed.weights.tensors if tensor.name == tensor.parameter}


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
