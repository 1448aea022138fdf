"""Ties as a change of address: the parameter on the left is read where the right one is stored."""

from __future__ import annotations

from collections.abc import Iterator

from mptc.build.body import Unlowered
from mptc.ir.axis import Axis
from mptc.model import tree
from mptc.model.paths import parameters

Order = tuple[Axis, ...]


def ties_of(model: tree.Model) -> dict[str, tuple[str, Order]]:
    """For each parameter tied away: where it is stored, and its axes there."""
    orders = dict(parameters(model.body, expand=False))
    found: dict[str, tuple[str, Order]] = {}
    for path, tie in _ties(model.body, ""):
        left, right = path + tie.left, path + tie.right
        if any("[" in side.replace("[*]", "") for side in (left, right)):
            raise Unlowered("a `tie` of one copy of a stack", tie.span)
        for own in orders:
            if own == left or own.startswith(left + "."):
                kept = right + own[len(left) :]
                found[own] = (kept, orders[kept])
    return found


def _ties(body: tuple[tree.Statement, ...], path: str) -> Iterator[tuple[str, tree.Tie]]:
    for statement in body:
        match statement:
            case tree.Tie():
                yield path, statement
            case tree.Stack(label=label, body=inner):
                yield from _ties(inner, f"{path}{label}[*].")
            case tree.Repeat(body=inner):
                yield from _ties(inner, path)
