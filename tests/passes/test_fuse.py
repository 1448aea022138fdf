"""Regions that one kernel can compute row by row: what they say of themselves is so, for every spec, and they are as large as they can be."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import networkx
import numpy as np
import pytest

from mptc.compile import derived_from
from mptc.ir.axis import BATCH, SEQ, Axis, Role, Sizes
from mptc.ir.node import Kind, Node
from mptc.ir.program import Program
from mptc.ops.region import Loop, Rows, everything
from mptc.passes import applied
from mptc.passes.asked import Needs
from mptc.passes.fuse import Region, fits, regions
from mptc.passes.scopes import Scopes
from mptc.source.diagnostic import Diagnostics
from mptc.source.text import Source
from tests.conftest import ROOT
from tests.golden import SPECS

ENERGIES = sorted((ROOT / "tests/energies").glob("*.mpt"))
SMALL = "dim d = 6\ndim m = 4\ndim hidden = 5\ndim n = 3\ndim vocab = 7\n"


def planned(source: Source) -> Program:
    diagnostics = Diagnostics()
    derived = derived_from(source, diagnostics, {}, "tiny" if "variant tiny" in source.text else None)
    assert derived is not None, diagnostics.found
    return applied(derived.program)[0]


@cache
def read(path: Path) -> Program:
    return planned(Source.read(path))


def of(*body: str, before: str = "") -> list[Region]:
    """The regions of more than one step of a model of these lines."""
    lines = "\n".join(body)
    program = planned(Source("m.mpt", f'use "lib/std.mpt"\n{SMALL}{before}\nmodel m {{\n{lines}\n}}'))
    return [region for region in regions(program) if len(region.nodes) > 1]


def kinds(region: Region) -> list[str]:
    return sorted(node.op.name for node in region.nodes)


every = pytest.mark.parametrize("path", [*SPECS, *ENERGIES], ids=lambda path: path.stem)


# -- the partition ---------------------------------------------------------------------------------------


def graph(program: Program, whole: dict[Node, Any]) -> networkx.DiGraph:
    """What needs what, regions being single steps."""
    made: networkx.DiGraph = networkx.DiGraph()
    for node in everything(program.roots):
        below = [*node.args, *(node.op.interior.roots if isinstance(node.op, Loop | Rows) else ())]
        made.add_edges_from((whole.get(arg, arg), whole.get(node, node)) for arg in below if whole.get(arg, arg) is not whole.get(node, node))
    return made


@every
def test_regions_are_single_steps_of_the_program(path: Path) -> None:
    program = read(path)
    found = regions(program)
    whole = {node: region for region in found for node in region.nodes}
    assert sum(len(region.nodes) for region in found) == len(whole) == sum(map(fits, everything(program.roots)))
    assert networkx.is_directed_acyclic_graph(graph(program, whole))
    for region in found:
        inside = set(region.nodes)
        users = {node for node in everything(program.roots) if node not in inside for arg in node.args if arg in inside}
        bodies = [root for node in everything(program.roots) if isinstance(node.op, Loop | Rows) for root in node.op.interior.roots]
        read_ = {arg for node in users for arg in node.args} | set(program.roots) | set(bodies)
        assert set(region.outputs) == inside & read_
        assert region.outputs, "what nothing reads is not there"
        assert set(region.order) >= {axis for node in region.nodes for axis in node.axes}
        assert len(set(region.order)) == len(region.order)


@every
def test_no_two_that_touch_could_be_one(path: Path) -> None:
    """Of one place and with the same rows: joined, they would wait for what waits for them."""
    program = read(path)
    found = regions(program)
    whole = {node: region for region in found for node in region.nodes}
    home, needs = Scopes(program.roots).home, Needs(program)
    for node in whole:
        for arg in (arg for arg in node.args if arg in whole and whole[arg] is not whole[node]):
            apart = home[arg] is not home[node] or ("output" in needs.of(arg)) != ("output" in needs.of(node)) or _rows(arg) != _rows(node)
            if not apart and len({_rows(each) for each in (*whole[arg].nodes, *whole[node].nodes)}) == 1:
                joined = {**whole, **dict.fromkeys(whole[arg].nodes, whole[node])}
                assert not networkx.is_directed_acyclic_graph(graph(program, joined))


def _rows(node: Node) -> frozenset[Axis]:
    return frozenset(axis for axis in node.axes if axis.role is not Role.DIM)


# -- what a region says of itself --------------------------------------------------------------------------


class Run:
    """A region on random numbers, by the meaning of its ops."""

    def __init__(self, program: Program, region: Region) -> None:
        self.region, self.random = region, np.random.default_rng(0)
        self.sizes = Sizes({**program.sizes, BATCH: 2, SEQ: 3})
        numbers = [arg for node in region.nodes for arg in node.args if arg not in region.nodes and arg not in region.inputs]
        axes = {axis for node in (*region.nodes, *region.inputs) for axis in node.axes if axis.role is not Role.DIM}
        self.sizes.update({axis: 4 for axis in axes if axis not in self.sizes})
        self.given = {node: self.drawn(node) for node in region.inputs}
        self.numbers = {node: node.op.reference(node, (), self.sizes) for node in numbers}

    def drawn(self, node: Node) -> np.ndarray:
        shape = [self.sizes[axis] for axis in node.axes]
        whole = node.type.kind is Kind.ID
        return self.random.integers(0, 3, shape).astype(float) if whole else self.random.uniform(0.5, 1.5, shape)

    def made(self, given: dict[Node, np.ndarray]) -> list[np.ndarray]:
        found = {**self.numbers, **given}
        with np.errstate(all="ignore"):
            for node in self.region.nodes:
                found[node] = node.op.reference(node, tuple(found[arg] for arg in node.args), self.sizes)
        return [found[node] for node in self.region.outputs]


@every
def test_rows_are_computed_alone(path: Path) -> None:
    """What all other rows have makes no difference to one."""
    program = read(path)
    for region in regions(program):
        run = Run(program, region)
        whole = run.made(run.given)
        for axis in region.rows:
            others = {node: _one(run.drawn(node), array, node, axis) for node, array in run.given.items()}
            for node, one, other in zip(region.outputs, whole, run.made(others), strict=True):
                place = node.axes.index(axis)
                same = [np.take(array, 0, axis=place) for array in (one, other)]
                np.testing.assert_array_equal(*same, err_msg=f"{kinds(region)} along {axis}")


def _one(array: np.ndarray, first: np.ndarray, node: Node, axis: Axis) -> np.ndarray:
    """Other numbers, but for those of the first row, and those that all rows share."""
    if axis not in node.axes:
        return first
    mine = np.arange(array.shape[node.axes.index(axis)]) == 0
    return np.where(np.expand_dims(mine, [place for place, each in enumerate(node.axes) if each != axis]), first, array)


@every
def test_the_derivative_needs_what_is_saved_alone(path: Path) -> None:
    """Where other inputs change, the derivative stays as it is: it was the same all along."""
    program = read(path)
    for region in regions(program):
        run = Run(program, region)
        fixed = {node for node in region.inputs if node.type.kind is Kind.ID or node in region.saved or not _rows(node)}
        moved = {node: array if node in fixed else array + 1 for node, array in run.given.items()}
        push = {node: np.zeros_like(array) if node.type.kind is Kind.ID else run.drawn(node) * 1e-3 for node, array in run.given.items()}
        slopes = [_slopes(run, given, push) for given in (run.given, moved)]
        for one, other in zip(*slopes, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12, err_msg=str(kinds(region)))


def _slopes(run: Run, given: dict[Node, np.ndarray], push: dict[Node, np.ndarray]) -> list[np.ndarray]:
    ahead, behind = ({node: array + sign * push[node] for node, array in given.items()} for sign in (1, -1))
    return [one - other for one, other in zip(run.made(ahead), run.made(behind), strict=True)]


# -- what is one region ------------------------------------------------------------------------------------


def test_a_residual_goes_with_the_norm_behind_it() -> None:
    (found,) = of("input x: [d]", "param W: [d, m]", "param V: [hidden, d]", "y = x + W @ (W @ x)", "output o = V @ rmsnorm(y)", "output z = y")
    assert kinds(found) == ["gainedrms", "sum"]
    assert [len(found.outputs), len(found.inputs), len(found.saved)] == [2, 3, 2]
    assert (list(map(str, found.rows)), list(map(str, found.reduced))) == (["batch", "seq"], ["d"])


def test_a_preconditioned_step_is_one_region_around_its_products() -> None:
    before = """
