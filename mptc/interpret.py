"""The meaning of a graph, on numpy in float64: what every target is compared with.

Any IR will do, the raw one included. A derivative is worked out here by a reverse walk over numbers, with the ops' gradient facets.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mptc.ir.axis import BATCH, SEQ, Axis, Role, Sizes
from mptc.ir.node import Node, walk
from mptc.ir.path import Path, Tie, stored
from mptc.ir.region import inside
from mptc.ops.arrays import Array, full
from mptc.ops.leaf import Formal, Input, Param, formal
from mptc.ops.region import Derivative, Gathered, Loop, Result, passes_of

Values = Mapping[Node | str, Any]


class Lengths(Sizes):
    """The sizes of axes: a context is as long as the sequence unless it says otherwise."""

    def __missing__(self, axis: Axis) -> int:
        return self[SEQ] if axis.role is Role.CONTEXT and not axis.tick else super().__missing__(axis)


def interpret(roots: Sequence[Node], values: Values, sizes: Mapping[Axis, int], ties: Sequence[Tie] = ()) -> list[Array]:
    """The values of `roots`, each over the sorted axes of its type.

    `values` has what is given from outside: by node, over the sorted axes of its type; by name (a path such as `layers.3.gated.W_up`, or what
    an input is called), over its axes in declared order, as modules hold it. `sizes` has those of the dims, of `batch` and of `seq`.
    `ties`: the copies of parameters that are stored under another path, which is where `values` has them.
    """
    run = _Run({key: np.asarray(value) for key, value in values.items()}, Lengths(sizes), ties)
    frame = _Frame(run)
    frame.compute(roots)
    return [frame.array(root) for root in roots]


class _Run:
    """What every frame shares: the values given, and the nodes of each region that depend on it."""

    def __init__(self, values: Values, sizes: Lengths, ties: Sequence[Tie]) -> None:
        self.values, self.sizes, self.ties = values, sizes, ties
        self._inside: dict[Node, set[Node]] = {}

    def inside(self, node: Node) -> set[Node]:
        if node not in self._inside:
            self._inside[node] = inside(node)
        return self._inside[node]


class _Frame:
    """One pass of one region: the values of the nodes that depend on it. Those of the others are in the frames around it."""

    def __init__(self, run: _Run, outer: _Frame | None = None, own: set[Node] | None = None, copy: tuple[str, tuple[int, ...]] = ("", ())) -> None:
        self.run, self.outer, self.own = run, outer, own
        self.found: dict[Node, Array] = {}
        self.known: ChainMap[Node, Array] = ChainMap(self.found) if outer is None else outer.known.new_child(self.found)
        self.states: dict[Node, tuple[Array, ...]] = {} if outer is None else outer.states
        self.copies: dict[str, tuple[int, ...]] = {**({} if outer is None else outer.copies), copy[0]: copy[1]}

    def array(self, node: Node) -> Array:
        return self.known[node]

    def home(self, node: Node) -> _Frame:
        """The frame that a node's value belongs to."""
        frame = self
        while frame.outer is not None and frame.own is not None and node not in frame.own:
            frame = frame.outer
        return frame

    def compute(self, roots: Sequence[Node]) -> None:
        for node in walk(roots):
            home = self.home(node)
            if node not in home.found:
                home.found[node] = home.value(node)

    def value(self, node: Node) -> Array:
        if node in self.run.values:
            return self._checked(node, np.asarray(self.run.values[node]))
        match node.op:
            case Param(path=path, order=order):
                home, there = stored(self._resolved(path), order, self.run.ties)
                return self._named(node, home.name, there)
            case Input(label=label, order=order):
                return self._named(node, label, (*(axis for axis in (BATCH, SEQ) if axis in node.axes), *order))
            case Formal(label=label):
                raise KeyError(f"no value for the variable {label}")
            case Loop():
                self.states[node] = self._loop(node, node.op)
                return np.zeros(())
            case Result(index=index):
                return self.states[node.args[0]][index]
            case Gathered(index=index):
                return self._gathered(node, index)
            case Derivative():
                return self._derivative(node, node.op)
        return self._checked(node, node.op.reference(node, tuple(map(self.array, node.args)), self.run.sizes))

    def _checked(self, node: Node, array: Array) -> Array:
        shape = tuple(self.run.sizes[axis] for axis in node.axes)
        assert array.shape == shape, f"{node!r} is of shape {shape}, not {array.shape}"
        return array

    def _named(self, node: Node, name: str, order: tuple[Axis, ...]) -> Array:
        array = np.asarray(self.run.values[name])
        return self._checked(node, np.transpose(array, [order.index(axis) for axis in node.axes]))

    def _resolved(self, path: str) -> Path:
        """`layers[*].W` in the copy at work is `layers[3].W`."""
        before, star, _ = path.rpartition("[*].")
        return Path(path, self.copies[before + star])

    # -- regions --------------------------------------------------------------------------------------

    def _loop(self, node: Node, op: Loop) -> tuple[Array, ...]:
        states = [self._state(arg, variable) for arg, variable in zip(node.args, op.formals, strict=True)]
        watched: list[list[Array]] = [[] for _ in op.watched]
        for count in range(op.count):
            copy = ("", ()) if op.label is None else self._copy(f"{op.path}.", count)
            frame = _Frame(self.run, self, self.run.inside(node), copy)
            frame.found.update(zip(op.formals, states, strict=True))
            frame.compute([*op.results, *op.watched])
            states = [frame._state(result, variable) for result, variable in zip(op.results, op.formals, strict=True)]
            for seen, each in zip(watched, op.watched, strict=True):
                seen.append(frame.array(each))
        return *states, *map(np.asarray, watched)

    def _gathered(self, node: Node, index: int) -> Array:
        loop = node.args[0]
        assert isinstance(loop.op, Loop)
        whole = self.states[loop][len(loop.op.results) + index]
        return full(whole, (passes_of(node), *loop.op.watched[index].axes), node.axes, self.run.sizes)

    def _copy(self, star: str, count: int) -> tuple[str, tuple[int, ...]]:
        """Which copy of each stack of `outer[*].layers[*].` is at work, for instance (2, 3)."""
        around, inner, _ = star.removesuffix("[*].").rpartition("[*].")
        return star, (*self.copies[around + inner], count)

    def _state(self, node: Node, variable: Node) -> Array:
        """A value over every axis of the variable that it is put in the place of."""
        return full(self.array(node), node.axes, variable.axes, self.run.sizes)

    def _derivative(self, node: Node, op: Derivative) -> Array:
        frame = _Frame(self.run, self, self.run.inside(node))
        frame.found.update((variable, self._state(arg, variable)) for arg, variable in zip(node.args, op.formals, strict=True))
        frame.compute([op.energy])
        return frame._slope(op.energy, op.formals[0])

    def _slope(self, energy: Node, variable: Node) -> Array:
        """∂(Σ energy)/∂variable: adjoints from the energy back to the variable, through what depends on it."""
        tokens = 1 if SEQ in energy.axes else self.run.sizes[SEQ]  # an energy that is the same for every token counts for each
        adjoints = {energy: np.full([self.run.sizes[axis] for axis in energy.axes], float(tokens))}
        order, depends = list(walk([energy])), {variable}
        for node in order:
            if any(arg in depends for arg in node.args):
                depends.add(node)
        for node in reversed(order):
            if node is variable or node not in depends or node not in adjoints:
                continue
            for place, arg in enumerate(node.args):
                if arg in depends:
                    flow = self._flow(node, adjoints[node], place)
                    adjoints[arg] = adjoints.get(arg, np.zeros(())) + flow
        return self._whole(adjoints.get(variable, np.zeros(())), variable)

    def _flow(self, node: Node, adjoint: Array, place: int) -> Array:
        """What flows to one argument: its gradient facet, with a variable in the place of the adjoint."""
        stand_in = Node(formal("adjoint", node.type), (), node.type)
        flow = node.op.gradient(node, stand_in, place)
        arg = node.args[place]
        if flow is None:
            return np.zeros([self.run.sizes[axis] for axis in arg.axes])
        frame = _Frame(self.run, self, set(walk([flow])) - set(self.known))
        frame.found[stand_in] = adjoint
        frame.compute([flow])
        assert set(flow.axes) <= set(arg.axes), f"the gradient of {node!r} has axes that its argument {place} lacks: {flow.type}"
        return full(frame.array(flow), flow.axes, arg.axes, self.run.sizes)

    def _whole(self, array: Array, node: Node) -> Array:
        return np.broadcast_to(array, [self.run.sizes[axis] for axis in node.axes])
