"""The operators between all tokens and those that are chosen, and the products of experts."""

from __future__ import annotations

from collections.abc import Sequence

from mptc.cost.operators import ID, TRUTH, Operators
from mptc.cost.tape import Flow, Tensor
from mptc.ir.axis import BATCH
from mptc.ir.node import Node
from mptc.ops.routed import Grouped

Values = Sequence[Tensor | None]


def found(run: Operators, node: Node, values: Values) -> Tensor:
    """The numbers of what is chosen: from a comparison, sorted."""
    there = run.pointwise(values[:1], through=[], width=TRUTH)
    order = run.layout.order(node)
    return run.keep(run.tape.operator(order, run.bytes(order, ID), [there], width=ID))


def taken(run: Operators, node: Node, values: Values) -> Tensor:
    """Some rows of a tensor; the gradient is as large as that."""
    whole, at = values
    assert whole is not None
    assert at is not None
    order, width = run.layout.order(node), run.width(node)
    rest = [axis for axis in order if axis in whole.order and axis != BATCH]
    whole = run.merged(whole, [axis for axis in whole.order if axis not in rest], rest)
    return run.keep(run.tape.operator(order, run.bytes(order, width), [whole, at], [Flow(whole, whole=False)], [at], width=width))


def put(run: Operators, node: Node, values: Values) -> Tensor:
    """Into zeros; what was computed for others is left out first."""
    made, at, _ = values
    assert made is not None
    assert at is not None
    there = run.pointwise([at], through=[], width=TRUTH)
    kept = run.pointwise([made, there], keeps=[1], through=[0])
    order = run.layout.order(node)
    blank = run.keep(run.tape.operator(order, run.bytes(order), []))
    return run.keep(run.tape.operator(order, run.bytes(order), [kept, at, blank], [Flow(kept, whole=False)], [at]))


def grouped(run: Operators, node: Node, values: Values) -> Tensor:
    """Each row times the matrix of its expert: both are kept, and each gradient is as many products."""
    op, (x, w, _) = node.op, values
    assert isinstance(op, Grouped)
    assert x is not None
    assert w is not None
    order = run.layout.order(node)
    flops = run.sizes.of([op.along, *(axis for axis in node.args[1].axes if axis not in op.of)]).times(2)
    flows = [Flow(each, flops=flops, whole=False) for each in (x, w)]
    keeps = [each for each, other in ((x, w), (w, x)) if other.trained]
    return run.keep(run.tape.operator(order, run.bytes(order), [x, w], flows, keeps, flops=flops))


def combined(run: Operators, node: Node, values: Values) -> Tensor:
    """Added into zeros."""
    made, at = values
    assert made is not None
    assert at is not None
    order = run.layout.order(node)
    blank = run.keep(run.tape.operator(order, run.bytes(order), []))
    return run.keep(run.tape.operator(order, run.bytes(order), [made, at, blank], [Flow(made, whole=False)], [at], elements=run.elements(node)))