energy e(x: [d]) {
  param W: [hidden, d]
  minimize sum[hidden](integral(tanh)(W @ x))
}
block precondition(g: [d]) {
  param scale: [d] = 1
  param U: [m, d]
  return scale^2 * g + U @ U @ g
}
"""
    body = ("input x: [d]", "param V: [hidden, d]", "y = x - precondition(grad e(rmsnorm(x)))", "output o = V @ rmsnorm(y) as last", "output z = y")
    found = next(region for region in of(*body, before=before) if "gainedrms" in kinds(region))
    assert kinds(found) == ["contract", "gainedrms", "sum", "sum"]
    assert len(found.outputs) == 2


def test_a_gate_and_its_activation() -> None:
    (found,) = of("input x: [d]", "param W: [hidden, d]", "param G: [hidden, d]", "output o = (silu(G @ x) * (W @ x)) @ W")
    assert kinds(found) == ["contract", "silu"]
    assert list(map(str, found.rows)) == ["batch", "seq", "hidden"]
    assert set(found.saved) == set(found.inputs)


def test_scale_and_shift_by_what_a_sequence_has() -> None:
    """What is the same for all of a sequence's tokens is computed again for each, where nothing else reads it."""
    body = ("input x: [d]", "input z: [n] per sequence", "param A: [d, n]", "param B: [d, n]", "s = 1 + A @ z", "output y = x * s + B @ z")
    (found,) = of(*body)
    assert kinds(found) == ["contract", "sum", "sum"]
    apart = of(*body, "output t = s")
    assert [kinds(region) for region in apart] == [["contract", "sum"]]


