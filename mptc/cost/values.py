"""One function for each kind of node: the operators that torch runs for it. A kind without one is a single operator that keeps its operands."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mptc.cost import routed
from mptc.cost.attention import stream
from mptc.cost.contractions import contract
from mptc.cost.integrals import INTEGRALS
from mptc.cost.operators import ID, NUMBER, TRUTH, Operators
from mptc.cost.polynomial import Polynomial
from mptc.cost.tape import Flow, Tensor
from mptc.ir.axis import BATCH, SEQ, Axis
from mptc.ir.node import Node, Op
from mptc.ops.chance import Dropout
from mptc.ops.choose import Entry, Lookup, Shift, TypeOf
from mptc.ops.chosen import LoadBalance, SoftTopK
from mptc.ops.compare import Compare, Where
from mptc.ops.concat import Concat, Slice
from mptc.ops.contract import Contract, Sum
from mptc.ops.elementwise import Map
from mptc.ops.leaf import Index, Mask, Position, may_see_nothing
from mptc.ops.mixture import Mixture
from mptc.ops.norm import GainedRms, Rms, Rstd
from mptc.ops.reduce import Lse, Max, Softmax
from mptc.ops.rotary import Rope
from mptc.ops.routed import Combined, Grouped, Pairs, Put, Routed, Take, Tokens
from mptc.ops.stream import Stream
from mptc.ops.token import CrossEntropy, MeanLoss, Next
from mptc.ops.view import Hold, Stop

Values = Sequence[Tensor | None]
FROM_RESULT = {"exp", "tanh", "sigmoid", "relu"}  # what a derivative is computed from: the result, or else the operand


def ran(run: Operators, node: Node, values: Values) -> Tensor | None:
    """The value of a node, of its operands' values."""
    for kind in type(node.op).__mro__:
        if kind in RUN:
            return RUN[kind](run, node, values)
    places = range(len(values))
    return run.pointwise(values, places, width=run.width(node), elements=run.elements(node))


def _summed(run: Operators, node: Node, values: Values) -> Tensor | None:
    return run.summed(node, values)


def _mapped(run: Operators, node: Node, values: Values) -> Tensor | None:
    op = node.op
    assert isinstance(op, Map)
    if op.order < 0 and op.function in INTEGRALS and values[0] is not None:
        return INTEGRALS[op.function](run, values[0])
    from_result = op.order == 0 and op.function in FROM_RESULT
    if op.function == "gelu_slope" and op.order == 0 and values[0] is not None:  # the gradient of gelu, of ones
        like = run.pointwise(values, through=[])
        return run.pointwise([like, values[0]], [0, 1], elements=run.elements(node))
    return run.pointwise(values, [] if from_result else [0], from_result, elements=run.elements(node))


def _same(run: Operators, _node: Node, values: Values) -> Tensor | None:
    (value,) = values
    return None if value is None else run.keep(run.tape.view(value, value.order))


def _stopped(run: Operators, _node: Node, values: Values) -> Tensor | None:
    (value,) = values
    return None if value is None else run.keep(run.tape.detached(value))


# -- normalisation and reductions -----------------------------------------------------------------------


def _normed(run: Operators, node: Node, values: Values) -> Tensor:
    """`F.rms_norm`: the value times the root of its mean square, then the gain."""
    op, value = node.op, values[0]
    assert isinstance(op, Rms)
    assert value is not None
    rstd = _root_mean_square(run, value, op)
    found = run.times(value, rstd)
    found = run.times(found, values[1]) if isinstance(op, GainedRms) else found
    assert found is not None
    return found


def _root_mean_square(run: Operators, value: Tensor, op: Rms | Rstd) -> Tensor:
    square = run.pointwise([value], [0])
    return run.pointwise([run.reduced(square, op.over, mean=True)], keeps_result=True)


def _rstd(run: Operators, node: Node, values: Values) -> Tensor:
    assert isinstance(node.op, Rstd)
    assert values[0] is not None
    return _root_mean_square(run, values[0], node.op)


def _masked(run: Operators, values: Values) -> Tensor:
    """A value where a mask shows it."""
    value = values[0]
    assert value is not None
    if len(values) == 1:
        return value
    hidden = run.pointwise([values[1]], through=[], width=TRUTH)
    return run.pointwise([value, hidden], keeps=[1], through=[0])


def _softmax(run: Operators, node: Node, values: Values) -> Tensor:
    """One operator along one axis; by the log-sum-exp along several, or where there may be no token at all, which is masked again then."""
    op = node.op
    assert isinstance(op, Softmax)
    conditional = len(values) > 1 and may_see_nothing(node.args[1])
    scores = _masked(run, values)
    if len(op.over) == 1 and not conditional:
        return run.pointwise([scores], keeps_result=True, elements=run.elements(node))
    below = _reduced(run, _masked(run, values) if not conditional else scores, op.over, run.elements(node))
    found = run.pointwise([run.pointwise([scores, below], passed=[0, 1])], keeps_result=True)
    if conditional:
        found = run.pointwise([found, run.pointwise([values[1]], through=[], width=TRUTH)], keeps=[1], through=[0])
    return found


