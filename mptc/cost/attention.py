"""`F.scaled_dot_product_attention`: two products, by the formula or fused. How it is run decides the memory; the products are counted alike."""

from __future__ import annotations

from collections.abc import Sequence

from mptc.cost.operators import Operators
from mptc.cost.polynomial import Polynomial
from mptc.cost.tape import Flow, Tensor
from mptc.ir.axis import BATCH, Axis
from mptc.ir.node import Node
from mptc.ops.stream import Stream


def stream(run: Operators, node: Node, values: Sequence[Tensor | None]) -> Tensor:
    """Attention. Queries, keys and values lie as they came, where heads can be one dimension."""
    op = node.op
    assert isinstance(op, Stream)
    tensors = [value for value in values if value is not None]
    tensors[1:3] = (_seen(node, tensor) for tensor in tensors[1:3])
    orders = run.orders(node)
    heads = op.heads(node, orders[0])
    shared = tuple(axis for axis in heads if axis in node.args[1].axes)
    query, key, value = (run.merged(tensor, own) for tensor, own in zip(tensors, (heads, shared, shared), strict=False))
    if BATCH not in query.order:
        query = run.keep(run.tape.view(query, (BATCH, *query.order)))
    beside = tensors[3:]
    bias = _bias(run, node, beside)
    alike = run.sizes.of(op.inner) == run.sizes.of(op.width(node))
    if alike and not (bias is not None and bias.trained):
        return _fused(run, node, heads, (query, key, value), bias)
    return _plain(run, node, heads, (query, key, value), bias)


def _seen(node: Node, tensor: Tensor) -> Tensor:
    """Keys or values along the tokens that are seen, which by rows are not as many as those that ask."""
    op = node.op
    assert isinstance(op, Stream)
    order = tuple(op.over if axis == op.token(node) else axis for axis in tensor.order)
    return Tensor(order, tensor.bytes, tensor.storage, tensor.root, tensor.width)


def _axes(node: Node, heads: Sequence[Axis]) -> tuple[tuple[Axis, ...], tuple[Axis, ...]]:
    """Those of the scores, and of the result."""
    op = node.op
    assert isinstance(op, Stream)
    return (BATCH, *heads, op.asker, op.over), (BATCH, *heads, op.asker, *op.width(node))


def _bias(run: Operators, node: Node, beside: Sequence[Tensor]) -> Tensor | None:
    """What is added to the scores; a mask of booleans becomes one of numbers."""
    op = node.op
    assert isinstance(op, Stream)
    if op.biased and op.masked:
        return run.pointwise(beside[:2], keeps=[1], through=[0])
    if op.masked:
        mask = beside[0]
        return run.keep(run.tape.operator(mask.order, run.bytes(mask.order), [mask]))
    return beside[0] if op.biased else None


def _flops(run: Operators, node: Node, heads: Sequence[Axis]) -> tuple[Polynomial, Polynomial]:
    """Of the scores, and of the weighted sum."""
    op = node.op
    assert isinstance(op, Stream)
    pairs = run.sizes.of(_axes(node, heads)[0])
    return (pairs * run.sizes.of(op.inner)).times(2), (pairs * run.sizes.of(op.width(node))).times(2)


def _fused(run: Operators, node: Node, heads: Sequence[Axis], tensors: Sequence[Tensor], bias: Tensor | None) -> Tensor:
    """One operator: it keeps its operands, its result and the log-sum-exp of each token that asks. Each product has two gradients.

    Where it is all that is run once more, its second product is not counted again: by the formula that comes after all that is kept.
    """
    op = node.op
    assert isinstance(op, Stream)
    scores, result = _axes(node, heads)
    one, two = _flops(run, node, heads)
    lies = (BATCH, op.asker, *heads, *op.width(node))
    shares = [one, one, two]
    weighed = next((place for place in (0, 1) if tensors[place].trained), None)
    if weighed is not None:  # the gradient of the weights, which both need
        shares[weighed] = shares[weighed] + two
    flows = [Flow(tensor, whole=False, flops=share) for tensor, share in zip(tensors, shares, strict=True)]
    keeps = [*tensors, *([bias] if bias is not None else [])]
    pairs = run.sizes.of(scores).times(4)
    lse = run.bytes(axis for axis in scores if axis != op.over)
    operands = [*tensors, *([bias] if bias is not None else [])]
    found = run.tape.operator(lies, run.bytes(lies), operands, flows, keeps, True, 4, pairs, one + two, kept_bytes=lse, late=two)
    assert set(result) == set(lies)
    return run.keep(found)


def _plain(run: Operators, node: Node, heads: Sequence[Axis], tensors: Sequence[Tensor], bias: Tensor | None) -> Tensor:
    """The formula: scores, their softmax and the weighted sum, each a tensor of its own; queries and keys scaled before."""
    op = node.op
    assert isinstance(op, Stream)
    scores, result = _axes(node, heads)
    one, two = _flops(run, node, heads)
    query, key, value = tensors
    query, key = run.pointwise([query]), run.pointwise([key])
    whole = [axis for axis in heads if axis not in key.order]
    if whole:  # keys and values that several heads share are written out for each
        key, value = (_repeated(run, each, (BATCH, *heads, op.over, *last)) for each, last in ((key, op.inner), (value, op.width(node))))
    query = run.merged(query, (BATCH, *heads), (op.asker,), op.inner)
    key = run.merged(key, (BATCH, *heads), (op.over,), op.inner)
    value = run.merged(value, (BATCH, *heads), (op.over,), op.width(node))
    flows = [Flow(query, whole=False, flops=one), Flow(key, whole=False, flops=one)]
    found = run.keep(run.tape.operator(scores, run.bytes(scores), [query, key], flows, [query, key], flops=one))
    if op.causal:
        bias = run.keep(run.tape.operator((op.asker, op.over), run.bytes((op.asker, op.over)), []))
    before = found
    if bias is not None:  # in place
        flows = [Flow(found, passed=True), Flow(bias, passed=True)]
        found = run.keep(run.tape.operator(scores, run.bytes(scores), [found, bias], flows, within=found))
    weights = run.pointwise([found], keeps_result=True, elements=run.sizes.of(scores).times(4))
    run.spent(before)
    run.spent(found)
    found = weights
    flows = [Flow(found, whole=False, flops=two), Flow(value, whole=False, flops=two)]
    return run.keep(run.tape.operator(result, run.bytes(result), [found, value], flows, [found, value], flops=two))


def _repeated(run: Operators, tensor: Tensor, order: tuple[Axis, ...]) -> Tensor:
    return run.keep(run.tape.operator(order, run.bytes(order), [tensor], [Flow(tensor, whole=False)]))
