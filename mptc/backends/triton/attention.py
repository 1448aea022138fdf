"""Which attentions a kernel takes, and what its tile computes: a score and a weight beside it, forward and back, as lines of numbers.

    o_i = Σ_j softmax_j(score_ij) factor_ij v_j        score and factor: any functions of q_i·k_j and of what tokens i and j have
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from mptc.backends.triton.pairs import Leaf, Lines, Pairs, Refused, back
from mptc.ir.axis import SEQ, Axis
from mptc.ir.node import Kind, Node, Type, make
from mptc.ir.number import ONE, Monomial
from mptc.ops.compare import Compare
from mptc.ops.contract import Contract, Sum, product, total
from mptc.ops.leaf import Mask, formal
from mptc.ops.reduce import Softmax
from mptc.ops.region import Rows
from mptc.ops.stream import Stream

WIDEST = 256  # numbers of one head of one token, which a tile holds whole
LOG2_E = Monomial.of(1.4426950408889634)


@dataclass(frozen=True)
class Attention:
    """`result`: what it computes. `stream`: the bilinear attention whose operands these are, for how they lie.

    `score`, `factor`: of one pair of tokens; `conditions`: which pairs there are, beside j ≤ i (`causal`) and i - j < `window`.
    """

    result: Node
    stream: Node
    pairs: Pairs
    score: Node
    factor: Node | None
    conditions: tuple[Node, ...]
    causal: bool
    window: int | None

    @property
    def tied(self) -> bool:
        key, value = self.stream.args[1:3]
        return key is value or (isinstance(key.op, Contract) and key.op.renames and key.op == value.op and key.args == value.args)

    @property
    def over(self) -> Axis:
        assert isinstance(self.stream.op, Stream)
        return self.stream.op.over


def attention(node: Node) -> Attention:
    """What a kernel makes of a `Stream`, or of what is computed by rows. Raises `Refused`."""
    found = _by_rows(node.op) if isinstance(node.op, Rows) else _stream(node)
    op = found.stream.op
    assert isinstance(op, Stream)
    if op.asker != SEQ:
        raise Refused("a memory asks, not the tokens")
    if not op.fits(found.stream):
        raise Refused("heads and widths do not line up as fused attention has them")
    return found


def _by_rows(op: Rows) -> Attention:
    if len(op.results) != 1 or any(op.added):
        raise Refused("several values leave its pairs, or sums over those that ask")
    (result,) = op.results
    if isinstance(result.op, Stream):
        return _stream(result)
    if isinstance(result.op, Contract) and len(result.op.bound) == 1:
        return _weighted(result)
    raise Refused(f"a {result.op.name} leaves its pairs, not an attention")


def _stream(node: Node) -> Attention:
    op = node.op
    assert isinstance(op, Stream)
    pairs = Pairs(op.over)
    score = product(pairs.dot, coef=op.scale)
    if op.biased:
        score = total((1, score), (1, pairs.number(node.args[3])))
    causal, window, conditions = _sight(pairs, node.args[-1]) if op.masked else (op.causal, None, ())
    plain = replace(op, causal=False, biased=False, masked=False)
    return Attention(node, make(plain, *node.args[:3]), pairs, score, None, conditions, causal, window)


def _weighted(node: Node) -> Attention:
    """Σ_j v_j (softmax_j(score) · factor), of which the score has one product of both tokens."""
    assert isinstance(node.op, Contract)
    value, weights = _split(node)
    over = next(axis for axis in weights.axes if axis not in node.axes)
    softmax, factors = _softmax(weights, over)
    assert isinstance(softmax.op, Softmax)
    query, key, inner, dot = _dot(softmax.args[0], over)
    pairs = Pairs(over)
    pairs.known[dot] = product(pairs.dot, coef=dot.op.coef) if isinstance(dot.op, Contract) else pairs.dot
    score = pairs.number(softmax.args[0])
    factor = [pairs.number(each) for each in factors]
    coef = node.op.coef * (weights.op.coef if weights is not softmax and isinstance(weights.op, Contract) else ONE)
    causal, window, conditions = _sight(pairs, softmax.args[1]) if len(softmax.args) > 1 else (False, None, ())
    stream = make(Stream(over, (inner,), ONE, False, False, False), query, key, value)
    if set(stream.axes) != set(node.axes):
        raise Refused("what it sums lies otherwise than fused attention has it")
    return Attention(node, stream, pairs, score, product(*factor, coef=coef) if factor or coef != ONE else None, conditions, causal, window)


def _split(node: Node) -> tuple[Node, Node]:
    """The values, as their own tokens have them, and the weights."""
    assert isinstance(node.op, Contract)
    if len(node.args) != 2 or any(operand.power != 1 for operand in node.op.operands):
        raise Refused("what it sums is no product of weights and values")
    for value, weights in (node.args, node.args[::-1]):
        place = 0 if value is node.args[0] else 1
        operand, other = node.op.operands[place], node.op.operands[1 - place]
        if SEQ not in value.axes and SEQ in weights.axes and _plainly(operand.labels, value) and _plainly(other.labels, weights):
            return _token(value), weights
    raise Refused("its values belong to pairs too")


def _plainly(labels: tuple[object, ...], node: Node) -> bool:
    """Whether a product calls a value's axes what they are, but for those that it sums."""
    return all(isinstance(label, int) or label == axis for label, axis in zip(labels, node.axes, strict=True))


