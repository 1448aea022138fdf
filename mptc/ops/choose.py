"""Taking one thing of many: rows by id, entries by number, the value some tokens earlier, the type of an id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mptc.ir.axis import BATCH, CTX, SEQ, Axis
from mptc.ir.node import Kind, Node, Type, absent, axes_of, make
from mptc.ops.arrays import Array, Sizes, full
from mptc.ops.base import Arrangement, OfIds, Operation, Order
from mptc.ops.compare import Compare
from mptc.ops.contract import product, summed
from mptc.ops.leaf import Index, Position
from mptc.ops.onnx_choose import onnx_entry, onnx_lookup, onnx_shift, onnx_type_of
from mptc.ops.sample import D, E, K, Sample, of
from mptc.ops.site import OnnxSite, Site, Value

IDS = Type((BATCH, SEQ), Kind.ID)


@dataclass(frozen=True)
class Lookup(Operation):
    """Arguments: a table and ids. The entries of `table` along `axis` at each id less `offset`, shared axes aligned; 0 for an id outside."""

    axis: Axis
    offset: int = 0

    def infer(self, *types: Type) -> Type:
        table, ids = types
        return Type(axes_of((*ids.axes, *(axis for axis in table.axes if axis != self.axis))))

    def cost(self, node: Node, sizes: Sizes) -> float:
        return 0.0

    gradient = absent("an energy's variable is not looked up in")

    def takes_exact(self, node: Node, index: int) -> bool:
        return index == 1

    def reference(self, node: Node, arrays: tuple[Array, ...], sizes: Sizes) -> Array:
        table, ids = arrays[0], arrays[1] - self.offset
        if self.shared(node):
            return Entry(self.axis).reference(node, (table, ids), sizes)
        rows = np.moveaxis(table, node.args[0].axes.index(self.axis), 0)
        inside = (ids >= 0) & (ids < sizes[self.axis])
        found = rows[np.where(inside, ids, 0).astype(int)] * inside.reshape((*ids.shape, *[1] * (table.ndim - 1)))
        order = (*node.args[1].axes, *(axis for axis in node.args[0].axes if axis != self.axis))
        return np.transpose(found, [order.index(axis) for axis in node.axes])

    def shared(self, node: Node) -> Order:
        """The axes that the table and the ids both have."""
        return tuple(axis for axis in node.args[1].axes if axis in node.args[0].axes)

    def arrange(self, node: Node, orders: Sequence[Order]) -> Arrangement:
        if self.shared(node):
            return Entry(self.axis).arrange(node, orders)
        rest = tuple(axis for axis in orders[0] if axis != self.axis)
        return Arrangement(((self.axis, *rest), orders[1]), (*orders[1], *rest))

    def torch(self, site: Site) -> str:
        ids = site.whole(1) if not self.offset else f"{site.tight(1)} - {self.offset}"
        shared = self.shared(site.node)
        if shared:
            return f"{site.helper('entries')}({site.whole(0)}, {ids}, {len(shared)})"
        return f"{site.helper('lookup')}({site.whole(0)}, {ids})"

    triton = absent("printed by the region that contains it")

    def onnx(self, site: OnnxSite) -> Value:
        return onnx_lookup(self, site)

    @staticmethod
    def samples() -> tuple[Sample, ...]:
        aligned = Type((BATCH, SEQ, E), Kind.ID)
        return (
            Sample(Lookup(K), (of(K, D), IDS), vocabulary=8),
            Sample(Lookup(K, 2), (of(D, K), IDS), vocabulary=10),
            Sample(Lookup(K), (of(K), IDS)),
            Sample(Lookup(K, 1), (of(D, E, K), aligned), vocabulary=9),
        )


@dataclass(frozen=True)
class Shift(Operation):
    """The value (or id) `by` tokens earlier; 0 (masked, -1) before the first."""

    by: int

    def infer(self, *types: Type) -> Type:
        return types[0]

    def cost(self, node: Node, sizes: Sizes) -> float:
        return 0.0

    def gradient(self, node: Node, adjoint: Node, index: int) -> Node | None:
        """Of a constant adjoint, what came from before the first token or after the last gets nothing: so it is spread over tokens first."""
        here = make(Position())
        flow = adjoint if SEQ in adjoint.axes else product(adjoint, make(Compare("=="), here, here))
        return make(Shift(-self.by), flow)

    def is_exact(self, node: Node) -> bool:
        return isinstance(node.args[0].op, Operation) and node.args[0].op.is_exact(node.args[0])

    def takes_exact(self, node: Node, index: int) -> bool:
        return True

    def reference(self, node: Node, arrays: tuple[Array, ...], sizes: Sizes) -> Array:
        place, blank = node.axes.index(SEQ), -1 if node.type.kind is Kind.ID else 0
        moved = np.full_like(arrays[0], blank)
        length, by = sizes[SEQ], self.by
        before, after = slice(max(0, -by), length - max(0, by)), slice(max(0, by), length - max(0, -by))
        if abs(by) < length:
            moved[(slice(None),) * place + (after,)] = arrays[0][(slice(None),) * place + (before,)]
        return np.asarray(moved)

    def arrange(self, node: Node, orders: Sequence[Order]) -> Arrangement:
        return Arrangement(tuple(orders), orders[0])

    def torch(self, site: Site) -> str:
        blank = ", -1" if site.node.type.kind is Kind.ID else ""
        return f"{site.helper('shift')}({site.whole(0)}, {self.by}, {site.order.index(SEQ)}{blank})"

    triton = absent("printed by the region that contains it")

    def onnx(self, site: OnnxSite) -> Value:
        return onnx_shift(self, site)

    @staticmethod
    def samples() -> tuple[Sample, ...]:
        return (Sample(Shift(2), (of(BATCH, SEQ, D),)), Sample(Shift(-1), (of(SEQ, D),)), Sample(Shift(1), (IDS,)), Sample(Shift(9), (of(SEQ),)))


@dataclass(frozen=True)
class Entry(Operation):
    """Arguments: a table and a number. Entry n of `axis`, the axes that both have aligned; 0 outside."""

    axis: Axis

    def infer(self, *types: Type) -> Type:
        return Type(axes_of((*types[1].axes, *(axis for axis in types[0].axes if axis != self.axis))))

    def cost(self, node: Node, sizes: Sizes) -> float:
        return 0.0

    def gradient(self, node: Node, adjoint: Node, index: int) -> Node | None:
        """By the table: each entry collects from where it was taken. A number that chooses has no gradient."""
        if index:
            return None
        chosen = make(Compare("=="), node.args[1], make(Index(self.axis)))
        kept = node.args[0].axes
        return summed([adjoint, chosen], [axis for axis in node.axes if axis not in kept])

    def takes_exact(self, node: Node, index: int) -> bool:
        return index == 1

    def reference(self, node: Node, arrays: tuple[Array, ...], sizes: Sizes) -> Array:
        axes = (*node.axes, self.axis)
        table, chosen = (full(array, arg.axes, axes, sizes) for array, arg in zip(arrays, node.args, strict=True))
        entries = np.arange(sizes[self.axis])
        return np.asarray(np.where(chosen == entries, table, 0).sum(axis=-1))

    def arrange(self, node: Node, orders: Sequence[Order]) -> Arrangement:
        shared = tuple(axis for axis in orders[1] if axis in orders[0])
        rest = tuple(axis for axis in orders[0] if axis not in (*shared, self.axis))
        places = tuple(axis for axis in orders[1] if axis not in shared)
        return Arrangement(((*shared, self.axis, *rest), (*shared, *places)), (*shared, *places, *rest))

    def torch(self, site: Site) -> str:
        shared = len([axis for axis in site.orders[1] if axis in site.orders[0]])
        return f"{site.helper('entries')}({site.whole(0)}, {site.whole(1)}, {shared})"

    triton = absent("printed by the region that contains it")

    def onnx(self, site: OnnxSite) -> Value:
        return onnx_entry(self, site)

    @staticmethod
    def samples() -> tuple[Sample, ...]:
        return (
            Sample(Entry(K), (of(K, D), Type((SEQ, CTX), Kind.ID)), vocabulary=8),
            Sample(Entry(K), (of(E, K), Type((SEQ, E), Kind.ID)), vocabulary=8),
            Sample(Entry(K), (of(SEQ, K), Type((SEQ,), Kind.ID)), vocabulary=8),
            Sample(Entry(K), (of(K), Type((SEQ,), Kind.ID)), vocabulary=8),
        )


@dataclass(frozen=True)
class TypeOf(OfIds):
    """The type of each id, by the ids where types begin (`bounds`, in order); masked ids stay masked."""

    bounds: tuple[int, ...]

    def reference(self, node: Node, arrays: tuple[Array, ...], sizes: Sizes) -> Array:
        return np.asarray(np.searchsorted(np.asarray(self.bounds), arrays[0], side="right") - 1)

    def torch(self, site: Site) -> str:
        bounds = ", ".join(f"({site.whole(0)} >= {bound}).long()" for bound in self.bounds[1:])
        return f"sum([{bounds}], start=({site.whole(0)} >= 0).long() - 1)" if bounds else f"({site.whole(0)} >= 0).long() - 1"

    def onnx(self, site: OnnxSite) -> Value:
        return onnx_type_of(self, site)

    @staticmethod
    def samples() -> tuple[Sample, ...]:
        return (Sample(TypeOf((0, 2, 5)), (IDS,), vocabulary=8),)