def _lse(run: Operators, node: Node, values: Values) -> Tensor:
    assert isinstance(node.op, Lse | Max)
    return _reduced(run, _masked(run, values), node.op.over, run.elements(node))


def _reduced(run: Operators, value: Tensor, over: Sequence[Axis], elements: Polynomial) -> Tensor:
    """A reduction that keeps what it reduced and what came of it: from both its gradient is made, by way of two tensors as large."""
    order = tuple(axis for axis in value.order if axis not in over)
    flows = [Flow(value, whole=False, beside=value.bytes.times(2))]
    return run.keep(run.tape.operator(order, run.bytes(order), [value], flows, [value], True, elements=elements))


def _soft_top_k(run: Operators, _node: Node, values: Values) -> Tensor:
    """Sorted, for who is kept and who is at 1; of the others a log-sum-exp, from which the level; the smaller of 1 and what that makes."""
    scores = run.pointwise(values[:1])
    ids = [run.keep(run.tape.operator(scores.order, run.bytes(scores.order, ID), [scores], width=ID)) for _ in range(2)]
    full = run.pointwise(ids, through=[], width=TRUTH)
    others = run.pointwise([scores, full], keeps=[1], through=[0])
    level = _reduced(run, others, (SEQ,), run.sizes.of(scores.order))
    raised = run.pointwise([scores, level], passed=[0, 1])
    weights = run.pointwise([run.pointwise([raised], keeps=[0])], keeps_result=True)
    for _ in range(2):
        weights = run.pointwise([weights, full], keeps=[1], through=[0])
    return weights


def _balanced(run: Operators, node: Node, values: Values) -> Tensor | None:
    """How often each is chosen, which has no gradient, times the mean of its probability, over the tokens that count."""
    op, (p, w, *conditions) = node.op, values
    assert isinstance(op, LoadBalance)
    assert p is not None
    hit = run.pointwise([w], through=[], width=TRUTH)
    counts = run.pointwise(conditions, through=[], width=TRUTH) if conditions else None
    share = run.reduced(run.pointwise([hit, counts], through=[], width=TRUTH), (BATCH, SEQ))
    total = run.reduced(run.pointwise([p, counts], keeps=[1], through=[0]), (BATCH, SEQ))
    mean = run.pointwise([total], through=[0])
    return run.scaled(run.reduced(run.pointwise([share, mean], keeps=[0], through=[1]), [op.axis]))


def _mean_loss(run: Operators, _node: Node, values: Values) -> Tensor | None:
    value = values[0]
    if value is None:
        return None
    if len(values) > 1:
        counts = run.pointwise(values[1:], through=[], width=TRUTH)
        value = run.pointwise([value, counts], keeps=[1], through=[0])
    return run.reduced(value, value.order, mean=True)


# -- choices --------------------------------------------------------------------------------------------


def _looked_up(run: Operators, node: Node, values: Values) -> Tensor:
    """`F.embedding` at ids that are inside; 0 for others. Also entries of a table, by `gather`."""
    op, (table, ids) = node.op, values
    assert isinstance(op, Lookup | Entry)
    assert table is not None
    if ids is None:
        return run.reduced(table, [op.axis])
    inside = run.pointwise([ids], through=[], width=TRUTH)
    rows = run.pointwise([inside, ids], through=[], width=ID)
    order = run.layout.order(node)
    found = run.keep(run.tape.operator(order, run.bytes(order), [rows], [Flow(table, whole=False)], [rows]))
    return run.pointwise([found, inside], keeps=[1], through=[0])


def _mixed(run: Operators, node: Node, values: Values) -> Tensor:
    """`F.embedding_bag`, with shares that are 0 for an id outside."""
    weights, table, ids = values
    assert table is not None
    assert ids is not None
    rows = run.pointwise([ids, *([weights] if weights is not None else [])], through=[], width=ID)
    shares = run.pointwise([rows, weights], keeps=[0], through=[1])
    order = run.layout.order(node)
    flows = [Flow(shares, whole=False), Flow(table, whole=False)]
    made = run.tape.operator(order, run.bytes(order), [rows, shares], flows, [rows, shares, table], elements=run.elements(node))
    return run.keep(made)


def _chosen(run: Operators, node: Node, values: Values) -> Tensor:
    return run.pointwise(values, keeps=[0], through=[1, 2], width=run.width(node), elements=run.elements(node))


def _compared(run: Operators, node: Node, values: Values) -> Tensor:
    return run.pointwise(values, through=[], width=TRUTH, elements=run.elements(node))


def _shown(run: Operators, node: Node, values: Values) -> Tensor:
    """A mask: booleans of places, and of each condition."""
    op = node.op
    assert isinstance(op, Mask)
    places = op.past + (op.window is not None)
    own = [axis for axis in node.axes if axis.name in ("seq", op.over.name)]
    parts = [run.keep(run.tape.operator(tuple(own), run.bytes(own, TRUTH), [], width=TRUTH)) for _ in range(places)]
    conditions = zip(node.args, values, strict=True)
    parts += [value if run.width(arg) == TRUTH else run.pointwise([value], through=[], width=TRUTH) for arg, value in conditions if value is not None]
    found = parts[0]
    for part in parts[1:]:
        found = run.pointwise([found, part], through=[], width=TRUTH)
    return found