def _token(value: Node) -> Node:
    """What is seen, along the tokens' own axis."""
    if isinstance(value.op, Contract) and value.op.renames:
        return value.args[0]
    return value


def _softmax(weights: Node, over: Axis) -> tuple[Node, list[Node]]:
    """The softmax among the factors of some weights, and the others."""
    if isinstance(weights.op, Softmax):
        return weights, []
    if isinstance(weights.op, Contract) and not weights.op.bound:
        found = [arg for arg in weights.args if isinstance(arg.op, Softmax)]
        plain = all(operand.power == 1 and operand.labels == arg.axes for operand, arg in zip(weights.op.operands, weights.args, strict=True))
        softmax = found[0] if len(found) == 1 and plain else None
        if softmax is not None and isinstance(softmax.op, Softmax) and softmax.op.over == (over,):
            return softmax, [arg for arg in weights.args if arg is not softmax]
    raise Refused("its weights are no softmax over one context times a factor")


def _dot(score: Node, over: Axis) -> tuple[Node, Node, Axis, Node]:
    """The one product of both tokens in a score: what asks, what is seen, the axis it sums, and the product."""
    found: list[Node] = []
    pending = [score]
    done: set[Node] = set()
    while pending:
        node = pending.pop()
        if node in done or not {SEQ, over} <= set(node.axes):
            continue
        done.add(node)
        if isinstance(node.op, Contract) and node.op.bound:
            found.append(node)
        else:
            pending += node.args
    if len(found) != 1:
        raise Refused(f"its score has {len(found)} products of both tokens, not one")
    (dot,) = found
    assert isinstance(dot.op, Contract)
    if len(dot.args) != 2 or len(dot.op.bound) != 1 or any(operand.power != 1 for operand in dot.op.operands):
        raise Refused("its score is no product of two values")
    if not all(_plainly(operand.labels, arg) for operand, arg in zip(dot.op.operands, dot.args, strict=True)):
        raise Refused("its score is no product of two values as they lie")
    asks = [arg for arg in dot.args if SEQ in arg.axes and over not in arg.axes]
    seen = [arg for arg in dot.args if over in arg.axes and SEQ not in arg.axes]
    if len(asks) != 1 or len(seen) != 1:
        raise Refused("its score is no product of what asks and what is seen")
    bound = {arg.axes[operand.labels.index(dot.op.bound[0])] for arg, operand in zip(dot.args, dot.op.operands, strict=True)}
    if len(bound) != 1:
        raise Refused("its score sums axes of two names")
    return asks[0], _token(seen[0]), bound.pop(), dot


