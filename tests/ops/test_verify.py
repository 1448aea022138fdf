"""Faults planted in graphs that are well formed, one at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path as File

import pytest

from mptc.derive import derive
from mptc.ir.axis import BATCH, CTX, SEQ, Axis, dim
from mptc.ir.node import Kind, Node, Type, make
from mptc.ir.number import ONE, Monomial
from mptc.ir.path import Path, Tie
from mptc.ir.program import Output, Parameter, Program
from mptc.ir.verify import Malformed, verify
from mptc.ops.contract import Contract, Operand, power, product, summed, total
from mptc.ops.leaf import Input, Param, formal
from mptc.ops.region import Derivative, Loop, Result
from mptc.ops.view import Limit, View
from mptc.source.text import Source, Span
from tests.ops.test_interpret import raw

D, E = dim("d"), dim("e")
SPAN = Span(Source("m.mpt", ""), 0, 0)
X = make(Input("x", (D,)))
W = make(Param("layers[*].W", (D,)))
STATE = Type((BATCH, SEQ, D))


def program(node: Node, inputs: tuple[Node, ...] = (X,), axes: tuple[Axis, ...] = (D,)) -> Program:
    parameters = (Parameter("layers[*].W", (D,), "normal", 0.02), Parameter("V", (E,), "normal", 0.02))
    return Program("m", True, {D: 4, E: 3}, inputs, parameters, (Output("y", node, axes),), None, (), SPAN)


def variable(label: str = "x", type_: Type = STATE) -> Node:
    return make(formal(label, type_))


def stack(state: Node, result: Node, start: Node = X, label: str | None = "layers", path: str = "layers[*]") -> Node:
    return make(Result(0, STATE), make(Loop(2, label, path, (state,), (result,)), start))


def layer() -> tuple[Node, Node]:
    """A state and the next one."""
    state = variable()
    return state, total((1, state), (1, product(state, W)))


def test_a_stack_is_well_formed() -> None:
    verify(program(stack(*layer())), "derive")


@pytest.mark.parametrize("name", ["cem_small", "llama_small", "energy_transformer"])
def test_specs_are_well_formed(name: str, root: File) -> None:
    program_ = raw(root / "specs" / f"{name}.mpt")
    verify(program_, "build")
    derived = derive(program_)
    verify(derived.canonical, "derive")
    verify(derived.program, "derive")


@pytest.mark.parametrize(("left", "right"), [("layers[0].W", "V"), ("layers[0].U", "V"), ("V", "layers[1].U")])
def test_ties_join_two_parameters_of_the_same_axes(left: str, right: str) -> None:
    sound = replace(program(stack(*layer())), ties=(Tie(Path.parse("layers[0].W"), Path.parse("layers[1].W"), (D,)),))
    verify(sound, "derive")
    with pytest.raises(Malformed, match="are tied"):
        verify(replace(sound, ties=(Tie(Path.parse(left), Path.parse(right)),)), "derive")


def wrong_type() -> Node:
    return Node(power(X, Fraction(2)).op, (X,), Type((BATCH, SEQ)))


def wrong_kind() -> Node:
    return Node(X.op, (), Type(X.axes, Kind.ID))


def labels_too_few() -> Node:
    return Node(Contract(ONE, (Operand((BATCH, SEQ)),)), (X,), Type((BATCH, SEQ)))


def label_of_two_sizes() -> Node:
    return make(Contract(ONE, (Operand((BATCH, SEQ, 0)), Operand((0,)))), X, make(Param("V", (E,))))


def axis_of_no_size() -> Node:
    return product(X, make(Param("V", (dim("unheard"),))))


def state_outside_its_loop() -> Node:
    state, result = layer()
    return product(stack(state, result), state)


def state_of_another_loop() -> Node:
    state, result = layer()
    other = variable()
    return stack(other, product(other, state), start=stack(state, result), label=None)


def hidden_behind_an_inner_loop() -> Node:
    """The inner loop reads the outer state, and its result is read outside both."""
    outer, inner = variable("outer"), variable("inner")
    inside = stack(inner, total((1, inner), (1, outer)), label=None)
    around = stack(outer, inside)
    return product(around, inside)


def known_before_the_inner_loop() -> Node:
    """The same, where what depends on the outer state was met before the inner loop was."""
    outer, inner = variable("outer"), variable("inner")
    before = power(outer, Fraction(2))
    inside = stack(inner, total((1, inner), (1, before)), label=None)
    return product(stack(outer, product(before, inside)), inside)


def parameter_outside_its_stack() -> Node:
    return product(X, W)


def parameter_unknown() -> Node:
    return product(X, make(Param("Z", (D,))))


def variable_of_two_loops() -> Node:
    state, result = layer()
    return stack(state, result, start=stack(state, result))


def results_too_few() -> Node:
    state, _ = layer()
    return make(Result(0, STATE), make(Loop(2, None, "", (state,), ()), X))


def result_too_wide() -> Node:
    state = variable()
    return stack(state, product(state, make(Param("V", (E,)))))


def result_of_no_loop() -> Node:
    return make(Result(0, STATE), X)


def result_of_another_type() -> Node:
    state, result = layer()
    return make(Result(0, Type((BATCH, SEQ))), make(Loop(2, "layers", "layers[*]", (state,), (result,)), X))


def input_unknown() -> Node:
    return product(X, make(Input("unheard", (D,))))


def ids_multiplied() -> Node:
    return Node(Contract(Monomial.of(2), (Operand((BATCH, SEQ)),)), (make(Input("t", (), kind=Kind.ID)),), Type((BATCH, SEQ)))


def derivative_with_too_few_arguments() -> Node:
    x, c = variable("x"), variable("c")
    return make(Derivative((x, c), summed([x, c], [D]), "e"), X)


def output_with_a_context() -> Node:
    return make(View(CTX), X)


FAULTS: list[tuple[Callable[[], Node], str]] = [
    (wrong_type, "its arguments make"),
    (wrong_kind, "its arguments make"),
    (labels_too_few, "does not fit"),
    (label_of_two_sizes, "stands for sizes"),
    (axis_of_no_size, "unheard has no size"),
    (state_outside_its_loop, "outside the region"),
    (state_of_another_loop, "outside the region"),
    (hidden_behind_an_inner_loop, "outside the region"),
    (known_before_the_inner_loop, "outside the region"),
    (parameter_outside_its_stack, "outside its stack"),
    (parameter_unknown, "no parameter Z"),
    (variable_of_two_loops, "two regions"),
    (results_too_few, "wanted"),
    (result_too_wide, "does not fit the variable"),
    (result_of_no_loop, "no result of a region"),
    (result_of_another_type, "not that of the result"),
    (input_unknown, "no input"),
    (ids_multiplied, "ids are multiplied"),
    (derivative_with_too_few_arguments, "an argument for each"),
    (output_with_a_context, "output y lacks"),
]


@pytest.mark.parametrize(("plant", "message"), FAULTS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_fault_is_found(plant: Callable[[], Node], message: str) -> None:
    inputs = (X, make(Input("t", (), kind=Kind.ID))) if plant is ids_multiplied else (X,)
    with pytest.raises(Malformed, match=message):
        verify(program(plant(), inputs), "build")


def test_the_first_input_of_another_kind_of_value_is_found_too() -> None:
    with pytest.raises(Malformed, match="its arguments make"):
        verify(program(X, (wrong_kind(),)), "build")


@pytest.mark.parametrize("kind", [View, Limit, Derivative])
def test_what_energies_need_is_gone_after_them(kind: type) -> None:
    x = variable()
    made = {
        View: lambda: summed([make(View(CTX), X)], [CTX]),
        Limit: lambda: summed([make(Limit(CTX, ("past",)), make(View(CTX), X))], [CTX]),
        Derivative: lambda: make(Derivative((x,), summed([x], [D]), "e"), X),
    }[kind]()
    verify(program(made), "build")
    with pytest.raises(Malformed, match="should have gone"):
        verify(program(made), "derive")


def test_a_loss_is_a_scalar() -> None:
    with pytest.raises(Malformed, match="no scalar"):
        verify(replace(program(X), loss=X), "build")


def test_time_is_linear() -> None:
    """20 times the blocks, at most 60 times as long; each block reads the one before twice, so that a walk without memory would not end."""

    def seconds(blocks: int) -> float:
        node = X
        for _ in range(blocks):
            state = variable()
            node = stack(state, total((1, state), (1, product(node, node))), start=node, label=None)
        began = time.perf_counter()
        verify(program(node), "derive")
        return time.perf_counter() - began

    seconds(10)
    assert min(seconds(2000) for _ in range(3)) < 60 * min(seconds(100) for _ in range(3))
