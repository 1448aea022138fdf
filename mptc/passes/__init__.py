"""Rewriting of planned programs, one pass a file: what a program means stays as it is, what it costs does not.

What other compilers make passes of holds here from the start: dead code is what no root leads to, common subexpressions are one interned node
(`mptc.derive.calculus`), and a value stands as far out of loops as what it depends on allows (`mptc.passes.scopes`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mptc.ir.node import Node
from mptc.ir.program import Program
from mptc.ir.verify import verify
from mptc.passes.rows import rows

Moved = Mapping[Node, Node]


@dataclass(frozen=True)
class Pass:
    """`run`: the program after it, and what its nodes have become. `does`: in a sentence, for those who read."""

    name: str
    does: str
    run: Callable[[Program], tuple[Program, Moved]]


PASSES = (Pass("rows", "pairs of tokens that no fused attention takes are computed for some of those that ask at a time", rows),)


def applied(program: Program, passes: Sequence[Pass] = PASSES) -> tuple[Program, dict[Node, Node]]:
    """The program after all of them, each verified, and what has become of nodes that are another now. Raises `Malformed`, a fault of a pass."""
    moved: dict[Node, Node] = {}
    for each in passes:
        program, new = each.run(program)
        verify(program, "passes")
        moved = {**new, **{node: new.get(other, other) for node, other in moved.items()}}
    return program, moved