# -- what is seen ------------------------------------------------------------------------------------------


def _sight(pairs: Pairs, mask: Node) -> tuple[bool, int | None, tuple[Node, ...]]:
    """Whether j ≤ i, of how many, and the conditions that are left: what bounds a loop over tiles, and what is asked in each."""
    op = mask.op
    if not isinstance(op, Mask):
        return False, None, (pairs.number(mask),)
    causal, window = op.past, op.window
    conditions: list[Node] = []
    for each in mask.args:
        condition = pairs.number(each)
        if _is_past(pairs, condition):
            causal = True
        elif (width := _window(pairs, condition)) is not None:
            window = width
        else:
            conditions.append(condition)
    return causal, window, tuple(make(Mask(pairs.over), each) for each in conditions)


def _is_past(pairs: Pairs, node: Node) -> bool:
    op = node.op
    return isinstance(op, Compare) and op.sign == ">=" and node.args == (pairs.here, pairs.there)


def _window(pairs: Pairs, node: Node) -> int | None:
    """n of i - j < n"""
    if not isinstance(node.op, Compare) or node.op.sign != "<":
        return None
    behind, width = node.args
    if not isinstance(behind.op, Sum) or not isinstance(width.op, Contract) or width.args:
        return None
    terms = dict(zip(behind.args, behind.op.coefs, strict=True))
    whole = width.op.coef
    if terms != {pairs.here: ONE, pairs.there: -ONE} or whole.powers or whole.rational.denominator != 1 or whole.rational < 1:
        return None
    return int(whole.rational)


# -- the lines of a tile ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tile:
    """The lines of a kernel for one tile of pairs. `learns`: the leaves that have a gradient, and the text of it."""

    forward: tuple[str, ...]  # they end with s, the score times log2(e)
    score: str
    factor: str
    seen: tuple[str, ...]  # lines that the tests need
    tests: tuple[str, ...]  # of which tokens are seen
    backward: tuple[str, ...]
    product: str  # the adjoint of q·k
    learns: tuple[tuple[Leaf, str], ...]
    simple: bool  # whether a pair of nothing harms nobody: a score that is a multiple of the product


def tile(found: Attention, sizes: Mapping[Axis, int], learned: set[Node]) -> Tile:
    """`learned`: the formals of the leaves whose values are numbers of the model's dtype. Raises `Refused`."""
    lines = Lines(sizes)
    score = lines.value(_folded(found.score))
    factor = lines.value(found.factor) if found.factor else ""
    forward = tuple(lines.lines)
    seen = Lines(sizes, "m", text={})
    tests = [seen.value(each) for each in found.conditions]
    ds, df = (make(formal(label, Type((), Kind.NUMBER))) for label in ("ds", "df"))
    adjoints = back([(found.score, ds), *([(found.factor, df)] if found.factor else [])])
    product_ = lines.value(adjoints[found.pairs.dot]) if found.pairs.dot in adjoints else "0.0"
    learns = tuple((leaf, lines.value(adjoints[leaf.formal])) for leaf in found.pairs.leaves if leaf.formal in learned and leaf.formal in adjoints)
    if any(leaf.kind == "pair" for leaf, _ in learns):
        raise Refused("it learns something of its own for each pair of tokens")
    simple = not found.pairs.leaves and found.factor is None and isinstance(found.score.op, Contract) and found.score.args == (found.pairs.dot,)
    backward = tuple(lines.lines[len(forward) :])
    return Tile(forward, score, factor, tuple(seen.lines), tuple(tests), backward, product_, learns, simple)


def _folded(score: Node) -> Node:
    """The score times log2(e), in the coefficient where there is one."""
    if isinstance(score.op, Contract):
        return make(replace(score.op, coef=score.op.coef * LOG2_E), *score.args)
    if isinstance(score.op, Sum):
        return make(Sum(tuple(coef * LOG2_E for coef in score.op.coefs)), *score.args)
    return product(score, coef=LOG2_E)