def test_rows_of_tables_by_type() -> None:
    body = ("input ids: id[words]", "param E: [words, d]", "param scale: [modality, d] = 1", "param move: [modality, d]", "t = modality(ids)")
    value = "output y = lookup(E, ids) * lookup(scale, t) + lookup(move, t)"
    (found,) = of(*body, value, before="types modality of words { a = 3, b = 4 }")
    assert kinds(found) == ["contract", "lookup", "lookup", "lookup", "sum", "typeof"]


def test_a_mixture_over_tables() -> None:
    body = ("input ids: id[vocab]", "input z: [n]", "param W: [m, n]", "param T: [m, vocab, d]")
    (found,) = of(*body, "output y = rmsnorm(sum[m](softmax[m](W @ z) * lookup(T, ids)))")
    assert kinds(found) == ["gainedrms", "mixture", "softmax"]
    assert list(map(str, found.order)) == ["batch", "seq", "d", "m"]


# -- what is not -------------------------------------------------------------------------------------------


def test_what_leaves_does_not_come_back() -> None:
    """A step on both sides of a matrix product: together they would wait for it."""
    found = of("input x: [d]", "param W: [d, m]", "a = tanh(x)", "output y = a + W @ (W @ a)")
    assert found == []


def test_two_regions_do_not_wait_for_one_another() -> None:
    """Two pairs of steps, each of which gives to the other through a product: one of the pairs stays apart."""
    text = """
model m {
  input x: [d]
  input z: [d]
  param W: [d, m]
  a = tanh(x)
  b = tanh(z)
  p = a + W @ (W @ b)
  q = b + W @ (W @ a)
  output y = p * q
}
"""
    program = planned(Source("m.mpt", f"{SMALL}{text}"))
    found = regions(program)
    assert networkx.is_directed_acyclic_graph(graph(program, {node: region for region in found for node in region.nodes}))
    assert sorted(len(region.nodes) for region in found) == [1, 2, 2]


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("tanh(rope[d](tanh(x)))", "a rotation"),
        ("tanh(shift(tanh(x), 1))", "another token's value"),
        ("tanh(max[ctx](past(tanh(x))))", "what is seen of other tokens"),
    ],
    ids=lambda text: text.replace(" ", "_"),
)
def test_what_stands_between(expression: str, why: str) -> None:
    assert of("input x: [d]", f"output y = {expression}") == [], why


def test_a_loop_is_a_border() -> None:
    found = of("input x: [d]", "y = tanh(x)", "repeat 2 { y <- tanh(y) * x }", "output o = exp(y)")
    assert [kinds(region) for region in found] == [["contract", "tanh"]]


def test_only_what_is_asked_for_goes_together() -> None:
    found = of("input x: [d]", "y = tanh(x)", "probe p = sum[d](exp(y))", "output o = y * x")
    assert sorted(map(kinds, found)) == [["contract", "exp"], ["contract", "tanh"]]
