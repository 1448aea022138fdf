"""How many tokens are chosen, and how many pairs of an expert and a token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, prod

import numpy as np

from mptc.cost.polynomial import Polynomial, product
from mptc.ir.axis import SEQ, Axis
from mptc.ir.node import Node, walk
from mptc.ops.onnx_routed import seen
from mptc.ops.region import everything
from mptc.ops.routed import Pairs, Tokens


@dataclass(frozen=True)
class Chosen:
    """`lengths`: of the axes of what is chosen, at most. `counts`: of those that are symbols, the numbers of tokens that they are.

    Pairs of which each token has the same number are as many, others all that there are; chosen tokens without a known number are all: `at_most`.
    """

    lengths: dict[Axis, Polynomial]
    counts: dict[str, Node]
    at_most: bool


def chosen(roots: Sequence[Node], sizes: Mapping[Axis, int]) -> Chosen:
    batch, found, counts, open_ = Polynomial.symbol("batch"), dict[Axis, Polynomial](), dict[str, Node](), False
    for node in everything(roots):
        op = node.op
        if isinstance(op, Tokens):
            known = len(node.args) > 1
            found[op.along] = found[seen(op.along)] = Polynomial.symbol(op.along.name if known else "seq")
            counts.update({op.along.name: node.args[1]} if known else {})
            open_ |= not known
        elif isinstance(op, Pairs):
            experts = prod(sizes[axis] for axis in op.of)
            tokens = found.get(op.token, Polynomial.symbol("seq"))
            found[op.along] = product([batch, tokens, Polynomial.number(min(op.most or experts, experts))])
            open_ |= op.most is None
    return Chosen(found, counts, open_)


def number_of(count: Node, seq: int) -> int:
    """How many tokens that is, of so many."""
    values: dict[Node, np.ndarray] = {}
    for node in walk([count]):
        values[node] = np.asarray(node.op.reference(node, tuple(values[arg] for arg in node.args), {SEQ: seq}))
    return min(seq, ceil(float(values[count])))
