"""The gradient facet of every op against central differences, and once more: what a gradient is made of has a gradient."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from mptc.derive.differentiate import gradient
from mptc.interpret import interpret
from mptc.ir.axis import SEQ
from mptc.ir.node import Absent, Kind, Node, Type, walk
from mptc.ops.arrays import full
from mptc.ops.contract import number, product
from mptc.ops.elementwise import FUNCTIONS, Function
from mptc.ops.leaf import formal
from mptc.ops.sample import Sample
from mptc.ops.view import Stop
from tests.ops.cases import SIZES, arrays, cases, given, node_of, reference, shape

STEP = 1e-5


def variable(type_: Type) -> Node:
    return Node(formal("given", type_), (), type_)


def differentiable(sample: Sample) -> list[int]:
    return [index for index, type_ in enumerate(sample.types) if type_.kind is Kind.NUMBER and index not in sample.masks]


def differences(function: Callable[[Any], float], at: Any) -> Any:
    """∂function/∂at, element by element."""
    slope = np.zeros(at.shape)
    for place in np.ndindex(at.shape):
        up, down = at.copy(), at.copy()
        up[place] += STEP
        down[place] -= STEP
        slope[place] = (function(up) - function(down)) / (2 * STEP)
    return slope


def close(found: Any, wanted: Any) -> None:
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6 * max(1.0, float(np.max(np.abs(wanted), initial=0.0))))


def total_of(energy: Node, by: Node, known: dict[Node | str, Any], at: Any) -> float:
    """Σ energy with a variable at another place."""
    (array,) = interpret([energy], {**known, by: at}, SIZES)
    return float(array.sum())


def replaced(values: tuple[Any, ...], index: int, array: Any) -> tuple[Any, ...]:
    return (*values[:index], array, *values[index + 1 :])


def evaluated(node: Node | None, like: Node, values: dict[Node | str, Any]) -> Any:
    """A flow over every axis of what it flows to; it may have no other."""
    if node is None:
        return np.zeros(shape(like.axes))
    assert set(node.axes) <= set(like.axes), f"{node} flows to {like}"
    (array,) = interpret([node], values, SIZES)
    return full(array, node.axes, like.axes, SIZES)


@cases("gradient", "reference")
@pytest.mark.parametrize("constant", [False, True], ids=["", "constant adjoint"])
def test_gradient(seed: int, sample: Sample, constant: bool) -> None:
    node, values = node_of(sample), arrays(sample, seed, empty=False)
    weights = np.ones(shape(node.axes)) if constant else np.random.default_rng(seed + 1000).normal(size=shape(node.axes))
    adjoint = number(1) if constant else variable(node.type)
    known = {**given(node, values), **({} if constant else {adjoint: weights})}
    for index in differentiable(sample):
        flow = sample.op.gradient(node, adjoint, index)
        found = evaluated(flow, node.args[index], known)
        if isinstance(sample.op, Stop):
            assert flow is None
            continue
        close(found, differences(lambda x, index=index: float((weights * reference(sample, node, replaced(values, index, x))).sum()), values[index]))


@cases("gradient", "reference")
def test_gradient_of_the_gradient(seed: int, sample: Sample) -> None:
    """Σ tokens u · flow, differentiated by every argument and by the adjoint."""
    node, values = node_of(sample), arrays(sample, seed, empty=False)
    adjoint = variable(node.type)
    generator = np.random.default_rng(seed + 2000)
    for index in differentiable(sample):
        flow = sample.op.gradient(node, adjoint, index)
        if flow is None:
            continue
        other, each = variable(Type(flow.axes)), variable(Type((SEQ,)))
        energy = product(flow, other, each)
        known = {**given(node, values), adjoint: generator.normal(size=shape(node.axes)), other: generator.normal(size=shape(flow.axes))}
        known[each] = generator.normal(size=shape(each.axes))
        for by in [*(node.args[place] for place in differentiable(sample)), adjoint]:
            close(evaluated(gradient(energy, by), by, known), differences(partial(total_of, energy, by, known), known[by]))


@cases("gradient", "reference")
def test_gradients_are_closed(seed: int, sample: Sample) -> None:
    """Every op in a gradient that depends on what was given has a gradient itself."""
    node = node_of(sample)
    adjoint = variable(node.type)
    flows = [sample.op.gradient(node, adjoint, index) for index in differentiable(sample)]
    for inner in walk([flow for flow in flows if flow is not None]):
        assert not inner.args or not isinstance(inner.op.gradient, Absent), inner


@cases("gradient", "reference", masked=True)
def test_where_nothing_is_seen_nothing_flows(seed: int, sample: Sample) -> None:
    node, values = node_of(sample), arrays(sample, seed)
    adjoint = variable(node.type)
    for index in differentiable(sample):
        flow = sample.op.gradient(node, adjoint, index)
        found = evaluated(flow, node.args[index], {**given(node, values), adjoint: np.ones(shape(node.axes))})
        assert np.isfinite(found).all()


def test_a_wrong_gradient_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    from mptc.ops.elementwise import Map, apply

    right = FUNCTIONS["sin"]
    wrong = Function(lambda z: apply("sin", z), right.reference, right.torch, right.integral)
    monkeypatch.setitem(FUNCTIONS, "sin", wrong)
    with pytest.raises(AssertionError):
        test_gradient(0, next(sample for sample in Map.samples() if sample.op == Map("sin")), False)
