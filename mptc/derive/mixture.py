"""Recognising mixtures of looked-up rows: Σ_expert a · lookup(table, ids) is one step, in which the rows of all tables are never side by side.

Which of a table's axes are summed as experts are, and which are a row, nobody says: a product is taken in the order that is cheapest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from mptc.ir.axis import Axis, Role
from mptc.ir.node import Node
from mptc.ir.number import ONE
from mptc.ops.choose import Lookup
from mptc.ops.contract import Contract, Label, Operand
from mptc.ops.mixture import Mixture

if TYPE_CHECKING:
    from mptc.derive.plan import Planner

Row = tuple[frozenset[Label], frozenset[Label]]  # what is summed over rows, and what a row has


def mixable(node: Node, labels: Sequence[Label], power: Fraction) -> bool:
    """Whether an operand of a product is looked up, and summed over one of its dims while others stay."""
    if not isinstance(node.op, Lookup) or power != 1:
        return False
    dims = [label for axis, label in zip(node.axes, labels, strict=True) if axis.role is Role.DIM]
    return len(dims) > 1 and any(isinstance(label, int) for label in dims)


def row(node: Node, labels: Sequence[Label], others: Iterable[Label], kept: Iterable[Label]) -> Row | None:
    """What is summed where looked-up rows meet the other side of a step, and what is left of a row; None where either is nothing."""
    named = dict(zip(node.axes, labels, strict=True))
    table = {named[axis] for axis in node.args[0].axes if axis in named}
    over = frozenset(label for axis, label in named.items() if axis.role is Role.DIM and label not in set(kept))
    width = frozenset(table - over - set(others))
    return (over, width) if over and width else None


def mixture(planner: Planner, weights: Node, values: Node, bound: set[Axis]) -> Node | None:
    """The step for Σ_bound weights · values, where the values are looked up; None where it is no mixture."""
    rows, labels = _looked_up(values, {*weights.axes, *values.axes})
    if rows is None or rows in planner.materialised:
        return None
    bound = bound | (set(labels) - set(values.axes))
    found = row(rows, labels, weights.axes, {*weights.axes, *labels} - bound)
    (table, ids), op = rows.args, rows.op
    assert isinstance(op, Lookup)
    if found is None or op.axis in {*weights.axes, *labels}:
        return None
    arrows = dict(zip(rows.axes, labels, strict=True))
    over = tuple(sorted(axis for axis in found[0] if isinstance(axis, Axis)))
    args = (planner.lower(part) for part in (weights, planner.c.rename(table, arrows), planner.c.rename(ids, arrows)))
    made = planner.c.node(Mixture(op.axis, over, op.offset), *args)
    numbers = {axis: place for place, axis in enumerate(sorted(bound & set(made.axes)))}  # tokens are summed after their rows
    if not numbers:
        return made
    return planner.c.node(Contract(ONE, (Operand(tuple(numbers.get(axis, axis) for axis in made.axes)),)), made)


def _looked_up(node: Node, taken: set[Axis]) -> tuple[Node | None, tuple[Axis, ...]]:
    """What is looked up, and what its axes are called where it stands; those that it is summed over already have names that are not taken."""
    if isinstance(node.op, Lookup):
        return node, node.axes
    if not isinstance(node.op, Contract) or len(node.args) != 1 or not isinstance(node.args[0].op, Lookup):
        return None, ()
    (operand,), (inner,) = node.op.operands, node.args
    labels = tuple(axis if isinstance(label, int) else label for axis, label in zip(inner.axes, operand.labels, strict=True))
    summed = {axis for axis, label in zip(inner.axes, operand.labels, strict=True) if isinstance(label, int)}
    plain = node.op.coef == ONE and operand.power == 1 and not summed & taken and len(set(labels)) == len(labels)
    return (inner, labels) if plain else (None, ())
