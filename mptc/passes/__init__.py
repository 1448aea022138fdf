"""Rewriting of planned programs, one pass a file: what a program means stays as it is, what it costs does not.

What other compilers make passes of holds here from the start: dead code is what no root leads to, common subexpressions are one interned node
(`mptc.derive.calculus`), and a value stands as far out of loops as what it depends on allows (`mptc.passes.scopes`). `mptc.passes.fuse` says what one
kernel could compute, and rewrites nothing.

Not among them, as they gain nothing in eager torch on a CPU (`tests/bench/products.py`, an EPYC of two cores, float32, against what is generated):

* One product for the gradient of a weight that is used forward and transposed: 0.95 to 1.01 times as fast with the tokens side by side, 0.96 to 1.04
  one after the other into one tensor. What is saved, the sum of such gradients, is small beside the products, and copies or Python take it back.
* One product for several projections of one input, whose weights are put together in each call: 0.38 times as fast for one token, 0.70 to 1.04 for
  512 or 4,096; with weights put together once, which would be a second copy of them, 0.85 to 1.04.
* One pass over the pairs for the value of an energy and its step: rows that give both are 0.76 to 0.87 times as fast for 1,024 tokens as fused
  attention and a second pass for the log-sum-exp, which is made only where it is asked for; for 128 that is too noisy to tell. What no fused
  attention takes has both from one pass, where both are asked for together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mptc.ir.node import Node
from mptc.ir.program import Program
from mptc.ir.verify import verify
from mptc.passes.chosen import chosen
from mptc.passes.experts import experts
from mptc.passes.rows import rows

Moved = Mapping[Node, Node]


@dataclass(frozen=True)
class Pass:
    """`run`: the program after it, and what its nodes have become. `does`: in a sentence, for those who read."""

    name: str
    does: str
    run: Callable[[Program], tuple[Program, Moved]]


SPARSE = (
    Pass("chosen", "what `on` asks for is computed for the chosen tokens alone", chosen),
    Pass("experts", "experts that a token did not choose do not work for it", experts),
)
PASSES = (*SPARSE, Pass("rows", "pairs of tokens that no fused attention takes are computed for some of those that ask at a time", rows))


def applied(program: Program, passes: Sequence[Pass] = PASSES) -> tuple[Program, dict[Node, Node]]:
    """The program after all of them, each verified, and what has become of nodes that are another now. Raises `Malformed`, a fault of a pass."""
    moved: dict[Node, Node] = {}
    for each in passes:
        program, new = each.run(program)
        verify(program, "passes")
        moved = {**new, **{node: new.get(other, other) for node, other in moved.items()}}
    return program, moved
