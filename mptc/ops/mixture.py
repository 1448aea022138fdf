"""`Mixture`: looked-up rows summed with weights, without the rows of all tables side by side: what a mixture of embedding tables is."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mptc.ir.axis import BATCH, SEQ, Axis, dim
from mptc.ir.node import Kind, Node, Type, absent, axes_of
from mptc.ops.arrays import Array, Sizes
from mptc.ops.base import Arrangement, Operation, Order
from mptc.ops.onnx_mixture import onnx_mixture
from mptc.ops.sample import D, E, K, Sample, of
from mptc.ops.site import OnnxSite, Site, Value


@dataclass(frozen=True)
class Places:
    """The parts that the axes of a mixture play, each in memory order.

    One row of the table is summed for each index of `over`, for each index of `bags`; `rows` tell the table's rows apart, `width` is one row.
    """

    bags: Order
    over: Order
    rows: Order
    width: Order


@dataclass(frozen=True)
class Mixture(Operation):
    """Σ_over weights · table[axis = ids - offset]; a row outside the table is 0

    Arguments: weights, table, ids. The axes summed are the table's (one row of each of several tables) or the ids' (several rows of one).
    """

    axis: Axis
    over: tuple[Axis, ...]
    offset: int = 0

    def infer(self, *types: Type) -> Type:
        weights, table, ids = types
        assert self.axis in table.axes
        assert self.axis not in weights.axes + ids.axes
        assert set(self.over) <= {*table.axes, *ids.axes} - {self.axis}
        return Type(axes_of({*weights.axes, *table.axes, *ids.axes} - {self.axis, *self.over}))

    def cost(self, node: Node, sizes: Sizes) -> float:
        return 2.0 * float(np.prod([sizes[axis] for axis in {*node.axes, *self.over}]))

    gradient = absent("made after energies are differentiated")

    def takes_exact(self, node: Node, index: int) -> bool:
        return index == 2

    def reference(self, node: Node, arrays: tuple[Array, ...], sizes: Sizes) -> Array:
        (weights, table, ids), (one, two, three) = node.args, arrays
        place = three - self.offset
        inside = (place >= 0) & (place < sizes[self.axis])
        chosen = np.where(inside, place, -1)[..., None] == np.arange(sizes[self.axis])
        letters = dict(zip({**dict.fromkeys((*weights.axes, *table.axes, *ids.axes))}, string.ascii_letters, strict=False))
        terms = ["".join(letters[axis] for axis in axes) for axes in (weights.axes, table.axes, (*ids.axes, self.axis))]
        out = "".join(letters[axis] for axis in node.axes)
        return np.asarray(np.einsum(",".join(terms) + "->" + out, one, two, chosen.astype(float)))

    def places(self, orders: Sequence[Order]) -> Places:
        """From the memory orders of weights, table and ids."""
        weights, table, ids = orders
        over = tuple(axis for axis in dict.fromkeys((*table, *ids)) if axis in self.over)
        bags = tuple(axis for axis in dict.fromkeys((*ids, *weights)) if axis not in self.over)
        rows = tuple(axis for axis in table if axis == self.axis or axis in (*bags, *over))
        return Places(bags, over, rows, tuple(axis for axis in table if axis not in rows))

    def arrange(self, node: Node, orders: Sequence[Order]) -> Arrangement:
        places = self.places(orders)
        items = (*places.bags, *places.over)
        weights, ids = (tuple(axis if axis in own else None for axis in items) for own in (orders[0], orders[2]))
        return Arrangement((weights if orders[0] else (), (*places.rows, *places.width), ids), (*places.bags, *places.width))

    def strides(self, places: Places, sizes: Sizes) -> dict[Axis, int]:
        """How many rows further the next index of each axis is, in the table whose rows lie one after another."""
        found, step = {}, 1
        for axis in reversed(places.rows):
            found[axis] = step
            step *= sizes[axis]
        return found

    def torch(self, site: Site) -> str:
        places = self.places(site.orders)
        strides = self.strides(places, site.sizes)
        table = site.tight(1) + (f".flatten(0, {len(places.rows) - 1})" if len(places.rows) > 1 else "")
        table += ".flatten(1)" if len(places.width) > 1 else ""
        ids = site.tight(2) + (f" - {self.offset}" if self.offset else "")
        at = f"{strides[self.axis]}, {self._begins(site, places, strides)}"
        code = f"{site.helper('mixture')}({site.whole(0)}, {table}, {ids}, {site.sizes[self.axis]}, {at}, {len(places.bags)})"
        sizes = ", ".join(str(site.sizes[axis]) for axis in places.width)
        return code if len(places.width) == 1 else f"{code}.unflatten(-1, ({sizes}))"

    def _begins(self, site: Site, places: Places, strides: dict[Axis, int]) -> str:
        """Where the rows begin that an index of the other axes leads to, over `bags` and `over`."""
        items = (*places.bags, *places.over)
        found = []
        for axis in places.rows:
            if axis != self.axis:
                end, step = site.sizes[axis] * strides[axis], strides[axis]
                code = f"torch.arange({'' if step == 1 else '0, '}{end}{'' if step == 1 else f', {step}'}, device={site.helper('device')})"
                behind = len(items) - 1 - items.index(axis)
                found.append(code + ("" if not behind else "[:, None]" if behind == 1 else f"[:{', None' * behind}]"))
        return " + ".join(found) or "0"

    triton = absent("printed by the region that contains it")

    def onnx(self, site: OnnxSite) -> Value:
        return onnx_mixture(self, site)

    @staticmethod
    def samples() -> tuple[Sample, ...]:
        ids, several = Type((BATCH, SEQ), Kind.ID), Type((BATCH, SEQ, E), Kind.ID)
        other = dim("d+e")
        return (
            Sample(Mixture(K, (E,)), (of(BATCH, SEQ, E), of(E, K, D), ids), vocabulary=8),
            Sample(Mixture(K, (E,), 2), (of(BATCH, E), of(E, K, D), ids), vocabulary=10),
            Sample(Mixture(K, (E,)), (of(E), of(E, K, D, other), ids), vocabulary=8),
            Sample(Mixture(K, (D, E)), (of(BATCH, SEQ, D, E), of(D, E, K, other), ids), vocabulary=8),
            Sample(Mixture(K, (E,)), (of(BATCH, SEQ, E, D), of(D, E, K, other), ids), vocabulary=8),
            Sample(Mixture(K, (E,)), (of(BATCH, SEQ, E, other), of(E, K, D), ids), vocabulary=8),
            Sample(Mixture(K, (E,)), (of(BATCH, E), of(K, D), several), vocabulary=8),
            Sample(Mixture(K, (E,)), (of(), of(E, K, D), ids), vocabulary=8),
            Sample(Mixture(K, (E,), 1), (of(BATCH, E), of(E, K, D), several), vocabulary=9),
            Sample(Mixture(K, (D,)), (of(BATCH, D), of(E, K, D, other), several), vocabulary=8),
            Sample(Mixture(K, (E,)), (of(BATCH, SEQ, E), of(E, K, D), Type((BATCH,), Kind.ID)), vocabulary=8),
        )
