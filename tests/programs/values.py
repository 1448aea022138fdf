"""Numbers for a spec: what goes in, by name, and what its parameters are, by path."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from math import prod

import numpy as np
from numpy.typing import NDArray

from mptc.ir.axis import Axis, Role
from mptc.ir.program import Program
from mptc.model import tree
from mptc.model.resolve import resolve
from mptc.source.diagnostic import Diagnostics
from mptc.source.text import Source
from tests.programs.models import Spec

Array = NDArray[np.float64] | NDArray[np.int64]
Arrays = dict[str, Array]
BATCH = 2
MEMORY = 4
TRUTHS = ("real", "filled")  # inputs of these names are 0 or 1


def inputs(spec: Spec) -> Arrays:
    """By name, in declared order: `[batch, seq, *axes]`, or `[batch, *axes]` of one for each sequence; ids int64, some of them masked."""
    model = resolve(Source("m.mpt", spec.text), {}, None, Diagnostics())
    assert model is not None
    return numbers(model, spec.tokens, spec.seed)


def numbers(model: tree.Model, tokens: int, seed: int) -> Arrays:
    generator = np.random.default_rng(seed)
    made: Arrays = {}
    for binding in declared(model):
        own = (_size(model, axis) for axis in binding.shape.axes)
        shape = (BATCH, *((tokens,) if binding.shape.per is tree.Per.TOKEN else ()), *own)
        if binding.shape.vocabulary is not None:
            masked = generator.random(shape) < 0.1
            masked.reshape(-1)[0] = False
            made[binding.name] = np.where(masked, -1, generator.integers(0, _size(model, binding.shape.vocabulary), shape)).astype(np.int64)
        elif binding.name in TRUTHS:
            made[binding.name] = np.asarray(generator.random(shape) < 0.7).astype(np.float64)
        else:
            made[binding.name] = np.asarray(generator.normal(size=shape))
    return made


def declared(model: tree.Model) -> Iterator[tree.Binding]:
    yield from (statement.binding for statement in model.body if isinstance(statement, tree.Input))


def memories(model: tree.Model) -> dict[Axis, int]:
    """How long they are."""
    return {axis: MEMORY for binding in declared(model) for axis in binding.shape.axes if axis.role is Role.CONTEXT}


def _size(model: tree.Model, axis: Axis) -> int:
    return MEMORY if axis.role is Role.CONTEXT else model.sizes[axis]


def parameters(program: Program, shapes: Iterable[tuple[str, tuple[int, ...]]], seed: int) -> Arrays:
    """Of order one where they multiply; those that begin as a number are near to it."""
    generator = np.random.default_rng(seed + 1)
    begins = {parameter.path: parameter for parameter in program.parameters}
    made: Arrays = {}
    for path, shape in shapes:
        parameter = begins[re.sub(r"\.\d+(?=\.)", "[*]", path)]
        noise = generator.normal(size=shape)
        wide = prod(shape[1:]) if len(shape) > 1 else 1
        made[path] = np.asarray(parameter.value + 0.3 * noise if parameter.init == "fill" else noise * 0.8 / np.sqrt(wide))
    return made


def directions(arrays: Mapping[str, Array], seed: int) -> dict[str, NDArray[np.float64]]:
    """A random direction for each array of numbers, those apart that are truths."""
    generator = np.random.default_rng(seed + 2)
    return {name: generator.normal(size=array.shape) for name, array in arrays.items() if array.dtype == np.float64 and name not in TRUTHS}
