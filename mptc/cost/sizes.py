"""How large things are: dims are numbers, the batch, the tokens and each memory symbols."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import comb

from mptc.cost.few import chosen, number_of
from mptc.cost.polynomial import Polynomial, product, total
from mptc.ir.axis import BATCH, SEQ, Axis, Role
from mptc.ir.node import Node
from mptc.ir.program import Program
from mptc.ops.leaf import Input

ALL: Mapping[Axis, Polynomial] = {}
DEGREE = 3  # no more symbols than that are multiplied in the cost of one op


class Sizes:
    """Of the axes of a program. `symbols`: the lengths that it leaves open, `batch`, `seq` and the names of memories."""

    def __init__(self, program: Program, some: Mapping[Axis, Polynomial] = ALL) -> None:
        self.program, self.some = program, some
        self.dims = {axis: size for axis, size in program.sizes.items() if axis.role is Role.DIM}
        self.memories = program.memories
        self.chosen = chosen(program.roots, program.sizes)
        orders = [axis for node in program.inputs if isinstance(node.op, Input) for axis in node.op.order if axis.role is not Role.DIM]
        self.own = {axis for axis in orders if self.memories.get(axis, axis) == axis}
        self.symbols = ["batch", "seq", *sorted({str(self._open(axis)) for axis in orders} - {"batch", "seq"})]
        self._known: dict[Axis, Polynomial] = {}
        self._products: dict[tuple[Axis, ...], Polynomial] = {}

    def _open(self, axis: Axis) -> Axis:
        """The axis that gives an axis without a number its length."""
        plain = Axis(axis.role, axis.name)
        plain = self.memories.get(plain, plain)
        return plain if plain in self.own or plain in (BATCH, SEQ) or plain.role is not Role.CONTEXT else SEQ

    def known(self, lengths: Mapping[str, int]) -> dict[str, int]:
        """With how many tokens are chosen, where the length is known of which that depends."""
        own = {name: number_of(count, lengths["seq"]) for name, count in self.chosen.counts.items()} if "seq" in lengths else {}
        return {**own, **lengths}

    def within(self, some: Mapping[Axis, Polynomial]) -> Sizes:
        """Those in what is computed by rows, where there is less of some axes."""
        return Sizes(self.program, some)

    def axis(self, axis: Axis) -> Polynomial:
        if axis in self.some or axis in self.chosen.lengths:
            return self.some[axis] if axis in self.some else self.chosen.lengths[axis]
        if axis not in self._known:
            size = self.dims.get(Axis(axis.role, axis.name))
            self._known[axis] = Polynomial.symbol(str(self._open(axis))) if size is None else Polynomial.number(size)
        return self._known[axis]

    def of(self, axes: Iterable[Axis]) -> Polynomial:
        """How many entries a tensor over these axes has."""
        axes = tuple(axes)
        if axes not in self._products:
            self._products[axes] = product(self.axis(axis) for axis in axes)
        return self._products[axes]

    def elements(self, node: Node) -> Polynomial:
        """The `cost` facet of a node, which counts for given lengths, as the polynomial that it is in those of its own axes."""
        axes = {axis for each in (node, *node.args) for axis in each.axes}
        symbols = sorted({name for axis in axes for powers, _ in self.axis(axis).terms for name, _ in powers})
        return self._interpolated(node, symbols, {})

    def _interpolated(self, node: Node, symbols: list[str], at: Mapping[str, int]) -> Polynomial:
        """Newton's forward differences, one symbol after another, at lengths 0, 1, …"""
        if not symbols:
            return Polynomial.number(round(node.op.cost(node, _At(self, at))))
        name, *rest = symbols
        differences = [self._interpolated(node, rest, {**at, name: length}) for length in range(DEGREE + 1)]
        parts = []
        for order in range(DEGREE + 1):
            row = total(differences[place].times((-1) ** (order - place) * comb(order, place)) for place in range(order + 1))
            parts.append(_falling(name, order, row))
        return total(parts)


class _At(dict[Axis, int]):
    """Sizes with numbers in the place of symbols."""

    def __init__(self, sizes: Sizes, at: Mapping[str, int]) -> None:
        super().__init__()
        self.sizes, self.at = sizes, at

    def __missing__(self, axis: Axis) -> int:
        found = self.sizes.axis(axis).at(self.at).value
        assert found is not None, axis
        return found


def _falling(name: str, order: int, row: Polynomial) -> Polynomial:
    """row · n (n - 1) … (n - order + 1) / order!, which is whole for what counts."""
    symbol, factor = Polynomial.symbol(name), 1
    for step in range(order):
        row = row * (symbol + Polynomial.number(-step))
        factor *= step + 1
    return Polynomial(tuple((powers, value // factor) for powers, value in row.terms))
