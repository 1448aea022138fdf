"""One meaning for every form of a program: raw, canonical, planned, and the generated module."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from mptc.backends.torch import module
from mptc.build import build
from mptc.derive import derive
from mptc.derive.explain import layers
from mptc.interpret import interpret
from mptc.ir.axis import BATCH, CTX, SEQ, dim
from mptc.ir.node import Kind, Node, Type, make
from mptc.ir.program import Program
from mptc.model.resolve import resolve
from mptc.ops.contract import power, product, summed, total
from mptc.ops.elementwise import apply
from mptc.ops.leaf import Param, formal
from mptc.ops.region import Derivative, Loop, Result
from mptc.source.diagnostic import Diagnostics
from mptc.source.text import Source

LENGTH = 6
D = dim("d")


def raw(path: Path, variant: str | None = "tiny") -> Program:
    diagnostics = Diagnostics()
    model = resolve(Source(str(path), path.read_text()), {}, variant, diagnostics)
    assert model is not None, diagnostics.found
    program = build(model, diagnostics)
    assert program is not None, diagnostics.found
    return program


def loaded(text: str, folder: Path) -> ModuleType:
    path = folder / "generated.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location("generated", path)
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def given(program: Program, net: torch.nn.Module) -> dict[Node | str, Any]:
    """Parameters away from where they begin, and inputs, by name."""
    generator = np.random.default_rng(7)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += torch.tensor(generator.normal(0, 0.2, parameter.shape))
    values: dict[Node | str, Any] = {name: tensor.detach().numpy() for name, tensor in net.state_dict().items()}
    for node in program.inputs:
        shape = (2, LENGTH, *(program.sizes[axis] for axis in node.op.order))
        values[node.op.label] = generator.integers(0, 200, shape) if node.type.kind is Kind.ID else generator.normal(size=shape)
    return values


@pytest.mark.parametrize("name", ["cem_small", "llama_small", "energy_transformer"])
def test_every_form_means_the_same(name: str, root: Path, tmp_path: Path) -> None:
    program = raw(root / "specs" / f"{name}.mpt")
    derived = derive(program)
    net = loaded(module(derived.program, *layers(derived), "not asked for"), tmp_path).Model().double()
    values = given(program, net)
    sizes = {**program.sizes, BATCH: 2, SEQ: LENGTH}
    out = net(*(torch.tensor(values[node.op.label]) for node in program.inputs), loss=program.loss is not None)
    for form in (program, derived.canonical, derived.program):
        results = interpret(form.roots, values, sizes)
        for output, result in zip(form.outputs, results, strict=False):
            order = [axis for axis in (BATCH, SEQ, *output.axes) if axis in output.node.axes]
            found = np.transpose(result, [output.node.axes.index(axis) for axis in order])
            np.testing.assert_allclose(found, getattr(out, output.name).detach().numpy(), rtol=1e-10, atol=1e-10)
        if form.loss is not None:
            np.testing.assert_allclose(results[len(form.outputs)], float(out.loss.detach()), rtol=1e-10)


# -- small graphs ------------------------------------------------------------------------------------


def variable(label: str, type_: Type) -> Node:
    return make(formal(label, type_))


def test_copies_of_nested_stacks_have_their_own_parameters() -> None:
    """x <- x + W in 2 × 3 copies, of which each inner one is passed twice."""
    weight = make(Param("outer[*].inner[*].W", (D,)))
    scale = make(Param("outer[*].scale", ()))
    state, middle, inside = (variable("x", Type((D,))) for _ in range(3))
    again = make(Loop(2, None, "outer[*].inner[*]", (inside,), (total((1, inside), (1, product(weight, scale))),)), middle)
    inner = make(Loop(3, "inner", "outer[*].inner[*]", (middle,), (make(Result(0, Type((D,))), again),)), state)
    outer = make(Loop(2, "outer", "outer[*]", (state,), (make(Result(0, Type((D,))), inner),)), start := variable("start", Type((D,))))
    root = make(Result(0, Type((D,))), outer)
    values: dict[Node | str, Any] = {f"outer.{i}.inner.{j}.W": np.full(4, 10.0**j) for i in range(2) for j in range(3)}
    (found,) = interpret([root], {**values, "outer.0.scale": 1.0, "outer.1.scale": 1000.0, start: np.zeros(4)}, {D: 4})
    np.testing.assert_array_equal(found, np.full(4, 2 * 111 * 1001.0))


def test_states_change_together() -> None:
    """a, b <- b, a + b"""
    number = Type(())
    a, b = variable("a", number), variable("b", number)
    start = (variable("zero", number), variable("one", number))
    loop = make(Loop(6, None, "", (a, b), (b, total((1, a), (1, b)))), *start)
    found = interpret([make(Result(index, number), loop) for index in (0, 1)], dict(zip(start, (0.0, 1.0), strict=True)), {})
    assert [float(array) for array in found] == [8, 13]


def test_a_state_keeps_every_axis_of_its_variable() -> None:
    state = variable("x", Type((SEQ, D)))
    loop = make(Loop(1, None, "", (state,), (start := variable("start", Type((D,))),)), start)
    (found,) = interpret([make(Result(0, state.type), loop)], {start: np.arange(3.0)}, {D: 3, SEQ: 2})
    np.testing.assert_array_equal(found, [[0, 1, 2], [0, 1, 2]])


def test_a_derivative_holds_its_conditions_fixed() -> None:
    """∂(x³ sin c)/∂x at x = c: the condition's own dependence on x counts for nothing."""
    x, c = variable("x", Type((SEQ, D))), variable("c", Type((SEQ, D)))
    energy = summed([power(x, 3), apply("sin", c)], [D])
    at = variable("at", Type((SEQ, D)))
    (found,) = interpret([make(Derivative((x, c), energy, "cubic"), at, at)], {at: (point := np.linspace(0.1, 2, 6).reshape(2, 3))}, {SEQ: 2, D: 3})
    np.testing.assert_allclose(found, 3 * point**2 * np.sin(point), rtol=1e-14)


def test_a_derivative_of_what_does_not_depend_is_zero() -> None:
    x, c = variable("x", Type((SEQ, D))), variable("c", Type((SEQ, D)))
    at = variable("at", Type((SEQ, D)))
    (found,) = interpret([make(Derivative((x, c), summed([c], [D]), "none"), at, at)], {at: np.ones((2, 3))}, {SEQ: 2, D: 3})
    np.testing.assert_array_equal(found, np.zeros((2, 3)))


def test_names_are_in_declared_order_and_nodes_in_sorted_order() -> None:
    weight = make(Param("W", (dim("e"), D)))
    array = np.arange(6.0).reshape(2, 3)
    sizes = {dim("e"): 2, D: 3, CTX: 1}
    (by_name,), (by_node,) = interpret([weight], {"W": array}, sizes), interpret([weight], {weight: array.T}, sizes)
    np.testing.assert_array_equal(by_name, array.T)
    np.testing.assert_array_equal(by_node, array.T)


def test_a_value_of_another_shape_is_refused() -> None:
    weight = make(Param("W", (D,)))
    with pytest.raises(AssertionError, match="shape"):
        interpret([weight], {"W": np.ones(3)}, {D: 4})
