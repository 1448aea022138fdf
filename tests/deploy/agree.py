"""A program deployed and run by onnxruntime, against its own torch module: the same weights, the same inputs, several lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx.reference import ReferenceEvaluator

from mptc.backends.onnx import deployed
from mptc.backends.torch import module
from mptc.compile import Deployed, Deployment, decoding, derived_from
from mptc.derive import Derived
from mptc.derive.explain import layers
from mptc.ir.axis import BATCH, SEQ
from mptc.ir.node import Kind
from mptc.ir.program import Program
from mptc.ops.leaf import Input
from mptc.passes import SPARSE, applied
from mptc.runtime.deploy import contents
from mptc.runtime.deployed import Graph, open_graph
from mptc.runtime.files import write
from mptc.runtime.module import as_module
from mptc.source.diagnostic import Diagnostics
from mptc.source.render import render
from mptc.source.text import Source

Values = Mapping[str, Any]

SHAPES = ((2, 5, 3), (1, 1, 1), (3, 16, 7), (1, 9, 20))  # batch, tokens, what a memory holds
FLOOR = 1e-9  # where a softmax over one token makes everything 0, rounding is compared with this
NOISE = 0.05  # away from where parameters begin: a gain of exactly one would hide that one is missing
CONSTANT = "constant/"


@dataclass(frozen=True)
class Pair:
    """A deployed model in a folder, and the torch module that it must agree with."""

    program: Program
    deployed: Deployed
    net: torch.nn.Module
    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / next(iter(self.deployed.files))

    @property
    def weights(self) -> Path:
        return self.folder / self.deployed.weights.name

    def model(self) -> Any:
        """The graph, its weights not read."""
        return onnx.load(self.path, load_external_data=False)

    def open(self) -> Graph:
        return open_graph(self.path, threads=1)


@lru_cache(maxsize=64)
def derived(spec: str | Path, variant: str | None = None, settings: tuple[tuple[str, str], ...] = ()) -> Derived:
    """A spec, its text or where it is, as a planned program."""
    source, diagnostics = Source.read(spec) if isinstance(spec, Path) else Source("spec.mpt", spec), Diagnostics()
    found = derived_from(source, diagnostics, dict(settings), variant)
    assert found is not None, "\n".join(map(render, diagnostics.found))
    return found


def pair(
    given: str | Path | Program | Derived,
    folder: Path,
    deployment: Deployment = Deployment(),
    seed: int = 0,
    parameters: Mapping[str, Any] | None = None,
    **options: Any,
) -> Pair:
    """Deploy a spec, or a program that is planned, with weights a little away from where they begin, or those given; checked by onnx in full."""
    given = derived(given, **options) if isinstance(given, str | Path) else given
    program = applied(given.program, SPARSE)[0] if isinstance(given, Derived) else given
    equations, steps = layers(given) if isinstance(given, Derived) else ({}, set())
    following = decoding(given) if isinstance(given, Derived) else "it has only been planned"
    net = as_module(program.name, module(program, equations, steps, following)).Model()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            parameter.add_(NOISE * torch.randn(parameter.shape, generator=generator))
            if parameters is not None:
                parameter.copy_(torch.as_tensor(parameters[name]))
    made = deployed(program, following, equations, deployment)
    state = net.state_dict()
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents(made, lambda parameter: state[parameter].numpy()).items():
        write(folder / name, content)
    found = Pair(program, made, net, folder)
    for name in made.files:
        onnx.checker.check_model(str(folder / name), full_check=True)
    return found


def drawn(program: Program, shape: tuple[int, int, int], seed: int) -> dict[str, torch.Tensor]:
    """Ids, some of them masked or outside; numbers, some of them 0, so that a mask hides something."""
    generator = np.random.default_rng(seed)
    batch, tokens, memory = shape
    found = {}
    for node in program.inputs:
        assert isinstance(node.op, Input)
        axes = (BATCH, *((SEQ,) if SEQ in node.axes else ()), *node.op.order)
        sizes = [{BATCH: batch, SEQ: tokens}.get(axis) or program.sizes.get(axis, memory) for axis in axes]
        numbers = generator.normal(size=sizes) * (generator.random(sizes) < 0.8)
        ids = generator.integers(0 if node.op.label in program.unmasked else -1, 12, sizes)  # padding is refused where it would be seen
        found[node.op.label] = torch.tensor(ids) if node.op.kind is Kind.ID else torch.tensor(numbers, dtype=torch.float32)
    return found


def agrees(
    given: str | Path | Program | Derived | Pair,
    folder: Path,
    *,
    inputs: Sequence[Mapping[str, torch.Tensor]] | None = None,
    deployment: Deployment = Deployment(),
    tolerance: float = 1e-5,
    standard: bool = False,
    **options: Any,
) -> Pair:
    """Assert that every output (and probe that is asked for) is that of the torch module in float32, within `tolerance` times its largest magnitude.

    `inputs`: by name, one mapping for each run; without them, some are drawn for each of `SHAPES`. `standard`: run by the evaluator of the standard,
    a second opinion on what the operators mean: onnxruntime forgives a row of scores that are all -inf, for one.
    """
    found = given if isinstance(given, Pair) else pair(given, folder, deployment, **options)
    graph = Standard(found) if standard else found.open()
    for place, shape in enumerate(SHAPES if inputs is None else range(len(inputs))):
        feed = drawn(found.program, shape, place) if isinstance(shape, tuple) else dict((inputs or ())[shape])
        got = graph(**{each.name: feed[each.name].numpy() for each in graph.inputs})
        wanted = outputs(found, feed)
        assert list(got) == list(wanted)
        for name, array in got.items():
            close(array, wanted[name], tolerance, f"{name} at {shape}")
    return found


def as_near_as_torch(given: str | Derived, folder: Path, inputs: Mapping[str, Any], parameters: Mapping[str, Any]) -> Pair:
    """Assert that outputs and probes are as near to the torch module in float64 as that is in float32: for programs that may be ill conditioned.

    "As near": within twenty times, or 1e-5 of the largest magnitude. `inputs` by name, `parameters` by path, both arrays.
    """
    found = pair(given, folder, Deployment(probes=True), parameters=parameters)
    graph = found.open()
    got = graph(**{each.name: inputs[each.name] for each in graph.inputs})
    single, double = (run(found, inputs, dtype) for dtype in (torch.float32, torch.float64))
    assert list(got) == list(double)
    as_near(got, single, double)
    return found


def as_near(got: Values, single: Values, double: Values) -> None:
    """Assert that what was computed in float32 is as near to float64 as what torch computed in float32: see `as_near_as_torch`."""
    for name, wanted in double.items():
        assert got[name].shape == wanted.shape, f"{name}: {got[name].shape}, not {wanted.shape}"
        known = np.isfinite(single[name]) & np.isfinite(wanted)
        ours, theirs = (np.abs(each[name].astype(np.float64) - wanted)[known].max(initial=0.0) for each in (got, single))
        scale = np.abs(wanted[known]).max(initial=0.0)
        assert ours <= 20 * theirs + 1e-5 * scale + 1e-6, f"{name}: differs by {ours:.1e}, torch by {theirs:.1e}, where the largest is {scale:.1e}"


def run(found: Pair, inputs: Mapping[str, Any], dtype: torch.dtype, **options: Any) -> dict[str, Any]:
    """What the torch module gives, in float64, computed in `dtype`: its outputs, and its probes as in `outputs`."""
    net = found.net.to(dtype)
    feed = {name: torch.as_tensor(value, dtype=torch.int64 if np.asarray(value).dtype.kind == "i" else dtype) for name, value in inputs.items()}
    return {name: array.astype(np.float64) for name, array in outputs(found, feed, net, **options).items()}


class Standard:
    """A graph that onnx evaluates."""

    def __init__(self, found: Pair) -> None:
        self.inputs = found.open().inputs
        self.names = [value.name for value in found.model().graph.output]
        self.evaluator = ReferenceEvaluator(onnx.load(found.path))

    def __call__(self, **feed: Any) -> dict[str, Any]:
        with np.errstate(all="ignore"):
            return dict(zip(self.names, map(np.asarray, self.evaluator.run(None, feed)), strict=True))


def outputs(found: Pair, feed: Mapping[str, torch.Tensor], net: torch.nn.Module | None = None, **options: Any) -> dict[str, Any]:
    """What the torch module gives: its outputs, and its probes where those were deployed too and it is called without `options`."""
    names = [output.name for output in found.program.outputs]
    probes = not options and any(each.name not in names for each in found.model().graph.output)
    with torch.no_grad():
        out = (net or found.net)(**feed, **options, **({"probe": True} if probes else {}))
    every = {**{name: getattr(out, name) for name in names}, **(out.probes if probes else {})}
    return {name: tensor.detach().numpy() for name, tensor in every.items()}


def close(found: Any, wanted: Any, tolerance: float, what: str) -> None:
    assert found.shape == wanted.shape, f"{what}: {found.shape}, not {wanted.shape}"
    finite = np.isfinite(wanted)
    np.testing.assert_array_equal(np.isfinite(found), finite, err_msg=what)
    wanted = wanted.astype(np.float64)
    difference = np.abs(found.astype(np.float64)[finite] - wanted[finite]).max(initial=0.0)
    scale = np.abs(wanted[finite]).max(initial=0.0)
    assert difference <= tolerance * scale + FLOOR, f"{what}: differs by {difference:.1e} where the largest magnitude is {scale:.1e}"