def _counted(run: Operators, node: Node, _values: Values) -> Tensor:
    """0, 1, … as whole numbers."""
    return run.keep(run.tape.operator(node.axes, run.bytes(node.axes, ID), [], width=ID))


def _of_ids(run: Operators, _node: Node, values: Values) -> Tensor:
    return run.pointwise(values, through=[], width=ID)


# -- what moves numbers ---------------------------------------------------------------------------------


def _moved(run: Operators, node: Node, values: Values) -> Tensor:
    """Written anew in another place, and so is the gradient."""
    tensors = [value for value in values if value is not None]
    order, width = run.layout.order(node), run.width(node)
    flows = [Flow(tensor, whole=False) for tensor in tensors]
    return run.keep(run.tape.operator(order, run.bytes(order, width), tensors, flows, width=width))


def _sliced(run: Operators, node: Node, values: Values) -> Tensor:
    """A part of a tensor, in its memory; the gradient is as large as the whole."""
    (value,) = values
    assert isinstance(node.op, Slice)
    assert value is not None
    order = tuple(node.op.part if axis == node.op.axis else axis for axis in value.order)
    return run.keep(run.tape.operator(order, run.bytes(order), [], [Flow(value, whole=False)], within=value))


def _turned(run: Operators, node: Node, values: Values) -> Tensor:
    """Rotary position: halves exchanged and one negated, times the sines; the value times the cosines; their sum."""
    op, value = node.op, values[0]
    assert isinstance(op, Rope)
    assert value is not None
    order = run.layout.order(node)
    half = run.bytes(axis for axis in order if axis != op.axis) * Polynomial.number(run.sizes.dims[op.axis] // 2)
    negated = run.keep(run.tape.operator(order, half, [value], [Flow(value, whole=False)]))
    flows = [Flow(value, whole=False), Flow(negated, whole=False)]
    crossed = run.keep(run.tape.operator(order, run.bytes(order), [value, negated], flows))
    tables: list[Tensor] = []
    if len(values) > 1:  # at places of their own: angles, of which two tables are made
        where = (*run.orders(node)[1], op.axis)
        tables = [run.keep(run.tape.operator(where, run.bytes(where), [])) for _ in range(3)][1:]
    cos, sin = tables or (None, None)
    plain, crossed = (run.pointwise([each, table], keeps=[1], through=[0]) for each, table in ((value, cos), (crossed, sin)))
    return run.pointwise([plain, crossed], passed=[0, 1] if not op.inverse else [0])


def _dropped(run: Operators, _node: Node, values: Values) -> Tensor:
    """In training: the noise is kept."""
    noise = run.pointwise(values, through=[])
    return run.pointwise([values[0], noise], keeps=[1], through=[0])


def _cross_entropy(run: Operators, node: Node, values: Values) -> Tensor:
    """The logarithm of the softmax of the logits, which is kept, and of that the entries that the ids choose."""
    op, (logits, ids) = node.op, values
    assert isinstance(op, CrossEntropy)
    assert logits is not None
    assert ids is not None
    rows = [axis for axis in run.orders(node)[0] if axis != op.axis]
    logits = run.merged(logits, (*rows, op.axis))
    chosen = run.pointwise([ids], through=[], width=ID)
    shares = run.pointwise([logits], keeps_result=True, elements=run.elements(node))
    order, weight = run.layout.order(node), Polynomial.number(NUMBER)  # how many ids count
    flows = [Flow(shares, whole=False)]
    return run.keep(run.tape.operator(order, run.bytes(order), [shares, chosen], flows, [shares, chosen], kept_bytes=weight))


RUN: dict[type[Op], Callable[[Operators, Node, Values], Tensor | None]] = {
    Contract: contract,
    Sum: _summed,
    Stream: stream,
    Map: _mapped,
    Rms: _normed,
    Rstd: _rstd,
    Softmax: _softmax,
    SoftTopK: _soft_top_k,
    Lse: _lse,
    Max: _lse,
    MeanLoss: _mean_loss,
    LoadBalance: _balanced,
    CrossEntropy: _cross_entropy,
    Lookup: _looked_up,
    Entry: _looked_up,
    Mixture: _mixed,
    Where: _chosen,
    Compare: _compared,
    Mask: _shown,
    Position: _counted,
    Index: _counted,
    Next: _of_ids,
    TypeOf: _of_ids,
    Shift: _moved,
    Concat: _moved,
    Slice: _sliced,
    Rope: _turned,
    Dropout: _dropped,
    Tokens: routed.found,
    Pairs: routed.found,
    Take: routed.taken,
    Routed: routed.taken,
    Put: routed.put,
    Grouped: routed.grouped,
    Combined: routed.combined,
    Hold: _same,
    Stop: _stopped,
}


