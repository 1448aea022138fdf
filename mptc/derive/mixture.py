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
    rows, labels = _looked_up(values)
    if rows is None or rows in planner.materialised:
        return None
    found = row(rows, labels, weights.axes, (set(weights.axes) | set(values.axes)) - bound)
    (table, ids), op = rows.args, rows.op
    assert isinstance(op, Lookup)
    if found is None or op.axis in {*weights.axes, *values.axes} or set(table.axes) & set(ids.axes):
        return None
    arrows = dict(zip(rows.axes, labels, strict=True))
    over = tuple(sorted(axis for axis in found[0] if isinstance(axis, Axis)))
    args = (planner.lower(part) for part in (weights, planner.c.rename(table, arrows), planner.c.rename(ids, arrows)))
    made = planner.c.node(Mixture(op.axis, over, op.offset), *args)
    numbers = {axis: place for place, axis in enumerate(sorted(bound & set(made.axes)))}  # tokens are summed after their rows
    if not numbers:
        return made
    return planner.c.node(Contract(ONE, (Operand(tuple(numbers.get(axis, axis) for axis in made.axes)),)), made)


def _looked_up(node: Node) -> tuple[Node | None, tuple[Axis, ...]]:
    """What is looked up, and what its axes are called where it stands."""
    if isinstance(node.op, Lookup):
        return node, node.axes
    if isinstance(node.op, Contract) and node.op.renames and isinstance(node.args[0].op, Lookup):
        labels = node.op.operands[0].labels
        return node.args[0], tuple(label for label in labels if isinstance(label, Axis))
    return None, ()
